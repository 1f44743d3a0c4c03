"""How results look, on the page and in files alike: colours of complex fields, contrast, what of an object is shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.ndimage
from skimage.color import lab2rgb

from streamptycho.messages import Array

WHEEL_LIGHTNESS = 74.0
WHEEL_CHROMA = 42.0
LIT_FRACTION = 0.02
WELL_LIT_FRACTION = 0.25
SLOPE_STEPS = 16
AIR_EDGE_FRACTION = 0.08
AIR_BINS = 128
AIR_BLUR_RAD = 0.12
AIR_SPREAD_RAD = 0.3
AIR_PEAK = 0.4
WRAPPED_RAD = 1.7 * np.pi

QUANTITIES = {
    "electron_density_per_A3": ("Electron density", "e/Å³"),
    "mass_density_g_per_cm3": ("Mass density", "g/cm³"),
    "delta": ("Refractive index decrement", "δ"),
    "beta": ("Absorption index", "β"),
}


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


def relative_to_air(patch: Array, lit: Array) -> Array:
    """Return the object divided by what air beside the sample is, so that air is 1, without its phase slope.

    Air is looked for along the edge of what was lit: of the phases that are frequent there, that with the least shift,
    as all matter shifts the phase down. A frequent phase a little above it, away from the edge, where light is scarce,
    is air as well. Where the sample fills the field this is its most transparent part.

    Parameters
    ----------
    patch
        (h, w) complex, finite.
    lit
        (h, w) bool, the pixels that count.
    """
    flat = without_slope(patch, lit)
    edge = _edge(lit)
    flat *= np.exp(-1j * _air_phase(np.angle(flat[edge]))) if edge.any() else 1
    air = edge & (np.abs(np.angle(flat)) < AIR_SPREAD_RAD)
    if not air.any():
        return flat
    for axis, slope in enumerate(_plane(np.angle(flat), air)):
        flat = _tilted(flat, -slope, axis)
    flat *= np.exp(-1j * _phase_above(np.angle(flat[lit])))
    return np.asarray(flat / max(float(np.median(np.abs(flat[air]))), 1e-30), np.complex64)


def shown_phase(field: Array, lit: Array) -> tuple[Array, bool]:
    """Return the phase (h, w) in radians of an object relative to air, and whether it wraps at plus and minus pi.

    Phases that fill no more than most of the circle are cut where there are fewest, so that they do not wrap.
    """
    phase = np.angle(field)
    inside = phase[lit]
    counts, edges = np.histogram(inside, AIR_BINS, (-np.pi, np.pi))
    smooth = scipy.ndimage.uniform_filter1d(counts.astype(np.float64), AIR_BINS // 8, mode="wrap")
    emptiest = np.flatnonzero(smooth <= smooth.min() + 1e-9)
    cut = edges[emptiest[np.argmax(np.abs(edges[emptiest]))]]
    unwrapped = phase - 2 * np.pi * (phase > cut) if cut > 0 else phase + 2 * np.pi * (phase < cut)
    limits = robust_range(unwrapped[lit])
    wraps = limits is not None and limits[1] - limits[0] > WRAPPED_RAD
    return (phase, True) if wraps else (unwrapped, False)


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


def _edge(lit: Array) -> Array:
    """Return the pixels that are lit and near ones that are not."""
    reach = max(2, round(AIR_EDGE_FRACTION * min(lit.shape)))
    around = scipy.ndimage.uniform_filter(lit.astype(np.float32), 2 * reach + 1, mode="constant")
    edge = lit & (around < 1 - 1e-4)
    return np.asarray(edge)


def _air_phase(phases: Array) -> float:
    """Return the phase with the least shift among those that are frequent."""
    peaks = _frequent(phases, AIR_BLUR_RAD)
    mean = np.angle(np.sum(np.exp(1j * phases)))
    best = peaks[np.argmax(np.angle(np.exp(1j * (peaks - mean))))]
    return float(best + _mean_near_zero(np.angle(np.exp(1j * (phases - best)))))


def _phase_above(phases: Array) -> float:
    """Return the largest frequent phase from about zero to a little above, zero where there is none."""
    peaks = _frequent(phases, AIR_BLUR_RAD / 2)
    near = peaks[(peaks > -AIR_SPREAD_RAD / 6) & (peaks < AIR_SPREAD_RAD)]
    return float(near[-1] + _mean_near_zero(phases - near[-1])) if near.size else 0.0


def _frequent(phases: Array, blur_rad: float) -> Array:
    """Return the phases of the peaks of a blurred histogram, in ascending order."""
    step = 2 * np.pi / AIR_BINS
    counts, edges = np.histogram(phases, AIR_BINS, (-np.pi, np.pi))
    smooth = scipy.ndimage.gaussian_filter1d(counts.astype(np.float64), blur_rad / step, mode="wrap")
    highest = scipy.ndimage.maximum_filter1d(smooth, 2 * round(2.5 * blur_rad / step) + 1, mode="wrap")
    return np.asarray(edges[:-1][(smooth >= highest) & (smooth >= AIR_PEAK * smooth.max())] + step / 2)


def _mean_near_zero(phases: Array) -> float:
    near = phases[np.abs(phases) < AIR_SPREAD_RAD / 3]
    return float(near.mean()) if near.size else 0.0


def _plane(phase: Array, where: Array) -> tuple[float, float]:
    """Return the slopes in radians per pixel down and right of the plane through some pixels, 0 where too few tell."""
    rows, columns = np.nonzero(where)
    if len(rows) < 16 or np.ptp(rows) < phase.shape[0] // 2 or np.ptp(columns) < phase.shape[1] // 2:
        return 0.0, 0.0
    system = np.stack([rows - rows.mean(), columns - columns.mean(), np.ones(len(rows))], axis=1)
    down, right, _ = np.linalg.lstsq(system, phase[where].astype(np.float64), rcond=None)[0]
    return float(down), float(right)


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
