"""The update of object and probe on the CPU, many frame visits in one call of compiled code."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamptycho.messages import Array
from streamptycho.ptychography.canvas import Canvas
from streamptycho.ptychography.compiled_fft import Plan, aligned, field_size, fields_of, images_of, plan
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
        size = field_size(n)
        self._n = n
        self._frame_px = n // rule.upsampling
        self._rule = (rule.upsampling, rule.object_alpha, rule.probe_alpha, rule.find_shifts)
        self._probe = fields_of(probe)
        self._is_spectrum = False
        inner = np.ones(n, np.float32)
        inner[[0, -1]] = 0
        self._room = (
            aligned((modes, size)),
            aligned((modes, size)),
            aligned((modes, size)),
            aligned((modes, 2 * n * LANES)),
            aligned((size,)),
            aligned((self._frame_px**2,)),
            np.zeros((2, 2 * n), np.float32),
            inner,
        )
        self._plan = plan.radices, plan.turns, aligned((2, 2 * n * LANES))

    @property
    def probe(self) -> Array:
        """The probe modes, (modes, n, n) complex64, a copy."""
        n, fields = self._n, self._probe
        if self._is_spectrum:
            fields = np.zeros_like(fields)
            convert_probe(self._probe, fields, n, True, self._room[4], self._plan)
        return images_of(fields, n)

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
