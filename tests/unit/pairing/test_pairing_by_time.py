"""Positions that are sampled on a clock of their own, slower or faster than the frames."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.config import PairingConfig
from streamptycho.messages import FrameBlock, Message, PositionBlock, Quality, SeriesEnd
from tests.unit.pairing.pairing_scenario import (
    EPOCH_S,
    Outcome,
    acquisition_end,
    acquisition_start,
    merge,
    run,
    series_start,
)

LINE_S, TURN_S, SPEED_M_S, STEP_M = 0.5, 0.02, 1e-5, 2e-7
LINES = 4


def snake(time_s: np.ndarray) -> np.ndarray:
    period = LINE_S + TURN_S
    line = np.clip(np.floor(time_s / period), 0, LINES - 1)
    into = time_s - line * period
    along = np.clip(into, 0, LINE_S) * SPEED_M_S
    x = np.where(line % 2 == 0, along, LINE_S * SPEED_M_S - along)
    y = (line + np.clip((into - LINE_S) / TURN_S, 0, 1)) * STEP_M
    return np.column_stack([x, y])


def in_turn(time_s: np.ndarray, margin_s: float) -> np.ndarray:
    into = np.mod(time_s + margin_s, LINE_S + TURN_S)
    return (into > LINE_S) | (into < 2 * margin_s)


def frames(rate_hz: float, *, exposure: float = 0.8, epoch_offset_s: float = 0.0) -> tuple[list[Message], np.ndarray]:
    n = int(LINES * (LINE_S + TURN_S) * rate_hz) - 1
    index = np.arange(n)
    start = index / rate_hz + 0.1 / rate_hz
    stop = start + exposure / rate_hz
    counts = np.zeros((n, 4, 4), dtype=np.uint16)
    blocks: list[Message] = [
        FrameBlock(
            series="s0",
            index=index[part],
            exposure_start_s=start[part] - epoch_offset_s,
            exposure_stop_s=stop[part] - epoch_offset_s,
            counts=counts[part],
        )
        for part in np.array_split(index, 20)
    ]
    begin = series_start(0, n, epoch_s=EPOCH_S + epoch_offset_s)
    return [begin, *blocks, SeriesEnd(series="s0")], (start + stop) / 2


def rows(rate_hz: float, *, clock_s: float = 0.0, blocks: int = 30, phase: float = 0.37) -> list[Message]:
    time_s = np.arange(phase / rate_hz, LINES * (LINE_S + TURN_S), 1 / rate_hz)
    row = np.arange(len(time_s))
    xy_m = snake(time_s)
    parts = [
        PositionBlock(acquisition="a0", row=row[p], time_s=time_s[p] + clock_s, xy_m=xy_m[p])
        for p in np.array_split(row, blocks)
        if len(p)
    ]
    return [acquisition_start(0, epoch_s=EPOCH_S), *parts, acquisition_end(0)]


def errors(outcome: Outcome, truth_s: np.ndarray, *, good: tuple[Quality, ...]) -> np.ndarray:
    picked = [(i, xy) for (_, i), (_, xy, q) in outcome.frames.items() if Quality(q) in good]
    xy_m = np.array([xy for _, xy in picked])
    return np.linalg.norm(xy_m - snake(truth_s[[i for i, _ in picked]]), axis=1)


@pytest.mark.parametrize("interpolation", ["linear", "smooth"])
@pytest.mark.parametrize("row_rate_hz", [40.0, 100.0, 330.0, 1700.0])
def test_a_snake_is_interpolated_to_nanometres_within_its_lines(interpolation: str, row_rate_hz: float) -> None:
    detector, middle_s = frames(200.0)
    outcome, _ = run(detector + rows(row_rate_hz), PairingConfig(by="time", interpolation=interpolation))
    assert len(outcome.frames) == outcome.ends[0].frames_paired
    good = errors(outcome, middle_s, good=(Quality.MEASURED, Quality.INTERPOLATED))
    # Within a line the motion is straight; an interval that touches a turn by less than a quarter may pass as a line.
    assert np.median(good) < 1e-11
    assert good.max() <= 0.26 * SPEED_M_S / row_rate_hz + STEP_M
    assert np.percentile(good, 97) < 0.26 * SPEED_M_S / row_rate_hz


@pytest.mark.parametrize("row_rate_hz", [40.0, 100.0])
def test_frames_in_the_turn_of_a_slowly_sampled_snake_are_marked(row_rate_hz: float) -> None:
    detector, middle_s = frames(200.0)
    outcome, _ = run(detector + rows(row_rate_hz), PairingConfig(by="time"))
    inside = np.flatnonzero(in_turn(middle_s, 0.0))
    quality = {i: q for (_, i), (_, _, q) in outcome.frames.items()}
    marked = [quality.get(int(i)) in (Quality.TURNAROUND, Quality.MEASURED, None) for i in inside]
    assert np.mean(marked) > 0.5
    lines = np.flatnonzero(~in_turn(middle_s, 1.5 / row_rate_hz))
    assert all(quality.get(int(i)) != Quality.TURNAROUND for i in lines)


def test_a_clock_offset_is_taken_off() -> None:
    detector, middle_s = frames(200.0)
    config = PairingConfig(by="time", clock_offset_s=0.123)
    outcome, _ = run(detector + rows(500.0, clock_s=0.123), config)
    assert np.median(errors(outcome, middle_s, good=tuple(Quality))) < 1e-11


def test_a_measured_clock_offset_aligns_first_row_and_first_exposure() -> None:
    detector, middle_s = frames(200.0)
    lag_s = 0.7
    config = PairingConfig(by="time", clock_offset_s="measured")
    first_row_s = 0.37 / 500.0
    outcome, _ = run(detector + rows(500.0, clock_s=lag_s), config)
    shifted = middle_s - middle_s[0] + first_row_s
    assert np.median(errors(outcome, shifted, good=tuple(Quality))) < 1e-11


def test_a_lost_first_frame_does_not_spoil_the_measured_offset() -> None:
    detector, middle_s = frames(200.0)
    first = detector[1]
    assert isinstance(first, FrameBlock)
    detector[1] = FrameBlock(
        series="s0",
        index=first.index[3:],
        exposure_start_s=first.exposure_start_s[3:],
        exposure_stop_s=first.exposure_stop_s[3:],
        counts=first.counts[3:],
    )
    outcome, _ = run(rows(500.0) + detector, PairingConfig(by="time", clock_offset_s="measured"))
    shifted = middle_s - middle_s[0] + 0.37 / 500.0
    assert np.median(errors(outcome, shifted, good=tuple(Quality))) < 1e-11
    assert outcome.ends[0].dropped["missing"] == 3


def test_positions_that_stop_leave_the_rest_unpaired() -> None:
    detector, middle_s = frames(200.0)
    stream = rows(500.0)
    outcome, _ = run(detector + stream[:16] + [acquisition_end(0, complete=False)], PairingConfig(by="time"))
    end = outcome.ends[0]
    assert 0.4 < end.frames_paired / end.frames_sent < 0.6
    assert end.dropped == {"unpaired": end.frames_sent - end.frames_paired}
    assert np.median(errors(outcome, middle_s, good=tuple(Quality))) < 1e-11


def test_a_long_gap_is_not_interpolated() -> None:
    detector, _ = frames(200.0)
    stream = rows(500.0)
    del stream[4:8]
    outcome, _ = run(detector + stream, PairingConfig(by="time", max_gap_s=0.01))
    assert outcome.ends[0].dropped["unpaired"] > 20


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), rate_hz=st.sampled_from([60.0, 150.0, 700.0]))
def test_interleaving_changes_nothing(seed: int, rate_hz: float) -> None:
    rng = random.Random(seed)
    detector, _ = frames(100.0)
    positions = rows(rate_hz)
    reference, _ = run(positions + detector, PairingConfig(by="time"))
    outcome, _ = run(merge(detector, positions, rng), PairingConfig(by="time"))
    assert outcome.frames == reference.frames
    assert outcome.ends[0].dropped == reference.ends[0].dropped


def test_rows_without_time_leave_frames_unpaired_and_are_counted() -> None:
    detector, _ = frames(100.0)
    block = PositionBlock(acquisition="a0", row=np.arange(10), time_s=np.full(10, np.nan), xy_m=np.zeros((10, 2)))
    stream = [acquisition_start(0, epoch_s=EPOCH_S), block, acquisition_end(0)]
    outcome, core = run([*detector, *stream], PairingConfig(by="time"))
    assert outcome.ends[0].frames_paired == 0
    assert core.anomalies["out of range"] == 10


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_averages_over_exposures_do_not_depend_on_who_comes_first(seed: int) -> None:
    config = PairingConfig(by="time", interpolation="average", match="order")
    detector, middle_s = frames(200.0, exposure=0.9)
    positions = rows(3000.0)
    expected, _ = run(positions + detector, config)
    mixed, _ = run(merge(detector, positions, random.Random(seed)), config, tick_every=7)
    assert mixed.frames.keys() == expected.frames.keys()
    for key, (_, xy, quality) in mixed.frames.items():
        assert quality == expected.frames[key][2]
        np.testing.assert_allclose(xy, expected.frames[key][1], rtol=0, atol=1e-15)
    fine = np.linspace(-0.45, 0.45, 2001) / 200.0
    for (_, index), (_, xy, quality) in list(expected.frames.items())[::9]:
        mean = snake(middle_s[index] + fine).mean(axis=0)
        assert np.linalg.norm(np.array(xy) - mean) < 2e-9 or Quality(quality) is Quality.EXTRAPOLATED
