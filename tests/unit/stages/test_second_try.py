"""Projections that did not converge are reconstructed once more, and only those."""

import numpy as np
import pytest

from streamptycho.config import ReconstructionConfig
from streamptycho.geometry import Geometry
from streamptycho.messages import DiffractionBatch, ObjectUpdate, ProjectionEnd, ProjectionStart, Quality, ScanEnd
from streamptycho.ptychography import Progress
from streamptycho.stages import reconstruct
from streamptycho.stages.second_try import FREE_TRIES, PROJECTIONS_PER_TRY, SecondTries

GEOMETRY = Geometry(6200.0, 1.0, 75e-6, (8, 8))
BATCH_BYTES = 4 * 8 * 8 * 2


def start(projection):
    return ProjectionStart(scan_id="s", projection=projection, angle_deg=1.0, n_frames=4, geometry=GEOMETRY)


def end(projection):
    return ProjectionEnd(
        scan_id="s",
        projection=projection,
        angle_deg=float(projection),
        reason="complete",
        frames_sent=4,
        frames_received=4,
        frames_paired=4,
        last_frame_ns=100 + projection,
        dropped={"missing": projection},
    )


def batch(projection):
    return DiffractionBatch(
        scan_id="s",
        projection=projection,
        index=np.arange(4),
        counts=np.full((4, 8, 8), projection, np.uint16),
        xy_m=np.zeros((4, 2)),
        quality=np.full(4, Quality.MEASURED, np.uint8),
    )


def finished(tries, errors):
    """Let projections end with these errors and return which are tried again after each."""
    again = []
    for projection, error in enumerate(errors):
        tries.begin(start(projection))
        tries.add(batch(projection))
        tries.finish(end(projection), error, {})
        held = tries.next()
        again.append(None if held is None else held.start.projection)
    return again


def test_the_first_is_tried_again_when_the_second_shows_that_it_was_bad():
    assert finished(SecondTries(10**6), [0.02, 0.001, 0.001]) == [None, 0, None]


def test_a_later_one_is_tried_again_at_once():
    assert finished(SecondTries(10**6), [0.001, 0.0012, 0.0011, 0.02, 0.001]) == [None, None, None, 3, None]


def test_errors_that_differ_as_they_usually_do_are_left():
    assert finished(SecondTries(10**6), [0.0019, 0.001, 0.0011, 0.0018, 0.0015]) == [None] * 5


@pytest.mark.parametrize("error", [None, float("nan"), float("inf")])
def test_a_projection_without_an_error_is_not_tried_and_says_nothing_of_the_usual(error):
    assert finished(SecondTries(10**6), [0.001, error, 0.001, 0.0011]) == [None] * 4


def test_where_many_are_bad_tries_stay_few():
    errors = [0.001 if k % 3 else 0.1 for k in range(40)]
    again = [k for k in finished(SecondTries(10**6), errors) if k is not None]
    assert FREE_TRIES <= len(again) <= FREE_TRIES + 40 // PROJECTIONS_PER_TRY


def test_frames_are_held_within_the_limit():
    assert finished(SecondTries(2 * BATCH_BYTES), [0.02, 0.001]) == [None, 0]
    assert finished(SecondTries(2 * BATCH_BYTES - 1), [0.001, 0.02]) == [None, None]
    assert finished(SecondTries(0), [0.02, 0.001]) == [None, None]


def test_frames_of_good_projections_are_let_go():
    tries = SecondTries(3 * BATCH_BYTES)
    assert finished(tries, [0.001] * 6 + [0.02]) == [None] * 6 + [6]


def test_a_second_try_counts_when_it_is_better():
    tries = SecondTries(10**6)
    tries.begin(start(0))
    tries.add(batch(0))
    tries.finish(end(0), 0.02, {})
    tries.begin(start(1))
    tries.add(batch(1))
    tries.finish(end(1), 0.001, {})
    held = tries.next()
    assert [len(b.counts) for b in held.batches] == [4]
    assert not tries.better(held, 0.03)
    assert not tries.better(held, None)
    assert tries.better(held, 0.001)


class Scripted:
    """An engine that takes four sweeps and ends with what its script says for each begin."""

    def __init__(self, script):
        self.script = list(script)
        self.frames, self.sweeps, self.seen = 0, 0.0, []

    def begin(self, beginning):
        self.start, self.error = beginning, self.script.pop(0)
        self.frames, self.sweeps = 0, 0.0
        self.seen.append(beginning.projection)

    def add(self, frames):
        assert frames.projection == self.start.projection
        assert (frames.counts == frames.projection).all()
        self.frames += len(frames.index)
        return []

    def fault_of_overlap(self):
        return None

    def step(self, _budget_s):
        self.sweeps += 1
        return Progress(sweeps=self.sweeps, frames=self.frames, error=self.error, updates=self.frames)

    def update(self, *, final=False):
        return ObjectUpdate(
            scan_id="s",
            projection=self.start.projection,
            angle_deg=None,
            object=np.ones((8, 8), np.complex64),
            probe=np.ones((1, 8, 8), np.complex64),
            coverage=np.ones((8, 8), np.float32),
            pixel_m=1e-8,
            energy_ev=6200.0,
            origin_xy_m=np.zeros(2),
            index=np.arange(self.frames),
            xy_m=np.zeros((self.frames, 2)),
            errors=np.array([self.error], np.float32),
            sweeps=self.sweeps,
            final=final,
        )


def run(monkeypatch, script, count):
    engine = Scripted(script)
    monkeypatch.setattr(reconstruct, "engine", lambda config, clock: engine)
    config = ReconstructionConfig(sweeps=4, min_sweeps=2, refine_sweeps=0)
    stage = reconstruct.ReconstructStage(config, clock=lambda: 0.0)
    seen = []
    for k in range(count):
        for message in (start(k), batch(k), end(k)):
            seen += stage.handle(message, 0)
            for _ in range(50):
                if stage.accepts:
                    break
                seen += stage.work(0)
            assert stage.accepts
    seen += stage.handle(ScanEnd(scan_id="s", reason="complete", projections=count), 0)
    for _ in range(50):
        if stage.finished:
            break
        seen += stage.work(0)
    assert stage.finished
    assert isinstance(seen[-1], ScanEnd)
    finals = [m for m in seen if isinstance(m, ObjectUpdate) and m.final]
    return engine, stage, [(m.projection, round(m.error, 5), m.angle_deg, dict(m.dropped)) for m in finals]


def test_the_stage_gives_the_better_result_of_the_first_after_the_second(monkeypatch):
    engine, stage, finals = run(monkeypatch, [0.02, 0.001, 0.0011, 0.001], 3)
    assert engine.seen == [0, 1, 0, 2]
    assert finals == [
        (0, 0.02, 0.0, {"missing": 0}),
        (1, 0.001, 1.0, {"missing": 1}),
        (0, 0.0011, 0.0, {"missing": 0}),
        (2, 0.001, 2.0, {"missing": 2}),
    ]
    counters = stage.status(0).counters
    assert (counters["projections"], counters["second_tries"], counters["projections_improved"]) == (3, 1, 1)
    assert counters["frames"] == 12


def test_the_stage_tries_the_last_one_again_before_the_scan_ends(monkeypatch):
    engine, _, finals = run(monkeypatch, [0.001, 0.001, 0.02, 0.001], 3)
    assert engine.seen == [0, 1, 2, 2]
    assert [final[:2] for final in finals][-2:] == [(2, 0.02), (2, 0.001)]


def test_the_stage_keeps_the_first_result_when_the_second_is_worse(monkeypatch):
    engine, stage, finals = run(monkeypatch, [0.001, 0.001, 0.02, 0.03], 3)
    assert engine.seen == [0, 1, 2, 2]
    assert [final[:2] for final in finals] == [(0, 0.001), (1, 0.001), (2, 0.02)]
    assert "projections_improved" not in stage.status(0).counters


def test_a_stage_that_is_stopped_tries_nothing_again(monkeypatch):
    engine = Scripted([0.001, 0.02])
    monkeypatch.setattr(reconstruct, "engine", lambda config, clock: engine)
    stage = reconstruct.ReconstructStage(
        ReconstructionConfig(sweeps=4, min_sweeps=2, refine_sweeps=0), clock=lambda: 0.0
    )
    for message in (start(0), batch(0), end(0), start(1)):
        list(stage.handle(message, 0))
    for _ in range(20):
        list(stage.work(0))
    for message in (batch(1), end(1)):
        list(stage.handle(message, 0))
    finals = [m for m in stage.stop(0) if isinstance(m, ObjectUpdate) and m.final]
    assert [m.projection for m in finals] == [1]
    assert engine.seen == [0, 1]
