"""How much of the half circle each projection stands for."""

from __future__ import annotations

import numpy as np

from streamptycho.messages import Array

WEDGE_RATIO = 2.0


def angular_weights(angles_deg: Array) -> Array:
    """Return the weights (K,) float64 of projections at `angles_deg` (K,), in radians.

    Projections 180 degrees apart are mirror images, so the weight is half of the two gaps to the neighbours modulo
    180 degrees: pi / K for K even steps. A largest gap of more than twice the second largest is a wedge not measured
    (yet): its two borders then count no more than the widest regular step, instead of drowning all other projections.
    `total_to_pi` makes the values of the volume comparable while the wedge closes.
    """
    angles = np.asarray(angles_deg, dtype=np.float64)
    if angles.size <= 1:
        return np.full(angles.size, np.pi)
    folded = np.mod(angles, 180.0)
    order = np.argsort(folded, kind="stable")
    gaps = np.diff(folded[order], append=folded[order[0]] + 180.0)
    widest = int(np.argmax(gaps))
    regular = float(np.max(np.delete(gaps, widest)))
    if regular == 0.0:
        return np.full(angles.size, np.pi / angles.size)
    if gaps[widest] > WEDGE_RATIO * regular:
        gaps[widest] = regular
    weights = np.empty(angles.size)
    weights[order] = np.radians(0.5 * (gaps + np.roll(gaps, 1)))
    return weights


def total_to_pi(weights: Array) -> float:
    """Return the factor that makes the weights add up to pi, the measure of a full set of angles."""
    return float(np.pi / np.sum(weights))
