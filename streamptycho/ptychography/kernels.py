"""The arithmetic of one frame visit between its Fourier transforms, for NumPy and CuPy from one source.

The arrays of all probe modes are (modes, n, n) complex64. Nothing here synchronises with a device.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from streamptycho.ptychography.frames import measured
from streamptycho.ptychography.visits import UpdateRule

_TINY = np.float32(1e-12)
_SLOPE_DAMPING = 1e-3


class Kernels(Protocol):
    """What a back end computes for one frame visit."""

    def exit_waves(self, probe: Any, patch: Any, out: Any) -> None:
        """Write probe x patch."""

    def modulus_correction(self, waves: Any, counts: Any, has_gaps: bool, gain: float = 1.0) -> tuple[Any, Any]:
        """Replace far fields by what is missing to the measured modulus.

        Summed over modes (and over the far-field pixels of one measured pixel), the corrected field has the intensity
        counts / gain; pixels that were not measured keep their field. Returns sum((|F| - sqrt(I / gain))**2) and
        sum(|F|**2) over measured pixels, scalars on the device.
        """

    def probe_update(self, patch: Any, correction: Any, step: float, out: Any) -> None:
        """Write step x conj(patch) x correction / the regularised |patch|**2: see `UpdateRule`."""

    def update_object(self, patch: Any, probe: Any, correction: Any, step: float) -> None:
        """Add step x sum over modes of conj(probe) x correction / the regularised sum |probe|**2 to the patch."""

    def seeming_shift(self, patch: Any, probe: Any, correction: Any) -> tuple[Any, Any]:
        """Return the displacement, down and right, of the frame that explains the correction best.

        The least squares fit of the correction by the differences of neighbouring object pixels under the probe.
        """


class ArrayKernels:
    """`Kernels` in whole-array operations.

    Parameters
    ----------
    xp
        numpy or cupy.
    modes, n
        Shape of the probe.
    rule
        How to update.
    """

    def __init__(self, xp: Any, modes: int, n: int, rule: UpdateRule | None = None) -> None:
        self._xp = xp
        self._rule = rule or UpdateRule()
        self._wave = xp.empty((modes, n, n), np.complex64)
        self._squares = xp.empty((modes, n, 2 * n), np.float32)
        self._power = xp.empty((modes, n, n), np.float32)
        frame_px = n // self._rule.upsampling
        self._modulus = xp.empty((frame_px, frame_px), np.float32)
        self._missing = xp.empty((frame_px, frame_px), np.float32)

    def exit_waves(self, probe: Any, patch: Any, out: Any) -> None:
        """See `Kernels`."""
        self._xp.multiply(probe, patch, out=out)

    def modulus_correction(self, waves: Any, counts: Any, has_gaps: bool, gain: float = 1.0) -> tuple[Any, Any]:
        """See `Kernels`."""
        xp, modulus, missing = self._xp, self._modulus, self._missing
        xp.sqrt(self._on_detector(waves), out=modulus)
        missing[...] = counts
        valid = measured(counts, xp) if has_gaps else None
        if valid is not None:
            missing *= valid
        if gain != 1:
            missing /= np.float32(gain)
        xp.sqrt(missing, out=missing)
        missing -= modulus
        if valid is None:
            modelled = xp.vdot(modulus, modulus)
        else:
            missing *= valid
            seen = modulus[valid]
            modelled = xp.vdot(seen, seen)
        residual = xp.vdot(missing, missing)
        xp.maximum(modulus, _TINY, out=modulus)
        xp.divide(missing, modulus, out=missing)
        factor, each = missing, self._rule.upsampling
        if each > 1:
            factor = xp.repeat(xp.repeat(missing, each, axis=0), each, axis=1)
        waves *= factor
        return residual, modelled

    def probe_update(self, patch: Any, correction: Any, step: float, out: Any) -> None:
        """See `Kernels`."""
        xp = self._xp
        scaled = self._wave[0]
        xp.conjugate(patch, out=scaled)
        power = self._power[0]
        xp.multiply(scaled.real, scaled.real, out=power)
        power += scaled.imag * scaled.imag
        scaled *= np.float32(step) / self._regularised(power, self._rule.probe_alpha)
        xp.multiply(scaled, correction, out=out)

    def update_object(self, patch: Any, probe: Any, correction: Any, step: float) -> None:
        """See `Kernels`."""
        xp, wave = self._xp, self._wave
        divisor = self._regularised(self._summed_power(probe), self._rule.object_alpha)
        xp.conjugate(probe, out=wave)
        wave *= correction
        summed = wave[0] if len(wave) == 1 else wave.sum(axis=0)
        summed *= np.float32(step) / divisor
        patch += summed

    def seeming_shift(self, patch: Any, probe: Any, correction: Any) -> tuple[Any, Any]:
        """See `Kernels`."""
        xp, wave = self._xp, self._wave
        intensity = self._summed_power(probe)[1:-1, 1:-1]
        xp.conjugate(probe, out=wave)
        wave *= correction
        summed = wave.sum(axis=0)[1:-1, 1:-1]
        down = (patch[2:, 1:-1] - patch[:-2, 1:-1]) * np.float32(0.5)
        right = (patch[1:-1, 2:] - patch[1:-1, :-2]) * np.float32(0.5)
        g, h = (xp.sum((slope.conj() * summed).real) for slope in (down, right))
        a, b = (xp.sum((slope.real**2 + slope.imag**2) * intensity) for slope in (down, right))
        c = xp.sum((down.conj() * right).real * intensity)
        damping = _SLOPE_DAMPING * (a + b) + _TINY
        a, b = a + damping, b + damping
        determinant = a * b - c * c
        return (b * g - c * h) / determinant, (a * h - c * g) / determinant

    def _regularised(self, power: Any, alpha: float) -> Any:
        xp = self._xp
        peak = power.max()
        if alpha == 1:
            return xp.maximum(peak, _TINY)
        return np.float32(1 - alpha) * power + xp.maximum(np.float32(alpha) * peak, _TINY)

    def _on_detector(self, waves: Any) -> Any:
        power, each = self._summed_power(waves), self._rule.upsampling
        if each == 1:
            return power
        frame_px = len(power) // each
        return power.reshape(frame_px, each, frame_px, each).sum(axis=(1, 3))

    def _summed_power(self, waves: Any) -> Any:
        """Return |waves|**2 summed over modes, in a work array."""
        xp, squares, power = self._xp, self._squares, self._power
        parts = waves.view(np.float32)
        xp.multiply(parts, parts, out=squares)
        xp.add(squares[..., 0::2], squares[..., 1::2], out=power)
        if len(power) == 1:
            return power[0]
        return power.sum(axis=0)
