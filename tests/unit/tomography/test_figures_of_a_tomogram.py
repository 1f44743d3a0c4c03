"""Noise, motion, dose and quantities against what they must be."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streamptycho.config import TomographyConfig
from streamptycho.tomography import Aggregator, electron_density_per_delta
from streamptycho.tomography.figures import air_noise, matter_mean
from streamptycho.tomography.histogram import BINS, GrowingHistogram, histogram
from tests.unit.tomography.phantom import ENERGY_EV, PIXEL_M, object_update, volume

COUNT = 36
finite_values = st.floats(-1e6, 1e6, width=32)


def finished(config, *, count=COUNT, moves=None, magnitude=None, coverage=None):
    result = Aggregator("scan", config)
    for k in range(count):
        update = object_update(k, 180.0 * k / count, noise_rad=0.05, moved_px=(0.0, 0.0) if moves is None else moves[k])
        if magnitude is not None:
            phase = np.where(update.coverage > 15, np.angle(update.object), 0)
            thick = object_update(k, 180.0 * k / count, strength=magnitude, rng=np.random.default_rng(k))
            smooth = object_update(k, 180.0 * k / count, strength=0.0, rng=np.random.default_rng(k))
            loss = np.angle(smooth.object * thick.object.conj())
            lit = update.coverage > 15
            changed = np.where(lit, np.exp(1j * phase - np.where(lit, loss, 0)), 1)
            update = dataclasses.replace(update, object=changed.astype(np.complex64))
        if coverage is not None:
            update = dataclasses.replace(update, coverage=update.coverage / 50 * np.float32(coverage))
        assert result.add(update) == []
    return result


def test_noise_of_the_air_is_what_was_put_there():
    rng = np.random.default_rng(3)
    body = volume(128, 128)[60]
    noisy = body + 0.002 * rng.standard_normal(body.shape)
    assert air_noise([noisy]) == pytest.approx(0.002, rel=0.1)


def test_no_air_no_noise():
    assert air_noise([np.ones((64, 64))]) is None
    assert air_noise([np.zeros((10, 10))]) is None


def test_histogram_counts_every_voxel():
    counts, edges = histogram(volume(32, 64))
    assert counts.sum() == 32 * 64 * 64
    assert len(edges) == len(counts) + 1


@settings(deadline=None, max_examples=40)
@given(st.lists(arrays(np.float32, st.integers(0, 30), elements=finite_values), max_size=5))
def test_histogram_of_pieces_counts_every_value_where_it_belongs(pieces):
    growing = GrowingHistogram()
    for piece in pieces:
        growing.add(piece)
    counts, edges = growing.result()
    values = np.concatenate([np.zeros(0, np.float32), *pieces]).astype(np.float64)
    assert len(counts) <= BINS
    np.testing.assert_array_equal(counts, np.histogram(values, np.append(edges[:-1], np.inf))[0])
    if values.size:
        assert edges[0] <= values.min()
        assert values.max() < edges[-1]


def test_histogram_is_fine_enough_to_see_matter_beside_air():
    counts, edges = histogram(np.random.default_rng(0).normal(0.5, 0.1, 100_000).astype(np.float32))
    assert 64 < len(counts) <= BINS
    assert np.average(0.5 * (edges[1:] + edges[:-1]), weights=counts) == pytest.approx(0.5, abs=0.005)


def test_drift_and_jitter_are_those_of_the_sample():
    rng = np.random.default_rng(8)
    jitter = rng.normal(0, 1.0, (COUNT, 2))
    drift = np.linspace(-2, 2, COUNT)[:, None] * np.array([1.0, -0.5])
    figures = finished(TomographyConfig(quantity="delta"), moves=jitter + drift).update(final=True).figures
    order = np.linspace(-0.5, 0.5, COUNT)
    for axis, name in ((0, "along"), (1, "across")):
        moved = (jitter + drift)[:, axis]
        slope = np.polyfit(order, moved, 1)[0]
        assert figures[f"sample_jitter_{name}_rotation_axis_rms_m"] / PIXEL_M == pytest.approx(
            np.std(moved - slope * order), abs=0.15
        )
        if name == "along":
            assert figures["sample_drift_along_rotation_axis_m"] / PIXEL_M == pytest.approx(slope, abs=0.2)


def test_mass_density_is_electron_density_in_grams():
    results = {
        name: finished(TomographyConfig(quantity=name, align="none"), count=6).volume()
        for name in ("electron_density_per_A3", "mass_density_g_per_cm3")
    }
    a_over_z = TomographyConfig().a_over_z
    expected = results["electron_density_per_A3"] * a_over_z / 0.602214076
    np.testing.assert_allclose(results["mass_density_g_per_cm3"], expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("quantity", ["delta", "electron_density_per_A3", "mass_density_g_per_cm3"])
def test_density_of_matter_is_told_whatever_the_volume_is_of(quantity):
    figures = finished(TomographyConfig(quantity=quantity, a_over_z=1.9)).update(final=True).figures
    delta = 10.0 * 0.02 * (12.398e-10 / (ENERGY_EV / 1e3)) / (2 * math.pi * PIXEL_M)
    electrons = delta * electron_density_per_delta(ENERGY_EV)
    assert figures["matter_electron_density_per_A3"] == pytest.approx(electrons, rel=0.05)
    assert figures["matter_mass_density_g_per_cm3"] == pytest.approx(electrons * 1.9 / 0.602214, rel=0.05)
    assert f"matter_{quantity}" in figures


def test_nothing_dense_has_no_density():
    assert matter_mean(np.zeros((40, 40))) is None
    assert matter_mean(-np.ones((40, 40))) is None


def test_beta_comes_from_the_magnitude():
    delta = finished(TomographyConfig(quantity="delta"), magnitude=1.0).volume()
    beta = finished(TomographyConfig(quantity="beta"), magnitude=1.0).volume()
    dense = delta > 0.6 * np.percentile(delta, 99)
    assert (beta[dense] / delta[dense]).mean() == pytest.approx(0.1, rel=0.05)


def test_dose_is_energy_over_mass():
    figures = finished(TomographyConfig(quantity="delta"), magnitude=0.5, coverage=1e4).update().figures
    fluence = COUNT * 1e4 / PIXEL_M**2
    assert figures["photons_per_m2"] == pytest.approx(fluence, rel=0.1)
    beta_over_delta = 0.05
    wavelength_m = 1.239841984332003e-6 / ENERGY_EV
    kg_per_m3_of_delta = electron_density_per_delta(ENERGY_EV) * 2.0 / 0.602214076 * 1e3
    per_kg = 4 * math.pi * beta_over_delta / wavelength_m / kg_per_m3_of_delta
    expected = fluence * ENERGY_EV * 1.602176634e-19 * per_kg
    assert figures["dose_gy"] == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(("wanted", "reached"), [(1e-9, 0.0), (1e-6, 1.0)])
def test_the_wanted_resolution_is_said_to_be_reached(wanted, reached):
    update = finished(TomographyConfig(quantity="delta", wanted_resolution_m=wanted)).update()
    assert update.resolution_m is not None
    assert update.figures["wanted_resolution_reached"] == reached
    assert set(update.figures) >= {"resolution_half_bit_m", "resolution_one_seventh_m", "resolution_one_quarter_m"}


def test_given_air_is_taken():
    update = object_update(0, 30.0, noise_rad=0.02)
    config = TomographyConfig(quantity="delta", align="none", air_columns_px=(6, 0))
    given = Aggregator("scan", config)
    found = Aggregator("scan", TomographyConfig(quantity="delta", align="none"))
    for result in (given, found):
        assert result.add(update) == []
    lit = given.projection_stack().phase_rad[0][40:90, 20:26]
    assert abs(lit.mean()) < 0.05
    assert not np.array_equal(given.projection_stack().phase_rad, found.projection_stack().phase_rad)
