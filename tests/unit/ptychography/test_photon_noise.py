import numpy as np
import pytest

from streamptycho.ptychography import reconstruct
from streamptycho.ptychography.noise import amplitude_noise, photon_noise


@pytest.mark.parametrize("expected", [0.01, 0.3, 2.0, 20.0, 90.0])
def test_the_noise_of_an_amplitude_is_what_chance_makes(expected):
    counts = np.random.default_rng(0).poisson(expected, 400_000)
    found = ((np.sqrt(counts) - np.sqrt(expected)) ** 2).mean()
    assert amplitude_noise(np.array([expected]))[0] == pytest.approx(found, rel=0.02)


@pytest.mark.parametrize("photons", [1e3, 1e4, 3e5])
def test_counts_alone_tell_the_error_of_the_truth(measure, photons):
    m = measure(photons=photons)
    assert photon_noise(m.counts) == pytest.approx(m.noise_floor, rel=0.08)
    result = reconstruct(m.counts, m.xy_m, m.geometry, probe=m.probe, sweeps=2)
    assert result.noise_floor == pytest.approx(m.noise_floor, rel=0.08)


def test_gaps_do_not_count_and_darkness_has_no_noise():
    counts = np.random.default_rng(0).poisson(5, (4, 32, 32)).astype(np.uint16)
    expected = photon_noise(counts)
    counts[:, 10] = 65535
    assert photon_noise(counts) == pytest.approx(expected, rel=0.05)
    assert photon_noise(np.zeros((2, 8, 8), np.uint16)) is None
    assert photon_noise(np.full((2, 8, 8), np.nan, np.float32)) is None
