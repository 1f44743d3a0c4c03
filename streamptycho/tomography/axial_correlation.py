"""Fourier shell correlation of two halves of a tomogram, across its rotation axis and along it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.fft

from streamptycho.messages import Array
from streamptycho.resolution import CorrelationCurve, ResolutionError, hann_window

MIN_EDGE_PX = 8
FLAT_FRACTION = 0.7
TAPER_FRACTION = 0.15
MIN_TAPER_PX = 4.0
GROWTH_PX = 2.0
OUTLINES = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class AxialCorrelation:
    """Curves of the directions within 45 degrees of the plane `across` the rotation axis, and of those `along` it."""

    across: CorrelationCurve
    along: CorrelationCurve


def axial_correlation(
    first: Array,
    second: Array,
    radius_px: float,
    measured_share: Callable[[Array], Array] | None = None,
    start_deg: float = 0.0,
) -> AxialCorrelation:
    """Return the Fourier shell correlations of two real volumes (Z, Y, X) about their rotation axis.

    All projections measure the frequencies near the axis together. There the halves agree up to the finest details
    whatever the number of angles, and most of the power of a shell lies there: in a correlation over whole shells they
    hide that halves of few angles, or of a part of the half turn, agree nowhere else. So both groups of directions have
    their own curve, and in each all rings about the axis count by how many coefficients they have, whatever their
    power. The sample is cut out by a soft cylinder: streaks around it belong to nobody. What is the same in every
    direction about the axis is not counted beyond the coarsest outlines: rings, which both halves have of whatever is
    wrong at one place in all projections.

    Parameters
    ----------
    first, second
        Of equal shape, at least 8 along each edge, Y = X.
    radius_px
        Of the sample about the axis.
    measured_share
        Given frequencies (K,) in periods per pixel, the share (K,) of the coefficients across the axis that each half
        measured: only those count as independent. All by default.
    start_deg
        Angle at which the half turn begins.

    Raises
    ------
    ResolutionError
        If the shapes do not fit or values are not finite.

    References
    ----------
    M. van Heel, M. Schatz, J. Struct. Biol. 151, 250 (2005). doi:10.1016/j.jsb.2005.05.009
    """
    depth, _, side = first.shape
    if first.shape != second.shape or first.shape[1] != side or min(first.shape) < MIN_EDGE_PX:
        raise ResolutionError(
            f"expected two volumes of one shape (Z, X, X), at least {MIN_EDGE_PX} along each edge, "
            f"got {first.shape} and {second.shape}"
        )
    window = soft_cylinder((depth, side), radius_px)
    spectra = [_spectrum(volume, window) for volume in (first, second)]
    longest = max(first.shape)
    across = np.fft.fftfreq(side)
    radius = np.hypot(across[:, None], np.fft.rfftfreq(side)[None, :])
    ring = np.rint(radius * side).astype(np.int64)
    count = int(ring.max()) + 1
    twice = np.full(radius.shape, 2.0)
    twice[:, 0] = 1.0
    if side % 2 == 0:
        twice[:, -1] = 1.0
    sizes = np.bincount(ring.ravel(), twice.ravel())
    total: Array = np.zeros((2, longest // 2 + 1))
    number: Array = np.zeros((2, longest // 2 + 1))
    ring_frequency = np.arange(count) / side
    direction = np.arctan2(across[:, None], np.fft.rfftfreq(side)[None, :]) - np.radians(start_deg)
    # A half turn sees what is wrong in all projections from the left on one side of a ring, mirrored on the other.
    sides = ring + count * (np.sin(direction) < 0)
    for spectrum in spectra:
        _without_rings(spectrum, sides, radius * 2.0 * radius_px > OUTLINES)
    for plane, frequency in enumerate(np.abs(np.fft.fftfreq(depth))):
        correlation = _by_ring(spectra[0][plane], spectra[1][plane], ring, twice)
        shell = np.rint(np.hypot(ring_frequency, frequency) * longest).astype(np.int64)
        for group, chosen in enumerate((frequency <= ring_frequency, frequency > ring_frequency)):
            use = chosen & (shell <= longest // 2)
            np.add.at(total[group], shell[use], sizes[use] * correlation[use])
            np.add.at(number[group], shell[use], sizes[use])
    kept = float(np.sum(window**2) ** 2 / np.sum(window**4) / window.size)
    frequency_per_px = np.arange(1, longest // 2 + 1) / longest
    share = np.ones_like(frequency_per_px) if measured_share is None else measured_share(frequency_per_px)
    mean = np.clip(total / np.maximum(number, 1), -1.0, 1.0)
    curves = [
        CorrelationCurve(2.0 * frequency_per_px, t[1:], 0.5 * kept * n[1:] * part)
        for t, n, part in zip(mean, number, (share, np.ones_like(share)), strict=True)
    ]
    return AxialCorrelation(*curves)


def soft_cylinder(shape: tuple[int, int], radius_px: float) -> Array:
    """Return a window (Z, X, X) float32: 1 within a radius of the axis, falling to 0 outside of it and at the ends."""
    depth, side = shape
    outward = np.arange(side) - side // 2
    distance = np.hypot(outward[:, None], outward[None, :])
    taper = max(MIN_TAPER_PX, 2.0 * TAPER_FRACTION * radius_px)
    taper = min(taper, 0.25 * side)
    inner = min(radius_px + GROWTH_PX, side / 2 - taper)
    fall = 0.5 * (1.0 + np.cos(np.pi * np.clip((distance - inner) / taper, 0.0, 1.0)))
    ends = hann_window((depth,), FLAT_FRACTION)
    return np.asarray(ends[:, None, None] * fall[None], np.float32)


def _spectrum(volume: Array, window: Array) -> Array:
    if not np.isfinite(volume).all():
        raise ResolutionError("the volumes to compare have values that are not finite")
    mean = np.sum(volume * window, dtype=np.float64) / np.sum(window, dtype=np.float64)
    about_axis = np.fft.ifftshift((volume - np.float32(mean)) * window, axes=(1, 2))
    return np.asarray(scipy.fft.rfftn(about_axis))


def _without_rings(spectrum: Array, places: Array, fine: Array) -> None:
    """Take the mean of each place (Y, X') off a half spectrum (Z, Y, X'), in place, where (Y, X') bool it is `fine`."""
    sizes = np.maximum(np.bincount(places.ravel()), 1)
    for plane in spectrum:
        real, imaginary = (np.bincount(places.ravel(), part.ravel()) / sizes for part in (plane.real, plane.imag))
        plane -= np.where(fine, (real + 1j * imaginary)[places], 0).astype(plane.dtype)


def _by_ring(first: Array, second: Array, ring: Array, twice: Array) -> Array:
    """Return the correlation (R,) of two planes (Y, X') of half spectra in each ring about the axis."""

    def summed(values: Array) -> Array:
        return np.asarray(np.bincount(ring.ravel(), (values * twice).ravel()))

    cross = summed((first * second.conj()).real)
    power = summed(np.abs(first) ** 2) * summed(np.abs(second) ** 2)
    return np.asarray(np.divide(cross, np.sqrt(power), out=np.zeros_like(cross), where=power > 0))
