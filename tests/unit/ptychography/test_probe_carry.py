import numpy as np
import pytest

from streamptycho.config import ReconstructionConfig
from streamptycho.ptychography.carry import ProbeCarry
from streamptycho.ptychography.epie import EpieEngine
from streamptycho.ptychography.probe_holder import offset_px
from streamptycho.ptychography.update import ProbeUpdater

GOOD, BAD, NEXT = (np.full((1, 8, 8), k, np.complex64) for k in (1, 2, 3))


def carry_after(error):
    carry = ProbeCarry()
    assert carry.end(GOOD, error) is GOOD
    carry.begin(GOOD)
    return carry


def test_an_error_that_stays_near_hands_the_new_probe_on():
    assert carry_after(0.05).end(NEXT, 0.08) is NEXT


@pytest.mark.parametrize("error", [0.11, np.inf, np.nan])
def test_a_projection_that_went_wrong_hands_on_what_it_began_with(error):
    assert carry_after(0.05).end(BAD, error) is GOOD


@pytest.mark.parametrize("error", [None, 0.05])
def test_a_probe_that_is_not_finite_is_never_handed_on(error):
    broken = BAD.copy()
    broken[0, 3, 4] = np.nan
    assert carry_after(0.05).end(broken, error) is GOOD
    assert ProbeCarry().end(broken, error) is None


def test_a_projection_without_a_complete_sweep_is_not_judged():
    assert carry_after(0.05).end(NEXT, None) is NEXT


def test_two_bad_projections_in_a_row_are_no_accident():
    carry = carry_after(0.05)
    assert carry.end(BAD, 0.2) is GOOD
    carry.begin(GOOD)
    assert carry.end(NEXT, 0.2) is NEXT


def end_of_first_projection(measurement):
    engine = EpieEngine(ReconstructionConfig(min_sweeps=1, sweeps=60, probe_delay_sweeps=0))
    engine.begin(measurement.start())
    engine.add(measurement.batch())
    engine.run(12)
    engine.begin(measurement.start(1))
    engine.add(measurement.batch(projection=1))
    return engine, engine.update().probe


def test_frames_at_wrong_places_do_not_spoil_the_next_projection(measurement, batch_of):
    engine, good = end_of_first_projection(measurement)
    engine.run(12)
    refined = engine.update().probe
    engine.begin(measurement.start(2))
    places = np.random.default_rng(0).permutation(measurement.xy_m)
    engine.add(batch_of(measurement.counts, places, projection=2))
    engine.run(12)
    assert np.abs(engine.update().probe - refined).max() > 0.1 * np.abs(refined).max()
    engine.begin(measurement.start(3))
    engine.add(measurement.batch(projection=3))
    np.testing.assert_allclose(engine.update().probe, refined, atol=1e-4 * np.abs(refined).max())
    assert np.abs(refined - good).max() > 1e-3 * np.abs(good).max()


def test_an_object_full_of_nan_does_not_spoil_the_next_projection(measurement):
    engine, good = end_of_first_projection(measurement)
    engine._held.canvas.image[:] = np.nan
    engine.run(2)
    assert np.isnan(engine.update().probe).any()
    engine.begin(measurement.start(2))
    engine.add(measurement.batch(projection=2))
    np.testing.assert_array_equal(engine.update().probe, good)


def test_numpy_hands_on_a_copy(measurement, monkeypatch):
    monkeypatch.setattr(
        "streamptycho.ptychography.probe_holder.probe_updater",
        lambda probe, backend, rule, _threads: ProbeUpdater(probe, backend, rule),
    )
    engine, good = end_of_first_projection(measurement)
    engine._held.canvas.image[:] = np.nan
    with np.errstate(all="ignore"):
        engine.run(2)
        engine.begin(measurement.start(2))
    engine.add(measurement.batch(projection=2))
    np.testing.assert_allclose(engine.update().probe, good, atol=1e-5 * np.abs(good).max())


def wrong_places(measurement, batch_of, projection):
    places = np.random.default_rng(0).permutation(measurement.xy_m)
    return batch_of(measurement.counts, places, projection=projection)


def test_a_projection_that_goes_wrong_twice_does_not_spoil_the_next(measurement, batch_of):
    engine, _ = end_of_first_projection(measurement)
    engine.run(12)
    refined = engine.update().probe
    for _ in range(2):
        engine.begin(measurement.start(2))
        engine.add(wrong_places(measurement, batch_of, 2))
        np.testing.assert_allclose(engine.update().probe, refined, atol=1e-4 * np.abs(refined).max())
        engine.run(12)
    engine.begin(measurement.start(3))
    engine.add(measurement.batch(projection=3))
    np.testing.assert_allclose(engine.update().probe, refined, atol=1e-4 * np.abs(refined).max())


def test_a_beam_that_wandered_in_its_array_is_brought_back(measurement):
    engine, _ = end_of_first_projection(measurement)
    engine.run(12)
    refined = engine.update().probe
    engine._holder.replace(np.roll(refined, (6, -4), axis=(1, 2)))
    engine._held.canvas.roll(6, -4)
    engine.begin(measurement.start(2))
    engine.add(measurement.batch(projection=2))
    np.testing.assert_allclose(engine.update().probe, refined, atol=1e-4 * np.abs(refined).max())
    engine.run(12)
    assert engine.evaluate() < 2 * measurement.noise_floor


def test_a_given_probe_stays_where_it_was_given(measurement):
    aside = np.roll(measurement.probe, (3, -2), axis=(1, 2)).astype(np.complex64)
    engine = EpieEngine(ReconstructionConfig(min_sweeps=1, sweeps=60), probe=aside)
    for projection in range(2):
        engine.begin(measurement.start(projection))
        engine.add(measurement.batch(projection=projection))
        engine.run(6)
    engine.begin(measurement.start(2))
    engine.add(measurement.batch(projection=2))
    assert offset_px(engine.update().probe) == offset_px(aside) == (3, -2)
