"""Where a projection belongs: centre of mass across the rotation axis, mass profile along it."""

from __future__ import annotations

import numpy as np
import scipy.ndimage
from scipy.optimize import minimize_scalar

from streamptycho.messages import Array

SUPPORT_LEVEL = 0.05
SUPPORT_GROWTH_PX = 3
MIN_OVERLAP = 0.7
MIN_CORRELATION = 0.5


def sample_mass(phase_rad: Array, weight: Array, noise_rad: float) -> Array:
    """Return the phase shift by matter (H, W) float64, positive, zero outside the sample.

    Without the sample's outline a residual ramp of 1e-4 radians per pixel across the air would move the centre of
    mass by a good part of a pixel. An empty projection is zero everywhere.
    """
    mass = np.where(weight > 0, -phase_rad, 0.0).astype(np.float64)
    smooth = scipy.ndimage.uniform_filter(mass, 3, mode="constant")
    level = max(2.0 * noise_rad, SUPPORT_LEVEL * float(smooth.max(initial=0.0)))
    seed = scipy.ndimage.binary_opening(smooth > level)
    support = scipy.ndimage.binary_dilation(seed, iterations=SUPPORT_GROWTH_PX) if level > 0 else seed
    return np.asarray(np.where(support, mass, 0.0))


def center_of_mass_px(mass: Array) -> float | None:
    """Return the column (fractional) of the centre of mass (H, W), None for an empty projection."""
    columns = mass.sum(axis=0)
    total = float(columns.sum())
    if total <= 0:
        return None
    center = float(columns @ np.arange(columns.size) / total)
    return center if 0 <= center <= columns.size - 1 else None


def profile_shift_px(profile: Array, valid: Array, reference: Array, reference_valid: Array) -> float | None:
    """Return by how many pixels `profile` (Z,) must move down to lie on `reference` (Z,), at most a quarter of Z.

    Rows are compared where both are `valid` (Z,) bool, without their linear trend (what a residual phase ramp adds).
    None when nothing can be told: an empty or structureless profile, or no agreement at any shift.
    """
    limit = profile.size // 4
    common = int(min(np.count_nonzero(valid), np.count_nonzero(reference_valid)))
    if common < 8:
        return None
    coefficients = scipy.ndimage.spline_filter1d(np.where(valid, profile, 0.0).astype(np.float64))
    rows = np.arange(profile.size, dtype=np.float64)

    def correlation(shift: float) -> float:
        source = rows - shift
        nearest = np.clip(np.rint(source).astype(int), 0, rows.size - 1)
        use = reference_valid & (source >= 0) & (source <= rows.size - 1) & valid[nearest]
        if np.count_nonzero(use) < max(8, MIN_OVERLAP * common):
            return -1.0
        moved = scipy.ndimage.map_coordinates(coefficients, source[use][None], order=3, prefilter=False)
        a, b = _detrended(rows[use], moved), _detrended(rows[use], reference[use])
        norm = float(np.sqrt((a @ a) * (b @ b)))
        return float(a @ b) / norm if norm > 1e-12 * max(1.0, float(np.abs(reference[use]).max())) ** 2 else -1.0

    shifts = np.arange(-limit, limit + 1)
    scores = np.array([correlation(float(s)) for s in shifts])
    best = int(np.argmax(scores))
    if scores[best] < MIN_CORRELATION:
        return None
    start = float(shifts[best])
    found = minimize_scalar(lambda s: -correlation(float(s)), bounds=(start - 1.0, start + 1.0), method="bounded")
    return float(found.x)


def _detrended(rows: Array, values: Array) -> Array:
    x = rows - rows.mean()
    values = values - values.mean()
    return np.asarray(values - x * float(x @ values) / float(x @ x))
