"""The update of object and probe on the CPU, many frame visits in one call of compiled code."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamptycho.messages import Array
from streamptycho.ptychography.canvas import Canvas
from streamptycho.ptychography.compiled_fft import Plan, plan, row_pitch
from streamptycho.ptychography.compiled_visit import convert_probe, visit_frames
from streamptycho.ptychography.frames import FrameStore
from streamptycho.ptychography.lanes import LANES
from streamptycho.ptychography.visits import UpdateRule, VisitOutcome, Visits


def compiled_updater(probe: Array, rule: UpdateRule) -> CompiledUpdater | None:
    """Return an updater for a probe (modes, n, n), None when n has no compiled Fourier transform."""
    found = plan(probe.shape[-1])
    return None if found is None else CompiledUpdater(probe, found, rule)


class CompiledUpdater:
    """Does what `ProbeUpdater` does, several times faster.

    Parameters
    ----------
    probe
        (modes, n, n) complex, centred on [n // 2, n // 2], its power that of a mean frame.
    plan
        Of transforms of length n.
    rule
        How to update.
    """

    def __init__(self, probe: Array, plan: Plan, rule: UpdateRule) -> None:
        modes, n, _ = probe.shape
        size = n * row_pitch(n)
        self._n = n
        self._frame_px = n // rule.upsampling
        self._rule = (rule.upsampling, rule.object_alpha, rule.probe_alpha, rule.find_shifts)
        self._probe = np.zeros((modes, size), np.float32)
        self._is_spectrum = False
        image = self._probe.reshape(modes, n, -1)
        image[:, :, :n], image[:, :, n : 2 * n] = probe.real, probe.imag
        inner = np.ones(n, np.float32)
        inner[[0, -1]] = 0
        self._room = (
            np.zeros_like(self._probe),
            np.zeros_like(self._probe),
            np.zeros(size, np.float32),
            np.empty(self._frame_px**2, np.float32),
            np.zeros((2, 2 * n), np.float32),
            inner,
        )
        self._plan = plan.radices, plan.turns, np.empty((2, 2 * n * LANES), np.float32)

    @property
    def probe(self) -> Array:
        """The probe modes, (modes, n, n) complex64, a copy."""
        n, fields = self._n, self._probe
        if self._is_spectrum:
            fields = np.zeros_like(fields)
            convert_probe(self._probe, fields, n, True, self._room[2], self._plan)
        rows = fields.reshape(len(fields), n, -1)
        probe = np.empty((len(rows), n, n), np.complex64)
        probe.real, probe.imag = rows[:, :, :n], rows[:, :, n : 2 * n]
        return probe

    def misfit(self, canvas: Canvas, store: FrameStore, visits: Visits) -> VisitOutcome:
        """Return what visits would find, and change nothing."""
        return self._visit(canvas, store, visits, np.zeros((2, len(visits)), np.float32))

    def visit(self, canvas: Canvas, store: FrameStore, visits: Visits) -> VisitOutcome:
        """See `ProbeUpdater.visit`."""
        return self._visit(canvas, store, visits, np.stack([visits.object_step, visits.probe_step]))

    def _visit(self, canvas: Canvas, store: FrameStore, visits: Visits, steps: Array) -> VisitOutcome:
        self._check(store)
        image: Any = canvas.image
        places = canvas.places(visits.corners)
        numbers = np.array([visits.gains, *steps], np.float64).T.copy()
        outcome = np.zeros((len(visits), 4))
        self._is_spectrum = visit_frames(
            image, places, visits.fractions_px, store.addresses[visits.frames], store.kinds[visits.frames], numbers,
            self._rule, self._is_spectrum, self._probe, self._room, self._plan, outcome,
        )  # fmt: skip
        return VisitOutcome(residual=outcome[:, 0], shift_px=outcome[:, 1:3], gain=outcome[:, 3])

    def _check(self, store: FrameStore) -> None:
        if store.shape != (self._frame_px, self._frame_px):
            raise ValueError(f"frames must be {self._frame_px} pixels wide and high, got {store.shape}")
