import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.config import ReconstructionConfig
from streamptycho.ptychography import EngineError, reconstruct
from streamptycho.ptychography.epie import EpieEngine
from streamptycho.ptychography.placement import Placement


def rms_error_px(found_m, truth_m, pixel_m):
    """What is left when a displacement of all and what grows linearly with the position are left aside."""
    difference = (found_m - truth_m) / pixel_m
    centred = truth_m - truth_m.mean(axis=0)
    basis = np.column_stack([np.ones(len(truth_m)), centred / np.abs(centred).max()])
    difference = difference - basis @ np.linalg.lstsq(basis, difference, rcond=None)[0]
    return np.sqrt((difference**2).sum(axis=1).mean())


def displaced(measurement, rms_px, seed=3):
    scatter = np.random.default_rng(seed).normal(0, rms_px / np.sqrt(2), measurement.xy_m.shape)
    return measurement.xy_m + scatter * measurement.geometry.object_pixel_m


@pytest.mark.parametrize(("method", "sweeps", "left"), [("gradient", 30, 0.2), ("annealing", 60, 0.5)])
def test_displaced_frames_are_brought_back(measurement, method, sweeps, left):
    m, pixel_m = measurement, measurement.geometry.object_pixel_m
    start = displaced(m, 1.0)
    plain = reconstruct(m.counts, start, m.geometry, probe=m.probe, sweeps=30)
    found = reconstruct(m.counts, start, m.geometry, probe=m.probe, sweeps=sweeps, positions=method)
    before, after = (rms_error_px(xy_m, m.xy_m, pixel_m) for xy_m in (start, found.xy_m))
    assert before > 0.8
    assert after < left * before
    assert found.error < 0.5 * plain.error
    assert plain.correction_rms_m is None
    moved = np.sqrt((((found.xy_m - start) / pixel_m) ** 2).sum(axis=1).mean())
    assert found.correction_rms_m == pytest.approx(moved * pixel_m, rel=1e-6)


def test_frames_in_the_right_place_stay_there(measurement):
    m = measurement
    plain = reconstruct(m.counts, m.xy_m, m.geometry, probe=m.probe, sweeps=20)
    found = reconstruct(m.counts, m.xy_m, m.geometry, probe=m.probe, sweeps=20, positions="gradient")
    assert rms_error_px(found.xy_m, m.xy_m, found.pixel_m) < 0.12
    assert found.error < 1.05 * plain.error


@pytest.mark.parametrize("method", ["gradient", "annealing"])
def test_no_frame_leaves_its_radius(measurement, method):
    m = measurement
    start = displaced(m, 2.5)
    found = reconstruct(m.counts, start, m.geometry, sweeps=12, positions=method, position_radius_px=0.7, margin_px=0)
    distance = np.linalg.norm(found.xy_m - start, axis=1) / found.pixel_m
    assert 0.1 < distance.max() <= 0.7 + 1e-6


def test_what_is_common_is_taken_out_within_the_radius():
    placement = Placement(16, 1.0)
    placement.extend(np.column_stack([np.arange(20.0), np.zeros(20)]))
    placement.move(np.arange(20), np.array([[1.0, 0.0]] * 18 + [[-1.0, 0.0]] * 2))
    placement.settle(np.arange(20))
    assert np.linalg.norm(placement.shift_px, axis=1).max() <= 1.0


def test_frames_of_a_line_share_what_few_photons_tell(measure):
    """Nine lines, each displaced as a whole: what one frame tells is noise."""
    m = measure(photons=600.0)
    line = np.arange(81) // 9
    start = m.xy_m + np.random.default_rng(3).normal(0, 0.6, (9, 2))[line] * m.geometry.object_pixel_m
    left = {}
    for shared in (1, 9):
        found = reconstruct(
            m.counts, start, m.geometry, probe=m.probe, sweeps=40, positions="gradient", position_shared_frames=shared
        )
        left[shared] = rms_error_px(found.xy_m, m.xy_m, found.pixel_m)
    assert left[9] < 0.7 * rms_error_px(start, m.xy_m, m.geometry.object_pixel_m)
    assert left[9] < 0.7 * left[1]


def test_hints_are_not_shared_across_the_end_of_a_line():
    placement = Placement(16, 5.0, shared_frames=8)
    x = np.concatenate([np.arange(10.0), np.arange(10.0)[::-1]])
    y = np.repeat([0.0, 30.0], 10)
    shuffled = np.random.default_rng(0).permutation(20)
    placement.extend(np.column_stack([y, x])[shuffled])
    placement.follow(np.arange(20), np.where(shuffled[:, None] < 10, [[0.2, 0.0]], [[-0.2, 0.0]]))
    assert not placement.shift_px.any()
    placement._share(np.argsort(shuffled))
    np.testing.assert_allclose(placement.shift_px[:, 0], np.where(shuffled < 10, 0.2, -0.2))


def test_a_late_correction_needs_no_restart(measurement):
    m = measurement
    wrong = m.xy_m.copy()
    wrong[30:45] += 4 * m.geometry.object_pixel_m
    engine = EpieEngine(ReconstructionConfig(sweeps=60, refine_sweeps=0), probe=m.probe)
    engine.begin(m.start())
    engine.add(type(m.batch())(**{**fields(m.batch()), "xy_m": wrong}))
    engine.run(15)
    spoiled = engine.evaluate()
    places = np.concatenate([m.xy_m[30:45], [[np.nan, 0.0], [1e300, 0.0], [0.0, 0.0]]])
    assert engine.correct(np.array([*range(30, 45), 50, 51, 999]), places) == 15
    engine.run(15)
    assert spoiled > 3 * m.noise_floor
    assert engine.evaluate() < 1.3 * m.noise_floor
    np.testing.assert_allclose(engine.update().xy_m, m.xy_m)


def fields(batch):
    return {name: getattr(batch, name) for name in ("scan_id", "projection", "index", "counts", "quality")}


def test_what_all_frames_have_in_common_is_no_correction():
    random = np.random.default_rng(0)
    placement = Placement(16, 5.0)
    centres = random.uniform(0, 100, (40, 2))
    placement.extend(centres)
    scatter = random.normal(0, 0.2, (40, 2))
    plane = 0.5 + (centres - 50) @ np.array([[0.01, 0.004], [-0.006, 0.01]])
    placement.move(np.arange(40), scatter + plane)
    placement.settle(np.arange(len(placement)))
    basis = np.column_stack([np.ones(40), centres])
    expected = scatter - basis @ np.linalg.lstsq(basis, scatter, rcond=None)[0]
    np.testing.assert_allclose(placement.shift_px, expected, atol=1e-9)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.floats(allow_nan=True, allow_infinity=True), st.floats(-1e6, 1e6)), min_size=1, max_size=40),
    st.floats(0.01, 10),
)
def test_hints_of_any_kind_keep_corrections_finite_and_bounded(hints, radius):
    placement = Placement(16, radius)
    placement.extend(np.zeros((1, 2)))
    for hint in hints:
        before = placement.shift_px.copy()
        placement.follow(np.array([0]), np.array([hint]))
        assert np.isfinite(placement.shift_px).all()
        assert np.linalg.norm(placement.shift_px) <= radius * (1 + 1e-9)
        assert np.linalg.norm(placement.shift_px - before) <= 0.25 + 1e-9


def test_a_radius_of_zero_is_no_correction():
    placement = Placement(16, 0.0)
    placement.extend(np.ones((3, 2)))
    placement.follow(np.arange(3), np.full((3, 2), 0.2))
    assert not placement.shift_px.any()


def test_settings_that_do_not_exist_are_explained(measurement):
    m = measurement
    with pytest.raises(EngineError, match="position"):
        reconstruct(m.counts, m.xy_m, m.geometry, sweeps=1, positions="magic")
