"""SIRT: exact where it must be, better than filtered back-projection with few projections."""

import numpy as np
import pytest

from streamptycho.config import TomographyConfig
from streamptycho.tomography import Aggregator, filtered_back_projection, sirt
from streamptycho.tomography.back_projector import back_project, project
from streamptycho.tomography.backprojection import ProjectionError
from tests.unit.tomography.phantom import line_integrals, object_update, volume

SIDE, DEPTH = 80, 12


def scan(count):
    angles = np.arange(count) * 180 / count
    return np.stack([line_integrals(a, (DEPTH, SIDE)) for a in angles]), angles


def off(found):
    axis = np.arange(SIDE) - SIDE // 2
    inside = np.hypot(axis[:, None], axis[None, :]) < SIDE // 2 - 2
    truth = volume(DEPTH, SIDE)
    return np.linalg.norm((found - truth)[:, inside]) / np.linalg.norm(truth[:, inside])


def test_projection_is_the_adjoint_of_back_projection():
    rng = np.random.default_rng(0)
    for side, depth, count in ((33, 5, 7), (40, 70, 3)):
        angles = rng.uniform(-400, 400, count)
        body = rng.standard_normal((side, side, depth)).astype(np.float32)
        rays = rng.standard_normal((count, side, depth)).astype(np.float32)
        back = np.zeros_like(body, dtype=np.float64)
        back_project(back, rays, angles, np.ones(count), (0, 0, 0))
        there = float((project(body, angles).astype(np.float64) * rays).sum())
        assert there == pytest.approx(float((back * body).sum()), rel=1e-4)


@pytest.mark.parametrize("count", [9, 15])
def test_few_projections_are_better_used(count):
    projections, angles = scan(count)
    assert off(sirt(projections, angles, rounds=60)) < 0.8 * off(filtered_back_projection(projections, angles))


def test_nothing_is_negative_unless_allowed():
    projections, angles = scan(10)
    assert sirt(projections, angles, rounds=10).min() >= 0
    assert sirt(projections, angles, rounds=10, non_negative=False).min() < 0


def test_more_rounds_fit_the_projections_better():
    projections, angles = scan(20)

    def misfit(rounds):
        body = np.ascontiguousarray(sirt(projections, angles, rounds=rounds).transpose(1, 2, 0))
        return np.linalg.norm(project(body, angles).transpose(0, 2, 1) - projections)

    first, second, third = (misfit(rounds) for rounds in (2, 10, 50))
    assert first > 1.5 * second > 2 * third


def test_bad_projections_are_refused():
    projections, angles = scan(5)
    for wrong in ((projections[0], angles), (projections, angles[:4]), (projections[:0], angles[:0])):
        with pytest.raises(ProjectionError, match="K angles"):
            sirt(*wrong)
    with pytest.raises(ProjectionError, match="finite"):
        sirt(np.where(projections > 0.1, np.nan, projections), angles)


def test_final_volume_by_sirt_is_in_the_unit_of_the_volume():
    volumes = {}
    for way in ("sirt", "fbp"):
        result = Aggregator("scan", TomographyConfig(quantity="delta", final_volume=way, sirt_rounds=40))
        for k in range(20):
            result.add(object_update(k, 9.0 * k, strength=5.0))
        volumes[way] = result.volume()
    assert volumes["sirt"].shape == volumes["fbp"].shape
    dense = volumes["fbp"] > 0.6 * np.percentile(volumes["fbp"], 99)
    assert volumes["sirt"][dense].mean() == pytest.approx(volumes["fbp"][dense].mean(), rel=0.05)
