import cmath
import math

import numpy as np
import pytest

from streamptycho.config import SampleConfig
from streamptycho.simulation import Sample, SimulationError, make_sample, truth

VOXEL_M = 40e-9


@pytest.mark.parametrize("phantom", ["bone", "spheres"])
def test_the_phantom_is_compact_and_rotates_inside_its_box(phantom):
    sample = make_sample(SampleConfig(phantom=phantom, size_m=3e-6), VOXEL_M)
    size = sample.density.shape[0]
    assert sample.density.shape == (size, size, size)
    assert sample.density.dtype == np.float32
    assert sample.density.min() >= 0.0
    assert 0.9 < sample.density.max() <= 1.05
    for angle in (0, 37, 90, 151):
        thickness = sample.thickness_m(angle)
        assert thickness[:, :2].max() == 0
        assert thickness[:, -2:].max() == 0
        assert thickness[:2].max() == 0
        assert thickness[-2:].max() == 0


def test_the_bone_has_pores_of_several_sizes():
    density = make_sample(SampleConfig(phantom="bone", size_m=5e-6), VOXEL_M).density
    middle = density[density.shape[0] // 2]
    occupied = middle > 0.5
    filled = np.maximum.accumulate(occupied, 1) & np.maximum.accumulate(occupied[:, ::-1], 1)[:, ::-1]
    pores = filled & ~occupied
    assert 0.02 < pores.sum() / filled.sum() < 0.3


@pytest.mark.parametrize("phantom", ["bone", "spheres"])
def test_another_voxel_samples_the_same_object(phantom):
    config = SampleConfig(phantom=phantom, size_m=3e-6, seed=3)
    fine, coarse = make_sample(config, 30e-9), make_sample(config, 60e-9)
    volumes = [float(s.density.sum(dtype=np.float64)) * s.voxel_m**3 for s in (fine, coarse)]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.02)


def test_seeds_choose_the_piece():
    config = SampleConfig(size_m=2e-6)
    same = make_sample(config, VOXEL_M).density
    assert np.array_equal(same, make_sample(config, VOXEL_M).density)
    assert not np.array_equal(same, make_sample(config.model_copy(update={"seed": 1}), VOXEL_M).density)


@pytest.mark.parametrize("angle_deg", [0, 30, 90, 135, -60, 180])
def test_a_projection_puts_matter_at_x_cos_plus_y_sin(angle_deg):
    density = np.zeros((5, 64, 64), np.float32)
    x, y = 14, -9
    density[2, 32 + y, 32 + x] = 1
    thickness = Sample(density, VOXEL_M, 1e-5, 0).thickness_m(angle_deg)
    columns = np.arange(64) - 32
    expected = x * math.cos(math.radians(angle_deg)) + y * math.sin(math.radians(angle_deg))
    assert (thickness[2] * columns).sum() / thickness[2].sum() == pytest.approx(expected, abs=0.1)
    assert thickness[[0, 1, 3, 4]].max() == 0


def test_a_projection_is_the_chord_of_a_ball():
    size, radius = 64, 20
    axis = np.arange(size) - size // 2
    distance = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2)
    ball = np.clip(radius - distance + 0.5, 0, 1).astype(np.float32)
    thickness = Sample(ball, VOXEL_M, 1e-5, 0).thickness_m(23.0) / VOXEL_M
    offset = np.hypot(axis[:, None], axis[None, :])
    chord = 2 * np.sqrt(np.maximum(radius**2 - offset**2, 0))
    inside = offset < radius - 3
    assert np.abs(thickness - chord)[inside].max() < 0.5
    assert thickness.sum() == pytest.approx(ball.sum(), rel=0.01)


def test_matter_retards_and_absorbs():
    density = np.zeros((3, 16, 16), np.float32)
    density[1, 8] = 1
    wavelength_m, delta, beta = 2e-10, 1e-5, 1e-6
    sample = Sample(density, 1e-6, delta, beta)
    along = sample.transmission(90.0, wavelength_m)
    k_t = 2 * math.pi / wavelength_m * 16e-6
    assert complex(along[1, 8]) == pytest.approx(cmath.exp(-1j * delta * k_t - beta * k_t), abs=1e-4)
    assert abs(along[1, 8]) < 1
    thin = sample.transmission(0.0, wavelength_m)
    assert np.angle(thin[1, 8]) == pytest.approx(-delta * 2 * math.pi / wavelength_m * 1e-6, rel=1e-3)
    assert thin[0, 0] == 1


def test_the_truth_has_the_pixel_of_the_reconstruction(small):
    config = small(detector__region={"size_px": 32})
    volume, voxel_m = truth(config)
    assert voxel_m == pytest.approx(1.9997e-10 / (32 * 75e-6), rel=1e-3)
    assert volume.max() == pytest.approx(1e-5, rel=0.05)
    finer, finer_m = truth(config, 40e-9)
    assert finer_m == 40e-9
    assert finer.shape[0] > volume.shape[0]


@pytest.mark.parametrize("voxel_m", [1e-6, 1e-10])
def test_a_volume_of_no_use_is_refused(voxel_m):
    with pytest.raises(SimulationError, match="voxels wide"):
        make_sample(SampleConfig(size_m=4e-6), voxel_m)
