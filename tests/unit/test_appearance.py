"""Colours, contrast and the part that is shown, which the page and the pictures of results share."""

import numpy as np
import pytest
from skimage.color import rgb2lab

from streamptycho.appearance import complex_to_rgb, lit_part, robust_range, without_slope


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
