"""Back-projection on a GPU: the kernel run by C++ against the compiled loops, and compiled for real processors."""

import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from streamptycho.array import DeviceError, backend
from streamptycho.config import TomographyConfig
from streamptycho.tomography import Aggregator, IncrementalBackProjection
from streamptycho.tomography.backprojection import SLAB_ROWS, VolumeTooLargeError
from streamptycho.tomography.cuda_back_projection import CudaBackProjection, kernel_source
from tests.cuda_on_cpu import COMPILER, emulated_gpu
from tests.nvrtc import compiled
from tests.unit.tomography.phantom import Ellipsoid, object_update

NVCC = shutil.which("nvcc")
emulated = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")


def both(shape, filter_name="ram-lak", count=9, **gpu):
    rng = np.random.default_rng(1)
    sums = (
        IncrementalBackProjection(shape, filter_name),
        CudaBackProjection(shape, filter_name, device=emulated_gpu(**gpu)),
    )
    for key in range(count):
        angle, projection = rng.uniform(-400, 400), rng.standard_normal(shape)
        for one in sums:
            one.add(key, angle, projection)
    return sums


def close(found, wanted):
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=3e-6 * float(np.abs(wanted).max()))


@emulated
@pytest.mark.parametrize("backwards", [False, True], ids=["first thread first", "last thread first"])
@pytest.mark.parametrize(("shape", "filter_name"), [((12, 40), "hamming"), ((8, 33), "ram-lak"), ((1, 16), "hann")])
def test_kernel_equals_the_compiled_loops(shape, filter_name, backwards):
    cpu, gpu = both(shape, filter_name, backwards=backwards)
    close(gpu.volume(), cpu.volume())
    for found, wanted in zip(gpu.orthoslices(), cpu.orthoslices(), strict=True):
        close(found, wanted)


@emulated
def test_more_projections_than_a_block_holds_at_once():
    cpu, gpu = both((3, 20), count=150)
    close(gpu.volume(), cpu.volume())


@emulated
def test_a_part_from_some_of_the_projections():
    cpu, gpu = both((11, 37))
    part = slice(2, 11), slice(5, 30), slice(1, None)
    close(gpu.region(*part, [1, 4, 7]), cpu.region(*part, [1, 4, 7]))
    assert gpu.region(slice(3, 3), slice(None), slice(None)).shape == (0, 37, 37)


@emulated
def test_slabs_are_the_volume():
    cpu, gpu = both((SLAB_ROWS + 6, 10), count=3)
    slabs = list(gpu.slabs())
    assert [len(slab) for slab in slabs] == [SLAB_ROWS, 6]
    close(np.concatenate(slabs), cpu.volume())


@emulated
def test_replaced_and_removed_leave_no_trace():
    cpu, gpu = both((5, 18))
    for sums in (cpu, gpu):
        sums.add(3, 12.0, np.ones((5, 18)))
        sums.remove(5)
    close(gpu.volume(), cpu.volume())


@emulated
def test_nothing_gives_zeros():
    gpu = CudaBackProjection((4, 6), device=emulated_gpu())
    assert not gpu.volume().any()
    assert [s.shape for s in gpu.orthoslices()] == [(6, 6), (4, 6), (4, 6)]


@emulated
def test_places_in_wide_projections_are_as_good_as_in_narrow_ones():
    """With a place in plain single precision the steep edges of a wide projection would be off by 1e-4."""
    width = 3000
    projection = np.zeros((1, width), np.float32)
    projection[0, ::2] = 1.0
    cpu = IncrementalBackProjection((1, width), "ram-lak")
    gpu = CudaBackProjection((1, width), "ram-lak", device=emulated_gpu())
    for sums in (cpu, gpu):
        sums.add(0, 33.0, projection)
        sums.add(1, 123.0, projection)
    corner = slice(0, 1), slice(500, 540), slice(2400, 2440)
    wanted = cpu.region(*corner)
    np.testing.assert_allclose(gpu.region(*corner), wanted, atol=1e-5 * float(np.abs(wanted).max()))


def test_too_large_is_refused():
    with pytest.raises(VolumeTooLargeError, match="bound of 1000"):
        CudaBackProjection((10, 11), device=emulated_gpu(), max_voxels=1000)


def test_without_a_gpu_the_aggregator_says_so_at_once():
    try:
        backend("gpu")
    except DeviceError:
        with pytest.raises(DeviceError, match="gpu"):
            Aggregator("scan", TomographyConfig(device="gpu"))
    else:
        assert Aggregator("scan", TomographyConfig(device="gpu")).projections_used == 0


@pytest.mark.parametrize("processor", ["sm_80", "sm_90", "sm_120"])
def test_kernel_compiles_as_it_does_at_run_time(processor):
    assert b"back_project" in compiled(kernel_source(), processor)


@pytest.mark.skipif(NVCC is None, reason="nvcc is not installed")
def test_nothing_spills_to_memory(tmp_path):
    file = tmp_path / "kernels.cu"
    file.write_text(kernel_source())
    command = [NVCC, "-std=c++17", "-arch=sm_90", "-cubin", "-Xptxas", "-v", file, "-o", tmp_path / "kernels.bin"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert "0 bytes spill stores" in done.stderr
    assert int(re.search(r"Used (\d+) registers", done.stderr)[1]) <= 64


@emulated
def test_the_aggregator_gives_the_same_on_both(monkeypatch):
    device = emulated_gpu()
    for module in ("aggregator", "cuda_back_projection"):
        monkeypatch.setattr(sys.modules[f"streamptycho.tomography.{module}"], "backend", lambda name: device)
    small = (Ellipsoid((0, 0, 0), (9, 7, 8), 0.05),)
    updates = [object_update(k, 20.0 * k, shape=(40, 40), sample=small) for k in range(9)]
    seen = []
    for name in ("cpu", "gpu"):
        result = Aggregator("scan", TomographyConfig(device=name, quantity="delta", align="mass"))
        for update in updates:
            assert result.add(update) == []
        last = result.update(final=True)
        seen.append((result.volume(), result.slice_at("y", 20), last.slice_x, last.resolution_m))
    assert seen[0][3] == pytest.approx(seen[1][3], rel=1e-3)
    for found, wanted in zip(seen[1][:3], seen[0][:3], strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5 * seen[0][0].max())
