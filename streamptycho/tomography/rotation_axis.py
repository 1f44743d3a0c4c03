"""Where the rotation axis is, from the projections alone."""

from __future__ import annotations

import numpy as np
import scipy.fft
from scipy.optimize import minimize_scalar

from streamptycho.messages import Array

OPPOSITE_WITHIN_DEG = 2.0


class RotationAxisError(ValueError):
    """Projections that do not determine the rotation axis."""


def rotation_axis_px(line_integrals: Array, angles_deg: Array) -> float:
    """Return the column (fractional, from 0) of the rotation axis in projections (K, Z, X) at `angles_deg` (K,).

    Two projections 180 degrees apart are mirror images about the axis, which is found by matching one to the mirrored
    other. Without such a pair the centre of mass, which moves on a sinusoid about the axis, gives it (the sample must
    then be in view as a whole).

    Raises
    ------
    RotationAxisError
        If there are fewer than two projections, no mass, or angles too close together.
    """
    angles = np.asarray(angles_deg, dtype=np.float64)
    if line_integrals.ndim != 3 or len(line_integrals) != angles.size or angles.size < 2:
        raise RotationAxisError(
            f"expected two or more projections (K, Z, X) and K angles, got {line_integrals.shape} and {angles.size}"
        )
    apart = np.abs(np.mod(angles[:, None] - angles[None, :], 360.0) - 180.0)
    first, second = np.unravel_index(int(np.argmin(apart)), apart.shape)
    if apart[first, second] <= OPPOSITE_WITHIN_DEG:
        return _mirror_axis_px(line_integrals[first], line_integrals[second])
    return _sinusoid_axis_px(line_integrals, angles)


def _mirror_axis_px(front: Array, back: Array) -> float:
    width = front.shape[-1]
    mirrored = back[:, ::-1]
    padded = scipy.fft.next_fast_len(2 * width, real=True)

    def spectrum(rows: Array) -> Array:
        # Slopes, because a background would favour the shift at which the borders of the view coincide.
        return np.asarray(scipy.fft.rfft(np.diff(rows.astype(np.float64), axis=-1), n=padded, axis=-1))

    cross = (spectrum(front) * np.conj(spectrum(mirrored))).sum(axis=0)
    correlation = scipy.fft.irfft(cross, n=padded)
    lag = int(np.argmax(correlation))
    frequencies = 2.0 * np.pi * scipy.fft.rfftfreq(padded)
    best = minimize_scalar(
        lambda shift: -float(np.real(cross * np.exp(1j * frequencies * shift)).sum()),
        bounds=(lag - 1.0, lag + 1.0),
        method="bounded",
    )
    shift = float(best.x) - (padded if lag > padded // 2 else 0)
    return float(0.5 * (width - 1 + shift))


def _sinusoid_axis_px(line_integrals: Array, angles_deg: Array) -> float:
    mass = line_integrals.sum(axis=1, dtype=np.float64)
    total = mass.sum(axis=1)
    if not (np.isfinite(total).all() and (np.abs(total) > 0).all()):
        raise RotationAxisError("a projection has no mass or is not finite: remove it")
    centres = mass @ np.arange(mass.shape[1]) / total
    theta = np.radians(angles_deg)
    system = np.stack([np.ones_like(theta), np.cos(theta), np.sin(theta)], axis=1)
    if np.linalg.cond(system) > 1e3:
        raise RotationAxisError(
            f"{theta.size} projections over {np.ptp(angles_deg):.1f} degrees do not determine the axis"
        )
    return float(np.linalg.lstsq(system, centres, rcond=None)[0][0])
