"""Positions between samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.messages import Quality
from streamptycho.positions.interpolation import find_gaps, find_turns, interpolate, interpolate_angle


def line(n: int = 20) -> tuple[np.ndarray, np.ndarray]:
    time_s = np.arange(n) * 0.1
    return time_s, np.column_stack([time_s * 2, -time_s])


def test_a_straight_line_is_exact() -> None:
    time_s, xy_m = line()
    wanted = np.linspace(0.01, 1.89, 77)
    for method in ("linear", "smooth"):
        found, quality = interpolate(wanted, time_s, xy_m, method=method)
        np.testing.assert_allclose(found, np.column_stack([wanted * 2, -wanted]), atol=1e-12)
        assert set(quality.tolist()) == {Quality.INTERPOLATED}


def test_smooth_follows_a_circle_better_than_linear() -> None:
    time_s = np.linspace(0, 1, 41)
    wanted = np.linspace(0.05, 0.95, 301)

    def circle(t: np.ndarray) -> np.ndarray:
        return np.column_stack([np.cos(2 * np.pi * t), np.sin(2 * np.pi * t)])

    error = {
        method: np.abs(interpolate(wanted, time_s, circle(time_s), method=method)[0] - circle(wanted)).max()
        for method in ("linear", "smooth")
    }
    assert not find_turns(time_s, circle(time_s)).any()
    assert error["linear"] < 4e-3
    assert error["smooth"] < error["linear"] / 10


def test_a_row_in_the_exposure_is_measured() -> None:
    time_s, xy_m = line()
    _, quality = interpolate(np.array([0.501, 0.55]), time_s, xy_m, match_s=0.01)
    assert quality.tolist() == [Quality.MEASURED, Quality.INTERPOLATED]


def test_beyond_the_rows_is_extrapolated_one_interval_and_then_missing() -> None:
    time_s, xy_m = line()
    wanted = np.array([-0.2, -0.05, 1.95, 2.05])
    found, quality = interpolate(wanted, time_s, xy_m)
    assert quality.tolist() == [Quality.MISSING, Quality.EXTRAPOLATED, Quality.EXTRAPOLATED, Quality.MISSING]
    np.testing.assert_allclose(found[1:3, 0], wanted[1:3] * 2, atol=1e-12)
    assert np.isnan(found[[0, 3]]).all()


@pytest.mark.parametrize("method", ["linear", "smooth"])
def test_a_turn_between_two_rows_is_marked_and_does_not_bend_its_neighbours(method: str) -> None:
    time_s = np.arange(12) * 0.1
    x = np.array([0, 1, 2, 3, 4, 5, 5.2, 4.2, 3.2, 2.2, 1.2, 0.2])
    y = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1.0])
    xy_m = np.column_stack([x, y])
    assert np.flatnonzero(find_turns(time_s, xy_m)).tolist() == [5]
    found, quality = interpolate(np.array([0.45, 0.55, 0.65]), time_s, xy_m, method=method)
    assert quality.tolist() == [Quality.INTERPOLATED, Quality.TURNAROUND, Quality.INTERPOLATED]
    np.testing.assert_allclose(found[[0, 2]], [[4.5, 0], [4.7, 1]], atol=1e-12)
    assert np.isfinite(found).all()


def test_a_flyback_is_marked() -> None:
    time_s = np.arange(20) * 0.1
    xy_m = np.column_stack([np.arange(20) % 10, np.arange(20) // 10]).astype(float)
    assert np.flatnonzero(find_turns(time_s, xy_m)).tolist() == [9]


def test_gaps_are_not_crossed() -> None:
    time_s = np.array([0, 0.1, 0.2, 0.3, 1.3, 1.4, 1.5])
    xy_m = np.column_stack([time_s, time_s])
    assert np.flatnonzero(find_gaps(time_s, None)).tolist() == [3]
    assert not find_gaps(time_s, 2.0).any()
    found, quality = interpolate(np.array([0.35, 0.8, 1.25]), time_s, xy_m)
    assert quality.tolist() == [Quality.EXTRAPOLATED, Quality.MISSING, Quality.EXTRAPOLATED]
    np.testing.assert_allclose(found[[0, 2], 0], [0.35, 1.25])


@pytest.mark.parametrize("rows", [0, 1, 2, 3])
def test_few_rows_are_no_error(rows: int) -> None:
    time_s, xy_m = line(rows)
    for method in ("linear", "smooth"):
        found, quality = interpolate(np.array([0.0, 0.05, 5.0]), time_s, xy_m, method=method, match_s=0.01)
        assert quality[2] == Quality.MISSING
        assert np.isfinite(found[quality != Quality.MISSING]).all()
        assert (quality[0] == Quality.MEASURED) == (rows > 0)


def test_angles_are_interpolated() -> None:
    np.testing.assert_allclose(
        interpolate_angle(np.array([0.5, 9.0]), np.array([0.0, 1.0]), np.array([2.0, 4.0])), [3, 4]
    )
    assert np.isnan(interpolate_angle(np.zeros(2), np.zeros(0), np.zeros(0))).all()


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), method=st.sampled_from(["linear", "smooth"]))
def test_what_is_known_is_finite_near_the_rows_and_local(seed: int, method: str) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 60))
    time_s = np.cumsum(rng.exponential(0.1, n) + 1e-6)
    xy_m = rng.normal(size=(n, 2)) * 1e-6
    wanted = np.sort(rng.uniform(-0.5, time_s[-1] + 0.5, 40))
    found, quality = interpolate(wanted, time_s, xy_m, method=method)
    known = quality != Quality.MISSING
    assert np.isfinite(found[known]).all()
    assert np.isnan(found[~known]).all()
    if n > 30:
        half = n // 2
        settled = wanted < time_s[half - 7]
        again, again_quality = interpolate(wanted[settled], time_s[:half], xy_m[:half], method=method)
        np.testing.assert_array_equal(again_quality, quality[settled])
        np.testing.assert_array_equal(again, found[settled])


def test_average_is_the_mean_over_the_exposure() -> None:
    rng = np.random.default_rng(4)
    row_time_s = np.cumsum(rng.uniform(0.5, 1.5, 60))
    row_xy_m = np.cumsum(rng.normal(size=(60, 2)), axis=0) * 1e-6 + 3e-3
    half_s = rng.uniform(0.2, 4.0, 30)
    time_s = rng.uniform(row_time_s[0] + 4, row_time_s[-1] - 4, 30)
    found, _ = interpolate(time_s, row_time_s, row_xy_m, method="average", half_s=half_s, max_gap_s=10.0)
    for at in range(30):
        fine = time_s[at] + half_s[at] * (2 * (np.arange(200_000) + 0.5) / 200_000 - 1)
        mean = [np.interp(fine, row_time_s, row_xy_m[:, axis]).mean() for axis in (0, 1)]
        np.testing.assert_allclose(found[at], mean, atol=1e-13)


def test_average_beats_the_middle_where_the_stage_trembles() -> None:
    rng = np.random.default_rng(5)
    row_time_s = np.arange(4000) * 1e-4
    true = np.column_stack([row_time_s * 1e-3, np.sin(row_time_s * 40) * 1e-5])
    measured = true + rng.normal(scale=2e-7, size=true.shape)
    time_s, half_s = np.arange(0.01, 0.39, 2e-3), 0.9e-3
    rms = {}
    for method in ("linear", "average"):
        found, _ = interpolate(time_s, row_time_s, measured, method=method, half_s=half_s)
        wanted = np.array(
            [[np.interp(t + half_s * np.linspace(-1, 1, 401), row_time_s, c).mean() for c in true.T] for t in time_s]
        )
        rms[method] = np.sqrt(np.mean((found - wanted) ** 2))
    assert rms["average"] < rms["linear"] / 2.5


def test_average_does_not_reach_over_a_gap_or_beyond_the_rows() -> None:
    row_time_s = np.array([0.0, 1, 2, 3, 30, 31, 32, 33])
    row_xy_m = np.column_stack([row_time_s, -row_time_s]) ** 2 * 1e-6
    time_s = np.array([0.2, 1.5, 2.8, 31.5])
    linear, quality = interpolate(time_s, row_time_s, row_xy_m)
    found, same = interpolate(time_s, row_time_s, row_xy_m, method="average", half_s=0.5)
    assert same.tolist() == quality.tolist()
    np.testing.assert_allclose(found[[0, 2]], linear[[0, 2]])
    np.testing.assert_allclose(found[1], linear[1])
    points_only, _ = interpolate(time_s, row_time_s, row_xy_m, method="average", half_s=0.0)
    np.testing.assert_array_equal(points_only, linear)
