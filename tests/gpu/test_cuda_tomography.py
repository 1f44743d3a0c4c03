"""The kernel of back-projection on a device, against the CPU: what `test_cuda_back_projection` does without one."""

import numpy as np
import pytest

from streamptycho.array import DeviceError, backend
from streamptycho.config import TomographyConfig
from streamptycho.tomography import Aggregator, IncrementalBackProjection
from streamptycho.tomography.cuda_back_projection import CudaBackProjection
from tests.unit.tomography.phantom import object_update

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", autouse=True)
def device():
    try:
        return backend("gpu")
    except DeviceError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("shape", "count"), [((1, 16), 3), ((70, 129), 181), ((96, 256), 400), ((9, 1024), 40)])
def test_kernel_equals_the_compiled_loops(shape, count, device):
    rng = np.random.default_rng(1)
    cpu, gpu = IncrementalBackProjection(shape), CudaBackProjection(shape, device=device)
    for key in range(count):
        angle, projection = rng.uniform(-400, 400), rng.standard_normal(shape)
        for sums in (cpu, gpu):
            sums.add(key, angle, projection)
    wanted = cpu.volume()
    np.testing.assert_allclose(gpu.volume(), wanted, atol=5e-6 * np.abs(wanted).max())
    for found, expected in zip(gpu.orthoslices(), cpu.orthoslices(), strict=True):
        np.testing.assert_allclose(found, expected, atol=5e-6 * np.abs(wanted).max())


def test_aggregators_agree(device):
    volumes = []
    for name in ("cpu", "gpu"):
        result = Aggregator("scan", TomographyConfig(device=name, quantity="delta"))
        for k in range(12):
            assert result.add(object_update(k, 15.0 * k)) == []
        result.update(final=True)
        volumes.append(result.volume())
    np.testing.assert_allclose(volumes[1], volumes[0], atol=1e-5 * volumes[0].max())
