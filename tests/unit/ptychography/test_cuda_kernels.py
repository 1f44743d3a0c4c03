import numpy as np
import pytest

from streamptycho.ptychography import cuda_update
from streamptycho.ptychography.canvas import Canvas
from streamptycho.ptychography.cuda_source import kernel_plan, kernel_source
from streamptycho.ptychography.cuda_update import cuda_updater
from streamptycho.ptychography.visits import UpdateRule
from tests.cuda_on_cpu import COMPILER, emulated_gpu
from tests.visits_in_groups import assert_same_visits, scene, visited_in_groups

pytestmark = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")
SHARED = 227 * 1024


@pytest.fixture(autouse=True)
def groups_of_half_the_frames(monkeypatch):
    monkeypatch.setattr(cuda_update, "LEAST_GROUPS", 2)


def visited(start, rule, visits, **gpu):
    device = emulated_gpu(**gpu)
    updater = cuda_updater(start.probe, device, rule)
    assert updater is not None
    canvas = Canvas.holding(device, start.image, start.probe.shape[-1])
    outcome = updater.visit(canvas, start.store(device), visits)
    return canvas.image, updater.probe, outcome


@pytest.mark.parametrize("backwards", [False, True], ids=["first thread first", "last thread first"])
@pytest.mark.parametrize(
    ("n", "modes", "rule", "sub_pixel"),
    [
        (32, 2, UpdateRule(), True),
        (32, 1, UpdateRule(find_shifts=True), False),
        (32, 3, UpdateRule(upsampling=2, find_shifts=True, object_alpha=0.3, probe_alpha=0.5), True),
        (64, 2, UpdateRule(), False),
        (60, 1, UpdateRule(upsampling=3), True),
        (128, 1, UpdateRule(), True),
    ],
    ids=["plain", "whole-pixel", "everything", "64", "60", "128"],
)
def test_kernels_equal_the_reference(n, modes, rule, sub_pixel, backwards):
    start = scene(n, modes, frames=9 if n < 100 else 2, upsampling=rule.upsampling, sub_pixel=sub_pixel)
    visits = start.visits(object_step=0.9, probe_step=np.linspace(0, 0.4, len(start.counts)))
    wanted = visited_in_groups(start, rule, visits, group=len(start.counts) // 2)
    assert_same_visits(visited(start, rule, visits, backwards=backwards), wanted)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "float32"])
def test_all_counts_are_read_and_gaps_left_out(dtype):
    start = scene(32, 2, frames=4, dtype=dtype)
    visits = start.visits(object_step=0.9, probe_step=0.3)
    wanted = visited_in_groups(start, UpdateRule(), visits, group=len(start.counts) // 2)
    assert_same_visits(visited(start, UpdateRule(), visits), wanted)


def test_fields_too_large_for_shared_memory_lie_in_device_memory():
    start = scene(32, 2, frames=4)
    visits = start.visits(object_step=0.9, probe_step=0.3)
    wanted = visited_in_groups(start, UpdateRule(), visits, group=len(start.counts) // 2)
    assert_same_visits(visited(start, UpdateRule(), visits, shared_bytes=4096), wanted)


@pytest.mark.parametrize("left_out", [0, 2, 6, 8])
def test_a_missing_barrier_would_be_found(left_out, monkeypatch):
    def without(plan, rule):
        parts = kernel_source(plan, rule).split("__syncthreads();")
        assert len(parts) == 11
        return "__syncthreads();".join(
            [*parts[:left_out], ";".join(parts[left_out : left_out + 2]), *parts[left_out + 2 :]]
        )

    start = scene(32, 2, frames=3)
    visits = start.visits(object_step=0.9, probe_step=0.3)
    wanted = visited_in_groups(start, UpdateRule(), visits, group=1)
    monkeypatch.setattr(cuda_update, "kernel_source", without)

    def visited_in_both_orders():
        for backwards in (False, True):
            assert_same_visits(visited(start, UpdateRule(), visits, backwards=backwards), wanted)

    with pytest.raises(AssertionError):
        visited_in_both_orders()


def test_a_misfit_changes_nothing():
    start = scene(32, 2)
    device = emulated_gpu()
    updater = cuda_updater(start.probe, device, UpdateRule())
    canvas = Canvas.holding(device, start.image, 32)
    steps = start.visits(object_step=0.9, probe_step=0.3)
    outcome = updater.misfit(canvas, start.store(device), steps)
    np.testing.assert_array_equal(canvas.image, start.image)
    assert np.abs(updater.probe - start.probe).max() < 1e-5 * np.abs(start.probe).max()
    expected = visited_in_groups(start, UpdateRule(), start.visits(), group=9)[2]
    np.testing.assert_allclose(outcome.residual, expected.residual, rtol=2e-4)


def test_frames_of_another_size_are_refused():
    start = scene(32, 1)
    updater = cuda_updater(scene(64, 1).probe, emulated_gpu(), UpdateRule())
    canvas = Canvas.holding(emulated_gpu(), scene(64, 1).image, 64)
    with pytest.raises(ValueError, match="64 pixels"):
        updater.visit(canvas, start.store(), start.visits())


@pytest.mark.parametrize("n", [16, 30, 32, 60, 64, 96, 100, 128, 192, 256, 512, 1024])
def test_plans_fit_the_device(n):
    plan = kernel_plan(n, 4, SHARED, SHARED + 1024)
    assert np.prod(plan.radices) == n
    assert plan.shared_bytes <= SHARED
    assert plan.blocks_per_processor * (plan.shared_bytes + 1024) <= SHARED + 1024
    assert plan.field_in_shared == (n <= 128)


def test_what_the_targets_need_is_on_the_chip():
    assert kernel_plan(128, 4, SHARED, 228 * 1024).field_in_shared
    assert kernel_plan(64, 2, SHARED, 228 * 1024).blocks_per_processor == 4


@pytest.mark.parametrize("n", [1, 8, 14, 22, 127, 1025])
def test_sizes_without_kernels_have_no_plan(n):
    assert kernel_plan(n, 1, SHARED, SHARED) is None
