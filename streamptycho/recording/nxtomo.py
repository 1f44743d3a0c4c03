"""The aligned projections as NXtomo, for tomography programs.

References
----------
NeXus definition NXtomo: https://manual.nexusformat.org/classes/applications/NXtomo.html.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from streamptycho.messages import Array
from streamptycho.recording.hdf5 import dataset, dataset_in_parts, group, new_root, write_atomically
from streamptycho.tomography.interface import ProjectionStack


def write_nxtomo(
    path: Path,
    stack: ProjectionStack,
    *,
    energy_ev: float | None = None,
    name: str = "ptychography",
) -> None:
    """Write aligned projections as NXtomo, for Savu, httomo and Mantid Imaging; replaces the old file in one step.

    `entry1` has phases in radians (matter negative), `entry2` magnitudes (air 1), each as a NXtomo of its own, and
    `complex` both as one transmission. All frames are projections (`image_key` 0): they need no flat or dark field.

    Raises
    ------
    ResultError
        If the file cannot be written.
    """

    def fill(file: Any) -> None:
        entry = new_root(file, "entry1", "data")
        phase = np.asarray(stack.phase_rad, np.float32)
        magnitude = np.asarray(stack.magnitude, np.float32)
        _fill(entry, stack, phase, ("rad", "phase (rad)"), energy_ev, name)
        _fill(group(file, "entry2", "NXentry", default="data"), stack, magnitude, ("", "magnitude"), energy_ev, name)
        both = group(file, "complex", "NXentry", default="data")
        shown = group(both, "data", "NXdata", signal="transmission", axes=["rotation_angle", ".", "."])
        parts = ((m * np.exp(1j * p)).astype(np.complex64)[None] for m, p in zip(magnitude, phase, strict=True))
        label = "complex transmission"
        dataset_in_parts(shown, "transmission", phase.shape, np.complex64, parts, "", long_name=label)
        shown["rotation_angle"] = entry["sample/rotation_angle"]

    write_atomically(path, fill, nbytes=2 * (stack.phase_rad.nbytes + stack.magnitude.nbytes))


def _fill(
    entry: Any, stack: ProjectionStack, frames: Array, label: tuple[str, str], energy_ev: float | None, name: str
) -> None:
    units, long_name = label
    dataset(entry, "definition", "NXtomo")
    dataset(entry, "title", name)
    instrument = group(entry, "instrument", "NXinstrument")
    detector = group(instrument, "detector", "NXdetector")
    dataset(detector, "data", frames, units, long_name=long_name)
    dataset(detector, "image_key", np.zeros(len(stack.angles_deg), np.int32))
    for axis in ("x_pixel_size", "y_pixel_size"):
        dataset(detector, axis, stack.pixel_m, "m")
    if energy_ev is not None:
        beam = group(instrument, "beam", "NXbeam")
        dataset(beam, "incident_energy", energy_ev, "eV")
    sample = group(entry, "sample", "NXsample")
    dataset(sample, "name", name)
    dataset(sample, "rotation_angle", np.asarray(stack.angles_deg, np.float64), "degrees")
    data = group(entry, "data", "NXdata", signal="data", axes=["rotation_angle", ".", "."])
    data["data"] = detector["data"]
    data["rotation_angle"] = sample["rotation_angle"]
    data["image_key"] = detector["image_key"]
