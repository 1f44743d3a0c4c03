"""A generator of scans whose every answer is known, for the tests of pairing."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from streamptycho.config import PairingConfig, ProjectionsConfig
from streamptycho.geometry import Geometry
from streamptycho.messages import (
    AcquisitionEnd,
    AcquisitionStart,
    DiffractionBatch,
    FrameBlock,
    Message,
    PositionBlock,
    ProjectionEnd,
    ProjectionStart,
    ScanEnd,
    SeriesStart,
)
from streamptycho.pairing import Pairing

GEOMETRY = Geometry(energy_ev=6200.0, distance_m=2.0, detector_pixel_m=75e-6, shape=(4, 4))
EPOCH_S = 1_700_000_000.0
PERIOD_S = 0.01
EXPOSURE_S = 0.008
SECOND_NS = 1_000_000_000


def xy_of(series: int, index: int) -> tuple[float, float]:
    return series * 1e-3 + index * 1e-6, series * 2e-3 - index * 1e-7


def mark(series: int, index: int) -> int:
    return (series * 1000 + index) % 2**31


def series_start(k: int, n: int | None, *, epoch_s: float | None = None, **labels: object) -> SeriesStart:
    return SeriesStart(series=f"s{k}", n_frames=n, geometry=GEOMETRY, epoch_s=epoch_s, labels=labels)


def frame_block(k: int, indices: Sequence[int]) -> FrameBlock:
    index = np.array(indices, dtype=np.int64)
    counts = np.zeros((len(index), 4, 4), dtype=np.uint32)
    counts[:, 0, 0] = [mark(k, i) for i in indices]
    start = index * PERIOD_S
    return FrameBlock(
        series=f"s{k}", index=index, exposure_start_s=start, exposure_stop_s=start + EXPOSURE_S, counts=counts
    )


def row_block(k: int, rows: Sequence[int], *, angle_deg: float | None = None, first: int = 0) -> PositionBlock:
    row = np.array(rows, dtype=np.int64)
    return PositionBlock(
        acquisition=f"a{k}",
        row=row,
        time_s=row * PERIOD_S + EXPOSURE_S / 2,
        xy_m=np.array([xy_of(k, i - first) for i in rows], dtype=np.float64).reshape(-1, 2),
        angle_deg=None if angle_deg is None else np.full(len(row), angle_deg),
    )


def acquisition_start(k: int, *, epoch_s: float | None = None, missed: int = 0) -> AcquisitionStart:
    return AcquisitionStart(acquisition=f"a{k}", epoch_s=epoch_s, missed=missed)


def acquisition_end(k: int, rows: int = 0, *, complete: bool = True) -> AcquisitionEnd:
    return AcquisitionEnd(acquisition=f"a{k}", rows=rows, reason="Disarmed", complete=complete)


@dataclass
class Outcome:
    """What came out of a run, checked for its grammar and its accounting."""

    frames: dict[tuple[int, int], tuple[int, tuple[float, float], int]]
    starts: list[ProjectionStart]
    ends: list[ProjectionEnd]
    scan_end: ScanEnd | None
    batch_sizes: list[int]


def collect(messages: Iterable[object]) -> Outcome:
    outcome = Outcome({}, [], [], None, [])
    current: ProjectionStart | None = None
    per_projection: Counter[int] = Counter()
    for message in messages:
        assert outcome.scan_end is None, "nothing follows the end of the scan"
        if isinstance(message, ProjectionStart):
            assert current is None, "a projection starts before the previous one ended"
            current = message
            outcome.starts.append(message)
        elif isinstance(message, DiffractionBatch):
            assert current is not None
            assert message.projection == current.projection
            assert np.isfinite(message.xy_m).all()
            outcome.batch_sizes.append(len(message.index))
            for at, index in enumerate(message.index.tolist()):
                key = (message.projection, index)
                assert key not in outcome.frames, f"frame {key} came out twice"
                xy = (float(message.xy_m[at, 0]), float(message.xy_m[at, 1]))
                outcome.frames[key] = (int(message.counts[at, 0, 0]), xy, int(message.quality[at]))
            per_projection[message.projection] += len(message.index)
        elif isinstance(message, ProjectionEnd):
            assert current is not None
            assert message.projection == current.projection
            assert message.frames_paired == per_projection[message.projection]
            assert message.frames_sent == message.frames_paired + sum(message.dropped.values())
            outcome.ends.append(message)
            current = None
        elif isinstance(message, ScanEnd):
            assert current is None
            assert message.projections == len(outcome.ends)
            outcome.scan_end = message
    return outcome


def run(
    messages: Iterable[Message],
    pairing: PairingConfig | None = None,
    projections: ProjectionsConfig | None = None,
    *,
    step_ns: int = 1000,
    tick_every: int = 0,
) -> tuple[Outcome, Pairing]:
    """Feed messages `step_ns` apart, finish, and return what came out."""
    core = Pairing("scan", pairing or PairingConfig(), projections or ProjectionsConfig())
    out: list[object] = []
    now_ns = 0
    for number, message in enumerate(messages):
        now_ns += step_ns
        out += core.feed(message, now_ns)
        if tick_every and number % tick_every == 0:
            out += core.tick(now_ns)
    out += core.finish(now_ns, "finished")
    assert core.waiting_frames == 0
    return collect(out), core


def merge(detector: Sequence[Message], positions: Sequence[Message], rng: random.Random) -> list[Message]:
    """Return the two streams interleaved at random, each in its own order."""
    turns = [True] * len(detector) + [False] * len(positions)
    style = rng.randrange(4)
    if style == 0:
        rng.shuffle(turns)
    elif style == 1:
        turns.reverse()
    elif style == 2:
        cut = rng.randrange(len(turns) + 1)
        turns = turns[cut:] + turns[:cut]
    one, two = iter(detector), iter(positions)
    return [next(one) if turn else next(two) for turn in turns]


def chunked(items: Sequence[int], rng: random.Random, largest: int = 7) -> list[list[int]]:
    chunks = []
    at = 0
    while at < len(items):
        size = rng.randint(1, largest)
        chunks.append(list(items[at : at + size]))
        at += size
    return chunks
