import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import iradon, radon

from streamptycho.tomography import IncrementalBackProjection, VolumeTooLargeError, filtered_back_projection
from streamptycho.tomography.back_projector import back_project
from streamptycho.tomography.backprojection import ProjectionError
from tests.unit.tomography.phantom import line_integrals, volume

ANGLES = np.arange(0, 180, 3.0)


@pytest.fixture(scope="module")
def projections():
    return np.array([line_integrals(angle, (80, 72)) for angle in ANGLES], dtype=np.float32)


def back_project_with_numpy(columns, angles_deg, weights):
    _, n, depth = columns.shape
    axis = np.arange(n) - n // 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    seen = x**2 + y**2 <= (n - 1 - n // 2) ** 2
    total = np.zeros((n, n, depth))
    for filtered, angle, weight in zip(columns, np.radians(angles_deg), weights, strict=True):
        s = x * np.cos(angle) + y * np.sin(angle) + n // 2
        for z in range(depth):
            total[..., z] += np.where(seen, weight * np.interp(s, np.arange(n), filtered[:, z]), 0)
    return total


@pytest.mark.parametrize("n", [16, 17])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kernel_equals_numpy(n, dtype):
    rng = np.random.default_rng(0)
    columns = rng.standard_normal((5, n, 6)).astype(np.float32)
    angles, weights = np.array([0, 90, 180, 33.3, -71.0]), rng.uniform(0.1, 1, 5)
    expected = back_project_with_numpy(columns, angles, weights)
    whole = np.zeros((n, n, 6), dtype)
    back_project(whole, columns, angles, weights, (0, 0, 0))
    np.testing.assert_allclose(whole, expected, atol=2e-6)
    part = np.zeros((4, n - 3, 2), dtype)
    back_project(part, columns, angles, weights, (3, 5, 2))
    np.testing.assert_allclose(part, expected[5:9, 2 : n - 1, 3:5], atol=2e-6)


def test_bands_on_threads_equal_one_band(monkeypatch):
    columns = np.random.default_rng(0).standard_normal((40, 48, 50)).astype(np.float32)
    arguments = columns, np.linspace(0, 170, 40), np.ones(40), (0, 0, 0)
    threaded, serial = np.zeros((2, 48, 48, 50), np.float32)
    back_project(threaded, *arguments)
    monkeypatch.setattr("streamptycho.tomography.back_projector.SERIAL_BELOW", np.inf)
    back_project(serial, *arguments)
    np.testing.assert_array_equal(threaded, serial)
    assert serial.any()


@pytest.mark.parametrize("name", ["ram-lak", "hamming"])
def test_volume_is_the_sample_in_value_and_place(projections, name):
    truth = volume(80, 72)
    result = filtered_back_projection(projections, ANGLES, name)
    assert result.dtype == np.float32
    assert np.corrcoef(result.ravel(), truth.ravel())[0, 1] > 0.97
    uniform = (slice(35, 45), slice(31, 35), slice(16, 26))
    assert np.ptp(truth[uniform]) == 0
    assert result[uniform].mean() == pytest.approx(truth[uniform].mean(), rel=0.01)


def test_slice_agrees_with_skimage():
    picture = volume(81, 65)[44]
    angles = np.arange(0, 180, 3.0)
    sinogram = radon(picture, angles, circle=True)
    reference = iradon(sinogram, angles, filter_name="ramp", circle=True)
    ours = filtered_back_projection(sinogram.T[:, None, :], -angles, "ram-lak")[0]
    y, x = np.mgrid[:65, :65] - 32
    inner = x**2 + y**2 < 28**2
    assert np.corrcoef(ours[inner], reference[inner])[0, 1] > 0.999
    assert np.polyfit(reference[inner], ours[inner], 1)[0] == pytest.approx(1, abs=0.01)


def close_to(a, b):
    np.testing.assert_allclose(a, b, atol=5e-6 * max(1e-3, float(np.abs(b).max())))


def test_orthoslices_are_those_of_the_volume_after_every_projection(projections):
    sums = IncrementalBackProjection((80, 72))
    for key in (5, 40, 0, 20, 21, 22, 59):
        sums.add(key, ANGLES[key], projections[key])
        across_z, across_y, across_x = sums.orthoslices()
        whole = sums.volume()
        close_to(across_z, whole[40])
        close_to(across_y, whole[:, 36])
        close_to(across_x, whole[:, :, 36])
    assert len(sums) == 7


def test_values_are_comparable_while_the_wedge_closes(projections):
    sums = IncrementalBackProjection((80, 72))
    for key, angle in enumerate(ANGLES):
        sums.add(key, angle, projections[key])
        if key > 5:
            # The mean over the circle is the mass that every single projection has.
            assert sums.orthoslices()[0].sum() == pytest.approx(projections[0][40].sum(), rel=0.15)


@settings(deadline=None, max_examples=15)
@given(st.data())
def test_history_leaves_no_trace(data):
    rng = np.random.default_rng(1)
    stack = rng.standard_normal((9, 6, 14)).astype(np.float32)
    angles = rng.uniform(-90, 270, 9)
    sums = IncrementalBackProjection((6, 14), "ram-lak")
    for key in data.draw(st.lists(st.integers(0, 8), max_size=12)):
        sums.add(key, float(rng.uniform(0, 180)), rng.standard_normal((6, 14)))
        if data.draw(st.booleans()):
            sums.volume()
            sums.orthoslices()
    for key in data.draw(st.lists(st.integers(0, 8), unique=True)):
        if key in {*sums._projections}:
            sums.remove(key)
    for key in data.draw(st.permutations(range(9))):
        sums.add(key, angles[key], stack[key])
        if data.draw(st.booleans()):
            sums.volume()
    expected = filtered_back_projection(stack, angles, "ram-lak")
    close_to(sums.volume(), expected)
    close_to(sums.orthoslices()[0], expected[3])


def test_removed_projection_is_gone(projections):
    sums = IncrementalBackProjection((80, 72))
    for key in range(20):
        sums.add(key, 9.0 * key, projections[3 * key])
    sums.volume()
    sums.remove(7)
    rest = [key for key in range(20) if key != 7]
    close_to(sums.volume(), filtered_back_projection(projections[[3 * k for k in rest]], [9.0 * k for k in rest]))
    with pytest.raises(KeyError):
        sums.remove(7)


def test_region_from_some_projections(projections):
    sums = IncrementalBackProjection((80, 72))
    for key, angle in enumerate(ANGLES):
        sums.add(key, angle, projections[key])
    some = list(range(0, 60, 2))
    part = sums.region(slice(10, 20), slice(30, 50), slice(None), some)
    close_to(part, filtered_back_projection(projections[some], ANGLES[some])[10:20, 30:50])


def test_nothing_gives_zeros():
    sums = IncrementalBackProjection((4, 6))
    assert not sums.volume().any()
    assert [s.shape for s in sums.orthoslices()] == [(6, 6), (4, 6), (4, 6)]


def test_bad_projections_leave_the_volume_alone(projections):
    sums = IncrementalBackProjection((80, 72))
    sums.add("a", 0.0, projections[0])
    before = sums.volume().copy()
    spoilt = projections[0].copy()
    spoilt[3, 3] = np.nan
    with pytest.raises(ProjectionError, match="finite"):
        sums.add("a", 0.0, spoilt)
    with pytest.raises(ProjectionError, match="finite"):
        sums.add("b", float("nan"), projections[0])
    with pytest.raises(ProjectionError, match="shape"):
        sums.add("b", 0.0, projections[0][:, 1:])
    np.testing.assert_array_equal(sums.volume(), before)


def test_too_large_is_refused_before_anything_is_allocated():
    with pytest.raises(VolumeTooLargeError, match="width_px"):
        IncrementalBackProjection((10**6, 10**6))
    with pytest.raises(VolumeTooLargeError, match="bound of 1000"):
        IncrementalBackProjection((10, 11), max_voxels=1000)
    with pytest.raises(ProjectionError):
        IncrementalBackProjection((0, 5))
