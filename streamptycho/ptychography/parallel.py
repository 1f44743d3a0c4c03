"""Groups of frames visited by several threads on the CPU: see `grouping`."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from streamptycho.messages import Array
from streamptycho.ptychography.canvas import Canvas
from streamptycho.ptychography.compiled_fft import Plan, aligned, plan
from streamptycho.ptychography.compiled_update import CompiledUpdater
from streamptycho.ptychography.compiled_visit import convert_probe
from streamptycho.ptychography.frames import FrameStore
from streamptycho.ptychography.grouping import group_size
from streamptycho.ptychography.lanes import LANES
from streamptycho.ptychography.pace import Pace
from streamptycho.ptychography.parallel_barrier import BARRIER_WORDS, break_barrier
from streamptycho.ptychography.parallel_visit import visit_groups
from streamptycho.ptychography.propagation import WHOLE_PIXEL
from streamptycho.ptychography.visits import UpdateRule, VisitOutcome, Visits

LEAST_GROUPS = 96
LEAST_GROUP = 8
_FRAMES_PER_THREAD = 4


def parallel_updater(probe: Array, rule: UpdateRule, threads: int) -> CompiledUpdater | None:
    """Return an updater for a probe (modes, n, n), None when n has no compiled Fourier transform."""
    found = plan(probe.shape[-1])
    if found is None:
        return None
    return CompiledUpdater(probe, found, rule) if threads == 1 else ParallelUpdater(probe, found, rule, threads)


class ParallelUpdater(CompiledUpdater):
    """Visits frames in groups, by several threads. As long as frames are few, it visits them one after another.

    Where other programs need the processors, threads that wait for each other are slower than one that does all the
    work. So now and then the other way is tried, and the faster one kept: see `Pace`. Results are the same either way.

    Parameters
    ----------
    probe
        (modes, n, n) complex, centred on [n // 2, n // 2], its power that of a mean frame.
    plan
        Of transforms of length n.
    rule
        How to update.
    threads
        How many, 2 or more.
    """

    def __init__(self, probe: Array, plan: Plan, rule: UpdateRule, threads: int) -> None:
        super().__init__(probe, plan, rule)
        self._threads = threads
        self._pace = Pace()
        self._pool: ThreadPoolExecutor | None = None
        self._probe_changes = aligned((threads, *self._probe.shape))
        self._changes = np.zeros((0, 3, self._n**2), np.float32)
        self._sums = np.zeros((threads, 3, 0), np.float32)
        self._rooms = [
            self._room,
            *(tuple(aligned(part.shape) for part in self._room[:-1]) for _ in range(threads - 1)),
        ]
        self._rooms[1:] = [(*room, self._room[-1]) for room in self._rooms[1:]]
        radices, turns, scratch = self._plan
        self._plans = [self._plan, *((radices, turns, aligned(scratch.shape)) for _ in range(threads - 1))]

    def _visit(self, canvas: Canvas, store: FrameStore, visits: Visits, steps: Array) -> VisitOutcome:
        changes = bool(np.any(steps > 0))
        group = len(visits)
        if changes:
            group = 1 << group_size(visits.in_turn, _FRAMES_PER_THREAD * self._threads, LEAST_GROUPS).bit_length() - 1
        if group < (LEAST_GROUP if changes else 2):
            return super()._visit(canvas, store, visits, steps)
        self._check(store)
        image: Any = canvas.image
        places = canvas.places(visits.corners)
        numbers = np.array([visits.gains, *steps], np.float64).T.copy()
        outcome = np.zeros((len(visits), 4))
        between = bool((np.abs(visits.fractions_px) >= WHOLE_PIXEL).any())
        if between != self._is_spectrum:
            convert_probe(self._probe, self._probe, self._n, self._is_spectrum, self._room[4], self._plan)
            self._is_spectrum = between
        if changes:
            self._make_room(group, image.shape[1])
        shared = (
            image, places, visits.fractions_px, store.addresses[visits.frames], store.kinds[visits.frames], numbers,
            group, self._rule, between, self._probe, self._changes, self._probe_changes,
        )  # fmt: skip
        self._run(shared, outcome)
        return VisitOutcome(residual=outcome[:, 0], shift_px=outcome[:, 1:3], gain=outcome[:, 3])

    def _make_room(self, group: int, columns: int) -> None:
        if len(self._changes) < group:
            self._changes = np.zeros((group, 3, self._n**2), np.float32)
        if self._sums.shape[2] < columns + LANES:
            self._sums = np.zeros((self._threads, 3, columns + LANES), np.float32)

    def _run(self, shared: tuple[Any, ...], outcome: Array) -> None:
        workers = self._threads if self._pace.together else 1
        barrier = np.zeros(BARRIER_WORDS, np.int64)
        compiled: Any = visit_groups

        def part(worker: int) -> None:
            room, plan, sums = self._rooms[worker], self._plans[worker], self._sums[worker]
            compiled(*shared, sums, room, plan, outcome, worker, workers, barrier)

        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads - 1, thread_name_prefix="visits")
        others: list[Future[None]] = []
        began = time.perf_counter()
        try:
            others.extend(self._pool.submit(part, worker) for worker in range(1, workers))
            part(0)
        except BaseException:
            break_barrier(barrier)
            raise
        finally:
            for other in others:
                other.result()
        self._pace.took((time.perf_counter() - began) / len(outcome))
