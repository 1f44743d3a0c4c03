"""The benchmarks of tomography run on small volumes and say what they promise. No speed is asserted."""

import numpy as np
import pytest

from benchmarks import gpu_tomography, large_volumes, tomography_peers
from benchmarks.growth import exponent
from benchmarks.row import Effort, NotMeasurable
from benchmarks.spheres import error_inside, spheres
from streamptycho.tomography import filtered_back_projection
from tests.cuda_on_cpu import COMPILER, emulated_gpu

QUICK = Effort(quick=True, budget_s=0.0, least_rounds=1, most_rounds=1)


def test_projections_of_spheres_are_those_of_the_slice():
    sample = spheres(96, 120)
    volume = filtered_back_projection(sample.projections, sample.angles_deg)
    assert error_inside(volume[48], sample.truth) < 0.3
    assert error_inside(volume[48][::-1], sample.truth) > 0.8
    mass = sample.projections.sum(axis=(1, 2))
    assert np.ptp(mass) < 0.02 * mass.mean()
    middle = spheres(96, 120, rows=6).projections
    assert np.abs(middle - sample.projections[:, 45:51]).max() < 0.15 * sample.projections.max()


def test_large_volumes_are_measured_and_never_held_whole(monkeypatch):
    monkeypatch.setattr(large_volumes, "ANGLES", 20)
    rows = list(large_volumes.volume(96)(QUICK))
    assert [row.name.split(": ")[1] for row in rows] == [
        "add one projection, 3 orthoslices",
        "any one slice across z on demand",
        "any one slice across x on demand",
        "whole volume, slab by slab",
        "final volume in its file",
        "memory beside the projections for it",
    ]
    assert all(row.reference_figure > 0 and np.isfinite(row.ratio) for row in rows)


@pytest.mark.parametrize("missing", ["memory", "disk"])
def test_what_does_not_fit_is_said(monkeypatch, missing):
    if missing == "memory":
        monkeypatch.setattr(large_volumes, "_available_bytes", lambda: 10**9)
    else:
        monkeypatch.setattr(large_volumes.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10**8}))
    with pytest.raises(NotMeasurable, match=missing):
        next(iter(large_volumes.volume(512)(QUICK)))


def test_an_exponent_is_fitted():
    row = exponent("edge", {size: 1e-9 * size**2.5 for size in (10, 20, 80)}, 3.0, "cube")
    assert row.figure == pytest.approx(2.5)
    assert row.ratio == pytest.approx(2.5 / 3)


def test_a_peer_that_is_not_here_is_named():
    with pytest.raises(NotMeasurable, match="no_such_module can be imported neither here nor"):
        tomography_peers._python_with("no_such_module")


@pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")
def test_the_gpu_is_measured_beside_the_cpu(monkeypatch):
    monkeypatch.setattr(gpu_tomography, "ANGLES", 5)
    monkeypatch.setattr(gpu_tomography, "EFFORT", QUICK)
    rows = list(gpu_tomography.volume(24)(emulated_gpu()))
    assert len(rows) == 3
    assert all(row.figure > 0 and row.name.startswith("GPU, tomography 24^3, 5 angles") for row in rows)
