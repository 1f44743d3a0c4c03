"""What is over is forgotten: a scan has no largest number of series, acquisitions and projections."""

from __future__ import annotations

import gc
import itertools
import sys

import pytest

from streamptycho.config import PairingConfig, ProjectionsConfig
from streamptycho.messages import DiffractionBatch, ProjectionEnd, SeriesEnd
from streamptycho.pairing import Pairing
from streamptycho.pairing import core as pairing_core
from streamptycho.pairing.armed import KEPT_OVER
from tests.unit.pairing.pairing_scenario import (
    EPOCH_S,
    PERIOD_S,
    acquisition_end,
    acquisition_start,
    collect,
    frame_block,
    mark,
    row_block,
    series_start,
    xy_of,
)

FRAMES = 5
SERIES = 3 * KEPT_OVER
APART_S = 10.0

SEPARATE = {
    "row, order": PairingConfig(by="row", match="order"),
    "row, time": PairingConfig(by="row", match="time"),
    "time, time": PairingConfig(by="time", match="time"),
}
TOGETHER = {
    "row": PairingConfig(by="row", one_acquisition=True),
    "time": PairingConfig(by="time", one_acquisition=True),
}


def alive():
    gc.collect()
    return sys.getallocatedblocks()


@pytest.mark.parametrize("name", SEPARATE)
def test_series_with_an_acquisition_each_are_paired_and_then_forgotten(name):
    core, now_ns, paired, objects = Pairing("scan", SEPARATE[name], ProjectionsConfig()), itertools.count(), 0, []
    for k in range(SERIES):
        at_s = EPOCH_S + k * APART_S
        out = list(core.feed(series_start(k, FRAMES, epoch_s=at_s), next(now_ns)))
        out += core.feed(acquisition_start(k, epoch_s=at_s), next(now_ns))
        out += core.feed(frame_block(k, range(FRAMES)), next(now_ns))
        out += core.feed(row_block(k, range(FRAMES)), next(now_ns))
        out += core.feed(acquisition_end(k), next(now_ns))
        out += core.feed(SeriesEnd(series=f"s{k}"), next(now_ns))
        batches = [message for message in out if isinstance(message, DiffractionBatch)]
        for batch in batches:
            for at, i in enumerate(batch.index.tolist()):
                assert batch.counts[at, 0, 0] == mark(batch.projection, i)
                assert batch.xy_m[at] == pytest.approx(xy_of(batch.projection, i))
        paired += sum(len(batch.index) for batch in batches)
        assert len(core._matcher.series) + len(core._matcher.acquisitions) <= 2 * (KEPT_OVER + 3)
        if k in (SERIES // 2, SERIES - 1):
            objects.append(alive())
    # a series that stays keeps 45 with its acquisition; numbers and caches of the interpreter come and go
    assert objects[1] - objects[0] < 3 * (SERIES // 2)
    list(core.finish(next(now_ns), "end"))
    counters = core.counters()
    assert (counters["projections"], counters["frames_paired"]) == (SERIES, SERIES * FRAMES)
    assert paired in (SERIES * FRAMES, (SERIES - 1) * FRAMES)
    assert (counters["series"], counters["acquisitions"]) == (SERIES, SERIES)


@pytest.mark.parametrize("name", TOGETHER)
def test_series_of_one_acquisition_are_paired_and_then_forgotten(name):
    core, now_ns, out = Pairing("scan", TOGETHER[name], ProjectionsConfig()), itertools.count(), []
    out += core.feed(acquisition_start(0, epoch_s=EPOCH_S), next(now_ns))
    for k in range(SERIES):
        # the detector does not say how many frames it will take
        start = series_start(k, None, epoch_s=EPOCH_S + k * FRAMES * PERIOD_S)
        out += core.feed(start, next(now_ns))
        out += core.feed(row_block(0, range(k * FRAMES, (k + 1) * FRAMES)), next(now_ns))
        out += core.feed(frame_block(k, range(FRAMES)), next(now_ns))
        out += core.feed(SeriesEnd(series=f"s{k}"), next(now_ns))
        assert len(core._matcher.series) <= KEPT_OVER + 3
    out += core.feed(acquisition_end(0), next(now_ns))
    out += core.finish(next(now_ns), "end")
    outcome = collect(out)
    assert len(outcome.frames) == SERIES * FRAMES
    for (k, i), (counts, xy, _) in outcome.frames.items():
        assert counts == mark(k, i)
        assert xy == pytest.approx(xy_of(0, k * FRAMES + i))


def test_frames_of_a_series_that_is_over_are_late_and_of_a_forgotten_one_stray():
    core, now_ns = Pairing("scan", SEPARATE["row, order"], ProjectionsConfig()), itertools.count()
    for k in range(SERIES):
        for message in (series_start(k, 1), acquisition_start(k), frame_block(k, [0]), row_block(k, [0])):
            list(core.feed(message, next(now_ns)))
        list(core.feed(acquisition_end(k), next(now_ns)))
    list(core.feed(frame_block(SERIES - 1, [0]), next(now_ns)))
    assert core.anomalies == {"late": 1}
    list(core.feed(frame_block(0, [0]), next(now_ns)))
    assert core.anomalies == {"late": 1, "stray": 1}
    list(core.feed(row_block(SERIES - 1, [1]), next(now_ns)))
    assert core.anomalies == {"late": 1, "stray": 2}


def test_rows_that_come_after_the_last_frame_that_needed_any_take_no_memory():
    core, now_ns = Pairing("scan", SEPARATE["row, order"], ProjectionsConfig()), itertools.count()
    out = []
    for message in (series_start(0, 2), acquisition_start(0), frame_block(0, [0, 1]), row_block(0, [0, 1])):
        out += core.feed(message, next(now_ns))
    for first in range(2, 100_000, 1000):
        out += core.feed(row_block(0, range(first, first + 1000)), next(now_ns))
    (acquisition,) = core._matcher.acquisitions
    assert acquisition.held_rows == 1
    assert core.anomalies == {}
    assert len(collect(out).frames) == 2


def test_acquisitions_without_rows_are_bounded_and_do_not_move_others_to_a_wrong_series():
    config = PairingConfig(by="row", match="order", max_waiting_rows=10_000)
    core, now_ns, most = Pairing("scan", config, ProjectionsConfig()), itertools.count(), 0
    empty = 1000
    for k in range(empty):
        list(core.feed(acquisition_start(k), next(now_ns)))
        list(core.feed(acquisition_end(k), next(now_ns)))
        most = max(most, len(core._matcher.acquisitions))
    assert most < KEPT_OVER + 50
    out = []
    for message in (acquisition_start(empty), row_block(empty, range(FRAMES)), acquisition_end(empty)):
        out += core.feed(message, next(now_ns))
    for k in range(empty + 1):
        out += core.feed(series_start(k, FRAMES), next(now_ns))
        out += core.feed(frame_block(k, range(FRAMES)), next(now_ns))
    out += core.finish(next(now_ns), "end")
    outcome = collect(out)
    assert {k for k, _ in outcome.frames} == {empty}
    assert [end.dropped for end in outcome.ends[:-1]] == [{"unpaired": FRAMES}] * empty


def test_series_that_wait_behind_one_that_never_ends_are_bounded(monkeypatch):
    monkeypatch.setattr(pairing_core, "MOST_OPEN_SERIES", 20)
    core, now_ns, out = (
        Pairing("scan", PairingConfig(by="row", match="time"), ProjectionsConfig()),
        itertools.count(),
        [],
    )
    out += core.feed(series_start(0, None, epoch_s=EPOCH_S), next(now_ns))
    out += core.feed(frame_block(0, range(FRAMES)), next(now_ns))
    for k in range(1, 200):
        out += core.feed(series_start(k, None, epoch_s=EPOCH_S + k * APART_S), next(now_ns))
        assert len(core._queue) <= 20
    ends = [message for message in out if isinstance(message, ProjectionEnd)]
    assert len(ends) == 200 - 21
    assert (ends[0].reason, ends[0].dropped) == ("superseded", {"overflow": FRAMES})
    assert {end.frames_sent for end in ends[1:]} == {0}
    out += core.finish(next(now_ns), "end")
    assert len(collect(out).ends) == 200


def test_frames_that_never_get_an_angle_are_handed_on_and_not_kept():
    config = PairingConfig(by="row", match="order")
    core = Pairing("scan", config, ProjectionsConfig(cut_by="angle", min_angle_step_deg=1.0))
    now_ns, out = itertools.count(), []
    out += core.feed(series_start(0, None), next(now_ns))
    out += core.feed(acquisition_start(0), next(now_ns))
    block, frames = 100, 5000
    for first in range(0, frames, block):
        out += core.feed(row_block(0, range(first, first + block), angle_deg=float("nan")), next(now_ns))
        out += core.feed(frame_block(0, range(first, first + block)), next(now_ns))
        assert core.waiting_frames <= 2 * block
    for number, angle_deg in enumerate((0.0, 5.0)):
        first = frames + number * block
        out += core.feed(row_block(0, range(first, first + block), angle_deg=angle_deg), next(now_ns))
        out += core.feed(frame_block(0, range(first, first + block)), next(now_ns))
    out += core.finish(next(now_ns), "end")
    first_end, second_end = collect(out).ends
    assert (first_end.frames_paired, first_end.angle_deg) == (frames + block, 0.0)
    assert (second_end.frames_paired, second_end.angle_deg) == (block, 5.0)


@pytest.mark.parametrize(
    ("labels", "numbers"),
    [
        ([2, 0, 1, None, 3], [2, 0, 1, 3, 4]),
        ([5, 5, None, -1, True], [5, 6, 7, 8, 9]),
    ],
)
def test_projections_are_called_as_the_header_says_unless_that_number_is_taken(labels, numbers):
    core, now_ns, out = (
        Pairing("scan", PairingConfig(by="row", match="order"), ProjectionsConfig()),
        itertools.count(),
        [],
    )
    for k, label in enumerate(labels):
        named = {} if label is None else {"projection": label}
        for message in (series_start(k, 1, **named), acquisition_start(k), frame_block(k, [0]), row_block(k, [0])):
            out += core.feed(message, next(now_ns))
    assert [start.projection for start in collect(out).starts] == numbers
