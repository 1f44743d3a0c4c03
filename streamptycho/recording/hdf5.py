"""Writing HDF5 files that are either whole or not there, and reading them with errors that help."""

from __future__ import annotations

import io
import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from streamptycho.messages import Array

_CHUNK_EDGE = 256
_COMPRESS_FROM_BYTES = 4096
_COMPRESS_TO_BYTES = _LARGE_BYTES = 1 << 28
_ROOM_TO_SPARE = 1.05
_MAX_LISTED = 40


class ResultError(RuntimeError):
    """A result or data file that cannot be written or read: says which and why."""


def write_atomically(path: Path, fill: Callable[[Any], None], *, nbytes: int = 0) -> None:
    """Write an HDF5 file under another name and move it into place, so that no reader sees half of it.

    The HDF5 library does not survive a disk that fills while it writes. So the file is composed in memory, or, where
    `nbytes` says that it will be large, written only where there is room for it.

    Raises
    ------
    ResultError
        If the file cannot be written. The file that was there before stays.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w+b") as written:
            if nbytes > _LARGE_BYTES:
                _make_sure_of_room(path.parent, nbytes)
                with h5py.File(temporary, "w") as file:
                    fill(file)
            else:
                image = io.BytesIO()
                with h5py.File(image, "w") as file:
                    fill(file)
                written.write(image.getbuffer())
            written.flush()
            os.fsync(written.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ResultError(f"cannot write {path}: {reason}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _make_sure_of_room(folder: Path, nbytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < _ROOM_TO_SPARE * nbytes:
        raise OSError(
            f"it takes {nbytes / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free: make room, or write somewhere else"
        )


def open_for_reading(path: Path) -> Any:
    """Return the opened HDF5 file.

    Raises
    ------
    ResultError
        If it cannot be opened.
    """
    try:
        return h5py.File(path, "r")
    except OSError as error:
        reason = "there is no such file" if not Path(path).exists() else f"it is not a readable HDF5 file ({error})"
        raise ResultError(f"cannot read {path}: {reason}") from None


def new_root(file: Any, entry_name: str, default: str) -> Any:
    """Return the new entry of a new file; `default` is the group in it that viewers open first."""
    file.attrs["NX_class"] = "NXroot"
    file.attrs["default"] = entry_name
    file.attrs["creator"] = "streamptycho"
    return group(file, entry_name, "NXentry", default=default)


def group(parent: Any, name: str, nexus_class: str, **attributes: Any) -> Any:
    """Return a new group of a NeXus class."""
    made = parent.create_group(name)
    made.attrs["NX_class"] = nexus_class
    for key, value in attributes.items():
        made.attrs[key] = value
    return made


def dataset(parent: Any, name: str, value: Any, units: str | None = None, **attributes: Any) -> Any:
    """Return a new dataset, in compressed chunks when it is large, plain when it is huge. None writes nothing."""
    if value is None:
        return None
    array = np.asarray(value)
    if array.dtype.kind in "US":
        made = parent.create_dataset(name, data=value, dtype=h5py.string_dtype())
    elif not array.ndim or not array.size:
        made = parent.create_dataset(name, data=array)
    else:
        made = _room_for(parent, name, array.shape, array.dtype)
        made[...] = array
    return _described(made, units, attributes)


def dataset_in_parts(
    parent: Any,
    name: str,
    shape: tuple[int, ...],
    dtype: Any,
    parts: Iterable[Array],
    units: str | None = None,
    **attributes: Any,
) -> Any:
    """Return a new dataset as `dataset` makes it, of parts along its first axis, one after the other.

    Raises
    ------
    ResultError
        If the parts do not fill it.
    """
    made = _room_for(parent, name, shape, np.dtype(dtype))
    first = 0
    for part in parts:
        made[first : first + len(part)] = part
        first += len(part)
    if first != shape[0]:
        raise ResultError(f"{name} should have {shape[0]} layers, and {first} came")
    return _described(made, units, attributes)


def _room_for(parent: Any, name: str, shape: tuple[int, ...], dtype: Any) -> Any:
    nbytes = math.prod(shape) * dtype.itemsize
    if not _COMPRESS_FROM_BYTES <= nbytes <= _COMPRESS_TO_BYTES:
        return parent.create_dataset(name, shape, dtype)
    chunks = (1,) * max(0, len(shape) - 2) + tuple(min(_CHUNK_EDGE, n) for n in shape[-2:])
    if len(shape) == 1:
        chunks = (min(_CHUNK_EDGE**2, shape[0]),)
    return parent.create_dataset(
        name, shape, dtype, chunks=chunks, compression="gzip", compression_opts=1, shuffle=True
    )


def _described(made: Any, units: str | None, attributes: Mapping[str, Any]) -> Any:
    if units is not None:
        made.attrs["units"] = units
    for key, text in attributes.items():
        made.attrs[key] = text
    return made


def picture(
    parent: Any,
    name: str,
    image: Array,
    pixel_m: float,
    *,
    title: str,
    units: str = "",
    axes: tuple[str, str] = ("y", "x"),
) -> Any:
    """Return a new NXdata group with an image (H, W) and its axes in micrometres, which viewers show at once."""
    made = group(parent, name, "NXdata", signal=name, axes=list(axes), title=title)
    dataset(made, name, image, units, long_name=title)
    for axis, length in zip(axes, image.shape, strict=True):
        dataset(made, axis, np.arange(length) * (pixel_m * 1e6), "um", long_name=f"{axis} (µm)")
    return made


def counts_table(parent: Any, name: str, counts: Mapping[str, int]) -> None:
    """Write how many were lost for which reason."""
    made = group(parent, name, "NXcollection")
    made.create_dataset("reason", data=list(counts), dtype=h5py.string_dtype(), shape=(len(counts),))
    dataset(made, "count", np.array(list(counts.values()), np.int64))


def read_counts(parent: Any, name: str) -> dict[str, int]:
    """Return what `counts_table` wrote."""
    if name not in parent:
        return {}
    reasons = parent[name]["reason"].asstr()[()]
    return {str(reason): int(count) for reason, count in zip(reasons, parent[name]["count"][()], strict=True)}


def read_number(parent: Any, name: str) -> float | None:
    """Return a number, or None where there is none."""
    return float(parent[name][()]) if name in parent else None


def list_datasets(file: Any) -> list[str]:
    """Return the paths and shapes of the datasets of a file, links that lead nowhere marked as such."""
    found: list[str] = []

    def visit(here: Any, prefix: str, depth: int) -> None:
        for name in here:
            if len(found) > _MAX_LISTED or depth > 12:
                return
            path = f"{prefix}/{name}"
            try:
                item = here[name]
            except (KeyError, OSError, RuntimeError):
                found.append(f"{path} (link to something that is not there)")
                continue
            if isinstance(item, h5py.Group):
                visit(item, path, depth + 1)
            else:
                found.append(f"{path} {item.shape} {item.dtype}")

    visit(file, "", 0)
    if len(found) > _MAX_LISTED:
        found = [*found[:_MAX_LISTED], "..."]
    return found
