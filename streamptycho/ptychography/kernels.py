"""The arithmetic of one frame visit between its Fourier transforms, for NumPy and CuPy from one source.

The arrays of all probe modes are (modes, n, n) complex64. Nothing here synchronises with a device.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from streamptycho.ptychography.frames import measured

_TINY = np.float32(1e-12)


class Kernels(Protocol):
    """What a back end computes for one frame visit."""

    def exit_waves(self, probe: Any, patch: Any, out: Any) -> None:
        """Write probe x patch."""

    def modulus_correction(self, waves: Any, counts: Any, has_gaps: bool) -> Any:
        """Replace far fields by what is missing to the measured modulus.

        Summed over modes, the corrected field has the modulus sqrt(counts); pixels that were not measured keep their
        field. Returns sum((|F| - sqrt(I))**2) over measured pixels, as a scalar on the device.
        """

    def probe_update(self, patch: Any, correction: Any, step: float, out: Any) -> None:
        """Write step x conj(patch) x correction / max |patch|**2."""

    def update_object(self, patch: Any, probe: Any, correction: Any, step: float) -> None:
        """Add step x sum over modes of conj(probe) x correction / max sum |probe|**2 to the patch, in place."""


class ArrayKernels:
    """`Kernels` in whole-array operations.

    Parameters
    ----------
    xp
        numpy or cupy.
    modes, n
        Shape of the probe.
    """

    def __init__(self, xp: Any, modes: int, n: int) -> None:
        self._xp = xp
        self._wave = xp.empty((modes, n, n), np.complex64)
        self._squares = xp.empty((modes, n, 2 * n), np.float32)
        self._power = xp.empty((modes, n, n), np.float32)
        self._modulus = xp.empty((n, n), np.float32)
        self._missing = xp.empty((n, n), np.float32)

    def exit_waves(self, probe: Any, patch: Any, out: Any) -> None:
        """See `Kernels`."""
        self._xp.multiply(probe, patch, out=out)

    def modulus_correction(self, waves: Any, counts: Any, has_gaps: bool) -> Any:
        """See `Kernels`."""
        xp, modulus, missing = self._xp, self._modulus, self._missing
        xp.sqrt(self._summed_power(waves), out=modulus)
        missing[...] = counts
        if has_gaps:
            valid = measured(counts, xp)
            missing *= valid
            xp.sqrt(missing, out=missing)
            missing -= modulus
            missing *= valid
        else:
            xp.sqrt(missing, out=missing)
            missing -= modulus
        residual = xp.vdot(missing, missing)
        xp.maximum(modulus, _TINY, out=modulus)
        xp.divide(missing, modulus, out=missing)
        waves *= missing
        return residual

    def probe_update(self, patch: Any, correction: Any, step: float, out: Any) -> None:
        """See `Kernels`."""
        xp = self._xp
        scaled = self._wave[0]
        xp.conjugate(patch, out=scaled)
        power = self._power[0]
        xp.multiply(scaled.real, scaled.real, out=power)
        power += scaled.imag * scaled.imag
        scaled *= np.float32(step) / xp.maximum(power.max(), _TINY)
        xp.multiply(scaled, correction, out=out)

    def update_object(self, patch: Any, probe: Any, correction: Any, step: float) -> None:
        """See `Kernels`."""
        xp, wave = self._xp, self._wave
        peak = self._summed_power(probe).max()
        xp.conjugate(probe, out=wave)
        wave *= correction
        summed = wave[0] if len(wave) == 1 else wave.sum(axis=0)
        summed *= np.float32(step) / xp.maximum(peak, _TINY)
        patch += summed

    def _summed_power(self, waves: Any) -> Any:
        """Return |waves|**2 summed over modes, in a work array."""
        xp, squares, power = self._xp, self._squares, self._power
        parts = waves.view(np.float32)
        xp.multiply(parts, parts, out=squares)
        xp.add(squares[..., 0::2], squares[..., 1::2], out=power)
        if len(power) == 1:
            return power[0]
        return power.sum(axis=0)
