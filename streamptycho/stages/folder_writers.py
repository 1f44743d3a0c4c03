"""Taps that keep in the folder of a run what a stage says."""

from __future__ import annotations

import contextlib
import time

from streamptycho.config import Config, dump
from streamptycho.messages import Anomaly, Message, ObjectUpdate, ProjectionEnd, ServiceStatus
from streamptycho.recording.projection_file import write_projection
from streamptycho.recording.provenance import Provenance
from streamptycho.runtime.service import Tap
from streamptycho.stages.folder import RunFolder, append_json


def status_writer(folder: RunFolder) -> Tap:
    """Return a tap that keeps the newest status in the folder of the run, as long as the disk takes it."""

    def write(message: Message) -> None:
        if isinstance(message, ServiceStatus):
            with contextlib.suppress(OSError):
                folder.write_status(message)

    return write


def accounting_writer(folder: RunFolder) -> Tap:
    """Return a tap that notes what became of the frames of every projection."""

    def write(message: Message) -> None:
        if isinstance(message, ProjectionEnd):
            folder.append_accounting(message)

    return write


def warning_writer(folder: RunFolder) -> Tap:
    """Return a tap that notes what is wrong with whole projections."""

    def write(message: Message) -> None:
        if isinstance(message, Anomaly) and message.source == "reconstruct" and message.detail:
            append_json(folder.warnings, {"reason": message.reason, "count": message.count, "text": message.detail})

    return write


def projection_writer(config: Config, folder: RunFolder) -> Tap:
    """Return a tap that writes every finished projection."""
    configuration = dump(config)

    def write(message: Message) -> None:
        if not isinstance(message, ObjectUpdate) or not message.final:
            return
        provenance = Provenance(
            configuration=configuration, end_s=message.last_frame_ns * 1e-9, dropped=message.dropped
        )
        write_projection(folder.projection(message.projection), message, provenance)
        append_json(
            folder.reconstructed,
            {
                "projection": message.projection,
                "angle_deg": message.angle_deg,
                "error": message.error,
                "noise_floor": message.noise_floor,
                "correction_rms_m": message.correction_rms_m,
                "mode_power": message.mode_power,
                "resolution_m": message.resolution_m,
                "sweeps": message.sweeps,
                "frames": len(message.index),
                "dropped": message.dropped,
                "latency_s": max(0, time.time_ns() - message.last_frame_ns) * 1e-9,
            },
        )

    return write
