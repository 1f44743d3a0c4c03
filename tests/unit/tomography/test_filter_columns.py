"""Filtering straight into the order of the back-projection is filtering."""

import numpy as np
import pytest

from streamptycho.tomography import filtered_back_projection
from streamptycho.tomography.filter_columns import WIDEST_DIRECT_PX, filtered_columns
from streamptycho.tomography.filtering import FILTERS, filter_rows


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("width", [2, 3, 33, 64, 127, WIDEST_DIRECT_PX, WIDEST_DIRECT_PX + 1])
def test_columns_are_filtered_rows_turned(name, width):
    rng = np.random.default_rng(width)
    projections = rng.normal(size=(3, 5, width)).astype(np.float32)
    expected = filter_rows(projections, name).transpose(0, 2, 1)
    found = filtered_columns(projections, name)
    assert found.shape == (3, width, 5)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=3e-6 * np.abs(expected).max())


@pytest.mark.parametrize("width", [48, WIDEST_DIRECT_PX + 4])
def test_order_and_company_change_nothing(width):
    rng = np.random.default_rng(3)
    projections = rng.normal(size=(70, 60, width)).astype(np.float32)
    together = filtered_columns(projections, "hamming", np.arange(70)[::-1])
    for k in (0, 13, 69):
        alone = filtered_columns(projections[k : k + 1], "hamming")[0]
        np.testing.assert_array_equal(together[69 - k], alone)


def test_views_that_are_not_contiguous_are_read_right():
    rng = np.random.default_rng(4)
    whole = rng.normal(size=(4, 20, 2 * 30)).astype(np.float32)
    expected = filtered_columns(np.ascontiguousarray(whole[::2, ::-1, ::2]), "hann")
    np.testing.assert_array_equal(filtered_columns(whole[::2, ::-1, ::2], "hann"), expected)


def test_the_volume_of_one_go_has_the_depth_of_the_projections():
    rng = np.random.default_rng(5)
    angles_deg = rng.permutation(np.arange(20) * 9.0)
    projections = rng.normal(size=(20, 7, 37)).astype(np.float32)
    volume = filtered_back_projection(projections, angles_deg)
    assert volume.shape == (7, 37, 37)
    for z in (0, 6):
        alone = filtered_back_projection(projections[:, z : z + 1], angles_deg)
        np.testing.assert_allclose(volume[z], alone[0], atol=1e-5)
