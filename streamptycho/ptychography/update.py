"""The ePIE update of object and probe, frame after frame.

References
----------
Maiden and Rodenburg 2009, doi 10.1016/j.ultramic.2009.05.012 (the update).
Thibault and Menzel 2013, doi 10.1038/nature11806 (several incoherent probe modes).
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from streamptycho.array import Backend
from streamptycho.messages import Array
from streamptycho.ptychography.canvas import Canvas
from streamptycho.ptychography.frames import FrameStore
from streamptycho.ptychography.kernels import ArrayKernels, Kernels
from streamptycho.ptychography.propagation import WHOLE_PIXEL, Propagator, ShiftRamps, far_field, from_far_field
from streamptycho.ptychography.visits import UpdateRule, VisitOutcome, Visits


class Updater(Protocol):
    """Holds the probe and visits frames."""

    @property
    def probe(self) -> Any:
        """The probe modes, (modes, n, n) complex64, on the device."""

    def misfit(self, canvas: Canvas, store: FrameStore, visits: Visits) -> VisitOutcome:
        """Return what visits would find, and change nothing."""

    def visit(self, canvas: Canvas, store: FrameStore, visits: Visits) -> VisitOutcome:
        """Visit frames of the store: change the object on the canvas in place, and the probe.

        The result is that of one visit after another in the given order, to rounding. Frames with a probe step of 0
        leave the probe alone.

        Raises
        ------
        ValueError
            If a frame lies beyond the canvas, or the frames do not fit the probe.
        """


def probe_updater(probe: Array, backend: Backend, rule: UpdateRule | None = None, threads: int = 1) -> Updater:
    """Return the fastest updater there is for a device and size of probe.

    Parameters
    ----------
    probe
        (modes, n, n) complex, centred on [n // 2, n // 2], its power that of a mean frame.
    backend
        Where to compute.
    rule
        How to update, None for plain ePIE.
    threads
        On the CPU. One visits frames one after another; several, and a GPU, visit groups of them (see `grouping`).
    """
    rule = rule or UpdateRule()
    updater: Updater | None = None
    if rule.transfer is None and backend.name == "gpu":
        updater = _cuda_updater(probe, backend, rule)
    elif rule.transfer is None:
        compiled = _compiled_updater()
        updater = None if compiled is None else compiled(probe, rule, threads)
    if updater is not None:
        return updater
    return ProbeUpdater(probe, backend, rule)


def prepare(backend: Backend) -> None:
    """Compile what visits will need, so that the first one does not wait for it."""
    if backend.name == "cpu":
        _compiled_updater()


@functools.cache
def _compiled_updater() -> Callable[[Array, UpdateRule, int], Updater | None] | None:
    """Return what makes compiled updaters, None (after a warning, once) where nothing can be compiled."""
    try:
        from streamptycho.ptychography.parallel import parallel_updater
    except Exception as error:  # noqa: BLE001 - a compiler may fail in any way, and there is another way to go on
        warnings.warn(
            f"reconstruction runs several times slower, in NumPy, because it cannot be compiled here: {error}",
            RuntimeWarning,
            stacklevel=3,
        )
        return None
    return parallel_updater


def _cuda_updater(probe: Array, backend: Backend, rule: UpdateRule) -> Updater | None:
    """Return an updater of own kernels, None for sizes they do not take, and after a warning where they do not run."""
    from streamptycho.ptychography.cuda_update import cuda_updater

    try:
        return cuda_updater(probe, backend, rule)
    except Exception as error:  # noqa: BLE001 - a compiler may fail in any way, and there is another way to go on
        warnings.warn(
            f"reconstruction runs many times slower, in CuPy, because its kernels cannot be compiled here: {error}",
            RuntimeWarning,
            stacklevel=3,
        )
        return None


class ProbeUpdater:
    """`Updater` in whole-array operations, for NumPy and CuPy, and the reference of any other.

    A frame at a fraction of a pixel is lit by the probe shifted by that fraction, by a phase ramp on its spectrum.
    The shift is unitary, so the probe's own update is the shifted one shifted back, without approximation, and the
    object is never interpolated. While such frames are visited only the spectrum of the probe is kept: the shift and
    its adjoint then cost one Fourier transform each. Whole-pixel frames (within 1e-3 px) use the probe itself and
    cost none; the other of the two forms is computed when it is needed.

    Parameters
    ----------
    probe
        (modes, n, n) complex, centred on [n // 2, n // 2], its power that of a mean frame.
    backend
        Where to compute.
    rule
        How to update, None for plain ePIE.
    """

    def __init__(self, probe: Array, backend: Backend, rule: UpdateRule | None = None) -> None:
        xp = backend.xp
        self._backend = backend
        self._rule = rule or UpdateRule()
        self._probe: Any = xp.array(probe, np.complex64, order="C")
        self._spectrum: Any = None
        modes, n, _ = probe.shape
        self._n = n
        self._frame_px = n // self._rule.upsampling
        self._kernels: Kernels = ArrayKernels(xp, modes, n, self._rule)
        transfer = self._rule.transfer
        self._propagator = Propagator(None if transfer is None else xp.asarray(transfer), backend.fft)
        self._ramps = ShiftRamps(n, xp)
        self._ramp = xp.empty((n, n), np.complex64)
        self._shifted = xp.empty((modes, n, n), np.complex64)
        self._waves = xp.empty((modes, n, n), np.complex64)
        self._change = xp.empty((modes, n, n), np.complex64)

    @property
    def probe(self) -> Any:
        """The probe modes, (modes, n, n) complex64, on the device."""
        return self._as_image()

    def misfit(self, canvas: Canvas, store: FrameStore, visits: Visits) -> VisitOutcome:
        """See `Updater.misfit`."""
        return self._each(canvas, store, visits, np.zeros((len(visits), 2), np.float32))

    def visit(self, canvas: Canvas, store: FrameStore, visits: Visits) -> VisitOutcome:
        """See `Updater.visit`."""
        return self._each(canvas, store, visits, np.stack([visits.object_step, visits.probe_step], axis=1))

    def _each(self, canvas: Canvas, store: FrameStore, visits: Visits, steps: Array) -> VisitOutcome:
        if store.shape != (self._frame_px, self._frame_px):
            raise ValueError(f"frames must be {self._frame_px} pixels wide and high, got {store.shape}")
        places, image, n = canvas.places(visits.corners), canvas.image, self._n
        found = []
        for k, frame in enumerate(visits.frames.tolist()):
            row, column = places[k].tolist()
            patch = image[row : row + n, column : column + n]
            fraction = float(visits.fractions_px[k, 0]), float(visits.fractions_px[k, 1])
            counts, gaps, gain = store.counts(frame), bool(store.has_gaps[frame]), float(visits.gains[k])
            found.append(self._visit(patch, fraction, counts, gaps, gain, float(steps[k, 0]), float(steps[k, 1])))
        numbers = self._backend.to_host(self._backend.xp.array(found, np.float64).reshape(-1, 4))
        modelled, total = numbers[:, 3], store.totals[visits.frames]
        gains: Array = np.where(modelled > 0, total / np.where(modelled > 0, modelled, 1), visits.gains)
        return VisitOutcome(residual=numbers[:, 0] * visits.gains, shift_px=numbers[:, 1:3].copy(), gain=gains)

    def _visit(
        self,
        patch: Any,
        fraction: tuple[float, float],
        counts: Any,
        has_gaps: bool,
        gain: float,
        object_step: float,
        probe_step: float,
    ) -> tuple[Any, Any, Any, Any]:
        """Return residual, shift down and right, and modelled counts, scalars on the device."""
        kernels, changes = self._kernels, object_step > 0 or probe_step > 0
        lit_by = self._lit_by(fraction)
        kernels.exit_waves(lit_by, patch, self._waves)
        self._waves = self._propagator.to_detector(self._waves)
        residual, modelled = kernels.modulus_correction(self._waves, counts, has_gaps, gain)
        down: Any = 0.0
        right: Any = 0.0
        if changes or self._rule.find_shifts:
            correction = self._propagator.from_detector(self._waves)
        if self._rule.find_shifts:
            down, right = kernels.seeming_shift(patch, lit_by, correction)
        if changes:
            self._change_both(patch, lit_by, correction, object_step, probe_step)
        return residual, down, right, modelled

    def _change_both(self, patch: Any, lit_by: Any, correction: Any, object_step: float, probe_step: float) -> None:
        if probe_step > 0:
            self._kernels.probe_update(patch, correction, probe_step, self._change)
        self._kernels.update_object(patch, lit_by, correction, object_step)
        if probe_step > 0:
            if self._spectrum is None:
                self._probe += self._change
            else:
                change = far_field(self._change, self._backend.fft)
                change *= self._backend.xp.conjugate(self._ramp, out=self._ramp)
                self._spectrum += change

    def _lit_by(self, fraction: tuple[float, float]) -> Any:
        down, right = fraction
        if abs(down) < WHOLE_PIXEL and abs(right) < WHOLE_PIXEL:
            return self._as_image()
        if self._spectrum is None:
            self._spectrum = far_field(self._probe, self._backend.fft)
            self._probe = None
        self._ramps(down, right, self._ramp)
        self._backend.xp.multiply(self._spectrum, self._ramp, out=self._shifted)
        self._shifted = from_far_field(self._shifted, self._backend.fft)
        return self._shifted

    def _as_image(self) -> Any:
        if self._probe is None:
            self._probe = from_far_field(self._spectrum, self._backend.fft)
            self._spectrum = None
        return self._probe
