import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.resolution import (
    CorrelationCurve,
    ResolutionError,
    fourier_correlation,
    half_image_correlation,
    registered,
    resolution_m,
    without_ramp,
)


def noise(shape, seed):
    random = np.random.default_rng(seed)
    return random.normal(size=shape) + 1j * random.normal(size=shape)


def blurred(image, cutoff):
    """Keep frequencies up to a fraction of Nyquist."""
    axes = np.meshgrid(*[np.fft.fftfreq(size) * 2 for size in image.shape], indexing="ij")
    return np.fft.ifftn(np.fft.fftn(image) * (np.sqrt(sum(a**2 for a in axes)) < cutoff))


@pytest.mark.parametrize("shape", [(64, 64), (64, 50), (32, 32, 32)])
def test_equal_arrays_correlate_and_independent_ones_do_not(shape):
    image = noise(shape, 0)
    equal = fourier_correlation(image, image)
    np.testing.assert_allclose(equal.correlation, 1)
    assert resolution_m(equal, 7e-9) == 7e-9
    other = fourier_correlation(image, noise(shape, 1))
    assert np.abs(other.correlation[4:]).max() < 0.35
    assert resolution_m(other, 7e-9) is None
    assert equal.frequency[-1] == pytest.approx(1)


@pytest.mark.parametrize("shape", [(128, 128), (48, 48, 48)])
@pytest.mark.parametrize("cutoff", [0.3, 0.6])
def test_the_common_band_is_the_resolution(shape, cutoff):
    signal = 3 * blurred(noise(shape, 0), cutoff)
    curve = fourier_correlation(signal + noise(shape, 1), signal + noise(shape, 2))
    two_rings = 4 / shape[0]
    assert 1e-8 / resolution_m(curve, 1e-8) == pytest.approx(cutoff, abs=two_rings)
    assert 1e-8 / resolution_m(curve, 1e-8, curve.one_seventh()) == pytest.approx(cutoff, abs=two_rings)


def test_half_bit_threshold_tends_to_its_published_limits():
    curve = CorrelationCurve(np.array([0.1, 0.5, 1.0]), np.ones(3), np.array([1e-3, 100.0, 1e12]))
    threshold = curve.half_bit()
    assert threshold[0] == 1
    assert threshold[1] == pytest.approx((0.2071 + 0.19102) / (1.2071 + 0.09102))
    assert threshold[2] == pytest.approx(0.1716, abs=1e-4)


def test_real_arrays_have_half_the_coefficients():
    image = noise((32, 32), 0)
    complex_curve, real_curve = fourier_correlation(image, image), fourier_correlation(image.real, image.real)
    np.testing.assert_allclose(real_curve.independent * 2, complex_curve.independent)


def test_crossing_is_interpolated():
    frequency = np.linspace(0.1, 1, 10)
    curve = CorrelationCurve(frequency, np.array([1, 1, 1, 1, 0.5, 0.0, 0, 0, 0, 0]), np.full(10, 1e9))
    assert resolution_m(curve, 1.0, np.full(10, 0.25)) == pytest.approx(1 / 0.55)


def test_ramp_and_offset_are_removed():
    reference = 1 + 0.2 * noise((40, 50), 0)
    rows, columns = np.arange(40)[:, None], np.arange(50)[None, :]
    tilted = reference * np.exp(1j * (0.7 + 0.05 * rows - 0.11 * columns))
    np.testing.assert_allclose(without_ramp(tilted, reference), reference, atol=1e-9)


@settings(deadline=None, max_examples=25)
@given(st.floats(-6, 6), st.floats(-6, 6))
def test_registration_finds_any_shift(down, right):
    image = blurred(noise((64, 64), 3), 0.5)
    v = np.fft.fftfreq(64)
    ramp = np.exp(-2j * np.pi * (v[:, None] * down + v[None, :] * right))
    moved = np.fft.ifft2(np.fft.fft2(image) * ramp)
    difference = np.abs(registered(moved, image) - image)[16:-16, 16:-16]
    assert difference.max() < 0.1 * np.abs(image).max()


def test_halves_are_aligned_before_they_are_compared():
    image = 1 + 0.3 * blurred(noise((96, 96), 0), 0.4) * 4
    v = np.fft.fftfreq(96)
    moved = np.fft.ifft2(np.fft.fft2(image) * np.exp(-2j * np.pi * (v[:, None] * 0.4 + v[None, :] * 1.3)))
    tilted = moved * np.exp(1j * (0.3 + 0.02 * np.arange(96)[:, None]))
    weak = 0.02
    curve = half_image_correlation(image + weak * noise((96, 96), 1), tilted + weak * noise((96, 96), 2))
    assert resolution_m(curve, 1e-8) == pytest.approx(2.5e-8, rel=0.15)
    assert resolution_m(half_image_correlation(noise((96, 96), 1), noise((96, 96), 2)), 1e-8) is None
    assert half_image_correlation(image[:9, :9], image[:9, :9]) is None


def test_the_columns_of_a_curve_are_in_full_periods_per_metre():
    image = 1 + blurred(noise((64, 64), 0), 0.4)
    columns = half_image_correlation(image, image).columns(2e-8)
    assert columns["frequency_per_m"][-1] == pytest.approx(1 / (2 * 2e-8))
    assert set(map(len, columns.values())) == {32}
    assert columns["one_seventh"] == [1 / 7] * 32


def test_blank_arrays_cannot_be_judged():
    blank = np.ones((32, 32), complex)
    assert resolution_m(half_image_correlation(blank, blank), 1e-8) is None
    assert np.isfinite(fourier_correlation(blank, blank).correlation).all()


@pytest.mark.parametrize(
    "pair",
    [
        (np.ones((16, 16)), np.ones((16, 17))),
        (np.ones((4, 4)), np.ones((4, 4))),
        (np.ones(64), np.ones(64)),
        (np.full((16, 16), np.nan), np.ones((16, 16))),
    ],
)
def test_arrays_that_cannot_be_compared_are_refused(pair):
    with pytest.raises(ResolutionError):
        fourier_correlation(*pair)
