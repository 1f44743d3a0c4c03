"""Rows that no series belongs to are bounded, counted and told of."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from streamptycho.config import PairingConfig, ProjectionsConfig
from streamptycho.geometry import Geometry
from streamptycho.messages import (
    AcquisitionEnd,
    AcquisitionStart,
    DiffractionBatch,
    FrameBlock,
    PositionBlock,
    ProjectionEnd,
    SeriesStart,
)
from streamptycho.pairing import Pairing

LIMIT = 4000
STEP = 250
FRAMES = 300
GEOMETRY = Geometry(11_000.0, 5.1, 75e-6, (4, 4))


def rows(name, first, count):
    row = np.arange(first, first + count)
    return PositionBlock(acquisition=name, row=row, time_s=row * 1e-3, xy_m=np.stack([row, -row], axis=1) * 1e-9)


def frames(series, count):
    index = np.arange(count)
    return FrameBlock(
        series=series,
        index=index,
        exposure_start_s=index * 1e-3 - 2e-4,
        exposure_stop_s=index * 1e-3 + 2e-4,
        counts=np.ones((count, 4, 4), np.uint16),
    )


def held(core):
    return sum(acquisition.held_rows for acquisition in core._matcher.acquisitions)


@pytest.mark.parametrize("by", ["row", "time"])
@pytest.mark.parametrize("rows_each", [1000, 100_000])
def test_rows_of_acquisitions_without_a_series_are_let_go_and_counted(by, rows_each):
    core = Pairing("scan", PairingConfig(by=by, max_waiting_rows=LIMIT, match="time"), ProjectionsConfig())
    largest = sent = 0
    clock = itertools.count(0, 1_000_000)
    for number in range(100_000 // rows_each):
        name = f"a{number}"
        list(core.feed(AcquisitionStart(acquisition=name, epoch_s=1000.0 * number), next(clock)))
        for first in range(0, rows_each, STEP):
            assert list(core.feed(rows(name, first, STEP), next(clock))) == []
            sent += STEP
            largest = max(largest, held(core))
        list(core.feed(AcquisitionEnd(acquisition=name, rows=rows_each, reason="Disarmed", complete=True), next(clock)))
    # Tables double when they grow.
    assert largest <= 2 * (LIMIT + LIMIT // 16 + STEP)
    left = sum(acquisition.waiting_rows for acquisition in core._matcher.acquisitions)
    assert core.anomalies == {"overflow": sent - left}
    assert "no detector series belongs to them" in core.trouble
    assert "a0" in core.trouble or "more" in core.trouble or rows_each == 1000


def test_a_series_whose_rows_were_kept_is_paired_and_one_whose_rows_were_let_go_is_counted():
    core = Pairing("scan", PairingConfig(by="row", max_waiting_rows=LIMIT, match="time"), ProjectionsConfig())
    clock = itertools.count(0, 1_000_000)
    for number in range(40):
        name = f"a{number}"
        list(core.feed(AcquisitionStart(acquisition=name, epoch_s=1000.0 * number), next(clock)))
        list(core.feed(rows(name, 0, FRAMES), next(clock)))
        list(core.feed(AcquisitionEnd(acquisition=name, rows=FRAMES, reason="Disarmed", complete=True), next(clock)))
    out = []
    for number in (0, 39):
        start = SeriesStart(series=f"s{number}", n_frames=FRAMES, geometry=GEOMETRY, epoch_s=1000.0 * number)
        out += core.feed(start, next(clock))
        out += core.feed(frames(start.series, FRAMES), next(clock))
    out += core.finish(next(clock), "end")
    first, last = (end for end in out if isinstance(end, ProjectionEnd))
    assert (first.frames_paired, first.dropped) == (0, {"unpaired": FRAMES})
    assert (last.frames_paired, last.dropped) == (FRAMES, {})
    batches = [batch for batch in out if isinstance(batch, DiffractionBatch)]
    np.testing.assert_array_equal(np.concatenate([batch.xy_m[:, 0] for batch in batches]), np.arange(FRAMES) * 1e-9)


def test_rows_that_a_series_uses_are_kept():
    core = Pairing("scan", PairingConfig(by="row", max_waiting_rows=LIMIT), ProjectionsConfig())
    clock = itertools.count(0, 1_000_000)
    total = 5 * LIMIT
    out = list(core.feed(SeriesStart(series="s", n_frames=total, geometry=GEOMETRY, epoch_s=0.0), next(clock)))
    out += core.feed(AcquisitionStart(acquisition="a", epoch_s=0.0), next(clock))
    for first in range(0, total, STEP):
        out += core.feed(rows("a", first, STEP), next(clock))
    out += core.feed(frames("s", total), next(clock))
    assert sum(len(batch.index) for batch in out if isinstance(batch, DiffractionBatch)) == total
    assert core.trouble == ""
