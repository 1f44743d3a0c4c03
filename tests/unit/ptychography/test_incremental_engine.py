import numpy as np
import pytest

from streamptycho.config import ReconstructionConfig
from streamptycho.geometry import Geometry
from streamptycho.messages import ProjectionStart
from streamptycho.ptychography import ProbeError, amplitude_error, reconstruct
from streamptycho.ptychography.epie import EpieEngine


def tick():
    tick.now += 1.0
    return tick.now


tick.now = 0.0


def make(probe=None, **settings):
    return EpieEngine(ReconstructionConfig(min_sweeps=1, **settings), clock=tick, probe=probe)


@pytest.mark.parametrize("chunk", [1, 9, 40])
def test_increments_are_as_good_as_batch_for_the_same_number_of_visits(measurement, chunk):
    sweeps, total = 12, len(measurement.counts)
    batch = reconstruct(measurement.counts, measurement.xy_m, measurement.geometry, sweeps=sweeps, refine_sweeps=0)
    engine = make(sweeps=100)
    engine.begin(measurement.start())
    visits = 0
    for first in range(0, total, chunk):
        assert engine.add(measurement.batch(first, first + chunk)) == []
        visits += engine.visit(2 * min(chunk, 20))
    assert 0 < visits < sweeps * total
    visits += engine.visit(sweeps * total - visits)
    assert visits == sweeps * total
    assert engine.frames == total
    assert engine.evaluate() < 1.05 * batch.error


def test_all_frames_at_once_equal_batch_exactly(measurement):
    batch = reconstruct(measurement.counts, measurement.xy_m, measurement.geometry, sweeps=4)
    engine = make(sweeps=4)
    engine.begin(measurement.start())
    engine.add(measurement.batch())
    while engine.sweeps < 4:
        engine.step(10)
        engine.update()
    update = engine.update()
    np.testing.assert_allclose(update.object, batch.object, atol=1e-5)
    np.testing.assert_allclose(update.errors, batch.errors, rtol=1e-4)


def test_order_of_arrival_only_changes_the_order_of_visits(measurement):
    engine = make(sweeps=12)
    engine.begin(measurement.start())
    for first in (60, 0, 30):
        engine.add(measurement.batch(first, first + 30))
        engine.visit(58)
    while engine.sweeps < 12:
        engine.visit(200)
    assert sorted(engine.update().index.tolist()) == list(range(81))
    assert engine.evaluate() < 1.5 * measurement.noise_floor


def test_growth_keeps_the_object(measurement):
    engine = make(sweeps=5)
    engine.begin(measurement.start())
    engine.add(measurement.batch(40, 43))
    while engine.sweeps < 5:
        engine.step(20)
    small = engine.update()
    engine.add(measurement.batch())
    large = engine.update()
    offset = np.rint((small.origin_xy_m - large.origin_xy_m) / small.pixel_m).astype(int)
    window = large.object[offset[1] :, offset[0] :][: small.object.shape[0], : small.object.shape[1]]
    assert large.object.size > 1.5 * small.object.size
    np.testing.assert_array_equal(window, small.object)


def test_the_probe_carries_over_and_the_object_does_not(measurement):
    engine = make(sweeps=15, probe_delay_sweeps=1)
    engine.begin(measurement.start())
    engine.add(measurement.batch())
    while engine.sweeps < 15:
        engine.step(100)
    first = engine.update()
    engine.begin(measurement.start(1))
    assert engine.frames == 0
    assert engine.update() is None
    engine.add(measurement.batch(projection=1))
    carried = engine.update()
    assert np.all(carried.object == 1)
    assert carried.errors.size == 0
    np.testing.assert_array_equal(carried.probe, first.probe)
    while engine.sweeps < 4:
        engine.step(20)
    fresh = reconstruct(measurement.counts, measurement.xy_m, measurement.geometry, sweeps=4, probe_delay_sweeps=1)
    assert engine.evaluate() < 0.7 * fresh.error


def test_a_probe_guessed_from_an_aborted_projection_does_not_carry(measurement):
    engine = EpieEngine(ReconstructionConfig(min_sweeps=5), clock=tick)
    engine.begin(measurement.start())
    engine.add(measurement.batch(0, 2))
    engine.visit(5)
    engine.begin(measurement.start(1))
    engine.add(measurement.batch(projection=1))
    fresh = make()
    fresh.begin(measurement.start())
    fresh.add(measurement.batch())
    np.testing.assert_array_equal(engine.update().probe, fresh.update().probe)


def test_the_probe_is_guessed_anew_while_frames_are_few(measurement):
    fresh = make()
    fresh.begin(measurement.start())
    fresh.add(measurement.batch(0, 64))
    grown = make(sweeps=1)
    grown.begin(measurement.start())
    for first, stop in ((0, 1), (1, 3), (3, 8), (8, 16), (16, 64)):
        grown.add(measurement.batch(first, stop))
        grown.update()
    np.testing.assert_array_equal(grown.update().probe, fresh.update().probe)


def test_the_probe_starts_again_when_it_may_not_carry(measurement):
    engine = make(carry_probe=False, sweeps=3)
    engine.begin(measurement.start())
    engine.add(measurement.batch())
    before = engine.update().probe
    engine.step(1000)
    engine.begin(measurement.start(1))
    engine.add(measurement.batch(projection=1))
    np.testing.assert_array_equal(engine.update().probe, before)


def test_a_change_of_frame_size_drops_the_carried_probe(measurement):
    engine = make()
    engine.begin(measurement.start())
    engine.add(measurement.batch())
    engine.step(20)
    geometry = Geometry(8000.0, 2.0, 75e-6, (16, 16))
    engine.begin(ProjectionStart(scan_id="s", projection=1, angle_deg=None, n_frames=None, geometry=geometry))
    assert engine.update() is None


def test_the_probe_waits_for_the_object(measurement):
    engine = make(probe_delay_sweeps=2, sweeps=4)
    engine.begin(measurement.start())
    engine.add(measurement.batch())
    before = engine.update().probe
    engine.run(2)
    np.testing.assert_allclose(engine.update().probe, before, atol=1e-3 * np.abs(before).max())
    engine.run(1)
    assert np.abs(engine.update().probe - before).max() > 0.01 * np.abs(before).max()


def test_seed_decides_the_result(measurement):
    def run(seed):
        return reconstruct(measurement.counts, measurement.xy_m, measurement.geometry, sweeps=2, seed=seed).object

    np.testing.assert_array_equal(run(1), run(1))
    assert not np.array_equal(run(1), run(2))


def test_evaluation_changes_nothing_and_agrees_with_the_metric(measurement):
    engine = make(sweeps=3, modes=2)
    engine.begin(measurement.start())
    engine.add(measurement.batch())
    engine.run(3)
    before = engine.update()
    error = engine.evaluate()
    after = engine.update()
    np.testing.assert_array_equal(before.object, after.object)
    metric = amplitude_error(
        measurement.counts,
        measurement.xy_m,
        after.object,
        after.probe,
        pixel_m=after.pixel_m,
        origin_xy_m=after.origin_xy_m,
    )
    assert metric == pytest.approx(error, rel=1e-3)


def test_start_probes_that_do_not_fit_are_refused(measurement):
    with pytest.raises(ProbeError):
        make(probe=np.zeros((32, 32)))
    engine = make(probe=np.ones((16, 16)))
    with pytest.raises(ProbeError, match="32 x 32"):
        engine.begin(measurement.start())


def test_a_budget_is_kept_to_within_what_was_learnt_of_the_speed(measurement, monkeypatch):
    now = [0.0]
    engine = EpieEngine(ReconstructionConfig(sweeps=1000), clock=lambda: now[0])
    engine.begin(measurement.start())
    engine.add(measurement.batch())
    updater = engine._updater()
    visit = updater.visit

    def slow_visit(canvas, store, visits):
        now[0] += 0.01 * len(visits)
        return visit(canvas, store, visits)

    monkeypatch.setattr(updater, "visit", slow_visit)
    for budget_s in (1.0, 3.0, 0.05, 10.0):
        before = now[0]
        done = engine.step(budget_s).updates
        assert done == round((now[0] - before) / 0.01)
        assert 0.9 * budget_s <= now[0] - before <= budget_s + 0.33
