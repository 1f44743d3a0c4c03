"""Colours, contrast and the part that is shown, which the page and the pictures of results share."""

import numpy as np
import pytest
from skimage.color import rgb2lab

from streamptycho.appearance import (
    complex_to_rgb,
    lit_part,
    relative_to_air,
    robust_range,
    shown_phase,
    without_slope,
)


def test_range_is_robust_and_never_empty() -> None:
    values = np.append(np.linspace(0, 1, 1000), [1e9, np.nan, np.inf])
    lo, hi = robust_range(values)
    assert lo == pytest.approx(0.005, abs=2e-3)
    assert hi < 1.01
    lo, hi = robust_range(np.full(5, 3.0))
    assert hi > lo
    assert robust_range(np.array([np.nan])) is None


def test_hue_tells_phases_apart_and_brightness_amplitudes() -> None:
    rgb = complex_to_rgb(np.array([[1, -1, 0.5, 0, np.nan]], complex))[0].astype(int)
    assert np.abs(rgb[0] - rgb[1]).sum() > 60
    assert np.allclose(rgb[2], rgb[0] / 2, atol=1)
    assert not rgb[3:].any()


def test_no_phase_looks_stronger_than_another() -> None:
    rgb = complex_to_rgb(np.exp(1j * np.linspace(-3, 3, 50))[None, :])
    assert np.ptp(rgb2lab(rgb)[..., 0]) < 6
    assert np.ptp(rgb[0].astype(int), axis=0).sum() > 255


def test_a_dark_field_is_black_and_a_dark_object_is_not_shown() -> None:
    assert not complex_to_rgb(np.zeros((3, 4), complex)).any()
    assert lit_part(np.ones((8, 8), complex), np.zeros((8, 8))) is None
    assert lit_part(np.full((8, 8), np.nan, complex), np.ones((8, 8))) is None


def test_the_window_holds_what_was_lit_and_contrast_comes_from_where_it_was_well_lit() -> None:
    coverage = np.zeros((20, 30))
    coverage[4:12, 5:25] = 1.0
    coverage[4:12, 5:8] = 0.1
    coverage[15, 28] = 0.001
    part = lit_part(np.ones((20, 30), complex), coverage)
    assert part is not None
    assert part.window == np.s_[4:12, 5:25]
    assert part.lit.all()
    assert not part.well_lit[:, :3].any()
    assert part.well_lit[:, 3:].all()


def test_offset_and_slope_go_and_the_sample_stays() -> None:
    y, x = np.indices((200, 300))
    disc = np.hypot(y - 60, x - 90) < 35
    flat = np.angle(without_slope(np.exp(1j * (-0.5 * disc + 0.05 * x - 0.03 * y + 2.0)), np.ones(disc.shape, bool)))
    assert flat[disc].mean() - flat[~disc].mean() == pytest.approx(-0.5, abs=0.02)
    assert flat[~disc].std() < 0.02


def noisy(wave: np.ndarray, seed: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return wave + 0.03 * (rng.normal(size=wave.shape) + 1j * rng.normal(size=wave.shape))


def samples() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Phase shifts (h, w) of samples, and where air is."""
    y, x = np.mgrid[-1:1:180j, -1:1:220j]
    radius, spokes = np.hypot(x, y), np.sin(36 * np.arctan2(y, x)) > 0.15
    pillar = -2.6 * np.sqrt(np.clip(1 - (x / 0.6) ** 2, 0, None))
    thick = -11.0 * np.sqrt(np.clip(1 - (radius / 0.7) ** 2, 0, None))
    weak = np.where(np.maximum(np.abs(x), np.abs(y)) < 0.75, -0.12, 0.0)
    return {
        "disc": (np.where(radius < 0.5, -0.8, 0.0), radius >= 0.5),
        "pillar": (pillar, np.abs(x) > 0.6),
        "thick": (thick, radius > 0.7),
        "star to the edge": (np.where(spokes, -1.0, 0.0), ~spokes),
        "weak": (weak, weak == 0),
    }


@pytest.mark.parametrize("name", samples())
def test_air_is_one_whatever_the_sample(name: str) -> None:
    shift, air = samples()[name]
    y, x = np.indices(shift.shape)
    wave = 3.0 * np.exp(0.1 * shift) * np.exp(1j * (shift + 1.9 + 0.03 * x - 0.02 * y))
    field = relative_to_air(noisy(wave), np.ones(shift.shape, bool))
    assert np.angle(field[air].mean()) == pytest.approx(0.0, abs=0.04)
    assert np.median(np.abs(field[air])) == pytest.approx(1.0, abs=0.02)
    assert np.abs(np.angle(field * np.exp(-1j * shift))).mean() < 0.06


def test_dark_or_tiny_objects_have_no_air_and_no_error() -> None:
    for patch in (np.zeros((6, 7), complex), np.ones((1, 1), complex), np.ones((2, 3), complex)):
        field = relative_to_air(patch, np.ones(patch.shape, bool))
        assert np.isfinite(field).all()
        assert np.isfinite(shown_phase(field, np.ones(patch.shape, bool))[0]).all()
    assert np.isfinite(relative_to_air(np.ones((5, 5), complex), np.zeros((5, 5), bool))).all()


def test_phase_is_cut_where_no_value_is() -> None:
    everywhere = np.ones((40, 40), bool)
    ramp = np.linspace(-4.5, 0.2, 1600).reshape(40, 40)
    phase, wraps = shown_phase(np.exp(1j * ramp), everywhere)
    assert not wraps
    assert np.allclose(phase, ramp, atol=1e-6)
    assert shown_phase(np.exp(2j * ramp), everywhere)[1]
