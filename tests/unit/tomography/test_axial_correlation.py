"""Agreement of two halves of a tomogram: what the angles hide, and what is known of a phantom."""

import numpy as np
import pytest
import scipy.ndimage

from streamptycho.resolution import ResolutionError, fourier_correlation, resolution_m
from streamptycho.tomography.axial_correlation import axial_correlation, soft_cylinder
from streamptycho.tomography.back_projector import project
from streamptycho.tomography.backprojection import IncrementalBackProjection
from streamptycho.tomography.half_volumes import half_volume_correlation

ROWS, SIDE, WIDTH = 48, 64, 40.0
# Correlation with the truth where two halves of the data would meet the 1/2-bit threshold.
OF_THE_WHOLE = 0.541


def grains(blur):
    rng = np.random.default_rng(1)
    z, y, x = np.ogrid[:ROWS, :SIDE, :SIDE]
    z, y, x = z - ROWS // 2, y - SIDE // 2, x - SIDE // 2
    inside = (x**2 + y**2 < (WIDTH / 2) ** 2) & (np.abs(z) < 0.38 * ROWS)
    volume = inside.astype(np.float32)
    for _ in range(150):
        cx, cy = rng.uniform(-0.45, 0.45, 2) * WIDTH
        cz, radius = rng.uniform(-0.36, 0.36) * ROWS, rng.uniform(1.0, 0.09 * WIDTH)
        volume[(z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 < radius**2] = rng.uniform(0.2, 1.5)
    return scipy.ndimage.gaussian_filter(volume * inside, blur)


def tomogram(volume, angles_deg, noise, pattern=0.0):
    mass = project(np.ascontiguousarray(volume.transpose(1, 2, 0)), angles_deg).transpose(0, 2, 1)
    mass = mass + noise * np.random.default_rng(0).standard_normal(mass.shape)
    mass = mass + pattern * np.random.default_rng(5).standard_normal(mass.shape[1:])
    sums = IncrementalBackProjection((ROWS, SIDE), "hamming")
    for key, (angle, image) in enumerate(zip(angles_deg, mass, strict=True)):
        sums.add(key, float(angle), image.astype(np.float32))
    return sums


def halves(sums, angles_deg):
    return half_volume_correlation(sums, range(len(angles_deg)), np.asarray(angles_deg), WIDTH, WIDTH / 2)


@pytest.mark.parametrize(("blur", "noise"), [(0.7, 0.3), (0.7, 1.5), (2.0, 0.3), (2.0, 1.5)])
def test_halves_say_what_the_truth_says(blur, noise):
    angles_deg = np.arange(120) * 1.5
    volume = grains(blur)
    sums = tomogram(volume, angles_deg, noise)
    found = halves(sums, angles_deg)
    truth = axial_correlation(sums.region(slice(None), slice(None), slice(None)), volume, WIDTH / 2)
    for said, known in ((found.across, truth.across), (found.along, truth.along)):
        against_truth = resolution_m(known, 1.0, np.full(known.frequency.shape, OF_THE_WHOLE))
        assert resolution_m(said, 1.0) == pytest.approx(against_truth, rel=0.2)


def test_few_angles_of_a_part_of_the_half_turn_agree_on_nothing_fine():
    angles_deg = np.arange(12) * 5.0
    sums = tomogram(grains(0.7), angles_deg, 0.0)
    found = halves(sums, angles_deg)
    first, second = (sums.region(slice(None), slice(None), slice(None), range(start, 12, 2)) for start in (0, 1))
    whole_shells = resolution_m(fourier_correlation(first, second, flat=0.7), 1.0)
    across = resolution_m(found.across, 1.0)
    angular_step_px = 0.5 * WIDTH * np.radians(5.0)
    assert whole_shells < angular_step_px
    assert across > 1.2 * angular_step_px


def test_unmeasured_frequencies_do_not_count_as_independent():
    angles_deg = np.arange(12) * 5.0
    found = halves(tomogram(grains(0.7), angles_deg, 0.0), angles_deg)
    everything = axial_correlation(np.ones((ROWS, SIDE, SIDE)), np.ones((ROWS, SIDE, SIDE)), WIDTH / 2).across
    share = found.across.independent / everything.independent
    assert share[0] == pytest.approx(60 / 180)
    assert share[-1] == pytest.approx(60 / 180 / (0.5 * np.radians(10.0) * WIDTH))
    assert (found.across.half_bit() >= everything.half_bit()).all()


def test_what_is_wrong_with_all_projections_alike_is_no_agreement():
    """Rings of a fixed pattern are in both halves: the whole shells take them for details of the sample."""
    angles_deg = np.arange(120) * 1.5
    clean, dirty = (tomogram(grains(2.0), angles_deg, 0.3, pattern) for pattern in (0.0, 0.1))
    expected = resolution_m(halves(clean, angles_deg).across, 1.0)
    assert resolution_m(halves(dirty, angles_deg).across, 1.0) == pytest.approx(expected, rel=0.1)
    fine = slice(15, None)
    first, second = (dirty.region(slice(None), slice(None), slice(None), range(start, 120, 2)) for start in (0, 1))
    found = halves(dirty, angles_deg).across.correlation[fine].mean()
    assert found < 0.5 * fourier_correlation(first, second, flat=0.7).correlation[fine].mean()


def test_equal_volumes_agree_and_noise_does_not():
    rng = np.random.default_rng(2)
    first, second = rng.standard_normal((2, ROWS, SIDE, SIDE))
    same = axial_correlation(first, first, 20.0)
    np.testing.assert_allclose(same.across.correlation, 1.0, atol=1e-5)
    np.testing.assert_allclose(same.along.correlation[1:], 1.0, atol=1e-5)
    other = axial_correlation(first, second, 20.0)
    assert np.abs(other.across.correlation[8:]).max() < 0.15
    assert resolution_m(other.across, 1.0) is None


def test_the_cylinder_holds_the_sample_and_ends_inside_of_the_volume():
    window = soft_cylinder((ROWS, SIDE), 18.0)
    middle = window[ROWS // 2]
    assert middle[SIDE // 2, SIDE // 2 + 18] == 1.0
    assert middle[SIDE // 2, -1] == middle[0, 0] == 0.0
    assert window[0].max() < 0.05
    assert soft_cylinder((ROWS, SIDE), 500.0)[ROWS // 2, SIDE // 2, 1] < 0.1


@pytest.mark.parametrize("shapes", [((16, 16, 16), (16, 16, 15)), ((4, 16, 16),) * 2, ((16, 16, 12),) * 2])
def test_volumes_that_cannot_be_compared(shapes):
    with pytest.raises(ResolutionError, match="one shape"):
        axial_correlation(*(np.ones(shape) for shape in shapes), 5.0)
    with pytest.raises(ResolutionError, match="not finite"):
        axial_correlation(np.ones((16, 16, 16)), np.full((16, 16, 16), np.nan), 5.0)
