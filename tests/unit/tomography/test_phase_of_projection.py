import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.tomography import PhaseError, projection_phase
from streamptycho.tomography.phase import reliable_area

ROWS, COLUMNS = np.mgrid[:150, :150]


def ellipse(a, b, depth_rad, middle=(75, 75)):
    return -depth_rad * np.sqrt(np.clip(1 - ((COLUMNS - middle[1]) / a) ** 2 - ((ROWS - middle[0]) / b) ** 2, 0, None))


def measured(sample, noise_rad=0.05, ramp=(0.05, -0.08), seed=0):
    rng = np.random.default_rng(seed)
    edge = np.minimum(np.minimum(ROWS, 149 - ROWS), np.minimum(COLUMNS, 149 - COLUMNS))
    coverage = np.clip((edge - 5) / 10, 0, 1)
    phase = sample + noise_rad * rng.standard_normal(sample.shape) + ramp[0] * ROWS + ramp[1] * COLUMNS + 2.0
    garbage = np.exp(1j * rng.uniform(-3, 3, sample.shape))
    return np.where(coverage > 0.3, 0.7 * np.exp(1j * phase), garbage).astype(np.complex64), coverage


SAMPLES = {
    "4 pi": ellipse(45, 50, 4 * np.pi),
    "pillar through the view": ellipse(40, 1e4, 6),
    "pillar with 5 px of air": ellipse(59, 1e4, 8),
    "pillar out of the view on one side": ellipse(45, 1e4, 8, (75, 100)),
    "two spheres": ellipse(20, 20, 5, (55, 50)) + ellipse(25, 25, 6, (90, 95)),
    "sharp block": np.where((abs(COLUMNS - 75) < 35) & (abs(ROWS - 75) < 30), -2.0, 0.0),
    "weak": ellipse(45, 50, 0.1),
    "nothing": ellipse(45, 50, 0.0),
}


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("noise_rad", [0.0, 0.1])
def test_phase_is_that_of_the_sample(name, noise_rad):
    sample = SAMPLES[name]
    result = projection_phase(*measured(sample, noise_rad))
    sure = result.weight == 1
    assert np.count_nonzero(sure) > 0.5 * sample.size
    error = (result.phase_rad - sample)[sure]
    assert abs(error.mean()) < 0.03
    assert error.std() < noise_rad + 0.02
    assert np.median(result.magnitude[sure]) == pytest.approx(1.0, abs=0.02)
    assert result.residues == 0
    assert result.noise_rad == pytest.approx(noise_rad, abs=0.015)
    assert np.isfinite(result.phase_rad).all()
    assert not result.phase_rad[result.weight == 0].any()


def test_steep_ramp_is_removed_and_reported():
    sample = ellipse(45, 50, 6)
    result = projection_phase(*measured(sample, ramp=(2.0, -1.5)))
    assert result.ramp_rad_per_px == pytest.approx((2.0, -1.5), abs=2e-4)
    assert (result.phase_rad - sample)[result.weight == 1].std() < 0.06


def test_air_may_be_given():
    sample = ellipse(300, 300, 5, (75, 180)) + ellipse(20, 20, 4, (40, 40))
    air = (ROWS > 30) & (ROWS < 120) & (COLUMNS > 16) & (COLUMNS < 19)
    sample[air] = 0
    given = projection_phase(*measured(sample, 0.0), air=air)
    assert abs(given.phase_rad[air]).max() < 0.02


def test_without_unwrapping_the_phase_stays_within_a_turn():
    sample = ellipse(45, 50, 4 * np.pi)
    result = projection_phase(*measured(sample, 0.0), unwrap=False)
    assert result.phase_rad.min() >= -3.15
    np.testing.assert_allclose(
        np.exp(1j * result.phase_rad[60:90, 60:90]), np.exp(1j * sample[60:90, 60:90]), atol=0.03
    )


def test_vortices_are_counted():
    spiral = np.angle((COLUMNS - 70.5) + 1j * (ROWS - 60.5))
    assert projection_phase(*measured(spiral, 0.0, ramp=(0, 0))).residues == 1


def test_reliable_area_ends_where_the_scan_does():
    coverage = np.zeros((80, 80))
    for row in range(20, 60, 2):
        for column in range(20, 60, 2):
            coverage[row - 6 : row + 7, column - 6 : column + 7] += 1
    coverage[2, 2] = 60
    coverage[40, 40] = 0
    area = reliable_area(coverage)
    rows, columns = np.nonzero(area)
    assert max(abs(rows.min() - 20), abs(rows.max() - 58), abs(columns.min() - 20)) <= 4
    assert area[40, 40]
    assert not area[2, 2]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda o, c: (o, c[1:]), "shape"),
        (lambda o, c: (np.where(ROWS == 70, np.nan, o), c), "not finite"),
        (lambda o, c: (o, np.full_like(c, np.inf)), "coverage"),
        (lambda o, c: (o, np.zeros_like(c)), "well lit"),
        (lambda o, c: (o, np.where(ROWS == 70, c, 0)), "1 x "),
        (lambda o, c: (np.zeros_like(o), c), "zero"),
    ],
)
def test_what_has_no_phase_says_why(change, text):
    with pytest.raises(PhaseError, match=text):
        projection_phase(*change(*measured(SAMPLES["weak"])))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.integers(3, 40), st.integers(3, 40))
def test_noise_gives_numbers_or_a_reason(seed, height, width):
    rng = np.random.default_rng(seed)
    wild = rng.standard_normal((height, width)) + 1j * rng.standard_normal((height, width))
    try:
        result = projection_phase(wild.astype(np.complex64), rng.uniform(0, 1, (height, width)))
    except PhaseError:
        return
    assert np.isfinite(result.phase_rad).all()
    assert np.isfinite(result.magnitude).all()
    assert np.isfinite(result.noise_rad)
