import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.tomography.angular_weights import angular_weights, total_to_pi
from streamptycho.tomography.filtering import FilterError, filter_rows, frequency_response


def test_ramp_follows_frequency_and_keeps_the_mean_of_the_kernel():
    response = frequency_response(512, "ram-lak")
    frequency = np.fft.rfftfreq(512)
    np.testing.assert_allclose(response[10:], frequency[10:], atol=2e-3)
    assert 0 < response[0] < 1 / 512


def test_hamming_ends_at_eight_hundredths_of_the_ramp():
    ratio = frequency_response(256, "hamming") / frequency_response(256, "ram-lak")
    assert ratio[0] == pytest.approx(1.0)
    assert ratio[-1] == pytest.approx(0.08)


@pytest.mark.parametrize(("name", "last"), [("hann", 0.0), ("shepp-logan", 2 / np.pi)])
def test_other_filters_end_where_their_window_does(name, last):
    ratio = frequency_response(256, name) / frequency_response(256, "ram-lak")
    assert ratio[0] == pytest.approx(1.0)
    assert ratio[-1] == pytest.approx(last, abs=1e-9)
    assert (np.diff(ratio) < 0).all()


def test_unknown_filter_lists_the_known():
    with pytest.raises(FilterError, match="hamming, ram-lak"):
        frequency_response(8, "parzen")


def test_filtering_is_the_convolution_with_the_kernel_without_wrap_around():
    row = np.zeros((1, 33))
    row[0, 2] = 1.0
    n = np.arange(33) - 2
    kernel = np.zeros(33)
    kernel[n % 2 == 1] = -1 / (np.pi * n[n % 2 == 1]) ** 2
    kernel[2] = 0.25
    np.testing.assert_allclose(filter_rows(row, "ram-lak")[0], kernel, atol=1e-6)


@pytest.mark.parametrize("angles", [np.arange(0, 180, 6.0), np.arange(-90, 90, 6.0), [0, 90, 45, 135], [7.0]])
def test_even_steps_weigh_the_same(angles):
    np.testing.assert_allclose(angular_weights(angles), np.pi / len(angles))


def test_opposite_projections_share_their_weight():
    weights = angular_weights(np.arange(0, 181, 6.0))
    np.testing.assert_allclose(weights[1:-1], np.radians(6))
    np.testing.assert_allclose(weights[[0, -1]], np.radians(3))


def test_dense_half_counts_no_more_than_the_sparse():
    weights = angular_weights(np.concatenate([np.arange(0, 90, 1.0), np.arange(90, 180, 3.0)]))
    assert weights[:90].sum() == pytest.approx(weights[90:].sum(), rel=0.03)


def test_borders_of_a_wedge_not_measured_count_as_one_step():
    weights = angular_weights(np.arange(0, 90, 2.0))
    np.testing.assert_allclose(weights, np.radians(2))
    assert total_to_pi(weights) == pytest.approx(2.0)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-720, 720), min_size=1, max_size=30))
def test_weights_are_finite_and_can_be_normalised(angles):
    weights = angular_weights(np.array(angles))
    assert np.isfinite(weights).all()
    assert (weights >= 0).all()
    assert (weights * total_to_pi(weights)).sum() == pytest.approx(np.pi)
