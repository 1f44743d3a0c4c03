"""One of two connections is thousands of frames behind the other, and projections are cut out of one series."""

from __future__ import annotations

import math

import numpy as np
import pytest

from streamptycho.config import PairingConfig, ProjectionsConfig
from streamptycho.messages import FrameBlock, ProjectionEnd, SeriesEnd
from streamptycho.pairing import Pairing, cutting
from tests.unit.pairing.pairing_scenario import (
    SECOND_NS,
    Outcome,
    acquisition_end,
    acquisition_start,
    collect,
    frame_block,
    mark,
    row_block,
    series_start,
    xy_of,
)

FRAMES = 9000
CUT = 1500
BEHIND = 3000
BLOCK = 250
CUTS = {
    "count": ProjectionsConfig(cut_by="count", frames=CUT),
    "angle": ProjectionsConfig(cut_by="angle", min_angle_step_deg=0.5),
}

first_end_s: list[float] = []


def in_blocks(index: list[int]) -> list[FrameBlock]:
    return [frame_block(0, index[k : k + BLOCK]) for k in range(0, len(index), BLOCK)]


def two_connections(lost: int | None) -> list[FrameBlock]:
    """Even frames, and odd ones `BEHIND` frames later."""
    ahead = in_blocks([k for k in range(0, FRAMES, 2) if k != lost])
    behind = in_blocks(list(range(1, FRAMES, 2)))
    late = BEHIND // (2 * BLOCK)
    turns = [(k, 0, block) for k, block in enumerate(ahead)] + [(k + late, 1, block) for k, block in enumerate(behind)]
    return [block for *_, block in sorted(turns, key=lambda turn: turn[:2])]


def paired(cut_by: str, reorder_s: float, *, lost: int | None = None, step_s: float = 1e-3) -> Outcome:
    core = Pairing("scan", PairingConfig(), CUTS[cut_by], reorder_s=reorder_s)
    rows = [row_block(0, range(k * CUT, (k + 1) * CUT), angle_deg=float(k)) for k in range(FRAMES // CUT)]
    blocks = two_connections(lost)
    messages = [
        series_start(0, FRAMES),
        acquisition_start(0),
        *rows,
        acquisition_end(0),
        *blocks,
        SeriesEnd(series="s0"),
    ]
    out: list[object] = []
    first_end_s.clear()
    for number, message in enumerate(messages):
        out += core.feed(message, round(number * step_s * SECOND_NS))
        if not first_end_s and any(isinstance(m, ProjectionEnd) for m in out):
            first_end_s.append(number * step_s)
    out += core.finish(round(len(messages) * step_s * SECOND_NS), "done")
    return collect(out)


@pytest.mark.parametrize("cut_by", CUTS)
def test_frames_of_the_connection_behind_belong_to_their_projection(cut_by: str) -> None:
    outcome = paired(cut_by, 1.0)
    assert outcome.frames == {
        divmod(k, CUT): (mark(0, k), xy_of(0, k), outcome.frames[divmod(k, CUT)][2]) for k in range(FRAMES)
    }
    assert [(end.frames_sent, end.frames_paired, end.dropped) for end in outcome.ends] == [(CUT, CUT, {})] * 6


@pytest.mark.parametrize("cut_by", CUTS)
def test_with_one_connection_a_projection_does_not_wait_that_long(cut_by: str) -> None:
    outcome = paired(cut_by, 0.0)
    assert len(outcome.frames) < FRAMES
    assert sum(end.frames_sent for end in outcome.ends) == FRAMES
    assert sum(sum(end.dropped.values()) for end in outcome.ends) == FRAMES - len(outcome.frames)


@pytest.mark.parametrize("cut_by", CUTS)
def test_a_frame_that_is_lost_holds_its_projection_no_longer_than_it_may(cut_by: str) -> None:
    lost = 700
    ended_s = []
    for reorder_s in (0.15, 5.0):
        outcome = paired(cut_by, reorder_s, lost=lost, step_s=0.01)
        ended_s.append(first_end_s[0] if first_end_s else math.inf)
    # The last frame of the first projection comes 0.25 s after the first one of the scan.
    assert 0.2 < ended_s[0] < 0.45
    assert ended_s[1] > 0.5
    assert set(outcome.frames) == {divmod(k, CUT) for k in range(FRAMES) if k != lost}
    assert outcome.ends[0].dropped == {"missing": 1}


@pytest.mark.parametrize("cut_by", CUTS)
def test_frames_that_wait_behind_a_missing_one_are_bounded_in_bytes(
    cut_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bytes_of_one = 4 * 4 * np.dtype(np.uint32).itemsize
    monkeypatch.setattr(cutting, "REORDER_BYTES", 1200 * bytes_of_one)
    outcome = paired(cut_by, 1.0)
    assert len(outcome.frames) < FRAMES
    assert sum(end.frames_sent for end in outcome.ends) == FRAMES
