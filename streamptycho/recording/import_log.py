"""A measurement as a stream log: the bytes that its detector and its PandABox would have sent."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from streamptycho import config, detectors
from streamptycho.config import Config, Orientation
from streamptycho.messages import Array, RawRecord
from streamptycho.positions import encode_pandabox
from streamptycho.recording.dataset import Dataset
from streamptycho.recording.stream_log import StreamLogError, StreamLogWriter

DEFAULT_EPOCH_S = 1_700_000_000.0
_X, _Y, _TIME = "INENC1.VAL", "INENC2.VAL", "PCAP.TS_START"
_TRAVEL_S = 1e-3
_CONNECTED_BEFORE_S = 0.1
_POSITION_MESSAGES_PER_S = 10.0

Progress = Callable[[int, int], None]


def write_log(
    dataset: Dataset,
    log_path: Path,
    *,
    protocol: str = "dectris_stream2",
    orientation: Orientation = "identity",
    rate_hz: float = 1000.0,
    scan_id: str | None = None,
    epoch_s: float = DEFAULT_EPOCH_S,
    progress: Progress | None = None,
) -> Path:
    """Write a measurement as a stream log that `replay` runs like a recording.

    The log starts with a configuration that fits it. A known probe is saved beside the log, as
    ``<log>.probe.npy``, and named in that configuration. Times are made up: frames at `rate_hz` from `epoch_s` on.

    Parameters
    ----------
    dataset
        The measurement.
    log_path
        The file to write; its folder is made.
    protocol
        "dectris_stream2" or "dectris_stream1".
    orientation
        Goes into the configuration, which turns the stored positions by it.
    rate_hz
        Frames per second.
    scan_id
        None takes the name of the file.
    epoch_s
        Unix time of the start of the measurement.
    progress
        Called with the frames written and all frames.

    Returns
    -------
    Path
        That of the log.

    Raises
    ------
    StreamLogError
        If the log exists or cannot be written; what was written of it is then removed.
    UnknownPluginError
        If streamptycho has no encoder of that protocol.
    """
    log_path = Path(log_path)
    name = scan_id if scan_id is not None else log_path.name.split(".")[0]
    probe_path = None if dataset.probe is None else log_path.with_name(log_path.name + ".probe.npy")
    settings = replay_configuration(dataset, protocol, orientation, name, probe_path)
    log = StreamLogWriter(log_path, configuration=config.dump(settings))
    complete = False
    try:
        with log:
            if probe_path is not None and dataset.probe is not None:
                _save_probe(probe_path, dataset.probe)
            for sequence, (done, record) in enumerate(_records(dataset, protocol, rate_hz, epoch_s, name), start=1):
                log.append(dataclasses.replace(record, sequence=sequence))
                if progress is not None and record.source == "detector":
                    progress(done, len(dataset.counts))
        complete = True
    finally:
        if not complete:
            # Half an import is of no use and would be in the way of the next attempt.
            log_path.unlink(missing_ok=True)
            if probe_path is not None:
                probe_path.unlink(missing_ok=True)
    return log_path


def replay_configuration(
    dataset: Dataset, protocol: str, orientation: Orientation, scan_id: str, probe_path: Path | None
) -> Config:
    """Return the configuration under which the log of a measurement is replayed."""
    geometry = dataset.geometry
    reconstruction: dict[str, object] = {}
    if dataset.probe is not None and probe_path is not None:
        reconstruction = {
            "modes": max(1, len(dataset.probe)),
            "probe": {"start": "file", "file": probe_path.name},
        }
    return Config.model_validate(
        {
            "scan_id": scan_id,
            "detector": {
                "protocol": protocol,
                "energy_ev": geometry.energy_ev,
                "distance_m": geometry.distance_m,
                "pixel_m": geometry.detector_pixel_m,
            },
            "positions": {
                "protocol": "pandabox",
                "x": {"column": f"{_X}.Mean", "scale": 1e-6},
                "y": {"column": f"{_Y}.Mean", "scale": 1e-6},
                "time": {"column": f"{_TIME}.Value"},
                "orientation": orientation,
            },
            "pairing": {"by": "row"},
            "projections": {"count": 1},
            "reconstruction": reconstruction,
        }
    )


def _save_probe(path: Path, probe: Array) -> None:
    try:
        np.save(path, np.asarray(probe, np.complex64))
    except OSError as error:
        raise StreamLogError(f"cannot save the probe as {path}: {error.strerror or error}") from None


def _records(
    dataset: Dataset, protocol: str, rate_hz: float, epoch_s: float, scan_id: str
) -> Iterator[tuple[int, RawRecord]]:
    """Return (frames so far, record) of a whole scan, in the order of arrival."""
    geometry, total = dataset.geometry, len(dataset.counts)
    period_s = 1.0 / rate_hz
    detector = detectors.encoder(
        protocol,
        shape=dataset.counts.shape[1:],
        dtype=dataset.counts.dtype.name,
        energy_ev=geometry.energy_ev,
        distance_m=geometry.distance_m,
        detector_pixel_m=geometry.detector_pixel_m,
        compression="bslz4",
        mask=dataset.mask,
        exposure_s=0.9 * period_s,
        period_s=period_s,
    )
    panda = encode_pandabox.PandaEncoder(
        [
            encode_pandabox.CapturedField(_X, units="um"),
            encode_pandabox.CapturedField(_Y, units="um"),
            encode_pandabox.CapturedField(_TIME, capture="Value", units="s"),
        ]
    )

    def received(time_s: float) -> int:
        return round(epoch_s * 1e9) + round((time_s + _TRAVEL_S) * 1e9)

    def positions(time_s: float, data: bytes) -> RawRecord:
        return RawRecord(source="positions", kind="data", sequence=0, received_ns=received(time_s), parts=(data,))

    def frames(time_s: float, messages: list[list[bytes]]) -> Iterator[RawRecord]:
        for parts in messages:
            yield RawRecord(
                source="detector", kind="data", sequence=0, received_ns=received(time_s), parts=tuple(parts)
            )

    connected_ns = received(-_CONNECTED_BEFORE_S)
    yield 0, RawRecord(source="detector", kind="connected", sequence=0, received_ns=connected_ns)
    yield 0, RawRecord(source="positions", kind="connected", sequence=0, received_ns=connected_ns)
    yield 0, positions(-_CONNECTED_BEFORE_S, b"OK\n")
    yield 0, positions(0.0, panda.header(arm_epoch_s=epoch_s))
    labels = {"scan_id": scan_id, "projection": 0, "angle_deg": 0.0}
    for record in frames(0.0, detector.start(series=1, n_frames=total, epoch_s=epoch_s, labels=labels)):
        yield 0, record
    rows = max(1, round(rate_hz / _POSITION_MESSAGES_PER_S))
    for begin in range(0, total, rows):
        end = min(begin + rows, total)
        for index in range(begin, end):
            start_s = index * period_s
            stop_s = start_s + 0.9 * period_s
            counts = np.asarray(dataset.counts[index])
            messages = detector.image(series=1, index=index, counts=counts, start_s=start_s, stop_s=stop_s)
            for record in frames(stop_s, messages):
                yield index + 1, record
        xy_um = dataset.xy_m[begin:end] * 1e6
        columns: dict[str, Array] = {f"{_X}.Mean": xy_um[:, 0], f"{_Y}.Mean": xy_um[:, 1]}
        columns[f"{_TIME}.Value"] = np.arange(begin, end) * period_s
        yield end, positions(end * period_s, panda.rows(columns))
    last_s = total * period_s
    yield total, positions(last_s, panda.end(total))
    for record in frames(last_s, detector.end(series=1)):
        yield total, record
    yield total, RawRecord(source="recorder", kind="end", sequence=0, received_ns=received(last_s))
