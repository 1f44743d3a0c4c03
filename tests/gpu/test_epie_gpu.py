import numpy as np
import pytest

from streamptycho.array import DeviceError, backend
from streamptycho.geometry import Geometry
from streamptycho.ptychography import cuda_update, reconstruct

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", autouse=True)
def device():
    try:
        return backend("gpu")
    except DeviceError as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def groups_of_one(monkeypatch):
    """So that the device visits frames one after another too."""
    monkeypatch.setattr(cuda_update, "LEAST_GROUPS", 1_000_000)


def scene(n=32, side=6):
    random = np.random.default_rng(0)
    geometry = Geometry(8000.0, 2.0, 75e-6, (n, n))
    grid = np.arange(side) * 3.4
    xy_px = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2) + random.uniform(-1, 1, (side * side, 2))
    axis = np.arange(n) - n // 2
    probe = 60 * np.exp(-(axis[:, None] ** 2 + axis[None, :] ** 2) / 40.0)
    obj = np.exp(-0.4j * random.uniform(size=(64, 64)))
    counts = np.empty((len(xy_px), n, n), np.uint16)
    for k, (x, y) in enumerate(np.rint(xy_px).astype(int) + 2):
        field = np.fft.fftshift(np.fft.fft2(probe * obj[y : y + n, x : x + n], norm="ortho"))
        counts[k] = random.poisson(np.abs(field) ** 2)
    return counts, xy_px * geometry.object_pixel_m, geometry


@pytest.mark.parametrize("modes", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_gpu_equals_cpu(modes, dtype):
    counts, xy_m, geometry = scene()
    counts = np.minimum(counts, 254).astype(dtype)
    counts[:, 3, 3] = np.iinfo(dtype).max
    results = [
        reconstruct(counts, xy_m, geometry, modes=modes, sweeps=4, device=device, resolution=True)
        for device in ("cpu", "gpu")
    ]
    np.testing.assert_allclose(results[1].errors, results[0].errors, rtol=1e-3)
    lit = results[0].coverage > 0.1 * results[0].coverage.max()
    assert np.abs(results[1].object - results[0].object)[lit].max() < 1e-2
    np.testing.assert_allclose(results[1].coverage, results[0].coverage, rtol=1e-2, atol=1e-3 * lit.max())
    assert isinstance(results[1].object, np.ndarray)
