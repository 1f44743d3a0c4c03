"""Resolution of a volume from two halves of its projections."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import scipy.fft

from streamptycho.messages import Array
from streamptycho.tomography.backprojection import IncrementalBackProjection

MIN_PROJECTIONS = 8
MAX_EDGE_PX = 256
EDGE_TAPER = 0.15


def half_volume_resolution_px(sums: IncrementalBackProjection, by_angle: Sequence[Hashable]) -> float | None:
    """Return the 1/2-bit resolution in voxels of the middle of a volume, from every other projection `by_angle`.

    References
    ----------
    M. van Heel, M. Schatz, J. Struct. Biol. 151, 250 (2005). doi:10.1016/j.jsb.2005.05.009
    """
    if len(by_angle) < MIN_PROJECTIONS:
        return None
    rows, columns = sums.shape
    z, side = _middle(rows), _middle(columns)
    halves = [_tapered(sums.region(z, side, side, by_angle[first::2])) for first in (0, 1)]
    return _half_bit_crossing_px(*halves)


def _middle(size: int) -> slice:
    edge = min(size, MAX_EDGE_PX)
    return slice(size // 2 - edge // 2, size // 2 - edge // 2 + edge)


def _tapered(volume: Array) -> Array:
    volume = volume - volume.mean(dtype=np.float64)
    for axis, size in enumerate(volume.shape):
        window = np.clip(np.minimum(np.arange(size) + 0.5, size - np.arange(size) - 0.5) / (EDGE_TAPER * size), 0, 1)
        shape = [1, 1, 1]
        shape[axis] = size
        volume = volume * np.sin(0.5 * np.pi * window).reshape(shape) ** 2
    return np.asarray(volume, dtype=np.float32)


def _half_bit_crossing_px(first: Array, second: Array) -> float | None:
    a, b = scipy.fft.rfftn(first), scipy.fft.rfftn(second)
    depth, height, width = first.shape
    frequency = np.sqrt(
        scipy.fft.fftfreq(depth)[:, None, None] ** 2
        + scipy.fft.fftfreq(height)[None, :, None] ** 2
        + scipy.fft.rfftfreq(width)[None, None, :] ** 2
    )
    shells = max(4, min(first.shape) // 2)
    shell = np.rint(frequency * 2 * shells).astype(np.int64).ravel()

    def summed(values: Array) -> Array:
        return np.asarray(np.bincount(shell, weights=values.ravel(), minlength=shells + 1)[1 : shells + 1])

    power = np.sqrt(summed(np.abs(a) ** 2) * summed(np.abs(b) ** 2))
    correlation = np.divide(summed((a * b.conj()).real), power, out=np.zeros(shells), where=power > 0)
    voxels = np.sqrt(np.maximum(2.0 * summed(np.ones_like(frequency)), 1.0))
    threshold = (0.2071 + 1.9102 / voxels) / (1.2071 + 0.9102 / voxels)
    below = np.flatnonzero(correlation < threshold)
    if below.size == 0:
        return 2.0
    if below[0] == 0:
        return None
    after = int(below[0])
    above, under = correlation[after - 1] - threshold[after - 1], threshold[after] - correlation[after]
    crossing = after + above / (above + under)
    return float(2 * shells / crossing)
