"""How well a reconstructed object agrees with the known one, up to what ptychography cannot tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.ndimage
import scipy.optimize

from streamptycho.messages import Array
from streamptycho.resolution import fourier_correlation, hann_window, resolution_m

THRESHOLD = 0.5
MARGIN_PX = 8


@dataclass(frozen=True, slots=True)
class Agreement:
    """Comparison of an object with the truth.

    `resolution_m` is the half period at which the Fourier ring correlation with the truth falls to one half (the truth
    has no noise), `correlation` the mean over all rings, `object_error` the rms difference over the rms of the truth's
    deviation from its mean.
    """

    resolution_m: float | None
    correlation: float
    object_error: float


def agreement(
    found: Array, origin_xy_m: Array, transmission: Array, pixel_m: float, field_xy_m: tuple[float, float]
) -> Agreement:
    """Compare within the middle field, after removing what is arbitrary: offset, ramp, scale and a common shift.

    Parameters
    ----------
    found
        (H, W) complex; row r, column c lies at ``origin_xy_m + (c, r) * pixel_m``.
    origin_xy_m
        (x, y) of the first row and column.
    transmission
        (R, C) complex, pixel [R // 2, C // 2] at (0, 0).
    pixel_m
        Of both.
    field_xy_m
        Width and height that are compared.
    """
    columns, rows = (round(size / pixel_m) // 2 * 2 for size in field_xy_m)
    truth = _window(transmission, transmission.shape[0] // 2, transmission.shape[1] // 2, rows, columns)
    centre_row, centre_column = -origin_xy_m[1] / pixel_m, -origin_xy_m[0] / pixel_m
    window = hann_window((rows, columns))

    def aligned(shift: Array) -> Array:
        taken = _interpolated(found, centre_row + shift[0], centre_column + shift[1], rows, columns)
        flat = _without_ramp(taken, truth, window)
        scale = np.vdot(flat * window, truth * window) / np.vdot(flat * window, flat * window)
        return np.asarray(flat * scale)

    def misfit(shift: Array) -> float:
        return float(np.sum(np.abs((aligned(shift) - truth) * window) ** 2))

    best = min(
        (
            scipy.optimize.minimize(misfit, (down, right), method="Nelder-Mead", options={"xatol": 1e-3})
            for down in (-0.7, 0.7)
            for right in (-0.7, 0.7)
        ),
        key=lambda result: result.fun,
    )
    image = aligned(best.x)
    curve = fourier_correlation(image, truth)
    deviation = (truth - truth.mean()) * window
    return Agreement(
        resolution_m(curve, pixel_m, np.full(curve.frequency.shape, THRESHOLD)),
        float(curve.correlation.mean()),
        float(np.sqrt(best.fun / np.sum(np.abs(deviation) ** 2))),
    )


def position_error_m(found: Array, truth: Array) -> float:
    """Return the rms distance per direction of positions (N, 2) from the true ones, without a common shift or scale."""
    basis = np.column_stack([truth, np.ones(len(truth))])
    residual = found - basis @ np.linalg.lstsq(basis, found, rcond=None)[0]
    return float(np.sqrt(np.mean(residual**2)))


def _window(image: Array, row: int, column: int, rows: int, columns: int) -> Array:
    return image[row - rows // 2 : row - rows // 2 + rows, column - columns // 2 : column - columns // 2 + columns]


def _interpolated(image: Array, row: float, column: float, rows: int, columns: int) -> Array:
    """Return a window around a place between pixels, moved in Fourier space with a margin against wrapping."""
    whole = round(row), round(column)
    wide = _window(image, *whole, rows + 2 * MARGIN_PX, columns + 2 * MARGIN_PX)
    spectrum = scipy.ndimage.fourier_shift(np.fft.fft2(wide), (whole[0] - row, whole[1] - column))
    return np.asarray(np.fft.ifft2(spectrum)[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX])


def _without_ramp(image: Array, truth: Array, window: Array) -> Array:
    """Return the image times the plane wave that fits its phase to that of the truth."""
    flat = image
    for _ in range(3):
        turn = flat * truth.conj() * window
        for axis in (0, 1):
            along = np.moveaxis(turn, axis, 0)
            slope = float(np.angle(np.sum(along[1:] * along[:-1].conj())))
            ramp = np.exp(-1j * slope * np.arange(image.shape[axis]))
            flat = flat * (ramp[:, None] if axis == 0 else ramp[None])
            turn = flat * truth.conj() * window
    return np.asarray(flat)
