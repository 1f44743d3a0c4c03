"""Agreement of the volumes of two halves of the projections."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from streamptycho.messages import Array
from streamptycho.tomography.axial_correlation import MIN_EDGE_PX, AxialCorrelation, axial_correlation
from streamptycho.tomography.backprojection import IncrementalBackProjection

MIN_PROJECTIONS = 8
MAX_EDGE_PX = 192


def half_volume_correlation(
    sums: IncrementalBackProjection, by_angle: Sequence[Hashable], angles_deg: Array, sample_px: float, radius_px: float
) -> AxialCorrelation | None:
    """Return the Fourier shell correlations of the middle of a volume, from every other projection `by_angle`.

    Across the axis a half says something of those frequencies alone that are near enough to one of its projections for
    a sample of `sample_px`: the others count for nothing. None with fewer than eight projections.

    Parameters
    ----------
    sums
        Has all projections.
    by_angle
        Their keys in the order of their angles modulo 180 degrees.
    angles_deg
        (K,), in that order, as they were measured.
    sample_px, radius_px
        Width of the sample, and how far it goes from the axis.
    """
    rows, columns = sums.shape
    if len(by_angle) < MIN_PROJECTIONS or min(rows, columns) < MIN_EDGE_PX:
        return None
    z, side = _middle(rows), _middle(columns)
    first, second = (sums.region(z, side, side, by_angle[start::2]) for start in (0, 1))
    gaps = np.diff(np.sort(np.mod(angles_deg, 180.0)))
    step = np.radians(2.0 * float(np.median(gaps)))
    of_half_turn = min(1.0, step * len(by_angle) / 2.0 / np.pi)

    def measured_share(frequency_per_px: Array) -> Array:
        return np.asarray(of_half_turn * np.minimum(1.0, 1.0 / np.maximum(frequency_per_px * step * sample_px, 1e-9)))

    return axial_correlation(first, second, radius_px, measured_share, float(np.min(angles_deg)))


def _middle(size: int) -> slice:
    edge = min(size, MAX_EDGE_PX)
    return slice(size // 2 - edge // 2, size // 2 - edge // 2 + edge)
