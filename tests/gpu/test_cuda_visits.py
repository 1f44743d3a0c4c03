"""The kernels on a device, against the reference on the CPU: what `test_cuda_kernels` does without one."""

import numpy as np
import pytest

from streamptycho.array import DeviceError, backend
from streamptycho.ptychography import cuda_update
from streamptycho.ptychography.canvas import Canvas
from streamptycho.ptychography.cuda_update import CudaUpdater, cuda_updater
from streamptycho.ptychography.update import ProbeUpdater, probe_updater
from streamptycho.ptychography.visits import UpdateRule
from tests.visits_in_groups import assert_same_visits, scene, visited_in_groups

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", autouse=True)
def device():
    try:
        return backend("gpu")
    except DeviceError as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def groups_of_half_the_frames(monkeypatch):
    monkeypatch.setattr(cuda_update, "LEAST_GROUPS", 2)


def visited(start, rule, visits, device):
    updater = cuda_updater(start.probe, device, rule)
    assert updater is not None
    canvas = Canvas.holding(device, start.image, start.probe.shape[-1])
    outcome = updater.visit(canvas, start.store(device), visits)
    return device.to_host(canvas.image), device.to_host(updater.probe), outcome


@pytest.mark.parametrize(
    ("n", "modes", "rule", "sub_pixel"),
    [
        (32, 2, UpdateRule(), True),
        (32, 1, UpdateRule(find_shifts=True), False),
        (64, 2, UpdateRule(upsampling=2), True),
        (96, 3, UpdateRule(upsampling=2, find_shifts=True, object_alpha=0.3, probe_alpha=0.5), True),
        (128, 4, UpdateRule(), True),
        (128, 1, UpdateRule(), False),
        (256, 2, UpdateRule(), True),
    ],
    ids=["32", "whole-pixel", "64 upsampled", "everything", "128", "128 whole-pixel", "in device memory"],
)
def test_kernels_equal_the_reference(n, modes, rule, sub_pixel, device):
    start = scene(n, modes, upsampling=rule.upsampling, sub_pixel=sub_pixel)
    visits = start.visits(object_step=0.9, probe_step=np.linspace(0, 0.4, len(start.counts)))
    wanted = visited_in_groups(start, rule, visits, group=len(start.counts) // 2)
    assert_same_visits(visited(start, rule, visits, device), wanted)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "float32"])
def test_all_counts_are_read_and_gaps_left_out(dtype, device):
    start = scene(32, 2, frames=4, dtype=dtype)
    visits = start.visits(object_step=0.9, probe_step=0.3)
    wanted = visited_in_groups(start, UpdateRule(), visits, group=2)
    assert_same_visits(visited(start, UpdateRule(), visits, device), wanted)


def test_repeated_runs_differ_by_rounding_only(device):
    start = scene(128, 2, frames=64)
    visits = start.visits(object_step=0.9, probe_step=0.3)
    runs = [visited(start, UpdateRule(), visits, device) for _ in range(4)]
    for other in runs[1:]:
        assert np.abs(other[0] - runs[0][0]).max() < 1e-4 * np.abs(runs[0][0]).max()
        assert np.abs(other[1] - runs[0][1]).max() < 1e-4 * np.abs(runs[0][1]).max()


def test_a_misfit_changes_nothing(device):
    start = scene(64, 2)
    updater = cuda_updater(start.probe, device, UpdateRule())
    canvas = Canvas.holding(device, start.image, 64)
    outcome = updater.misfit(canvas, start.store(device), start.visits(object_step=0.9))
    np.testing.assert_array_equal(device.to_host(canvas.image), start.image)
    expected = visited_in_groups(start, UpdateRule(), start.visits(), group=9)[2]
    np.testing.assert_allclose(outcome.residual, expected.residual, rtol=2e-4)


def test_the_readable_path_on_the_device_equals_that_on_the_cpu(device):
    start = scene(32, 2)
    visits = start.visits(object_step=0.9, probe_step=0.3)
    canvas, updater = Canvas.holding(device, start.image, 32), ProbeUpdater(start.probe, device)
    outcome = updater.visit(canvas, start.store(device), visits)
    found = device.to_host(canvas.image), device.to_host(updater.probe), outcome
    assert_same_visits(found, visited_in_groups(start, UpdateRule(), visits, group=1))


def test_kernels_are_chosen_where_they_fit_and_the_readable_path_elsewhere(device):
    assert isinstance(probe_updater(np.ones((2, 64, 64), np.complex64), device), CudaUpdater)
    assert isinstance(probe_updater(np.ones((2, 22, 22), np.complex64), device), ProbeUpdater)
