import itertools

import numpy as np
import pytest

from streamptycho.config import TomographyConfig
from streamptycho.messages import Reason
from streamptycho.tomography import (
    Aggregator,
    delta_per_radian,
    electron_density_per_delta,
)
from tests.unit.tomography.phantom import (
    ENERGY_EV,
    PIXEL_M,
    SAMPLE,
    Ellipsoid,
    center_of_mass_xyz,
    object_update,
    volume,
)

STRENGTH = 10.0
DELTA = TomographyConfig(quantity="delta", filter="ram-lak")


def scan(count, **options):
    rng = np.random.default_rng(0)
    moves = rng.uniform(-4, 4, (count, 2))
    angles = np.arange(count) * 180 / count
    updates = [
        object_update(k, angles[k], moved_px=moves[k], noise_rad=0.05, strength=STRENGTH, **options)
        for k in range(count)
    ]
    return updates, moves, angles


@pytest.fixture(scope="module")
def finished():
    updates, moves, angles = scan(60)
    result = Aggregator("scan", DELTA)
    for update in updates:
        assert result.add(update) == []
        assert (result.update() is None) == (update.projection == 0)
    return result, result.update(final=True), moves, angles


def truth_like(result, moves):
    stack = result.projection_stack()
    x, y, _ = center_of_mass_xyz()
    down = float(np.mean(stack.shifts_px[:, 0] + moves[:, 0])) - stack.center_xy_m[1] / PIXEL_M
    truth_rad = -STRENGTH * volume(*stack.phase_rad.shape[1:], shift_zyx=(down, -y, -x))
    return truth_rad * delta_per_radian(ENERGY_EV, PIXEL_M)


def test_volume_is_the_refractive_index_of_the_sample(finished):
    result, update, moves, _ = finished
    found = result.volume()
    truth = truth_like(result, moves)
    assert found.shape == truth.shape
    assert np.corrcoef(found.ravel(), truth.ravel())[0, 1] > 0.95
    middle = [n // 2 for n in found.shape]
    uniform = np.s_[middle[0] - 6 : middle[0] + 6, middle[1] - 14 : middle[1] - 10, middle[2] - 8 : middle[2] + 2]
    assert np.ptp(truth[uniform]) == 0
    assert found[uniform].mean() == pytest.approx(truth[uniform].mean(), rel=0.02)
    np.testing.assert_allclose(update.slice_z, found[middle[0]], atol=1e-5 * found.max())
    np.testing.assert_allclose(update.slice_y, found[:, middle[1]], atol=1e-5 * found.max())
    np.testing.assert_allclose(update.slice_x, found[:, :, middle[2]], atol=1e-5 * found.max())
    assert (update.projections_used, update.final, update.quantity, update.voxel_m) == (60, True, "delta", PIXEL_M)


def test_shifts_are_recovered(finished):
    result, _, moves, angles = finished
    x, y, _ = center_of_mass_xyz()
    theta = np.radians(angles)
    error = result.projection_stack().shifts_px + moves
    error[:, 0] -= error[:, 0].mean()
    error[:, 1] += x * np.cos(theta) + y * np.sin(theta)
    assert (np.sqrt((error**2).mean(axis=0)) < 0.2).all()


def test_resolution_is_between_the_voxel_and_the_angular_sampling(finished):
    result, update, _, _ = finished
    assert update.resolution_m == pytest.approx(result.resolution_m())
    assert PIXEL_M <= update.resolution_m < 8 * PIXEL_M


def test_stack_is_what_is_in_the_volume(finished):
    stack = finished[0].projection_stack()
    assert stack.phase_rad.dtype == stack.magnitude.dtype == np.float32
    assert stack.phase_rad.shape == stack.magnitude.shape == (60, *stack.phase_rad.shape[1:])
    np.testing.assert_array_equal(stack.keys, np.arange(60))
    np.testing.assert_allclose(stack.angles_deg, np.arange(60) * 3)
    assert np.median(stack.magnitude) == pytest.approx(1, abs=0.01)
    assert stack.phase_rad.min() < -8
    assert np.isfinite(stack.phase_rad).all()


def test_electron_density_is_delta_in_other_units():
    updates, _, _ = scan(4)
    volumes = []
    for quantity in ("delta", "electron_density_per_A3"):
        result = Aggregator("scan", TomographyConfig(quantity=quantity))
        for update in updates:
            result.add(update)
        volumes.append(result.volume())
    np.testing.assert_allclose(volumes[0] * electron_density_per_delta(ENERGY_EV), volumes[1], rtol=1e-4, atol=1e-9)


def test_order_of_arrival_and_replacement_leave_no_trace():
    updates, _, _ = scan(12)
    wrong = object_update(3, 100.0, noise_rad=0.2)
    volumes = []
    for order in (updates, [wrong, *updates[::-1]], [*updates[6:], wrong, *updates[:6], updates[3]]):
        result = Aggregator("scan", TomographyConfig(align="none", quantity="delta"))
        for update in order:
            assert result.add(update) == []
            result.update()
        assert result.projections_used == 12
        volumes.append(result.volume())
    for other in volumes[1:]:
        np.testing.assert_allclose(other, volumes[0], atol=1e-5 * np.abs(volumes[0]).max())


def test_trusted_positions_put_the_axis_at_zero():
    shapes = itertools.cycle([(128, 128), (131, 126), (120, 133)])
    result = Aggregator("scan", TomographyConfig(align="none", quantity="delta", width_px=110, height_px=100))
    for k, shape in zip(range(30), shapes, strict=False):
        assert result.add(object_update(k, 6.0 * k, shape=shape)) == []
    found, expected = result.volume(), volume(100, 110)
    # The frame is centred along the axis on the first scan, whose middle is half a pixel from the sample's.
    assert result.projection_stack().center_xy_m[0] == 0.0
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.94


def test_axis_outside_of_the_view_is_refused():
    away = object_update(0, 0.0, origin_xy_m=np.array([1.0, 0.0]))
    result = Aggregator("scan", TomographyConfig(align="none"))
    (anomaly,) = result.add(away)
    assert anomaly.reason is Reason.OUT_OF_RANGE
    assert "rotation axis" in anomaly.detail
    assert Aggregator("scan", TomographyConfig(align="mass")).add(away) == []


def test_frame_grows_with_a_larger_projection():
    result = Aggregator("scan", TomographyConfig(quantity="delta"))
    small = {"sample": (Ellipsoid((0, 0, 0), (14, 14, 14), 0.02),)}
    result.add(object_update(0, 0.0, shape=(64, 64), **small))
    before = result.volume().shape
    result.add(object_update(1, 90.0, shape=(128, 128), **small))
    assert result.projections_used == 2
    assert result.volume().shape > before
    assert result.update().slice_z.shape == result.volume().shape[1:]


def test_empty_projections_do_no_harm():
    result = Aggregator("scan", DELTA)
    for k in range(5):
        assert result.add(object_update(k, 36.0 * k, sample=(), noise_rad=0.05)) == []
    update = result.update(final=True)
    assert np.isfinite(update.slice_z).all()
    assert not result.projection_stack().shifts_px.any()
    result.add(object_update(7, 20.0))
    assert np.isfinite(result.update(final=True).slice_y).all()


def test_volume_over_the_bound_is_refused_and_the_old_one_stays():
    (anomaly,) = Aggregator("scan", DELTA, max_voxels=1000).add(object_update(0, 0.0))
    assert anomaly.reason is Reason.OUT_OF_RANGE
    assert "width_px" in anomaly.detail
    result = Aggregator("scan", DELTA, max_voxels=100**3)
    result.add(object_update(0, 0.0, shape=(64, 64), sample=SAMPLE[:1]))
    before = result.volume()
    (anomaly,) = result.add(object_update(1, 90.0, shape=(160, 160)))
    assert "bound" in anomaly.detail
    assert result.projections_used == 1
    np.testing.assert_array_equal(result.volume(), before)


def test_projection_from_elsewhere_is_refused():
    result = Aggregator("scan", DELTA)
    result.add(object_update(0, 0.0))
    (anomaly,) = result.add(object_update(1, 90.0, origin_xy_m=np.array([1e-3, 0.0])))
    assert anomaly.reason is Reason.OUT_OF_RANGE
    assert result.projections_used == 1
    assert result.add(object_update(0, 0.0, origin_xy_m=np.array([1e-3, 0.0]))) == []


def test_configured_size_stays_whatever_comes():
    result = Aggregator("scan", TomographyConfig(quantity="delta", width_px=70, height_px=60))
    assert result.add(object_update(9, 30.0, shape=(64, 64))) == []
    for k, shape in enumerate([(64, 64), (128, 128), (96, 140)]):
        assert result.add(object_update(k, 60.0 * k, shape=shape)) == []
        assert result.volume().shape == (60, 70, 70)


def test_slices_on_demand_are_those_of_the_volume():
    result = Aggregator("scan", DELTA)
    with pytest.raises(IndexError, match=r"not in a volume of \(0, 0, 0\)"):
        result.slice_at("z", 0)
    for k in range(5):
        result.add(object_update(k, 36.0 * k))
    whole = result.volume()
    assert result.volume_shape == whole.shape
    for number, axis in enumerate("zyx"):
        found = result.slice_at(axis, 41)
        np.testing.assert_allclose(found, whole.take(41, axis=number), atol=1e-5 * whole.max())
    with pytest.raises(IndexError):
        result.slice_at("x", whole.shape[2])


def test_slabs_are_the_volume():
    for way in ("fbp", "sirt"):
        result = Aggregator("scan", TomographyConfig(quantity="delta", final_volume=way, sirt_rounds=3))
        for k in range(5):
            result.add(object_update(k, 36.0 * k))
        made = result.slabs()
        slabs = list(made.slabs)
        assert len(slabs) > 1
        assert made.shape == result.volume_shape
        whole = result.volume()
        np.testing.assert_allclose(np.concatenate(slabs), whole, atol=2e-6 * whole.max())
