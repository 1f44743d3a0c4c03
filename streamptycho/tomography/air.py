"""Finding the air beside the sample, and the plane that the phase has there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.ndimage

from streamptycho.messages import Array

MARGIN_FRACTION = 0.08
MIN_MARGIN_PX = 3
MATTER_GROWTH_PX = 3
SMOOTHING_PX = 5
PLAUSIBLE_ABOVE = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class AirFit:
    """Where (H, W) bool the air is, the plane of the phase there and the standard deviation about it."""

    air: Array
    ramp_rad_per_px: tuple[float, float]
    offset_rad: float
    noise_rad: float


def fit_air(phase_rad: Array, inside: Array, air: Array | None = None) -> AirFit:
    """Return the plane through the air of an unwrapped phase (H, W), valid `inside` (H, W) bool.

    The search starts at the left and right margins of the area. Matter only lowers the phase, so a pixel far below
    the plane counts little and one above pulls it up: the plane rises to the upper envelope of the margins even
    where the sample reaches into them. Then the air grows inwards over everything connected that lies in the plane,
    and the plane is fitted again. If much of the phase is above that plane, one margin was all matter, and the other
    one alone is tried. A given `air` is taken as it is.
    """
    if air is not None and np.count_nonzero(air & inside) >= 3:
        return _plane_through(phase_rad, air & inside, rounds=1)
    left, right = _margins(inside)
    fit = _fit_from(phase_rad, inside, left | right)
    if _share_above(phase_rad, inside, fit) < PLAUSIBLE_ABOVE:
        return fit
    candidates = [fit, _fit_from(phase_rad, inside, left), _fit_from(phase_rad, inside, right)]
    area = np.count_nonzero(inside)
    return max(candidates, key=lambda c: np.count_nonzero(c.air) / area - 2.0 * _share_above(phase_rad, inside, c))


def _fit_from(phase_rad: Array, inside: Array, margins: Array) -> AirFit:
    fit = _plane_through(phase_rad, margins, rounds=14)
    for _ in range(2):
        grown = _grow(phase_rad - _evaluate(fit, phase_rad.shape), inside, margins)
        if np.count_nonzero(grown) < 0.5 * np.count_nonzero(margins):
            break
        fit = _plane_through(phase_rad, grown, rounds=2)
    return fit


def _share_above(phase_rad: Array, inside: Array, fit: AirFit) -> float:
    smooth = _smoothed(phase_rad - _evaluate(fit, phase_rad.shape), inside)
    # Not the spread about the plane, which a wrong plane makes large.
    return float(np.mean(smooth[inside] > max(_pixel_noise(phase_rad, inside), 0.1)))


def _smoothed(values: Array, inside: Array) -> Array:
    weight = scipy.ndimage.uniform_filter(inside.astype(np.float64), SMOOTHING_PX, mode="constant")
    smooth = scipy.ndimage.uniform_filter(np.where(inside, values, 0.0), SMOOTHING_PX, mode="constant")
    return np.where(inside, smooth / np.maximum(weight, 1e-9), 0.0)


def _margins(inside: Array) -> tuple[Array, Array]:
    columns = np.count_nonzero(inside.any(axis=0))
    width = max(MIN_MARGIN_PX, round(MARGIN_FRACTION * columns))
    from_left = np.cumsum(inside, axis=1)
    from_right = np.cumsum(inside[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(inside & (from_left <= width)), np.asarray(inside & (from_right <= width))


def _grow(residual: Array, inside: Array, margins: Array, known: Array | None = None) -> Array:
    smooth = _smoothed(residual, inside)
    tolerance = max(3.0 * _spread(smooth[margins if known is None else known]), 0.005)
    matter = inside & (np.abs(smooth) > tolerance)
    matter = scipy.ndimage.binary_opening(matter, iterations=1)
    matter = scipy.ndimage.binary_dilation(matter, iterations=MATTER_GROWTH_PX)
    labels, _ = scipy.ndimage.label(inside & ~matter)
    touching = np.unique(labels[margins & (labels > 0)])
    return np.asarray(np.isin(labels, touching[touching > 0]))


def grown_air(residual: Array, inside: Array, known: Array) -> Array:
    """Return what is air (H, W) bool by its distance from a surface: connected to the margins, as flat as `known`."""
    left, right = _margins(inside)
    return _grow(residual, inside, left | right, known)


def _plane_through(phase_rad: Array, chosen: Array, rounds: int) -> AirFit:
    rows, columns = np.nonzero(chosen)
    values: Array = phase_rad[rows, columns].astype(np.float64)
    middle = (float(rows.mean()), float(columns.mean()))
    span = max(float(np.ptp(rows)), float(np.ptp(columns)), 1.0)
    system = np.stack([np.ones_like(values), (rows - middle[0]) / span, (columns - middle[1]) / span], axis=1)
    noise = _pixel_noise(phase_rad, chosen)
    weights: Array = np.ones_like(values)
    scale = float(np.std(values))
    plane: Array = np.zeros(3)
    residual = values
    for _ in range(rounds):
        # The small diagonal keeps the plane level where the pixels (one column, say) do not determine its slope.
        weighted = (system * weights[:, None]).T
        plane = np.linalg.solve(weighted @ system + 1e-9 * values.size * np.eye(3), weighted @ values)
        residual = values - system @ plane
        scale = max(2.0 * noise, 0.02, 0.6 * scale)
        below = np.where(residual < 0, (scale / np.maximum(-residual, scale)) ** 2, 1.0)
        above = np.where(residual > 0, scale / np.maximum(residual, scale), 1.0)
        weights = below * above
    near = np.abs(residual) <= 3.0 * max(noise, 0.02)
    air = np.zeros_like(chosen)
    air[rows[near], columns[near]] = True
    row, column = float(plane[1] / span), float(plane[2] / span)
    offset = float(plane[0]) - row * middle[0] - column * middle[1]
    std = float(np.std(residual[near])) if near.any() else float(noise)
    return AirFit(air=air, ramp_rad_per_px=(row, column), offset_rad=offset, noise_rad=std)


def _evaluate(fit: AirFit, shape: tuple[int, ...]) -> Array:
    row, column = fit.ramp_rad_per_px
    return np.asarray(fit.offset_rad + row * np.arange(shape[0])[:, None] + column * np.arange(shape[1])[None, :])


def _pixel_noise(phase_rad: Array, chosen: Array) -> float:
    pairs = chosen[1:] & chosen[:-1]
    steps = (phase_rad[1:] - phase_rad[:-1])[pairs]
    return _spread(steps) / np.sqrt(2.0) if steps.size else 0.0


def _spread(values: Array) -> float:
    """Return the standard deviation as a normal distribution has it, deaf to outliers."""
    return float(1.4826 * np.median(np.abs(values - np.median(values)))) if values.size else 0.0
