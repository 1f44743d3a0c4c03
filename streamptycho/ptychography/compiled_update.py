"""The ePIE update of object and probe on the CPU, a frame visit in one call of compiled code."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamptycho.messages import Array
from streamptycho.ptychography.compiled_fft import Plan, plan, row_pitch
from streamptycho.ptychography.compiled_visit import target_modulus, transform, visit
from streamptycho.ptychography.frames import storable
from streamptycho.ptychography.lanes import LANES
from streamptycho.ptychography.propagation import WHOLE_PIXEL


def compiled_updater(probe: Array) -> CompiledUpdater | None:
    """Return an updater for a probe (modes, n, n), None when n has no compiled Fourier transform."""
    found = plan(probe.shape[-1])
    return None if found is None else CompiledUpdater(probe, found)


class CompiledUpdater:
    """Does what `ProbeUpdater` does, several times faster.

    Frames are read fastest when they lie column by column in memory, as `FrameStore` keeps them on the CPU.

    Parameters
    ----------
    probe
        (modes, n, n) complex, centred on [n // 2, n // 2], its power that of a mean frame.
    plan
        Of transforms of length n.
    """

    def __init__(self, probe: Array, plan: Plan) -> None:
        modes, n, _ = probe.shape
        size = n * row_pitch(n)
        self._n = n
        self._probe = np.zeros((modes, size), np.float32)
        self._is_spectrum = False
        image = self._probe.reshape(modes, n, -1)
        image[:, :, :n], image[:, :, n : 2 * n] = probe.real, probe.imag
        self._moved, self._waves = np.zeros_like(self._probe), np.zeros_like(self._probe)
        self._work = np.zeros(size, np.float32)
        self._ramps = np.zeros((2, 2 * n), np.float32)
        self._target = np.empty(n * n, np.float32)
        self._plan = plan.radices, plan.turns, np.empty((2, 2 * n * LANES), np.float32)

    @property
    def probe(self) -> Array:
        """The probe modes, (modes, n, n) complex64, a copy."""
        n, fields = self._n, self._probe
        if self._is_spectrum:
            fields = np.zeros_like(fields)
            self._convert(self._probe, fields, inverse=True)
        rows = fields.reshape(len(fields), n, -1)
        probe = np.empty((len(rows), n, n), np.complex64)
        probe.real, probe.imag = rows[:, :, :n], rows[:, :, n : 2 * n]
        return probe

    def misfit(self, patch: Any, fraction: tuple[float, float], counts: Any, has_gaps: bool) -> float:
        """Return sum((|F| - sqrt(I))**2) of one frame, and change nothing."""
        return self._visit(patch, fraction, counts, 0.0, 0.0, only_compare=True)

    def visit(
        self,
        patch: Any,
        fraction: tuple[float, float],
        counts: Any,
        has_gaps: bool,
        object_step: float,
        probe_step: float,
    ) -> float:
        """See `ProbeUpdater.visit`."""
        return self._visit(patch, fraction, counts, object_step, probe_step, only_compare=False)

    def _visit(
        self,
        patch: Any,
        fraction: tuple[float, float],
        counts: Any,
        object_step: float,
        probe_step: float,
        *,
        only_compare: bool,
    ) -> float:
        n = self._n
        if patch.shape != (n, n) or counts.shape != (n, n):
            raise ValueError(f"patch and counts must be ({n}, {n}), got {patch.shape} and {counts.shape}")
        if patch.dtype != np.complex64 or patch.strides[1] != patch.itemsize:
            raise ValueError(
                f"patch must be complex64 with contiguous rows, got {patch.dtype} in steps {patch.strides}"
            )
        counts = np.ascontiguousarray(storable(counts).T)
        highest = np.iinfo(counts.dtype).max if counts.dtype.kind == "u" else np.inf
        target_modulus(counts, counts.dtype.type(highest), self._target)
        down, right = fraction
        whole_pixel = abs(down) < WHOLE_PIXEL and abs(right) < WHOLE_PIXEL
        self._hold(spectrum=not whole_pixel)
        residual: float = visit(
            patch, self._target, only_compare, whole_pixel, down, right, object_step, probe_step,
            self._probe, self._moved, self._waves, self._work, self._ramps, *self._plan,
        )  # fmt: skip
        return residual

    def _hold(self, *, spectrum: bool) -> None:
        if spectrum != self._is_spectrum:
            self._convert(self._probe, self._probe, inverse=not spectrum)
            self._is_spectrum = spectrum

    def _convert(self, source: Array, target: Array, *, inverse: bool) -> None:
        for k in range(len(source)):
            transform(source[k], target[k], self._n, inverse, self._work, *self._plan)
        target *= np.float32(1 / self._n)
