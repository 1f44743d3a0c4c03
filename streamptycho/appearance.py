"""How results look, on the page and in files alike: colours of complex fields, contrast, what of an object is shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from skimage.color import lab2rgb

from streamptycho.messages import Array

WHEEL_LIGHTNESS = 74.0
WHEEL_CHROMA = 42.0
LIT_FRACTION = 0.02
WELL_LIT_FRACTION = 0.25
SLOPE_STEPS = 16


@dataclass(frozen=True, slots=True, eq=False)
class LitPart:
    """The part of an object that is worth a look.

    `window` is the smallest rectangle that holds all that was lit; `lit` (h, w) bool is where in it any light fell,
    `well_lit` (h, w) bool where enough fell to take the contrast from.
    """

    window: tuple[slice, slice]
    lit: Array
    well_lit: Array


def lit_part(field: Array, coverage: Array) -> LitPart | None:
    """Return what to show of a complex object (H, W) under the summed illumination `coverage` (H, W), None if dark."""
    light = np.where(np.isfinite(coverage), coverage, 0)
    lit = (light > 0) & np.isfinite(field)
    if not lit.any():
        return None
    typical = float(np.percentile(light[lit], 95))
    lit &= light > LIT_FRACTION * typical
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    well_lit = lit & (light > WELL_LIT_FRACTION * typical)
    return LitPart(window, lit[window], well_lit[window] if well_lit.any() else lit[window])


def without_slope(patch: Array, lit: Array) -> Array:
    """Return the object times the plane wave that brings its mean phase and typical phase slope to zero.

    Both are arbitrary in ptychography. The mean slope between neighbours is coarse and safe from wraps; the median
    over a longer step refines it and does not mind the edges of the sample.

    Parameters
    ----------
    patch
        (h, w) complex, finite.
    lit
        (h, w) bool, the pixels that count.
    """
    flat = np.asarray(patch, np.complex64)
    for axis in (0, 1):
        for step in (1, max(1, min(patch.shape) // SLOPE_STEPS)):
            flat = _tilted(flat, -_slope(np.where(lit, flat, 0), axis, step), axis)
    return np.asarray(flat * np.exp(-1j * np.angle(np.sum(np.where(lit, flat, 0)))))


def robust_range(values: Array, low: float = 0.5, high: float = 99.5) -> tuple[float, float] | None:
    """Return the range between two percentiles of the finite values, None when there are none."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return None
    lo, hi = (float(v) for v in np.percentile(finite, [low, high]))
    return (lo, hi) if hi > lo else (lo, lo + max(abs(lo), 1.0) * 1e-6)


def hue_wheel(turns: Array) -> Array:
    """Return the colours (..., 3), 0 to 1, at `turns` (...) round the hue circle of CIE L*a*b*.

    All have one lightness and chroma, so that no phase looks stronger than another.
    """
    angle = 2 * np.pi * turns
    lab = np.stack(
        [np.full_like(angle, WHEEL_LIGHTNESS), WHEEL_CHROMA * np.cos(angle), WHEEL_CHROMA * np.sin(angle)], axis=-1
    )
    return np.asarray(np.clip(lab2rgb(lab), 0.0, 1.0))


def complex_to_rgb(field: Array) -> Array:
    """Return a complex field (H, W) as (H, W, 3) uint8: hue is the phase, brightness the amplitude.

    The brightest pixel gets the full colour of the wheel; zero and not-finite pixels are black.
    """
    finite = np.where(np.isfinite(field), field, 0)
    amplitude = np.abs(finite).astype(np.float64)
    peak = float(amplitude.max(initial=0.0))
    if peak == 0.0:
        return np.zeros((*field.shape, 3), np.uint8)
    colours = hue_wheel(np.angle(finite) / (2 * np.pi))
    return np.asarray(np.round(255 * colours * (amplitude / peak)[..., None]), np.uint8)


def _slope(wave: Array, axis: int, step: int) -> float:
    """Return the phase per pixel along an axis, in radians."""
    along = np.moveaxis(wave, axis, 0)
    turn = along[step:] * along[:-step].conj()
    if step == 1:
        return float(np.angle(np.sum(turn, dtype=np.complex128)))
    turn = turn[turn != 0]
    return float(np.median(np.angle(turn))) / step if turn.size else 0.0


def _tilted(wave: Array, slope: float, axis: int) -> Array:
    ramp = np.exp(1j * slope * np.arange(wave.shape[axis])).astype(np.complex64)
    return np.asarray(wave * (ramp[:, None] if axis == 0 else ramp[None, :]))
