import numpy as np
import pytest

from streamptycho.tomography.alignment import center_of_mass_px, profile_shift_px, sample_mass
from streamptycho.tomography.frame import Extent, Frame
from tests.unit.tomography.phantom import center_of_mass_xyz, line_integrals

EVERYWHERE = np.ones(90, bool)


def profile(shift_px, angle_deg=0.0, noise=0.0):
    rng = np.random.default_rng(3)
    return line_integrals(angle_deg, (90, 80), middle_px=45 + shift_px).sum(axis=1) + noise * rng.standard_normal(90)


@pytest.mark.parametrize("shift_px", [0.0, 0.3, -2.7, 11.45, -20.0])
def test_profile_shift_is_found_between_angles(shift_px):
    found = profile_shift_px(profile(shift_px, 70.0, 0.05), EVERYWHERE, profile(0.0), EVERYWHERE)
    assert found == pytest.approx(-shift_px, abs=0.05)


def test_profile_shift_ignores_a_residual_ramp():
    found = profile_shift_px(profile(2.5) + 0.05 * np.arange(90) + 3, EVERYWHERE, profile(0.0), EVERYWHERE)
    assert found == pytest.approx(-2.5, abs=0.05)


def test_profile_shift_compares_only_rows_seen_by_both():
    valid = np.arange(90) > 20
    found = profile_shift_px(np.where(valid, profile(3.0), 0), valid, profile(0.0), np.arange(90) < 80)
    assert found == pytest.approx(-3.0, abs=0.1)


def test_profile_without_structure_or_likeness_gives_none():
    flat = np.ones(90)
    assert profile_shift_px(np.zeros(90), EVERYWHERE, profile(0), EVERYWHERE) is None
    assert profile_shift_px(profile(0), EVERYWHERE, flat, EVERYWHERE) is None
    assert profile_shift_px(profile(0), ~EVERYWHERE, profile(0), EVERYWHERE) is None
    assert profile_shift_px(-profile(0), EVERYWHERE, profile(0), EVERYWHERE) is None


@pytest.mark.parametrize("angle_deg", [0.0, 40.0, 90.0, 133.0])
def test_center_of_mass_moves_on_a_sinusoid(angle_deg):
    x, y, _ = center_of_mass_xyz()
    expected = 41.3 + x * np.cos(np.radians(angle_deg)) + y * np.sin(np.radians(angle_deg))
    noise = 0.1 * np.random.default_rng(0).standard_normal((90, 80))
    ramp = 2e-4 * (np.arange(80) - 40)
    phase = -10 * line_integrals(angle_deg, (90, 80), axis_px=41.3) + noise + ramp
    mass = sample_mass(phase, np.ones((90, 80)), 0.1)
    assert center_of_mass_px(mass) == pytest.approx(expected, abs=0.15)


def test_empty_projection_has_no_center():
    noise = 0.05 * np.random.default_rng(0).standard_normal((90, 80))
    assert center_of_mass_px(sample_mass(noise, np.ones((90, 80)), 0.05)) is None
    assert center_of_mass_px(sample_mass(np.zeros((9, 8)), np.ones((9, 8)), 0.0)) is None


def test_frame_places_what_lies_on_the_stage_in_the_middle():
    extent = Extent((1e-6, 3e-6), (-2e-6, 2e-6))
    frame = Frame.around(extent, 1e-7, None, None, None)
    assert frame.holds(extent)
    assert frame.offset_px(np.array(frame.center_xy_m)) == (frame.shape[0] // 2, frame.shape[1] // 2)
    assert not frame.holds(Extent((1e-6, 4e-6), (-2e-6, 2e-6)))
    spot = np.zeros((21, 21))
    spot[10, 10] = 1
    placed = frame.place(spot, frame.offset_px(np.array([1e-6, -1e-6])))
    assert np.unravel_index(placed.argmax(), placed.shape) == (frame.shape[0] // 2, frame.shape[1] // 2)
    assert placed.sum() == pytest.approx(1, abs=1e-3)


def test_frame_keeps_the_axis_and_the_configured_size():
    frame = Frame.around(Extent((-1e-6, 3e-6), (0.0, 1e-6)), 1e-7, 64, 32, 0.0)
    assert frame.shape == (32, 64)
    assert frame.offset_px(np.zeros(2))[1] == 32
