"""The result file of the volume, in HDF5/NeXus.

References
----------
NeXus definitions NXdata, NXprocess and NXtomoproc: https://manual.nexusformat.org/classes/.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamptycho.messages import Array, VolumeUpdate
from streamptycho.recording.hdf5 import (
    dataset,
    dataset_in_parts,
    group,
    new_root,
    picture,
    read_number,
    write_atomically,
)
from streamptycho.recording.provenance import Provenance, write_provenance
from streamptycho.recording.result_file import reading
from streamptycho.recording.shell_correlation import read_shell_correlation, write_shell_correlation
from streamptycho.tomography.histogram import GrowingHistogram
from streamptycho.tomography.interface import ProjectionStack, VolumeSlabs
from streamptycho.tomography.refractive_index import UNITS

_UNIT_OF_SUFFIX = {
    "_m": "m", "_deg": "degrees", "_px": "pixel", "_gy": "Gy", "_ev": "eV", "_per_m2": "1/m^2",
    "_per_A3": "1/angstrom^3", "_g_per_cm3": "g/cm^3",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume:
    """A volume file: `data` (Z, Y, X) float32, z along the rotation axis, in the unit of `quantity`."""

    scan_id: str
    data: Array
    voxel_m: float
    quantity: str
    projections_used: int
    resolution_m: float | None
    final: bool
    stack: ProjectionStack | None
    figures: dict[str, float]
    fsc: dict[str, list[float]]


def write_volume(
    path: Path,
    volume: Array | VolumeSlabs,
    update: VolumeUpdate,
    stack: ProjectionStack | None,
    provenance: Provenance,
) -> None:
    """Write a volume (Z, Y, X) as NXtomoproc, with its orthoslices and, if given, the aligned projections.

    Of a volume in slabs one is held at a time.

    Raises
    ------
    ResultError
        If the file cannot be written.
    """
    slabs = volume if isinstance(volume, VolumeSlabs) else VolumeSlabs(_shape_of(volume), [np.asarray(volume)])
    nbytes = 4 * math.prod(slabs.shape) + (0 if stack is None else stack.phase_rad.nbytes + stack.magnitude.nbytes)
    write_atomically(path, lambda file: _fill_volume(file, slabs, update, stack, provenance), nbytes=nbytes)


def read_volume(path: Path) -> Volume:
    """Return what `write_volume` wrote.

    Raises
    ------
    ResultError
        If it is another kind of file.
    """
    with reading(path, "volume") as entry:
        return Volume(
            **_about_volume(entry),
            data=entry["data/data"][()],
            stack=_read_stack(entry["projections"]) if "projections" in entry else None,
        )


def read_slices(path: Path) -> VolumeUpdate:
    """Return the orthoslices of a volume file, without reading the volume.

    Raises
    ------
    ResultError
        If it is another kind of file.
    """
    with reading(path, "volume") as entry:
        slices = {f"slice_{axis}": entry[f"slice_{axis}/slice_{axis}"][()] for axis in "zyx"}
        return VolumeUpdate(**_about_volume(entry), **slices)


def _about_volume(entry: Any) -> dict[str, Any]:
    process = entry["reconstruction"]
    return {
        "scan_id": str(entry["entry_identifier"].asstr()[()]),
        "voxel_m": float(process["voxel"][()]),
        "quantity": str(process["quantity"].asstr()[()]),
        "projections_used": int(process["projections_used"][()]),
        "resolution_m": read_number(process, "resolution"),
        "figures": {name: float(entry["figures"][name][()]) for name in entry.get("figures", ())},
        "fsc": read_shell_correlation(entry),
        "final": bool(process["final"][()]),
    }


def _shape_of(volume: Array) -> tuple[int, int, int]:
    depth, height, width = volume.shape
    return depth, height, width


def _fill_volume(
    file: Any, volume: VolumeSlabs, update: VolumeUpdate, stack: ProjectionStack | None, provenance: Provenance
) -> None:
    entry = new_root(file, "entry", "slice_z")
    dataset(entry, "definition", "NXtomoproc")
    dataset(entry, "title", f"{update.scan_id}: tomogram of {update.projections_used} projections")
    dataset(entry, "entry_identifier", update.scan_id)
    process = write_provenance(entry, provenance)
    dataset(process, "voxel", update.voxel_m, "m")
    dataset(process, "quantity", update.quantity)
    dataset(process, "projections_used", update.projections_used)
    dataset(process, "resolution", update.resolution_m, "m")
    dataset(process, "final", update.final)
    sample = group(entry, "sample", "NXsample")
    dataset(sample, "name", update.scan_id)

    units = UNITS.get(update.quantity, "")
    figures = group(entry, "figures", "NXcollection")
    for name, value in sorted(update.figures.items()):
        dataset(figures, name, float(value), _unit_of(name))
    data = group(entry, "data", "NXdata", signal="data", axes=["z", "y", "x"], title=update.quantity)
    about = {"transform": "none", "offset": 0.0, "scaling": 1.0}
    histogram = GrowingHistogram()
    dataset_in_parts(data, "data", volume.shape, np.float32, _counted(volume.slabs, histogram), units, **about)
    if 0 not in volume.shape:
        counts, edges = histogram.result()
        shown = group(entry, "histogram", "NXdata", signal="voxels", axes=["value"], title="Histogram of the volume")
        dataset(shown, "voxels", counts)
        dataset(shown, "value", edges, units, long_name=update.quantity)
    write_shell_correlation(entry, update.fsc)
    for axis, length in zip("zyx", volume.shape, strict=True):
        dataset(data, axis, np.arange(length) * (update.voxel_m * 1e6), "um")
    for axis, axes in (("z", ("y", "x")), ("y", ("z", "x")), ("x", ("z", "y"))):
        name, title = f"slice_{axis}", f"Central slice across {axis}"
        picture(entry, name, getattr(update, name), update.voxel_m, title=title, units=units, axes=axes)
    if stack is not None:
        aligned = group(entry, "projections", "NXdata", signal="phase", axes=["rotation_angle", ".", "."])
        dataset(aligned, "number", np.asarray(stack.keys, np.int64))
        dataset(aligned, "phase", np.asarray(stack.phase_rad, np.float32), "rad")
        dataset(aligned, "magnitude", np.asarray(stack.magnitude, np.float32))
        dataset(aligned, "rotation_angle", np.asarray(stack.angles_deg, np.float64), "degrees")
        dataset(aligned, "shift_px", np.asarray(stack.shifts_px, np.float64), "pixel")
        dataset(aligned, "pixel_size", stack.pixel_m, "m")
        dataset(aligned, "center_xy", np.asarray(stack.center_xy_m, np.float64), "m")


def _counted(slabs: Iterable[Array], histogram: GrowingHistogram) -> Iterator[Array]:
    for slab in slabs:
        histogram.add(slab)
        yield slab


def _unit_of(figure: str) -> str | None:
    found = [suffix for suffix in _UNIT_OF_SUFFIX if figure.endswith(suffix)]
    return _UNIT_OF_SUFFIX[max(found, key=len)] if found else None


def _read_stack(aligned: Any) -> ProjectionStack:
    x_m, y_m = aligned["center_xy"][()].tolist()
    return ProjectionStack(
        keys=aligned["number"][()],
        angles_deg=aligned["rotation_angle"][()],
        phase_rad=aligned["phase"][()],
        magnitude=aligned["magnitude"][()],
        shifts_px=aligned["shift_px"][()],
        pixel_m=float(aligned["pixel_size"][()]),
        center_xy_m=(x_m, y_m),
    )
