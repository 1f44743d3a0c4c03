import threading

import numpy as np
import pytest

from streamptycho.config import ReconstructionConfig
from streamptycho.ptychography import parallel
from streamptycho.ptychography.canvas import Canvas
from streamptycho.ptychography.compiled_update import CompiledUpdater
from streamptycho.ptychography.epie import EpieEngine
from streamptycho.ptychography.grouping import group_size
from streamptycho.ptychography.pace import Pace
from streamptycho.ptychography.parallel import ParallelUpdater, parallel_updater
from streamptycho.ptychography.parallel_barrier import BARRIER_WORDS, break_barrier, wait_for_all
from streamptycho.ptychography.update import ProbeUpdater, probe_updater
from streamptycho.ptychography.visits import UpdateRule
from tests.visits_in_groups import CPU, assert_same_visits, scene, visited_in_groups


@pytest.fixture
def groups_of_half_the_frames(monkeypatch):
    monkeypatch.setattr(parallel, "LEAST_GROUPS", 2)
    monkeypatch.setattr(parallel, "LEAST_GROUP", 4)


def visited(start, rule, visits, threads, *, together=True):
    updater = parallel_updater(start.probe, rule, threads)
    if threads > 1:
        updater._pace.together = together
    canvas = Canvas.holding(CPU, start.image, start.probe.shape[-1])
    outcome = updater.visit(canvas, start.store(), visits)
    return canvas.image, updater.probe, outcome


@pytest.mark.usefixtures("groups_of_half_the_frames")
@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize(
    ("modes", "rule", "sub_pixel"),
    [
        (1, UpdateRule(), False),
        (2, UpdateRule(), True),
        (3, UpdateRule(upsampling=2, find_shifts=True, object_alpha=0.3, probe_alpha=0.5), True),
    ],
    ids=["whole-pixel", "plain", "everything"],
)
def test_groups_equal_the_reference(modes, rule, sub_pixel, threads):
    start = scene(32, modes, upsampling=rule.upsampling, sub_pixel=sub_pixel)
    visits = start.visits(object_step=0.9, probe_step=np.linspace(0, 0.4, len(start.counts)))
    assert_same_visits(visited(start, rule, visits, threads), visited_in_groups(start, rule, visits, group=4))


@pytest.mark.usefixtures("groups_of_half_the_frames")
def test_the_same_visits_by_the_same_threads_come_to_the_same_bits():
    start = scene(32, 2, frames=16)
    visits = start.visits(object_step=0.9, probe_step=0.3)
    ways = (True, False, True, True)
    first, *others = (visited(start, UpdateRule(), visits, 2, together=way) for way in ways)
    for other in others:
        np.testing.assert_array_equal(other[0], first[0])
        np.testing.assert_array_equal(other[1], first[1])
    three = visited(start, UpdateRule(), visits, 3)
    assert np.abs(three[0] - first[0]).max() < 1e-5 * np.abs(first[0]).max()


def test_few_frames_are_visited_one_after_another():
    start = scene(32, 2)
    visits = start.visits(object_step=0.9, probe_step=0.3)
    one, many = (visited(start, UpdateRule(), visits, threads) for threads in (1, 4))
    np.testing.assert_array_equal(many[0], one[0])
    np.testing.assert_array_equal(many[1], one[1])


@pytest.mark.parametrize("between", [True, False])
def test_a_misfit_by_threads_is_that_of_one(between):
    start = scene(32, 2, sub_pixel=between)
    outcomes = []
    for threads in (1, 2):
        updater = parallel_updater(start.probe, UpdateRule(find_shifts=True), threads)
        canvas = Canvas.holding(CPU, start.image, 32)
        outcomes.append(updater.misfit(canvas, start.store(), start.visits(object_step=0.9, probe_step=0.3)))
        np.testing.assert_array_equal(canvas.image, start.image)
    for name in ("residual", "shift_px", "gain"):
        np.testing.assert_allclose(getattr(outcomes[1], name), getattr(outcomes[0], name), rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("groups_of_half_the_frames")
def test_threads_follow_a_canvas_that_grows():
    start = scene(32, 1)
    visits = start.visits(object_step=0.9, probe_step=0.3)
    updater, store = parallel_updater(start.probe, UpdateRule(), 2), start.store()
    updater.visit(Canvas.holding(CPU, start.image, 32), store, visits)
    probe = updater.probe
    wide = np.pad(start.image, ((0, 5), (0, 100)), constant_values=1)
    canvas = Canvas.holding(CPU, wide, 32)
    updater.visit(canvas, store, visits)
    start.probe, start.image = probe, wide
    wanted = visited_in_groups(start, UpdateRule(), visits, group=4)
    assert np.abs(canvas.image - wanted[0]).max() < 2e-4 * np.abs(wanted[0]).max()


@pytest.mark.parametrize("modes", [1, 3])
def test_as_many_sweeps_as_one_frame_after_another(measure, modes, monkeypatch):
    """From a guessed probe, frames that overlap by four fifths, 8 of them at the same time."""
    monkeypatch.setattr(parallel, "LEAST_GROUPS", 48)
    data = measure(side=20, step_px=2.0, modes=modes, photons=1e5)

    def errors(threads):
        engine = EpieEngine(ReconstructionConfig(sweeps=100, modes=modes, threads=threads, seed=3))
        engine.begin(data.start())
        engine.add(data.batch())
        found = []
        for _ in range(24):
            engine.run(1)
            found.append(engine.evaluate() / data.noise_floor)
        return np.array(found)

    alone, together = errors(1), errors(3)
    for sweeps in (6, 12, 18):
        needed = int(np.flatnonzero(together <= alone[sweeps - 1])[0]) + 1
        assert needed <= 1.2 * sweeps + 1
    assert together[-1] <= 1.02 * alone[-1]


def test_a_group_is_a_small_share_of_the_frames():
    assert [group_size(frames, 8, 32) for frames in (0, 1, 63, 64, 255, 256, 10_000)] == [1, 1, 1, 2, 7, 8, 8]


def test_one_thread_is_exact_and_odd_sizes_have_no_compiled_route():
    assert type(probe_updater(np.ones((1, 32, 32), np.complex64), CPU)) is CompiledUpdater
    assert type(probe_updater(np.ones((1, 32, 32), np.complex64), CPU, threads=2)) is ParallelUpdater
    assert type(probe_updater(np.ones((1, 22, 22), np.complex64), CPU, threads=2)) is ProbeUpdater


@pytest.mark.usefixtures("groups_of_half_the_frames")
def test_a_thread_that_cannot_start_leaves_none_waiting(monkeypatch):
    start = scene(32, 1)
    updater = parallel_updater(start.probe, UpdateRule(), 3)
    canvas, visits = Canvas.holding(CPU, start.image, 32), start.visits(object_step=0.9)
    updater.visit(canvas, start.store(), visits)
    submit, calls, updater._pace.together = updater._pool.submit, [], True

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) > 1:
            raise RuntimeError("can't start new thread")
        return submit(*arguments)

    monkeypatch.setattr(updater._pool, "submit", failing)
    with pytest.raises(RuntimeError, match="new thread"):
        updater.visit(canvas, start.store(), visits)
    assert len(calls) == 2


@pytest.mark.parametrize(("together_s", "alone_s"), [(1.0, 1.6), (1.6, 1.0)])
def test_the_faster_way_is_kept_and_the_other_tried_ever_less_often(together_s, alone_s):
    pace, used = Pace(), []
    for _ in range(600):
        used.append(pace.together)
        pace.took(together_s if pace.together else alone_s)
    faster = together_s < alone_s
    assert used[0]
    assert used.count(not faster) <= 9
    assert (not faster) in used[100:]


def test_a_change_of_load_is_noticed():
    pace = Pace()
    for _ in range(100):
        pace.took(1.0 if pace.together else 1.6)
    used = []
    for _ in range(600):
        used.append(pace.together)
        pace.took(4.0 if pace.together else 1.6)
    assert not any(used[-20:])


def test_a_barrier_holds_until_all_came():
    words, passed = np.zeros(BARRIER_WORDS, np.int64), []

    def run(rounds):
        for k in range(rounds):
            assert wait_for_all(words, 2)
            passed.append(k)

    other = threading.Thread(target=run, args=(200,))
    other.start()
    run(200)
    other.join(20)
    assert passed == [k for k in range(200) for _ in range(2)]


def test_a_broken_barrier_lets_go():
    words, result = np.zeros(BARRIER_WORDS, np.int64), []
    waiting = threading.Thread(target=lambda: result.append(wait_for_all(words, 2)))
    waiting.start()
    break_barrier(words)
    waiting.join(20)
    assert result == [False]
