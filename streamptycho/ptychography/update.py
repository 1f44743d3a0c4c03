"""The ePIE update of object and probe from one frame.

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
from streamptycho.ptychography.kernels import ArrayKernels, Kernels
from streamptycho.ptychography.propagation import WHOLE_PIXEL, ShiftRamps, far_field, near_field


class Updater(Protocol):
    """Holds the probe and visits frames."""

    @property
    def probe(self) -> Any:
        """The probe modes, (modes, n, n) complex64, on the device."""

    def misfit(self, patch: Any, fraction: tuple[float, float], counts: Any, has_gaps: bool) -> Any:
        """See `ProbeUpdater.misfit`."""

    def visit(
        self,
        patch: Any,
        fraction: tuple[float, float],
        counts: Any,
        has_gaps: bool,
        object_step: float,
        probe_step: float,
    ) -> Any:
        """See `ProbeUpdater.visit`."""


def probe_updater(probe: Array, backend: Backend) -> Updater:
    """Return the fastest updater there is for a device and size of probe.

    Parameters
    ----------
    probe
        (modes, n, n) complex, centred on [n // 2, n // 2], its power that of a mean frame.
    backend
        Where to compute.
    """
    if backend.name == "cpu":
        compiled = _compiled_updater()
        updater = None if compiled is None else compiled(probe)
        if updater is not None:
            return updater
    return ProbeUpdater(probe, backend)


def prepare(backend: Backend) -> None:
    """Compile what visits will need, so that the first one does not wait for it."""
    if backend.name == "cpu":
        _compiled_updater()


@functools.cache
def _compiled_updater() -> Callable[[Array], Updater | None] | None:
    """Return what makes compiled updaters, None (after a warning, once) where nothing can be compiled."""
    try:
        from streamptycho.ptychography.compiled_update import compiled_updater
    except Exception as error:  # noqa: BLE001 - a compiler may fail in any way, and there is another way to go on
        warnings.warn(
            f"reconstruction runs several times slower, in NumPy, because it cannot be compiled here: {error}",
            RuntimeWarning,
            stacklevel=3,
        )
        return None
    return compiled_updater


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
    """

    def __init__(self, probe: Array, backend: Backend) -> None:
        xp = backend.xp
        self._backend = backend
        self._probe: Any = xp.array(probe, np.complex64, order="C")
        self._spectrum: Any = None
        modes, n, _ = probe.shape
        self._kernels: Kernels = ArrayKernels(xp, modes, n)
        self._ramps = ShiftRamps(n, xp)
        self._ramp = xp.empty((n, n), np.complex64)
        self._shifted = xp.empty((modes, n, n), np.complex64)
        self._waves = xp.empty((modes, n, n), np.complex64)
        self._change = xp.empty((modes, n, n), np.complex64)

    @property
    def probe(self) -> Any:
        """The probe modes, (modes, n, n) complex64, on the device."""
        return self._as_image()

    def misfit(self, patch: Any, fraction: tuple[float, float], counts: Any, has_gaps: bool) -> Any:
        """Return sum((|F| - sqrt(I))**2) of one frame, as a scalar on the device, and change nothing."""
        return self._correct(self._lit_by(fraction), patch, counts, has_gaps)

    def visit(
        self,
        patch: Any,
        fraction: tuple[float, float],
        counts: Any,
        has_gaps: bool,
        object_step: float,
        probe_step: float,
    ) -> Any:
        """Update the object patch in place, and the probe unless its step is 0.

        Parameters
        ----------
        patch
            View of the object, (n, n).
        fraction
            Of a pixel by which the frame is further down and right than the patch.
        counts
            (n, n), zero frequency at [0, 0].
        has_gaps
            Whether some pixels were not measured.
        object_step, probe_step
            Step sizes alpha and beta of the reference.

        Returns
        -------
        sum((|F| - sqrt(I))**2) over measured pixels before the update, as a scalar on the device.
        """
        lit_by = self._lit_by(fraction)
        residual = self._correct(lit_by, patch, counts, has_gaps)
        correction = near_field(self._waves, self._backend.fft)
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
        return residual

    def _correct(self, lit_by: Any, patch: Any, counts: Any, has_gaps: bool) -> Any:
        self._kernels.exit_waves(lit_by, patch, self._waves)
        self._waves = far_field(self._waves, self._backend.fft)
        return self._kernels.modulus_correction(self._waves, counts, has_gaps)

    def _lit_by(self, fraction: tuple[float, float]) -> Any:
        down, right = fraction
        if abs(down) < WHOLE_PIXEL and abs(right) < WHOLE_PIXEL:
            return self._as_image()
        if self._spectrum is None:
            self._spectrum = far_field(self._probe, self._backend.fft)
            self._probe = None
        self._ramps(down, right, self._ramp)
        self._backend.xp.multiply(self._spectrum, self._ramp, out=self._shifted)
        self._shifted = near_field(self._shifted, self._backend.fft)
        return self._shifted

    def _as_image(self) -> Any:
        if self._probe is None:
            self._probe = near_field(self._spectrum, self._backend.fft)
            self._spectrum = None
        return self._probe
