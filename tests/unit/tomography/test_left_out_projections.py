"""Only projections that are wrong are left out of the joint alignment, not those that only stand elsewhere."""

import numpy as np
import pytest
import scipy.ndimage

from streamptycho.config import TomographyConfig
from streamptycho.messages import Anomaly, Reason
from streamptycho.stages.tomography import TomographyStage
from streamptycho.tomography import Aggregator
from streamptycho.tomography.back_projector import project
from streamptycho.tomography.refinement import UNTRUSTED_SHARE, Refinement

SIDE = 48
COUNT = 45
BAD = 15


def spheres(seed):
    rng = np.random.default_rng(seed)
    y, x, z = np.mgrid[:SIDE, :SIDE, :SIDE] - SIDE // 2
    volume = np.zeros((SIDE,) * 3, np.float32)
    for _ in range(20):
        c, radius = rng.uniform(-0.22, 0.22, 3) * SIDE, rng.uniform(0.05, 0.12) * SIDE
        volume += ((z - c[0]) ** 2 + (y - c[1]) ** 2 + (x - c[2]) ** 2 < radius**2) * rng.uniform(0.1, 0.3)
    return scipy.ndimage.gaussian_filter(volume, 0.7)


def projections(seed, shifts_px, sample=spheres):
    rng = np.random.default_rng(seed + 100)
    angles_deg = np.arange(len(shifts_px)) * 180.0 / len(shifts_px)
    mass = project(sample(seed), angles_deg).transpose(0, 2, 1)
    mass = mass + rng.normal(0, 0.005 * np.median(mass.max(axis=(1, 2))), mass.shape)
    moved = [scipy.ndimage.shift(image, shift, order=3) for image, shift in zip(mass, shifts_px, strict=True)]
    return np.array(moved, np.float32), angles_deg


def plate(seed):
    """Flat, with holes and grains, and as wide as what is seen: at 90 degrees it is looked at from its edge."""
    rng = np.random.default_rng(seed)
    y, x, z = np.mgrid[:SIDE, :SIDE, :SIDE] - SIDE // 2
    inside = (np.abs(x) < 0.42 * SIDE) & (np.abs(y) < 2) & (np.abs(z) < 0.4 * SIDE)
    volume = 0.1 * inside.astype(np.float32)
    for _ in range(40):
        (c, d), radius = rng.uniform(-0.35, 0.35, 2) * SIDE, rng.uniform(1, 4)
        volume += ((x - c) ** 2 + (z - d) ** 2 < radius**2) * inside * rng.uniform(-0.05, 0.2)
    return scipy.ndimage.gaussian_filter(volume, 0.7)


def wandering(seed, count=COUNT):
    return np.random.default_rng(seed + 200).normal(0, 0.5, (count, 2))


def rest_px(refined, shifts_px, angles_deg):
    rest, theta = refined.moves_px + shifts_px, np.radians(angles_deg)
    system = np.stack([np.cos(theta), np.sin(theta), np.ones_like(theta)], axis=1)
    across = rest[:, 1] - system @ np.linalg.lstsq(system, rest[:, 1], rcond=None)[0]
    return np.stack([rest[:, 0] - np.median(rest[:, 0]), across], axis=1)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_good_projections_all_stay(seed):
    shifts_px = wandering(seed)
    mass, angles_deg = projections(seed, shifts_px)
    refined = Refinement(mass, angles_deg).run()
    assert refined.trusted.all()
    assert np.sqrt((rest_px(refined, shifts_px, angles_deg) ** 2).mean(axis=0)).max() < 0.1


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("far_px", [3.0, 7.0])
def test_one_that_stands_far_away_is_brought_home(seed, far_px):
    shifts_px = wandering(seed)
    shifts_px[BAD] = far_px, -far_px
    mass, angles_deg = projections(seed, shifts_px)
    refined = Refinement(mass, angles_deg).run()
    assert refined.trusted.all()
    assert np.abs(rest_px(refined, shifts_px, angles_deg)[BAD]).max() < 0.3


@pytest.mark.parametrize("seed", [1, 2])
def test_one_of_another_sample_is_left_out_alone(seed):
    shifts_px = wandering(seed)
    mass, angles_deg = projections(seed, shifts_px)
    mass[BAD] = projections(seed + 7, shifts_px)[0][BAD][::-1]
    refined = Refinement(mass, angles_deg).run()
    assert np.flatnonzero(~refined.trusted).tolist() == [BAD]


@pytest.mark.parametrize("seed", [1, 2])
def test_a_plate_keeps_the_projections_of_its_edge(seed):
    mass, angles_deg = projections(seed, wandering(seed, 90), plate)
    refined = Refinement(mass, angles_deg).run()
    assert refined.misfit_rad.argmax() in range(42, 49)
    assert refined.misfit_rad.max() > 5 * np.median(refined.misfit_rad)
    assert refined.trusted.all()


@pytest.mark.parametrize("wrong", [15, 45])
def test_one_of_another_sample_is_left_out_of_a_plate(wrong):
    shifts_px = wandering(2, 90)
    mass, angles_deg = projections(2, shifts_px, plate)
    other = projections(2, shifts_px)[0][wrong]
    mass[wrong] = other * (mass[wrong].sum() / other.sum())
    refined = Refinement(mass, angles_deg).run()
    assert np.flatnonzero(~refined.trusted).tolist() == [wrong]


def test_no_more_than_a_few_are_ever_left_out():
    shifts_px = wandering(1)
    mass, angles_deg = projections(1, shifts_px)
    mass[::5] = mass[::5, ::-1, ::-1]
    refinement = Refinement(mass, angles_deg)
    for _ in range(12):
        assert np.count_nonzero(~refinement.step().trusted) <= COUNT // UNTRUSTED_SHARE


def test_a_projection_that_the_last_alignment_leaves_out_is_said_once(monkeypatch):
    gone = Anomaly(source="reconstruct", reason=Reason.CORRUPT, detail="projection 3 is not in the volume")
    stage = TomographyStage("s", TomographyConfig(align="joint"))
    whole = Aggregator.update

    def update(self, *, final=False):
        self._unsaid += [gone] if final else []
        return whole(self, final=final)

    monkeypatch.setattr(Aggregator, "update", update)
    assert list(stage.stop(0)) == [gone]
    assert stage.status(0).anomalies == {Reason.CORRUPT: 1}
    assert stage.aggregator.left_out() == []
