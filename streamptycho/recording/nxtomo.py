"""The aligned projections as NXtomo, for tomography programs.

References
----------
NeXus definition NXtomo: https://manual.nexusformat.org/classes/applications/NXtomo.html.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from streamptycho.recording.hdf5 import dataset, group, new_root, write_atomically
from streamptycho.tomography.interface import ProjectionStack


def write_nxtomo(
    path: Path,
    stack: ProjectionStack,
    *,
    energy_ev: float | None = None,
    name: str = "ptychography",
) -> None:
    """Write aligned projections as NXtomo, which Savu, httomo and Mantid Imaging read.

    The frames are phases in radians, all of them projections (`image_key` 0): they need no flat or dark field.

    Raises
    ------
    ResultError
        If the file cannot be written.
    """

    def fill(file: Any) -> None:
        entry = new_root(file, "entry1", "data")
        dataset(entry, "definition", "NXtomo")
        dataset(entry, "title", name)
        instrument = group(entry, "instrument", "NXinstrument")
        detector = group(instrument, "detector", "NXdetector")
        dataset(detector, "data", np.asarray(stack.phase_rad, np.float32), "rad", long_name="phase (rad)")
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

    write_atomically(path, fill)
