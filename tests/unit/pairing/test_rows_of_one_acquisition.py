"""One acquisition for a whole scan: its rows are kept only as long as a series may need them."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.config import PairingConfig, ProjectionsConfig
from streamptycho.messages import Message, SeriesEnd
from streamptycho.pairing import Pairing
from tests.unit.pairing.pairing_scenario import (
    EPOCH_S,
    PERIOD_S,
    acquisition_end,
    acquisition_start,
    chunked,
    collect,
    frame_block,
    mark,
    merge,
    row_block,
    series_start,
    xy_of,
)

CONFIGS = {
    "row": PairingConfig(one_acquisition=True),
    "time": PairingConfig(one_acquisition=True, by="time", match="time"),
    "average": PairingConfig(one_acquisition=True, by="time", match="time", interpolation="average"),
}


def detector_of(sizes, rng):
    messages, base = [], 0
    for k, n in enumerate(sizes):
        messages.append(series_start(k, n, epoch_s=EPOCH_S + base * PERIOD_S))
        messages += [frame_block(k, indices) for indices in chunked(list(range(n)), rng)]
        messages.append(SeriesEnd(series=f"s{k}"))
        base += n
    return messages


@pytest.mark.parametrize("by", ["row", "time"])
def test_rows_of_finished_series_are_let_go(by):
    series, frames = 30, 1000
    core, out, held = Pairing("scan", CONFIGS[by], ProjectionsConfig()), [], []
    out += core.feed(acquisition_start(0, epoch_s=EPOCH_S), 0)
    for k in range(series):
        messages: list[Message] = [series_start(k, frames, epoch_s=EPOCH_S + k * frames * PERIOD_S)]
        messages += [row_block(0, range(k * frames, (k + 1) * frames)), frame_block(k, range(frames))]
        for message in (*messages, SeriesEnd(series=f"s{k}")):
            out += core.feed(message, 0)
        held.append(core._matcher.acquisitions.newest.held_rows)
    for message in (row_block(0, range(series * frames, series * frames + 40)), acquisition_end(0)):
        out += core.feed(message, 0)
    out += core.finish(0, "complete")
    outcome = collect(out)
    assert max(held) <= 6 * frames
    assert len(outcome.frames) == series * frames
    for (k, i), (counts, xy, _) in outcome.frames.items():
        assert counts == mark(k, i)
        assert xy == pytest.approx(xy_of(0, k * frames + i))


@pytest.mark.parametrize("by", CONFIGS)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_no_row_goes_that_a_frame_still_needs(by, seed):
    rng = random.Random(seed)
    sizes = [rng.randint(1, 60) for _ in range(rng.randint(2, 8))]
    rows = [row_block(0, indices) for indices in chunked(list(range(sum(sizes) + 8)), rng)]
    positions = [acquisition_start(0, epoch_s=EPOCH_S), *rows, acquisition_end(0)]
    core, out = Pairing("scan", CONFIGS[by], ProjectionsConfig()), []
    for message in merge(detector_of(sizes, rng), positions, rng):
        out += core.feed(message, 0)
    frames = collect([*out, *core.finish(0, "complete")]).frames
    assert set(frames) == {(k, i) for k, n in enumerate(sizes) for i in range(n)}
    for (k, i), (_, xy, _) in frames.items():
        assert xy == pytest.approx(xy_of(0, sum(sizes[:k]) + i), abs=1e-9)
