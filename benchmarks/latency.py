"""From the last frame of a projection to its finished object, at a rate that this machine can hold."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import numpy as np

from benchmarks.clock import spread
from benchmarks.frames import CONFIGS
from benchmarks.row import Effort, Row, WrongResult
from streamptycho.config import Config, load
from streamptycho.messages import DiffractionBatch, Message, ObjectUpdate, ProjectionStart, RawRecord
from streamptycho.ptychography import reconstruct
from streamptycho.runtime.ports import Stage, travels_as_data
from streamptycho.simulation import Instrument
from streamptycho.stages.ingest import IngestStage
from streamptycho.stages.reconstruct import ReconstructStage

HEADROOM = 2.0


def end_of_scan(effort: Effort) -> Iterator[Row]:
    """One projection of the demonstration, bytes replayed by the clock through ingest and reconstruct."""
    config = _one_projection()
    records = list(Instrument(config).events(time.time()))
    last_image = [k for k, r in enumerate(records) if r.source == "detector" and r.kind == "data"][-2]
    batch_s, frames = _afterwards_s(config, records)
    batch_s, frames = _afterwards_s(config, records)
    latencies, batches, ratios = [], [], []
    for _ in range(3 if effort.quick else 7):
        batch_s, frames = _afterwards_s(config, records)
        scan_s = HEADROOM * batch_s
        latency_s = _live_s(config, records, last_image, scan_s, frames)
        latencies.append(latency_s)
        batches.append(batch_s)
        ratios.append(latency_s / batch_s)
    rate = frames / (HEADROOM * statistics.median(batches))
    sweeps = config.reconstruction.sweeps
    yield Row(
        name="end of scan: last frame to final object",
        figure=1000 * statistics.median(latencies),
        unit="ms",
        better="less",
        spread=spread(latencies),
        rounds=len(latencies),
        reference=f"the same {sweeps} sweeps begun after the scan",
        reference_figure=1000 * statistics.median(batches),
        ratio=statistics.median(ratios),
        meaning=f"{frames} frames of 64x64 replayed at {rate:.0f} frames/s, 1/{HEADROOM:g} of the speed of a batch "
        f"reconstruction; the last frames get their {sweeps} sweeps too, then the resolution is judged",
        details={"frames": float(frames), "frames_per_s": rate},
    )


def _one_projection() -> Config:
    config = load(CONFIGS / "demo.yaml")
    assert config.simulation is not None
    simulation = config.simulation.model_copy(update={"projections": 1})
    projections = config.projections.model_copy(update={"count": 1})
    return config.model_copy(update={"simulation": simulation, "projections": projections})


def _afterwards_s(config: Config, records: list[RawRecord]) -> tuple[float, int]:
    """Return how long a reconstruction of all frames takes that begins when they are all there, and their number."""
    stage = IngestStage(config)
    messages = [out for record in records for out in stage.handle(record, record.received_ns)]
    start = next(m for m in messages if isinstance(m, ProjectionStart))
    batches = [m for m in messages if isinstance(m, DiffractionBatch)]
    settings = config.reconstruction
    began = time.perf_counter()
    reconstruct(
        np.concatenate([b.counts for b in batches]),
        np.concatenate([b.xy_m for b in batches]),
        start.geometry,
        modes=settings.modes,
        sweeps=settings.sweeps,
        probe_start=settings.probe,
        resolution=True,
    )
    return time.perf_counter() - began, sum(len(b.index) for b in batches)


def _live_s(config: Config, records: list[RawRecord], last_image: int, scan_s: float, frames: int) -> float:
    """Return the seconds from handing in the last image to the final object."""
    ingest, engine = IngestStage(config), ReconstructStage(config.reconstruction, time.perf_counter)
    engine_of: Stage = engine
    first_ns = records[0].received_ns
    stretch = scan_s / (1e-9 * (records[last_image].received_ns - first_ns))
    began = time.perf_counter()
    last_frame_s = None
    updates: list[Message] = []
    for number, record in enumerate(records):
        due = began + stretch * 1e-9 * (record.received_ns - first_ns)
        while (left := due - time.perf_counter()) > 0:
            if engine_of.busy:
                updates += engine.work(time.time_ns())
            else:
                time.sleep(min(left, 1e-3))
        if number == last_image:
            last_frame_s = time.perf_counter()
        for out in ingest.handle(record, record.received_ns):
            if travels_as_data(out):
                updates += engine.handle(out, time.time_ns())
        if final := _final(updates):
            break
    while not (final := _final(updates)) and engine.busy:
        updates += engine.work(time.time_ns())
    ended = time.perf_counter()
    if final is None or last_frame_s is None or len(final.index) != frames:
        raise WrongResult(f"the final object has {0 if final is None else len(final.index)} of {frames} frames")
    return ended - last_frame_s


def _final(messages: list[Message]) -> ObjectUpdate | None:
    return next((m for m in messages if isinstance(m, ObjectUpdate) and m.final), None)
