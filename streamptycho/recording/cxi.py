"""CXI 1.6 files: the exchange format of coherent imaging, and NXcxi_ptycho, which is the same tree.

References
----------
F. R. N. C. Maia, The Coherent X-ray Imaging Data Bank, Nature Methods 9, 854 (2012), doi:10.1038/nmeth.2110.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from streamptycho.messages import Array
from streamptycho.recording.dataset import Dataset
from streamptycho.recording.hdf5 import dataset, write_atomically
from streamptycho.recording.layout import EV_PER_UNIT

DATA_PATHS = ("entry_1/data_1/data", "entry_1/instrument_1/detector_1/data")
TRANSLATION_PATHS = (
    "entry_1/data_1/translation",
    "entry_1/sample_1/geometry_1/translation",
    "entry_1/instrument_1/detector_1/translation",
)
DETECTOR = "entry_1/instrument_1/detector_1"
SOURCE = "entry_1/instrument_1/source_1"
BEAM = "entry_1/instrument_1/beam_1"


def detector_axes(file: Any) -> Array:
    """Return unit vectors (2, 3) of the laboratory along which columns (first) and rows (second) of the frames grow.

    Without `basis_vectors`, rows grow downwards (-y) and columns towards -x, as CXI has it for a detector seen from
    the sample.
    """
    path = f"{DETECTOR}/basis_vectors"
    if path not in file:
        return np.array([[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    basis = np.asarray(file[path][()], np.float64)
    # Columns are the steps to the next row and to the next column; old writers stored the transpose.
    steps = basis.T if basis.shape == (3, 2) else basis
    if steps.shape != (2, 3) or not np.all(np.linalg.norm(steps, axis=1) > 0):
        raise ValueError(f"basis_vectors must be (3, 2) and not zero, got shape {basis.shape}")
    along: Array = steps[::-1] / np.linalg.norm(steps[::-1], axis=1, keepdims=True)
    return along


def beam_positions_m(translation_m: Array, axes: Array) -> Array:
    """Return beam positions (N, 2) in the axes of the frames from the movement (N, 2 or 3) of the sample.

    The sample moves one way, so the beam moves over it the other way: hence the minus sign.
    """
    flat = np.asarray(translation_m, np.float64).reshape(-1, translation_m.shape[-1])
    padded = np.zeros((len(flat), 3))
    padded[:, : flat.shape[1]] = flat
    positions: Array = -padded @ axes.T
    return positions


def write_cxi(path: Path, measurement: Dataset) -> None:
    """Write a measurement as CXI 1.6 that also carries the NeXus classes of NXcxi_ptycho.

    Pixels that were not measured are written as zero and marked in the mask.

    Raises
    ------
    ResultError
        If the file cannot be written.
    """
    write_atomically(path, lambda file: _fill(file, measurement))


def _fill(file: Any, measurement: Dataset) -> None:
    geometry = measurement.geometry
    counts = np.asarray(measurement.counts)
    top = np.iinfo(counts.dtype).max
    mask = np.zeros(counts.shape[1:], np.uint32) if measurement.mask is None else measurement.mask.astype(np.uint32)
    mask = np.where((counts == top).all(axis=0) & (mask == 0), 1, mask).astype(np.uint32)
    file.attrs["default"] = "entry_1"
    file.create_dataset("cxi_version", data=160)
    file.create_dataset("number_of_entries", data=1)
    classes = {
        "entry_1": "NXentry",
        "entry_1/instrument_1": "NXinstrument",
        SOURCE: "NXsource",
        BEAM: "NXbeam",
        DETECTOR: "NXdetector",
        "entry_1/sample_1": "NXsample",
        "entry_1/sample_1/geometry_1": "NXcollection",
        "entry_1/data_1": "NXdata",
    }
    for name, nexus_class in classes.items():
        file.create_group(name).attrs["NX_class"] = nexus_class
    file["entry_1"].attrs["default"] = "data_1"
    dataset(file["entry_1"], "definition", "NXcxi_ptycho")
    energy_j = geometry.energy_ev / EV_PER_UNIT["J"]
    for place, name in ((SOURCE, "energy"), (BEAM, "incident_beam_energy")):
        dataset(file[place], name, energy_j, "J")
    dataset(file[SOURCE], "wavelength", geometry.wavelength_m, "m")
    detector = file[DETECTOR]
    dataset(detector, "data", np.where(counts == top, 0, counts).astype(counts.dtype))
    dataset(detector, "distance", geometry.distance_m, "m")
    pitch = geometry.detector_pixel_m
    dataset(detector, "x_pixel_size", pitch, "m")
    dataset(detector, "y_pixel_size", pitch, "m")
    dataset(detector, "mask", mask)
    dataset(detector, "basis_vectors", np.array([[0.0, -pitch], [-pitch, 0.0], [0.0, 0.0]]), "m")
    # Rows grow towards -y and columns towards -x, and the sample moves against the beam: the two signs cancel.
    translation = np.zeros((len(measurement.xy_m), 3))
    translation[:, :2] = measurement.xy_m
    made = dataset(file["entry_1/sample_1/geometry_1"], "translation", translation, "m")
    data = file["entry_1/data_1"]
    data.attrs["signal"] = "data"
    data["data"] = detector["data"]
    data["translation"] = made
    detector["translation"] = made
    if measurement.probe is not None:
        dataset(detector, "probe", measurement.probe.astype(np.complex64))
