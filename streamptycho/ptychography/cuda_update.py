"""The update of object and probe on a GPU, a thread block for each frame of a group."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from streamptycho.array import Backend
from streamptycho.messages import Array
from streamptycho.ptychography.canvas import Canvas
from streamptycho.ptychography.cuda_source import KernelPlan, kernel_plan, kernel_source
from streamptycho.ptychography.frames import FrameStore
from streamptycho.ptychography.grouping import group_size
from streamptycho.ptychography.propagation import WHOLE_PIXEL
from streamptycho.ptychography.visits import UpdateRule, VisitOutcome, Visits

LEAST_GROUPS = 16
_COLUMNS_PER_BLOCK = 128
_KERNELS = ("convert_probe", "visit_group", "change_object", "change_probe")


def cuda_updater(probe: Array, backend: Backend, rule: UpdateRule) -> CudaUpdater | None:
    """Return an updater for a probe (modes, n, n), None when the kernels do not take its size.

    Raises
    ------
    Exception
        Of CuPy, if the kernels cannot be compiled or loaded.
    """
    modes, n, _ = probe.shape
    attributes = backend.xp.cuda.Device().attributes
    per_block, per_processor = (
        attributes["MaxSharedMemoryPerBlockOptin"],
        attributes["MaxSharedMemoryPerMultiprocessor"],
    )
    plan = kernel_plan(n, modes, int(per_block), int(per_processor))
    if plan is None or n % rule.upsampling:
        return None
    return CudaUpdater(probe, backend, rule, plan, int(attributes["MultiProcessorCount"]))


class CudaUpdater:
    """Does what `ProbeUpdater` does for groups of frames, by the policy of `grouping`.

    Object, probe, counts and all wishes stay on the device; the host only starts kernels, three for each group, and
    reads the outcome of a whole call at its end.

    Parameters
    ----------
    probe
        (modes, n, n) complex, centred on [n // 2, n // 2], its power that of a mean frame.
    backend
        Of the GPU.
    rule
        How to update.
    plan
        Of the kernels.
    processors
        Multiprocessors of the device.
    """

    def __init__(self, probe: Array, backend: Backend, rule: UpdateRule, plan: KernelPlan, processors: int) -> None:
        xp = self._xp = backend.xp
        self._backend, self._rule, self._plan = backend, rule, plan
        self._frame_px = plan.n // rule.upsampling
        self._at_once = max(plan.modes, processors * plan.blocks_per_processor)
        module = xp.RawModule(code=kernel_source(plan, rule), options=("-std=c++17",))
        self._kernels = {name: module.get_function(name) for name in _KERNELS}
        for name in _KERNELS[:2]:
            self._kernels[name].max_dynamic_shared_size_bytes = plan.shared_bytes
        self._probe = xp.array(probe, np.complex64, order="C")
        self._is_spectrum = False
        self._probe_change = xp.zeros_like(self._probe)
        phase = -2j * np.pi * np.arange(plan.n) / plan.n
        self._turns = xp.asarray(np.exp(phase).astype(np.complex64))
        shape = (self._at_once, plan.n, plan.n)
        several = (self._at_once, plan.modes, plan.n, plan.n)
        outside = (1, 1, 1) if plan.field_in_shared else shape
        self._room = (
            xp.empty(outside, np.complex64),
            xp.empty(several, np.complex64),
            xp.empty(several, np.complex64),
            xp.empty(shape, np.complex64),
            xp.empty(outside, np.float32),
            xp.empty(shape, np.float32),
        )
        self._object_change = xp.zeros((0, 0), np.complex64)
        self._object_share = xp.zeros((0, 0), np.float32)

    @property
    def probe(self) -> Any:
        """The probe modes, (modes, n, n) complex64, on the device."""
        self._hold(spectrum=False)
        return self._probe

    def misfit(self, canvas: Canvas, store: FrameStore, visits: Visits) -> VisitOutcome:
        """See `Updater.misfit`."""
        nothing = np.zeros(len(visits), np.float32)
        return self._visit(canvas, store, dataclasses.replace(visits, object_step=nothing, probe_step=nothing), False)

    def visit(self, canvas: Canvas, store: FrameStore, visits: Visits) -> VisitOutcome:
        """Visit frames in groups of those that follow each other: see `Updater.visit` and `grouping`."""
        return self._visit(canvas, store, visits, True)

    def _visit(self, canvas: Canvas, store: FrameStore, visits: Visits, wants: bool) -> VisitOutcome:
        if store.shape != (self._frame_px, self._frame_px):
            raise ValueError(f"frames must be {self._frame_px} pixels wide and high, got {store.shape}")
        xp, places, image = self._xp, canvas.places(visits.corners), canvas.image
        self._hold(spectrum=bool((np.abs(visits.fractions_px) >= WHOLE_PIXEL).any()))
        group = group_size(visits.in_turn, self._at_once, LEAST_GROUPS) if wants else self._at_once
        if wants and self._object_share.shape != image.shape:
            self._object_change = xp.zeros(image.shape, np.complex64)
            self._object_share = xp.zeros(image.shape, np.float32)
        numbers = np.stack([visits.gains, visits.object_step, visits.probe_step], axis=1).astype(np.float32)
        outcome = xp.zeros((len(visits), 4), np.float32)
        given = (
            np.int32(image.shape[1]), self._probe, np.int32(self._is_spectrum), self._turns,
            xp.asarray(places.astype(np.int32)), xp.asarray(visits.fractions_px.astype(np.float32)),
            xp.asarray(store.addresses[visits.frames].astype(np.uint64)),
            xp.asarray(store.kinds[visits.frames].astype(np.int32)), xp.asarray(numbers),
        )  # fmt: skip
        alphas = np.float32(self._rule.object_alpha), np.float32(self._rule.probe_alpha)
        changes = self._object_change, self._object_share, self._probe_change
        for first in range(0, len(visits), group):
            some = slice(first, min(first + group, len(visits)))
            arguments = (image, *given, np.int32(first), np.int32(wants), *alphas, *self._room, *changes, outcome)
            self._start("visit_group", (some.stop - first,), self._plan.threads, arguments, self._plan.shared_bytes)
            if wants:
                self._apply(image, places[some], float(visits.probe_step[some].sum()))
        found = self._backend.to_host(outcome).astype(np.float64)
        modelled, total = found[:, 3], store.totals[visits.frames]
        gain = np.where(modelled > 0, total / np.where(modelled > 0, modelled, 1), visits.gains)
        return VisitOutcome(residual=found[:, 0], shift_px=found[:, 1:3].copy(), gain=gain)

    def _apply(self, image: Any, places: Array, summed_steps: float) -> None:
        (top, left), (bottom, right) = places.min(axis=0), places.max(axis=0) + self._plan.n
        rows, columns = int(bottom - top), int(right - left)
        grid = -(-columns // _COLUMNS_PER_BLOCK), rows
        numbers = tuple(np.int32(v) for v in (image.shape[1], top, left, rows, columns))
        arguments = (image, self._object_change, self._object_share, *numbers)
        self._start("change_object", grid, _COLUMNS_PER_BLOCK, arguments)
        if summed_steps > 0:
            blocks = -(-self._probe.size // 256)
            self._start("change_probe", (blocks,), 256, (self._probe, self._probe_change, np.float32(summed_steps)))

    def _hold(self, *, spectrum: bool) -> None:
        if spectrum != self._is_spectrum:
            arguments = (self._probe, self._turns, self._room[0], np.int32(not spectrum))
            self._start("convert_probe", (self._plan.modes,), self._plan.threads, arguments, self._plan.shared_bytes)
            self._is_spectrum = spectrum

    def _start(
        self, name: str, grid: tuple[int, ...], threads: int, arguments: tuple[Any, ...], shared_bytes: int = 0
    ) -> None:
        self._kernels[name](grid, (threads,), arguments, shared_mem=shared_bytes)
