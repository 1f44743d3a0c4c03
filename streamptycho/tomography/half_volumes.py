"""Resolution of a volume from two halves of its projections."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from streamptycho.resolution import CorrelationCurve, fourier_correlation
from streamptycho.tomography.backprojection import IncrementalBackProjection

MIN_PROJECTIONS = 8
MIN_EDGE_PX = 8
MAX_EDGE_PX = 192
FLAT_FRACTION = 0.7


def half_volume_correlation(sums: IncrementalBackProjection, by_angle: Sequence[Hashable]) -> CorrelationCurve | None:
    """Return the Fourier shell correlation of the middle of a volume, from every other projection `by_angle`.

    None with fewer than eight projections.

    References
    ----------
    M. van Heel, M. Schatz, J. Struct. Biol. 151, 250 (2005). doi:10.1016/j.jsb.2005.05.009
    """
    rows, columns = sums.shape
    if len(by_angle) < MIN_PROJECTIONS or min(rows, columns) < MIN_EDGE_PX:
        return None
    z, side = _middle(rows), _middle(columns)
    first, second = (sums.region(z, side, side, by_angle[start::2]) for start in (0, 1))
    return fourier_correlation(first, second, flat=FLAT_FRACTION)


def _middle(size: int) -> slice:
    edge = min(size, MAX_EDGE_PX)
    return slice(size // 2 - edge // 2, size // 2 - edge // 2 + edge)
