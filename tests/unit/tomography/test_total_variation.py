"""Few, noisy projections: the volume of least total variation against SIRT and filtered back-projection."""

import numpy as np
import pytest

from streamptycho.config import TomographyConfig
from streamptycho.tomography import Aggregator, filtered_back_projection, sirt, total_variation
from streamptycho.tomography.backprojection import SLAB_ROWS, ProjectionError
from streamptycho.tomography.total_variation import noise_of
from tests.unit.tomography.phantom import line_integrals, object_update, volume

SIDE, DEPTH = 80, 12


def scan(count, noise, seed=0):
    angles = np.arange(count) * 180 / count
    clean = np.stack([line_integrals(a, (DEPTH, SIDE)) for a in angles])
    noisy = clean + noise * clean.max() * np.random.default_rng(seed).standard_normal(clean.shape)
    return noisy.astype(np.float32), angles, noise * clean.max()


def off(found):
    axis = np.arange(SIDE) - SIDE // 2
    inside = np.hypot(axis[:, None], axis[None, :]) < SIDE // 2 - 2
    truth = volume(DEPTH, SIDE)
    return np.linalg.norm((found - truth)[:, inside]) / np.linalg.norm(truth[:, inside])


@pytest.mark.parametrize(("count", "noise"), [(15, 0.01), (15, 0.05), (30, 0.05)])
def test_it_is_far_better_than_sirt_stopped_at_the_best_moment(count, noise):
    projections, angles, _ = scan(count, noise)
    others = [off(sirt(projections, angles, rounds=rounds)) for rounds in (10, 20, 50, 100)]
    others.append(off(filtered_back_projection(projections, angles)))
    found = total_variation(projections, angles)
    assert found.min() >= 0
    assert found.dtype == np.float32
    assert off(found) < 0.8 * min(others)


def test_it_has_settled_after_its_rounds():
    projections, angles, _ = scan(15, 0.05)
    assert off(total_variation(projections, angles)) < 1.05 * off(total_variation(projections, angles, rounds=600))


def test_noise_is_found_where_there_is_a_sample_as_well():
    projections, _, noise = scan(15, 0.03)
    assert noise_of(projections) == pytest.approx(noise, rel=0.1)
    assert noise_of(np.pad(projections, ((0, 0), (20, 20), (30, 30)))) == pytest.approx(noise, rel=0.15)
    assert noise_of(projections[:, :1]) == pytest.approx(noise, rel=0.3)
    assert noise_of(np.zeros((2, 1, 1), np.float32)) == 0.0


def test_more_strength_is_smoother():
    projections, angles, _ = scan(15, 0.05)

    def roughness(strength):
        return np.abs(np.diff(total_variation(projections, angles, strength=strength, rounds=60), axis=2)).sum()

    assert roughness(0.1) > 1.5 * roughness(0.5) > 1.5 * roughness(5.0)


def test_projections_without_noise_and_without_anything_do_no_harm():
    projections, angles, _ = scan(15, 0.0)
    assert off(total_variation(projections, angles, rounds=60)) < 0.25
    assert not total_variation(np.zeros((4, 3, 10), np.float32), np.arange(4) * 45.0, rounds=5).any()


def test_bad_projections_are_refused():
    projections, angles, _ = scan(5, 0.01)
    for wrong in ((projections[0], angles), (projections, angles[:4]), (projections[:0], angles[:0])):
        with pytest.raises(ProjectionError, match="K angles"):
            total_variation(*wrong)
    with pytest.raises(ProjectionError, match="finite"):
        total_variation(np.where(projections > 0.1, np.nan, projections), angles)


def test_final_volume_is_in_the_unit_of_the_volume_and_slabs_leave_no_seam():
    volumes = {}
    for way in ("tv", "fbp"):
        result = Aggregator("scan", TomographyConfig(quantity="delta", final_volume=way, tv_rounds=60))
        for k in range(12):
            result.add(object_update(k, 15.0 * k, strength=5.0, noise_rad=0.1))
        volumes[way] = result.volume()
    np.testing.assert_array_equal(volumes["fbp"].shape, volumes["tv"].shape)
    dense = volumes["fbp"] > 0.6 * np.percentile(volumes["fbp"], 99)
    assert volumes["tv"][dense].mean() == pytest.approx(volumes["fbp"][dense].mean(), rel=0.05)
    steps = np.abs(np.diff(volumes["tv"], axis=0)).mean(axis=(1, 2))
    assert steps[SLAB_ROWS - 1] < 1.5 * np.median(steps[SLAB_ROWS - 6 : SLAB_ROWS + 5])
    growing = result.volume(final=False)
    np.testing.assert_allclose(growing, volumes["fbp"], atol=1e-6 * growing.max())
