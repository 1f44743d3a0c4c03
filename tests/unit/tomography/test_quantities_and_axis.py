import numpy as np
import pytest

from streamptycho.tomography import (
    RotationAxisError,
    delta_per_radian,
    electron_density_per_delta,
    quantity_per_radian,
    rotation_axis_px,
)
from tests.unit.tomography.phantom import line_integrals


def test_bone_at_6200_ev():
    # 0.62 electrons per cubic angstrom: delta = r_e wavelength^2 n_e / (2 pi), by hand.
    delta = 2.8179403205e-15 * (0.199974513e-9) ** 2 * 0.62e30 / (2 * np.pi)
    assert delta * electron_density_per_delta(6200.0) == pytest.approx(0.62, rel=1e-5)
    phase = -2 * np.pi * 65e-9 * delta / 0.199974513e-9
    assert phase * delta_per_radian(6200.0, 65e-9) == pytest.approx(delta, rel=1e-5)
    assert phase * quantity_per_radian("electron_density_per_A3", 6200.0, 65e-9) == pytest.approx(0.62, rel=1e-5)
    assert quantity_per_radian("delta", 6200.0, 65e-9) == delta_per_radian(6200.0, 65e-9)


@pytest.mark.parametrize("axis_px", [36.0, 34.25, 41.6])
@pytest.mark.parametrize("angles", [np.arange(-90, 91, 6.0), np.arange(0, 150, 6.0)])
def test_axis_is_found(axis_px, angles):
    stack = np.array([line_integrals(angle, (80, 80), axis_px=axis_px) for angle in angles])
    assert rotation_axis_px(stack, angles) == pytest.approx(axis_px, abs=0.1)


def test_axis_that_cannot_be_told_says_why():
    stack = np.array([line_integrals(angle, (20, 80)) for angle in (0.0, 0.1, 0.2)])
    with pytest.raises(RotationAxisError, match="degrees"):
        rotation_axis_px(stack, np.array([0.0, 0.1, 0.2]))
    with pytest.raises(RotationAxisError, match="mass"):
        rotation_axis_px(np.zeros((3, 4, 4)), np.array([0.0, 50.0, 90.0]))
    with pytest.raises(RotationAxisError, match="two or more"):
        rotation_axis_px(np.zeros((1, 4, 4)), np.array([0.0]))
