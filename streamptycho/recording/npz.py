"""Measurements in NumPy archives, plain or packed with bzip2."""

from __future__ import annotations

import bz2
import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from streamptycho.messages import Array
from streamptycho.positions.orientation import orient
from streamptycho.recording.dataset import Dataset, ImportDataError, central_geometry, to_counts
from streamptycho.recording.layout import (
    DEFAULT_DETECTOR_PIXEL_M,
    DEFAULT_DISTANCE_M,
    DEFAULT_ENERGY_EV,
    METRES_PER_UNIT,
    ImportLayout,
)

_PIECE_BYTES = 1 << 24


def load_npz(path: Path, layout: ImportLayout) -> Dataset:
    """Return the measurement in an npz file with the arrays `data`, `scan` and, if it likes, `probe`.

    Unless the layout says otherwise, frames have their zero frequency at the corner and positions are (row, column)
    of the beam in object pixels. Such files have no energy, distance or pitch: the layout or its defaults give them.

    Raises
    ------
    ImportDataError
        If the file cannot be read, an array is missing or does not fit the others.
    """
    try:
        with path.open("rb") as file, _arrays(file, path, layout.max_bytes) as arrays:
            return _dataset(arrays, path, layout)
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise ImportDataError(f"cannot read {path}: {error}") from None


def _dataset(arrays: Any, path: Path, layout: ImportLayout) -> Dataset:
    data = _frames(_take(arrays, layout.data_path or "data", path))
    if layout.fft_shifted is not False:
        data = np.fft.fftshift(data, axes=(-2, -1))
    mask = None
    if layout.mask_path is not None:
        mask = mask_of_bad(_take(arrays, layout.mask_path, path), layout)
    geometry = central_geometry(
        (data.shape[1], data.shape[2]),
        layout.energy_ev or DEFAULT_ENERGY_EV,
        layout.distance_m or DEFAULT_DISTANCE_M,
        layout.detector_pixel_m or DEFAULT_DETECTOR_PIXEL_M,
    )
    scan = _numbers(_positions(arrays, layout, path), "positions", path)
    unit_m = METRES_PER_UNIT.get(layout.position_unit or "px", geometry.object_pixel_m)
    if layout.positions_are == "sample":
        unit_m = -unit_m
    probe_name = layout.probe_path or ("probe" if "probe" in arrays else None)
    probe = probe_modes(_take(arrays, probe_name, path)) if probe_name is not None else None
    return Dataset(
        counts=to_counts(data, mask, layout.photons_per_unit),
        xy_m=orient(scan * unit_m, layout.orientation),
        geometry=geometry,
        probe=probe,
        mask=mask,
    )


def probe_modes(array: Array) -> Array:
    """Return a probe as (modes, n, n) complex64, whatever axes of length one it has besides.

    Raises
    ------
    ImportDataError
        If it is not square.
    """
    if array.ndim < 2 or array.shape[-1] != array.shape[-2]:
        raise ImportDataError(f"a probe must be (modes, n, n) or (n, n), got {array.shape}")
    if array.dtype.kind not in "uifc":
        raise ImportDataError(f"a probe must be numbers, got {array.dtype}")
    modes = array.reshape(-1, *array.shape[-2:]).astype(np.complex64)
    if not np.all(np.isfinite(modes)):
        raise ImportDataError("the probe holds numbers that are not finite: leave it out or repair it")
    return modes


def mask_of_bad(array: Array, layout: ImportLayout) -> Array:
    """Return a mask as (H, W) uint32, not zero where a pixel is bad."""
    mask = np.asarray(array).reshape(array.shape[-2:]) if array.size == np.prod(array.shape[-2:]) else array[0]
    if layout.mask_good == "nonzero":
        mask = mask == 0
    bad: Array = mask.astype(np.uint32)
    # CXI marks a pixel with signal above the background by exactly this value: it is good.
    bad[bad == 0x1000] = 0
    return bad


def _arrays(file: Any, path: Path, max_bytes: int) -> Any:
    content = _unpack(file, path, max_bytes) if path.suffix == ".bz2" else file
    try:
        arrays = np.load(content, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise ImportDataError(f"cannot read {path}: it is no npz file, or a damaged one") from None
    if not isinstance(arrays, np.lib.npyio.NpzFile):
        raise ImportDataError(f"{path} holds one array: frames and positions are needed, in an npz file")
    total = sum(item.file_size for item in arrays.zip.infolist()) if arrays.zip is not None else 0
    if total > max_bytes:
        raise ImportDataError(f"{path} unpacks to {total} bytes, more than max_bytes {max_bytes}")
    return arrays


def _unpack(file: Any, path: Path, max_bytes: int) -> io.BytesIO:
    unpacked = io.BytesIO()
    with bz2.open(file) as packed:
        while piece := packed.read(_PIECE_BYTES):
            unpacked.write(piece)
            if unpacked.tell() > max_bytes:
                raise ImportDataError(f"{path} unpacks to more than max_bytes {max_bytes}")
    unpacked.seek(0)
    return unpacked


def _take(arrays: Any, name: str, path: Path) -> Array:
    if name not in arrays:
        present = ", ".join(arrays.files)
        raise ImportDataError(f"{path} has no array {name!r}; it has {present}: name the right one in the layout")
    try:
        return np.asarray(arrays[name])
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        why = "it holds Python objects, not numbers (rows of different length?)" if "pickle" in str(error) else error
        raise ImportDataError(f"{path}: the array {name!r} cannot be read: {why}") from None


def _numbers(array: Array, what: str, path: Path) -> Array:
    if array.dtype.kind not in "uifb":
        raise ImportDataError(f"{path}: {what} must be real numbers, got {array.dtype}")
    return array.astype(np.float64)


def _frames(data: Array) -> Array:
    if data.ndim < 3:
        raise ImportDataError(f"frames must be (frames, rows, columns), got {data.shape}")
    return data.reshape(-1, *data.shape[-2:])


def _positions(arrays: Any, layout: ImportLayout, path: Path) -> Array:
    if layout.x_path is not None and layout.y_path is not None:
        x, y = (_take(arrays, name, path).reshape(-1) for name in (layout.x_path, layout.y_path))
        if len(x) != len(y):
            raise ImportDataError(f"{layout.x_path} has {len(x)} values, {layout.y_path} has {len(y)}")
        return np.stack([x, y], axis=-1)
    scan = _take(arrays, layout.positions_path or "scan", path)
    if scan.ndim < 2 or scan.shape[-1] < 2:
        raise ImportDataError(f"positions must be (frames, 2), got {scan.shape}")
    pairs = scan.reshape(-1, scan.shape[-1])[:, :2]
    return pairs if layout.position_columns == "xy" else pairs[:, ::-1]
