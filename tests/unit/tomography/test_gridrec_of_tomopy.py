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


def fake_recon(tomo, theta, center, sinogram_order, algorithm, filter_name):
    assert (algorithm, sinogram_order, center) == ("gridrec", False, tomo.shape[2] // 2)
    names = {"hamming": "hamming", "ramlak": "ramp"}
    slices = [iradon(tomo[:, z].T, np.degrees(theta), filter_name=names[filter_name]) for z in range(tomo.shape[1])]
    return np.array(slices)[:, ::-1].transpose(0, 2, 1)


def test_axes_become_ours_whatever_those_of_the_library_are():
    angles = np.arange(0, 180, 4.0)
    stack = np.array([line_integrals(angle, (80, 72)) for angle in angles], np.float32)[:, 44:48]
    theirs = _gridrec_with(types.SimpleNamespace(recon=fake_recon), stack, angles, "hamming")
    ours = filtered_back_projection(stack, angles, "hamming")
    assert theirs.shape == ours.shape
    inner = (slice(None), slice(14, 58), slice(14, 58))
    assert np.corrcoef(theirs[inner].ravel(), ours[inner].ravel())[0, 1] > 0.99
    assert np.corrcoef(theirs[inner][..., ::-1].ravel(), ours[inner].ravel())[0, 1] < 0.95


def test_library_that_gives_something_else_is_refused():
    def noise(tomo, *_args, **_options):
        return np.random.default_rng(0).standard_normal((tomo.shape[1], tomo.shape[2], tomo.shape[2]))

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


def test_gridrec_equals_the_built_in():
    pytest.importorskip("tomopy", reason="tomopy is on conda-forge only")
    angles = np.arange(0, 180, 2.0)
    stack = np.array([line_integrals(angle, (80, 72)) for angle in angles], np.float32)
    theirs, ours = gridrec(stack, angles), filtered_back_projection(stack, angles)
    inner = (slice(None), slice(14, 58), slice(14, 58))
    assert np.corrcoef(theirs[inner].ravel(), ours[inner].ravel())[0, 1] > 0.98
    assert np.polyfit(theirs[inner].ravel(), ours[inner].ravel(), 1)[0] == pytest.approx(1, abs=0.05)
