import types

import numpy as np
import pytest
from skimage.transform import iradon

from streamptycho.config import TomographyConfig
from streamptycho.tomography import (
    TomopyMissingError,
    aggregator,
    filtered_back_projection,
    gridrec,
    tomopy_available,
)
from streamptycho.tomography.gridrec import GridrecError, _gridrec_with
from tests.unit.tomography.phantom import line_integrals

HALF_WAY = 0.54


def fake_recon(tomo, theta, center, num_gridx, num_gridy, filter_par, **options):
    """Filtered back-projection as gridrec gives it: other axes, a wrong scale that falls off outwards, no mean."""
    assert options == {"sinogram_order": False, "algorithm": "gridrec", "filter_name": "custom"}
    width = tomo.shape[2]
    assert filter_par.shape == (width // 2,)
    assert filter_par[width // 4] == pytest.approx(2 * 0.25 * HALF_WAY, rel=0.01)
    first = int(center) - num_gridx // 2
    rows = tomo[:, :, first : first + num_gridx]
    assert np.abs(np.delete(tomo, slice(first, first + num_gridx), axis=2)).max() == 0
    slices = np.array([iradon(rows[:, z].T, np.degrees(theta), filter_name="hamming") for z in range(tomo.shape[1])])
    assert slices.shape[1:] == (num_gridy, num_gridx)
    axis = np.arange(num_gridx) / num_gridx - 0.5
    slices *= 1.1 + 0.5 * (axis**2 + axis[:, None] ** 2)
    slices -= 2e-5 * rows.sum(axis=(0, 2))[:, None, None] / len(theta)
    return slices[:, ::-1].transpose(0, 2, 1)


def test_axes_become_ours_whatever_those_of_the_library_are():
    angles = np.arange(0, 180, 4.0)
    stack = np.array([line_integrals(angle, (80, 72)) for angle in angles], np.float32)[:, 44:48]
    theirs = _gridrec_with(types.SimpleNamespace(recon=fake_recon), stack, angles, "hamming")
    ours = filtered_back_projection(stack, angles, "hamming")
    assert theirs.shape == ours.shape
    inner = (slice(None), slice(14, 58), slice(14, 58))
    assert np.corrcoef(theirs[inner].ravel(), ours[inner].ravel())[0, 1] > 0.99
    assert np.corrcoef(theirs[inner][..., ::-1].ravel(), ours[inner].ravel())[0, 1] < 0.95
    gain, level = np.polyfit(theirs[inner].ravel(), ours[inner].ravel(), 1)
    assert gain == pytest.approx(1, abs=0.02)
    assert level == pytest.approx(0, abs=0.02 * float(ours.max()))


def test_library_that_gives_something_else_is_refused():
    def noise(tomo, *_args, num_gridx, num_gridy, **_options):
        return np.random.default_rng(0).standard_normal((tomo.shape[1], num_gridy, num_gridx))

    with pytest.raises(GridrecError, match="known sample"):
        _gridrec_with(types.SimpleNamespace(recon=noise), np.zeros((3, 2, 16)), np.arange(3), "hamming")


def test_missing_tomopy_says_where_to_get_it():
    if tomopy_available():
        pytest.skip("tomopy is installed here")
    with pytest.raises(TomopyMissingError, match="conda-forge"):
        gridrec(np.zeros((3, 2, 16)), np.arange(3))


def test_a_run_that_wants_gridrec_without_tomopy_ends_before_it_begins():
    if tomopy_available():
        pytest.skip("tomopy is installed here")
    with pytest.raises(TomopyMissingError, match="final_volume: fbp"):
        aggregator("s", TomographyConfig(final_volume="gridrec"))


@pytest.fixture
def tomopy():
    return pytest.importorskip("tomopy", reason="tomopy is on conda-forge only")


@pytest.mark.usefixtures("tomopy")
def test_gridrec_equals_the_built_in():
    angles = np.arange(0, 180, 2.0)
    stack = np.array([line_integrals(angle, (80, 72)) for angle in angles], np.float32)
    theirs, ours = gridrec(stack, angles), filtered_back_projection(stack, angles)
    inner = (slice(None), slice(14, 58), slice(14, 58))
    assert np.corrcoef(theirs[inner].ravel(), ours[inner].ravel())[0, 1] > 0.98
    assert np.polyfit(theirs[inner].ravel(), ours[inner].ravel(), 1)[0] == pytest.approx(1, abs=0.02)


@pytest.mark.usefixtures("tomopy")
@pytest.mark.parametrize("side", [128, 150])
@pytest.mark.parametrize("filter_name", ["hamming", "ram-lak"])
def test_gridrec_of_uneven_angles_is_quantitative(side, filter_name):
    angles = np.concatenate([np.arange(0, 90, 1.0), np.arange(90, 180, 0.5)])
    s, radius = np.arange(side) - side // 2, 0.3 * side
    middle = 9 * np.cos(np.radians(angles)) - 6 * np.sin(np.radians(angles))
    chords = 2 * np.sqrt(np.maximum(radius**2 - (s - middle[:, None]) ** 2, 0))
    volume = gridrec(chords[:, None].repeat(3, axis=1).astype(np.float32), angles, filter_name)
    distance = np.hypot(s - 9, s[:, None] + 6)
    assert volume[:, distance < radius - 5].mean() == pytest.approx(1, abs=0.005)
    around = (distance > radius + 5) & (np.hypot(s, s[:, None]) < side // 2 - 3)
    assert volume[:, around].mean() == pytest.approx(0, abs=0.005)
