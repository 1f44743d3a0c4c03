"""Existing data of several formats as one `Dataset`: npz archives, CXI, and HDF5 files whose layout is described."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from streamptycho.geometry import PLANCK_TIMES_C_EV_M, GeometryError
from streamptycho.messages import Array
from streamptycho.positions.orientation import orient
from streamptycho.recording import cxi
from streamptycho.recording.dataset import Dataset, ImportDataError, central_geometry, to_counts
from streamptycho.recording.hdf5 import ResultError, list_datasets, open_for_reading
from streamptycho.recording.layout import EV_PER_UNIT, METRES_PER_UNIT, ImportLayout
from streamptycho.recording.npz import load_npz, mask_of_bad, probe_modes

__all__ = ["Dataset", "ImportDataError", "ImportLayout", "load_dataset"]

_UNIT_NAMES = {
    "m": "m", "meter": "m", "metre": "m", "meters": "m", "metres": "m", "mm": "mm", "millimeter": "mm",
    "um": "um", "µm": "um", "μm": "um", "micron": "um", "microns": "um", "micrometer": "um", "nm": "nm",
    "nanometer": "nm", "j": "J", "joule": "J", "joules": "J", "ev": "eV", "electronvolt": "eV", "kev": "keV",
    "px": "px", "pixel": "px", "pixels": "px",
}  # fmt: skip
_ENERGY_PATHS = (
    f"{cxi.SOURCE}/energy",
    f"{cxi.BEAM}/incident_beam_energy",
    f"{cxi.BEAM}/incident_energy",
    f"{cxi.BEAM}/energy",
)


def load_dataset(path: Path, layout: ImportLayout | None = None, **options: Any) -> Dataset:
    """Return the measurement in a file.

    Parameters
    ----------
    path
        `.npz`, `.npz.bz2`, CXI 1.6, NXcxi_ptycho or another HDF5 file.
    layout
        What the file does not say itself.
    options
        Single fields of the layout, instead of those in `layout`.

    Raises
    ------
    ImportDataError
        If the file cannot be read or does not fit the layout; lists what is in the file.
    """
    path = Path(path)
    try:
        layout = ImportLayout(**{**(layout or ImportLayout()).model_dump(exclude_unset=True), **options})
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise ImportDataError(f"layout: {'; '.join(lines)}. Fields: {', '.join(ImportLayout.model_fields)}") from None
    if not path.exists():
        raise ImportDataError(f"there is no file {path}")
    if not path.is_file():
        raise ImportDataError(f"{path} is not a file: name an npz, CXI or NeXus/HDF5 file")
    try:
        if path.name.endswith((".npz", ".npz.bz2")):
            return load_npz(path, layout)
        with open_for_reading(path) as file:
            return _Hdf5Importer(file, path, layout).load()
    except (ResultError, GeometryError) as error:
        raise ImportDataError(f"{path}: {error}") from None
    except MemoryError:
        raise ImportDataError(f"{path} does not fit into the memory of this machine") from None


class _Hdf5Importer:
    def __init__(self, file: Any, path: Path, layout: ImportLayout) -> None:
        self.file = file
        self.path = path
        self.layout = layout

    def load(self) -> Dataset:
        layout = self.layout
        data = self._find("data_path", cxi.DATA_PATHS)
        if data.ndim < 3:
            raise ImportDataError(
                f"{self.path}: {data.name} has shape {data.shape}, frames are (frames, rows, columns)"
            )
        if data.size * data.dtype.itemsize > layout.max_bytes:
            size = data.size * data.dtype.itemsize
            raise ImportDataError(f"{self.path}: {data.name} has {size} bytes, more than max_bytes {layout.max_bytes}")
        frames = self._read(data).reshape(-1, *data.shape[-2:])
        if layout.fft_shifted:
            frames = np.fft.fftshift(frames, axes=(-2, -1))
        mask = self._optional("mask_path", f"{cxi.DETECTOR}/mask")
        bad = None if mask is None else mask_of_bad(self._read(mask), layout)
        if bad is not None and bad.shape != frames.shape[1:]:
            raise ImportDataError(f"{self.path}: the mask is {bad.shape}, frames are {frames.shape[1:]}")
        geometry = central_geometry(
            (frames.shape[1], frames.shape[2]), self._energy_ev(), self._distance_m(), self._detector_pixel_m()
        )
        probe = self._optional("probe_path", f"{cxi.DETECTOR}/probe")
        return Dataset(
            counts=to_counts(frames, bad, layout.photons_per_unit),
            xy_m=orient(self._xy_m(len(frames), geometry.object_pixel_m), layout.orientation),
            geometry=geometry,
            probe=None if probe is None else probe_modes(self._read(probe)),
            mask=bad,
        )

    def _xy_m(self, n_frames: int, object_pixel_m: float) -> Array:
        layout = self.layout
        if (layout.x_path is None) != (layout.y_path is None):
            raise ImportDataError("x_path and y_path belong together: give both, or positions_path")
        if layout.x_path is not None and layout.y_path is not None:
            columns = []
            for name in (layout.x_path, layout.y_path):
                item = self._at(name)
                columns.append(self._read(item).reshape(-1) * self._position_unit_m(item, object_pixel_m))
            columns = _raster(columns, n_frames)
            if len(columns[0]) != len(columns[1]):
                raise ImportDataError(
                    f"{self.path}: {len(columns[0])} x and {len(columns[1])} y positions do not fit {n_frames} frames"
                )
            xy = np.stack(columns, axis=-1)
            return -xy if layout.positions_are == "sample" else xy
        item = self._find("positions_path", cxi.TRANSLATION_PATHS)
        numbers = self._read(item).astype(np.float64) * self._position_unit_m(item, object_pixel_m)
        if numbers.ndim == 2 and numbers.shape[0] in (2, 3) and numbers.shape[1] not in (2, 3):
            numbers = numbers.T
        if numbers.ndim < 2 or numbers.shape[-1] not in (2, 3):
            raise ImportDataError(f"{self.path}: {item.name} has shape {item.shape}, positions are (frames, 2 or 3)")
        numbers = numbers.reshape(-1, numbers.shape[-1])
        if layout.position_columns == "yx":
            numbers = numbers[:, [1, 0, *range(2, numbers.shape[1])]]
        if layout.positions_path is None and layout.positions_are is None:
            try:
                return cxi.beam_positions_m(numbers, cxi.detector_axes(self.file))
            except ValueError as error:
                raise ImportDataError(f"{self.path}: {error}") from None
        return -numbers[:, :2] if layout.positions_are == "sample" else numbers[:, :2]

    def _position_unit_m(self, item: Any, object_pixel_m: float) -> float:
        unit = self.layout.position_unit or self._unit(item, "m", (*METRES_PER_UNIT, "px"))
        return METRES_PER_UNIT.get(unit, object_pixel_m)

    def _energy_ev(self) -> float:
        layout = self.layout
        if layout.energy_ev is not None:
            return layout.energy_ev
        candidates = [layout.energy_path] if layout.energy_path is not None else list(_ENERGY_PATHS)
        for name in candidates:
            if layout.energy_path is None and name not in self.file:
                continue
            item = self._at(name)
            value = self._scalar(item)
            unit = layout.energy_unit or self._unit(item, "J" if layout.energy_path is None else "eV", EV_PER_UNIT)
            energy_ev = value * EV_PER_UNIT[unit]
            if not 1 <= energy_ev <= 1e7:
                raise ImportDataError(
                    f"{self.path}: {item.name} = {value:g} taken as {unit} is a photon energy of {energy_ev:g} eV: "
                    "give energy_unit (J, eV or keV) or energy_ev"
                )
            return energy_ev
        wavelength = f"{cxi.SOURCE}/wavelength"
        if wavelength in self.file:
            item = self._at(wavelength)
            return PLANCK_TIMES_C_EV_M / (self._scalar(item) * METRES_PER_UNIT[self._unit(item, "m", METRES_PER_UNIT)])
        raise self._absent("the photon energy", "energy_ev or energy_path")

    def _distance_m(self) -> float:
        if self.layout.distance_m is not None:
            return self.layout.distance_m
        item = self._optional("distance_path", f"{cxi.DETECTOR}/distance")
        if item is None:
            raise self._absent("the distance to the detector", "distance_m or distance_path")
        return abs(self._scalar(item)) * METRES_PER_UNIT[self._unit(item, "m", METRES_PER_UNIT)]

    def _detector_pixel_m(self) -> float:
        layout = self.layout
        if layout.detector_pixel_m is not None:
            return layout.detector_pixel_m
        names = [f"{cxi.DETECTOR}/{axis}_pixel_size" for axis in "xy"]
        if layout.detector_pixel_path is not None:
            names = [layout.detector_pixel_path]
        items = [self._at(name) for name in names if layout.detector_pixel_path is not None or name in self.file]
        if not items:
            raise self._absent("the pitch of the detector", "detector_pixel_m or detector_pixel_path")
        sizes = [self._scalar(i) * METRES_PER_UNIT[self._unit(i, "m", METRES_PER_UNIT)] for i in items]
        if not np.allclose(sizes, sizes[0], rtol=1e-3):
            raise ImportDataError(
                f"{self.path}: pixels are {sizes[0]:g} m x {sizes[1]:g} m, only square ones can be used"
            )
        return sizes[0]

    def _unit(self, item: Any, default: str, allowed: Any) -> str:
        text = item.attrs.get("units", item.attrs.get("unit", default))
        if isinstance(text, bytes):
            text = text.decode(errors="replace")
        unit = _UNIT_NAMES.get(str(text).strip().lower())
        if unit not in allowed:
            raise ImportDataError(
                f"{self.path}: {item.name} is in {str(text)!r}; known here: {', '.join(allowed)}: "
                "name the unit in the layout"
            )
        return str(unit)

    def _scalar(self, item: Any) -> float:
        values = np.asarray(self._read(item)).reshape(-1)
        if not len(values) or values.dtype.kind not in "iuf" or not np.all(np.isfinite(values)):
            raise ImportDataError(f"{self.path}: {item.name} must be a number, it is {values[:3]!r}")
        if not np.allclose(values, values[0], rtol=1e-3):
            raise ImportDataError(f"{self.path}: {item.name} changes between frames, one value is needed")
        return float(values[0])

    def _read(self, item: Any) -> Array:
        try:
            return np.asarray(item[()])
        except (OSError, RuntimeError) as error:
            raise ImportDataError(
                f"{self.path}: {item.name} cannot be read ({error}): a file that it refers to or a compression "
                "filter (hdf5plugin) may be missing"
            ) from None

    def _find(self, option: str, places: tuple[str, ...]) -> Any:
        chosen = getattr(self.layout, option)
        for name in (chosen,) if chosen is not None else places:
            if chosen is not None or name in self.file:
                return self._at(name)
        raise self._absent(f"none of {', '.join(places)}", option)

    def _optional(self, option: str, place: str) -> Any:
        chosen = getattr(self.layout, option)
        if chosen is not None:
            return self._at(chosen)
        return self._at(place) if place in self.file else None

    def _at(self, name: str) -> Any:
        try:
            item = self.file[name]
        except (KeyError, OSError, RuntimeError):
            raise self._absent(f"a dataset {name}", "the right path") from None
        if not hasattr(item, "shape"):
            raise self._absent(f"a dataset {name} (it is a group)", "the right path")
        return item

    def _absent(self, what: str, option: str) -> ImportDataError:
        present = "\n  ".join(list_datasets(self.file)) or "(nothing)"
        return ImportDataError(f"{self.path} does not have {what}: give {option}. It has\n  {present}")


def _raster(columns: list[Array], n_frames: int) -> list[Array]:
    """Return x and y of every point when a raster gives only the values of its axes, else what was given."""
    x, y = columns
    if len(x) == n_frames or len(x) * len(y) != n_frames:
        return columns
    grid_y, grid_x = np.meshgrid(y, x, indexing="ij")
    return [grid_x.reshape(-1), grid_y.reshape(-1)]
