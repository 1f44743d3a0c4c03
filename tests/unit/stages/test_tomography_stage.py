"""The tomography stage: refinements beside the arrival of projections, and what the operator is told."""

from concurrent.futures import Future

import numpy as np

from streamptycho.config import TomographyConfig
from streamptycho.messages import Anomaly, Reason, ScanEnd, VolumeUpdate
from streamptycho.stages.tomography import TomographyStage
from tests.unit.tomography.phantom import Ellipsoid, object_update

COUNT = 30
LAST = COUNT - 1
OTHER = (Ellipsoid((0, 0, 0), (12, 24, 14), 0.03),)
CONFIG = TomographyConfig(quantity="delta", align="joint", wanted_resolution_m=1e-9)


class Aside:
    """Runs what it is given when it is told to."""

    def __init__(self):
        self.waiting = []

    def __call__(self, work):
        future = Future()
        self.waiting.append((work, future))
        return future

    def catch_up(self):
        while self.waiting:
            work, future = self.waiting.pop(0)
            future.set_result(work())


def projections():
    rng = np.random.default_rng(4)
    for k in range(COUNT):
        yield object_update(k, 180.0 * (7 * k % COUNT) / COUNT, moved_px=rng.normal(0, 2, 2), noise_rad=0.05)


def test_refinements_run_beside_and_are_taken_up_when_they_are_done():
    aside = Aside()
    stage = TomographyStage("scan", CONFIG, aside)
    for update in projections():
        assert [type(m) for m in stage.handle(update, 0)] == ([VolumeUpdate] if update.projection else [])
        assert list(stage.work(0)) == []
        assert len(aside.waiting) <= 1
    assert aside.waiting
    before = stage.aggregator.projection_stack().shifts_px
    aside.catch_up()
    (shown,) = stage.work(0)
    assert shown.projections_used == COUNT
    assert not shown.final
    changed = stage.aggregator.projection_stack().shifts_px != before
    assert changed.any()
    assert stage.status(0).counters["refinements"] == 1
    assert len(aside.waiting) == 1


def test_no_refinement_is_started_over_the_same_projections_again():
    aside = Aside()
    stage = TomographyStage("scan", CONFIG, aside)
    for update in projections():
        list(stage.handle(update, 0))
    for _ in range(3):
        aside.catch_up()
        list(stage.work(0))
    assert stage.status(0).counters["refinements"] == 2
    assert not aside.waiting


def test_a_scan_that_ends_while_a_refinement_runs_ends_at_once_and_well():
    aside = Aside()
    stage = TomographyStage("scan", CONFIG, aside)
    for update in projections():
        list(stage.handle(update, 0))
    last = list(stage.handle(ScanEnd(scan_id="scan", reason="done", projections=COUNT), 0))
    assert last[0].final
    shifts = stage.aggregator.projection_stack().shifts_px
    ((work, future),) = aside.waiting
    future.set_result(work())
    assert list(stage.work(0)) == []
    np.testing.assert_array_equal(stage.aggregator.projection_stack().shifts_px, shifts)


def test_operator_is_told_resolution_noise_and_what_was_left_out():
    aside = Aside()
    stage = TomographyStage("scan", CONFIG, aside)
    for update in projections():
        wrong = object_update(LAST, update.angle_deg, sample=OTHER)
        list(stage.handle(wrong if update.projection == LAST else update, 0))
    said = []
    while aside.waiting:
        aside.catch_up()
        said += list(stage.work(0))
    (anomaly,) = [m for m in said if isinstance(m, Anomaly)]
    assert anomaly.reason is Reason.CORRUPT
    assert f"projection {LAST} is not in the volume" in anomaly.detail
    text = stage.status(0).text
    assert f"volume of {COUNT - 1} projections" in text
    assert "noise of the air" in text
    assert "the wanted 1 nm are not reached yet" in text
    assert stage.status(0).anomalies["corrupt"] == 1
