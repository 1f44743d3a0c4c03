"""Frames and positions with every fault at full rate: what is paired, and what is lost why, against the truth."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.clock import by_turns, compared
from benchmarks.frames import EPOCH_S, Series, scan_xy_m, selun_series
from benchmarks.ingest import configured
from benchmarks.ingest_path import FromPositions, socket_alone, through_log
from benchmarks.row import Effort, Row, WrongResult
from benchmarks.sender import sending
from streamptycho.messages import Array, DiffractionBatch, Message, ProjectionEnd
from streamptycho.simulation.capture import Capture

FRAMES = 220_000
DROPPED, TWICE, CUT = 0.004, 0.005, 0.001
SHUFFLED_WITHIN = 300
TWICE_WITHIN = 3000
ROWS_LOST = 0.003
ROWS_BROKEN_OFF = 2500
ROWS_AT_END = 1500
LAG = 20_000
ROWS_PER_PIECE = 64
POSITION_STEP_M = 2e-10


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What has to come out: `paired` (N,) bool and `xy_m` (N, 2) of every frame, losses and anomalies by reason."""

    paired: Array
    xy_m: Array
    dropped: dict[str, int]
    anomalies: dict[str, int]


def exact(effort: Effort) -> Iterator[Row]:
    series = selun_series(FRAMES)
    config = configured(series, None)
    images, plan, truth = faulty(series, seed=7)
    messages = [series.start, *images, series.end]
    with tempfile.TemporaryDirectory() as folder, sending(messages, Path(folder)) as sender:

        def ours() -> float:
            log = Path(folder) / "run.log"
            log.unlink(missing_ok=True)
            sender.send_all()
            verify(through_log(sender, config, plan, len(messages), log), truth)
            return float(len(images))

        def alone() -> float:
            sender.send_all()
            socket_alone(sender, len(messages))
            return float(len(images))

        once = replace(effort, budget_s=0.0, least_rounds=1 if effort.quick else 4)
        samples = by_turns({"ours": ours, "alone": alone}, once)
    lost = ", ".join(f"{count} {reason}" for reason, count in truth.dropped.items())
    noticed = ", ".join(f"{count} {reason}" for reason, count in truth.anomalies.items())
    meaning = f"{int(truth.paired.sum())} of {FRAMES} frames have exactly their position, {lost}; noticed: {noticed}"
    facts = {"wrong": 0.0, **{f"dropped_{reason}": float(count) for reason, count in truth.dropped.items()}}
    socket = ("socket alone: receive many, drop", samples["alone"])
    yield compared("ingest 96x96 u8 with all faults", "messages/s", samples["ours"], socket, meaning, facts)


def faulty(series: Series, seed: int) -> tuple[list[tuple[bytes, ...]], list[FromPositions], Truth]:
    """Return the images of a series in disorder, its positions with gaps, and what has to come out.

    Frames are dropped, sent twice, cut short, and shuffled within `SHUFFLED_WITHIN`. Rows are not finite, or were
    captured while the connection was lost, or never captured at the end. First positions lag by `LAG` frames, then
    frames by as many rows.
    """
    random = np.random.default_rng(seed)
    frames = len(series.images)
    fate = random.random(frames)
    dropped, cut = fate < DROPPED, (fate >= DROPPED) & (fate < DROPPED + CUT)
    twice = np.flatnonzero((fate >= DROPPED + CUT) & (fate < DROPPED + CUT + TWICE))
    sent = np.flatnonzero(~dropped)
    index = np.concatenate([sent, twice])
    place = np.concatenate(
        [
            sent + random.uniform(0, SHUFFLED_WITHIN, len(sent)),
            twice + random.uniform(0, TWICE_WITHIN, len(twice)),
        ]
    )
    index = index[np.argsort(place, kind="stable")]
    images = [_cut(series.images[k]) if cut[k] else series.images[k] for k in index.tolist()]

    rows_lost = random.random(frames) < ROWS_LOST
    gap = slice(frames // 3, frames // 3 + min(ROWS_BROKEN_OFF, frames // 10))
    end = frames - min(ROWS_AT_END, frames // 10)
    plan = _plan(series, rows_lost, gap, end, len(images))
    rowless = rows_lost.copy()
    rowless[gap] = rowless[end:] = True

    whole = index[~cut[index]]
    first = np.zeros(len(whole), bool)
    first[np.unique(whole, return_index=True)[1]] = True
    fresh = whole[first]
    behind = int((fresh < np.maximum.accumulate(fresh)).sum())
    reasons = {"missing": dropped, "truncated": cut, "unpaired": rowless & ~dropped & ~cut}
    anomalies = {"duplicate": len(twice), "reordered": behind, "disconnected": 1}
    truth = Truth(
        paired=~(dropped | cut | rowless),
        xy_m=scan_xy_m(frames),
        dropped={reason: int(lost.sum()) for reason, lost in reasons.items()},
        anomalies=anomalies,
    )
    return images, plan, truth


def verify(outputs: Iterable[Message], truth: Truth) -> None:
    """Compare what came out with the truth.

    Raises
    ------
    WrongResult
        With what differs.
    """
    batches: list[tuple[Array, Array]] = []
    ends: list[ProjectionEnd] = []
    for out in outputs:
        if isinstance(out, DiffractionBatch):
            batches.append((out.index, out.xy_m))
        elif isinstance(out, ProjectionEnd):
            ends.append(out)
    index = np.concatenate([np.zeros(0, np.int64), *(index for index, _ in batches)])
    xy_m = np.concatenate([np.zeros((0, 2)), *(xy_m for _, xy_m in batches)])
    order = np.argsort(index)
    expected = np.flatnonzero(truth.paired)
    if not np.array_equal(index[order], expected):
        raise WrongResult(
            f"{len(index)} frames were paired, {len(np.setxor1d(index, expected))} of them wrongly or not"
        )
    wrong = np.abs(xy_m[order] - truth.xy_m[expected]).max(axis=1) > POSITION_STEP_M
    if wrong.any():
        raise WrongResult(f"{int(wrong.sum())} frames have another position, the first is {expected[wrong.argmax()]}")
    (end,) = ends
    if end.dropped != {reason: count for reason, count in truth.dropped.items() if count}:
        raise WrongResult(f"dropped {end.dropped}, the truth is {truth.dropped}")
    noticed = {reason: end.anomalies.get(reason, 0) for reason in truth.anomalies}
    if noticed != truth.anomalies:
        raise WrongResult(f"noticed {noticed}, the truth is {truth.anomalies}")


def _cut(image: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return a message that breaks off in its payload."""
    return (image[0][: len(image[0]) * 4 // 5],)


def _plan(series: Series, lost: Array, gap: slice, end: int, messages: int) -> list[FromPositions]:
    simulation = series.config.simulation
    assert simulation is not None
    period_s = 1 / simulation.rate_hz
    exposure_s = simulation.exposure_fraction * period_s
    capture = Capture(series.config.positions)
    xy_m = scan_xy_m(len(series.images))
    xy_m[lost] = np.nan
    plan = [FromPositions(0, "connected"), FromPositions(0, "data", capture.encoder.header(arm_epoch_s=EPOCH_S))]
    for begin, stop in ((0, gap.start), (gap.stop, end)):
        if begin:
            at = plan[-1].after
            header = capture.encoder.header(arm_epoch_s=EPOCH_S, missed=begin)
            plan += [
                FromPositions(at, "disconnected"),
                FromPositions(at, "connected"),
                FromPositions(at, "data", header),
            ]
        for first in range(begin, stop, ROWS_PER_PIECE):
            rows = np.arange(first, min(first + ROWS_PER_PIECE, stop))
            middle_s = rows * period_s + exposure_s / 2
            data = capture.rows(middle_s, xy_m[rows], 0.0, np.full(len(rows), exposure_s))
            lag = LAG if first < len(lost) // 2 else -LAG
            plan.append(FromPositions(max(plan[-1].after, min(first + lag, messages)), "data", data))
    return [*plan, FromPositions(plan[-1].after, "data", capture.encoder.end(end, "Disarmed"))]
