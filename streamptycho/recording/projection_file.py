"""The result file of one projection, in HDF5/NeXus.

References
----------
NeXus definitions NXdata, NXprocess: https://manual.nexusformat.org/classes/.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from streamptycho.geometry import wavelength_from_energy_m
from streamptycho.messages import ObjectUpdate
from streamptycho.recording.hdf5 import (
    counts_table,
    dataset,
    group,
    new_root,
    picture,
    read_counts,
    read_number,
    write_atomically,
)
from streamptycho.recording.provenance import Provenance, write_provenance
from streamptycho.recording.result_file import reading
from streamptycho.recording.shell_correlation import read_ring_correlation, write_ring_correlation


def write_projection(path: Path, update: ObjectUpdate, provenance: Provenance) -> None:
    """Write one reconstructed projection; a file of that name is replaced in one step.

    Viewers open the phase first. Lengths are in metres, the axes of the pictures in micrometres.

    Raises
    ------
    ResultError
        If the file cannot be written.
    """
    write_atomically(path, lambda file: _fill_projection(file, update, provenance))


def read_projection(path: Path) -> ObjectUpdate:
    """Return the projection in a file that `write_projection` wrote.

    Raises
    ------
    ResultError
        If it is another kind of file.
    """
    with reading(path, "projection") as entry:
        process = entry["reconstruction"]
        angle = read_number(entry, "sample/rotation_angle")
        return ObjectUpdate(
            scan_id=str(entry["entry_identifier"].asstr()[()]),
            projection=int(entry["projection"][()]),
            angle_deg=angle,
            object=entry["object/object"][()],
            probe=entry["probe/probe"][()],
            coverage=entry["coverage/coverage"][()],
            pixel_m=float(process["pixel"][()]),
            energy_ev=float(entry["instrument/beam/incident_energy"][()]),
            origin_xy_m=process["origin_xy"][()],
            index=entry["positions/index"][()],
            xy_m=np.stack([entry["positions/x"][()], entry["positions/y"][()]], axis=-1),
            errors=entry["errors/error"][()],
            sweeps=float(process["sweeps"][()]),
            resolution_m=read_number(process, "resolution"),
            noise_floor=read_number(process, "noise_floor"),
            correction_rms_m=read_number(process, "position_correction_rms"),
            last_frame_ns=int(process["last_frame_ns"][()]),
            dropped=read_counts(process, "frames_not_used"),
            frc=read_ring_correlation(entry),
            final=bool(process["final"][()]),
        )


def _fill_projection(file: Any, update: ObjectUpdate, provenance: Provenance) -> None:
    entry = new_root(file, "entry", "phase")
    angle = "" if update.angle_deg is None else f" at {update.angle_deg:.3f}°"
    dataset(entry, "title", f"{update.scan_id}: projection {update.projection}{angle}")
    dataset(entry, "entry_identifier", update.scan_id)
    dataset(entry, "projection", update.projection)
    process = write_provenance(entry, provenance)
    dataset(process, "pixel", update.pixel_m, "m")
    dataset(process, "origin_xy", np.asarray(update.origin_xy_m, np.float64), "m")
    dataset(process, "sweeps", update.sweeps)
    dataset(process, "resolution", update.resolution_m, "m")
    dataset(process, "noise_floor", update.noise_floor)
    dataset(process, "position_correction_rms", update.correction_rms_m, "m")
    dataset(process, "last_frame_ns", update.last_frame_ns, "ns")
    dataset(process, "final", update.final)
    counts_table(process, "frames_not_used", update.dropped)
    instrument = group(entry, "instrument", "NXinstrument")
    beam = group(instrument, "beam", "NXbeam")
    dataset(beam, "incident_energy", update.energy_ev, "eV")
    dataset(beam, "incident_wavelength", wavelength_from_energy_m(update.energy_ev), "m")
    sample = group(entry, "sample", "NXsample")
    dataset(sample, "rotation_angle", update.angle_deg, "degrees")

    pixel_m = update.pixel_m
    picture(entry, "phase", np.angle(update.object).astype(np.float32), pixel_m, title="Phase", units="rad")
    picture(entry, "magnitude", np.abs(update.object).astype(np.float32), pixel_m, title="Magnitude")
    picture(entry, "object", update.object.astype(np.complex64), pixel_m, title="Object transmission")
    picture(entry, "coverage", update.coverage, pixel_m, title="Summed probe intensity")
    probe = group(entry, "probe", "NXdata", signal="probe", axes=["mode", ".", "."], title="Probe modes")
    dataset(probe, "probe", update.probe.astype(np.complex64))
    dataset(probe, "mode", np.arange(len(update.probe)))
    dataset(probe, "power", np.asarray(update.mode_power), long_name="share of the power")
    positions = group(entry, "positions", "NXdata", signal="index", axes=["x", "y"], title="Corrected beam positions")
    dataset(positions, "index", np.asarray(update.index, np.int64), long_name="frame")
    for column, axis in enumerate(("x", "y")):
        dataset(positions, axis, np.asarray(update.xy_m[:, column], np.float64), "m")
    errors = group(entry, "errors", "NXdata", signal="error", axes=["sweep"], title="Normalised amplitude error")
    dataset(errors, "error", np.asarray(update.errors, np.float32))
    dataset(errors, "sweep", np.arange(1, len(update.errors) + 1))
    write_ring_correlation(entry, update.frc)
