import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.config import TrajectoryConfig
from streamptycho.simulation.errors import SimulationError
from streamptycho.simulation.trajectory import make_trajectory

SNAKE = TrajectoryConfig(
    kind="snake", width_m=2e-6, height_m=1.5e-6, step_x_m=0.1e-6, step_y_m=0.5e-6, jitter_m=0, turn_s=0.02
)


def test_a_snake_runs_back_and_forth_and_steps_down():
    trajectory = make_trajectory(SNAKE, 1000, 0.9, 0)
    xy = trajectory.exposure_xy_m(1)[:, 0].reshape(3, 20, 2)
    assert np.allclose(np.diff(xy[0, :, 0]), 0.1e-6)
    assert np.allclose(np.diff(xy[1, :, 0]), -0.1e-6)
    assert np.allclose(np.diff(xy[2, :, 0]), 0.1e-6)
    assert np.allclose(xy[:, :, 1], np.array([-0.5e-6, 0, 0.5e-6])[:, None])
    assert xy[0, 0, 0] == pytest.approx(-1e-6 + 0.045e-6)
    assert trajectory.duration_s == pytest.approx(3 * 0.02 + 2 * 0.02)


def test_a_snake_never_jumps():
    trajectory = make_trajectory(SNAKE, 1000, 0.9, 0)
    time_s = np.linspace(0, trajectory.duration_s, 20001)
    speed = np.linalg.norm(np.diff(trajectory.true_xy_m(time_s), axis=0), axis=1) / (time_s[1] - time_s[0])
    assert speed.max() < 1.01 * np.hypot(0.1e-6 * 1000, 1.5 * 0.5e-6 / 0.02)


def test_positions_averaged_over_an_exposure_are_those_at_its_centre_on_a_line():
    trajectory = make_trajectory(SNAKE, 1000, 0.9, 0)
    centre = trajectory.exposure_xy_m(1)[:, 0]
    assert np.allclose(trajectory.mean_xy_m(trajectory.start_s, trajectory.stop_s), centre, atol=1e-12)
    blurred = trajectory.exposure_xy_m(5)
    assert np.ptp(blurred[0, :, 0]) == pytest.approx(0.8 * 0.9 * 0.1e-6)


def test_vibration_has_the_configured_size_and_differs_between_projections():
    shaken = TrajectoryConfig(**{**SNAKE.model_dump(), "jitter_m": 2e-8, "width_m": 2e-5, "height_m": 2e-5})
    first, other = make_trajectory(shaken, 1000, 0.9, 1), make_trajectory(shaken, 1000, 0.9, 2)
    moved = first.vibration_m(first.start_s)
    assert moved.std(axis=0) == pytest.approx([2e-8, 2e-8], rel=0.2)
    assert not np.allclose(moved, other.vibration_m(other.start_s))


def test_concentric_circles_are_those_of_2010():
    config = TrajectoryConfig(kind="circles", width_m=40e-6, height_m=32e-6, step_x_m=1.508e-6, step_y_m=1.2e-6)
    trajectory = make_trajectory(config, 1.0, 0.9, 0)
    assert len(trajectory) == pytest.approx(704, abs=10)
    xy = trajectory.nominal_xy_m(trajectory.start_s + 0.3)
    radius = np.hypot(xy[:, 0], xy[:, 1])
    ring = np.rint(radius / 1.2e-6)
    assert np.allclose(radius, ring * 1.2e-6, atol=1e-12)
    assert [(ring == k).sum() for k in range(4)] == [1, 5, 10, 15]


def test_a_spiral_gives_every_point_the_same_area():
    config = TrajectoryConfig(kind="spiral", width_m=4e-6, height_m=4e-6, step_x_m=0.2e-6, step_y_m=0.2e-6)
    trajectory = make_trajectory(config, 100, 0.9, 0)
    assert len(trajectory) == pytest.approx(400, rel=0.05)
    xy = trajectory.nominal_xy_m(trajectory.start_s)
    distance = np.linalg.norm(xy[:, None] - xy[None], axis=-1) + np.eye(len(xy))
    assert distance.min(axis=1).min() > 0.1e-6
    assert distance.min(axis=1).max() < 0.3e-6


def test_a_step_scan_rests_during_the_exposure():
    config = TrajectoryConfig(kind="spiral", width_m=2e-6, height_m=2e-6, jitter_m=0)
    trajectory = make_trajectory(config, 100, 0.8, 0)
    assert np.ptp(trajectory.exposure_xy_m(7), axis=1).max() < 1e-15
    between = trajectory.true_xy_m((trajectory.stop_s[:-1] + trajectory.start_s[1:]) / 2)
    rest = trajectory.exposure_xy_m(1)[:, 0]
    assert np.allclose(between, (rest[:-1] + rest[1:]) / 2)


@settings(deadline=None, max_examples=40)
@given(
    kind=st.sampled_from(["snake", "circles", "spiral"]),
    width=st.floats(0.1, 5),
    height=st.floats(0.1, 5),
    step=st.floats(0.2, 2),
    rate=st.floats(1, 1e5),
    fraction=st.floats(0.05, 1),
    turn=st.sampled_from([0.0, 0.01]),
)
def test_exposures_follow_each_other_within_the_projection(kind, width, height, step, rate, fraction, turn):
    if width * height < 0.6 * step**2:
        return
    config = TrajectoryConfig(
        kind=kind, width_m=width, height_m=height, step_x_m=step, step_y_m=step, jitter_m=0, turn_s=turn
    )
    trajectory = make_trajectory(config, rate, fraction, 0)
    assert len(trajectory) >= 1
    assert np.all(trajectory.stop_s > trajectory.start_s)
    assert np.all(trajectory.start_s[1:] >= trajectory.stop_s[:-1] - 1e-9 * trajectory.duration_s)
    assert trajectory.stop_s[-1] <= trajectory.duration_s * (1 + 1e-9)
    xy = trajectory.exposure_xy_m(1)[:, 0]
    assert np.all(np.isfinite(xy))
    assert np.all(np.abs(xy) <= np.array([width, height]) / 2 + step)


def test_a_scan_without_points_or_with_too_many_is_refused():
    for step in (1e-4, 1e-11):
        with pytest.raises(SimulationError, match="points"):
            make_trajectory(TrajectoryConfig(step_x_m=step, step_y_m=step), 100, 0.9, 0)
