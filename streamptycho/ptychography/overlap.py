"""Whether neighbouring frames see the same part of the sample, without which nothing ties them together."""

from __future__ import annotations

import numpy as np
import scipy.spatial

from streamptycho.messages import Array

POWER_WITHIN = 0.9
_ONE_PLACE = 0.02


def beam_diameter_px(intensity: Array) -> float:
    """Return the diameter of the circle about its centre that holds 90 % of a beam (n, n), in pixels."""
    rows, columns = np.indices(intensity.shape)
    total = float(intensity.sum(dtype=np.float64))
    centre = [float((intensity * axis).sum(dtype=np.float64)) / total for axis in (rows, columns)]
    distance = np.hypot(rows - centre[0], columns - centre[1]).ravel()
    outwards = np.argsort(distance)
    within = np.cumsum(intensity.ravel()[outwards], dtype=np.float64)
    return 2 * float(distance[outwards][np.searchsorted(within, POWER_WITHIN * total)]) + 1


def fault_of_overlap(centres_px: Array, intensity: Array) -> str | None:
    """Return what is wrong with where frames lie (N, 2) for a beam (n, n), None if nothing is.

    Half of the frames must be nearer to another than the beam is wide, and not all may lie at one place.
    """
    if len(centres_px) < 2:
        return None
    diameter_px = beam_diameter_px(intensity)
    extent_px = float(np.ptp(centres_px, axis=0).max())
    if extent_px < _ONE_PLACE * diameter_px:
        return (
            f"all {len(centres_px)} frames lie at one place: the beam did not move, or the positions have another unit"
        )
    nearest, _ = scipy.spatial.cKDTree(centres_px).query(centres_px, k=2)
    apart_px = float(np.median(nearest[:, 1]))
    if apart_px < diameter_px:
        return None
    return (
        f"frames do not overlap: neighbours are {apart_px:.3g} object pixels apart and the beam is "
        f"{diameter_px:.3g} wide: take smaller steps, or check the unit of the positions"
    )
