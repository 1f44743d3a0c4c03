"""Curves that tell how good a result is: Fourier correlation of halves, and the histogram of slices. Pure."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from streamptycho.appearance import robust_range
from streamptycho.messages import Array, VolumeUpdate
from streamptycho.monitor.pooling import pool_factor
from streamptycho.monitor.wording import number

CURVES = ("frequency_per_m", "correlation", "half_bit", "one_seventh")
MAX_CURVE_POINTS = 200
HISTOGRAM_BINS = 64
MAX_COUNTED_PX = 256


def tomogram_quality(message: VolumeUpdate) -> dict[str, Any]:
    """Return the curves of a tomogram, ready for JSON; what is not known is None."""
    return {"fsc": correlation(message.fsc), "histogram": slice_histogram(message)}


def correlation(said: object) -> dict[str, list[float]] | None:
    """Return the curves of `VolumeUpdate.fsc` or `ObjectUpdate.frc` that the page draws, thinned.

    None where not all are known and in order.
    """
    found = [said.get(name) for name in CURVES] if isinstance(said, dict) else []
    columns = [column for column in found if isinstance(column, list)]
    if len(columns) < len(CURVES) or len({len(column) for column in columns}) > 1:
        return None
    every = max(1, -(-len(columns[0]) // MAX_CURVE_POINTS))
    points = [[number(value) for value in point] for point in list(zip(*columns, strict=True))[::every]]
    known = [[value for value in point if value is not None] for point in points]
    sound = [point for point in known if len(point) == len(CURVES) and point[0] > 0]
    if len(sound) < 2 or any(b[0] <= a[0] for a, b in pairwise(sound)):
        return None
    return {name: [float(point[k]) for point in sound] for k, name in enumerate(CURVES)}


def slice_histogram(message: VolumeUpdate) -> dict[str, Any] | None:
    """Return how many voxels of the three orthoslices lie between `lo` and `hi`, in bins of equal width.

    Only what lies within the circle that all projections see is counted, and of large slices an even part.
    """
    thin_z, thin_y, thin_x = map(_thinned, (message.slice_z, message.slice_y, message.slice_x))
    values = np.concatenate([_seen(thin_z), thin_y.reshape(-1), thin_x.reshape(-1)])
    limits = robust_range(values, 0.05, 99.95)
    if limits is None:
        return None
    lo, hi = limits
    counts, _ = np.histogram(values[np.isfinite(values)].astype(np.float64), HISTOGRAM_BINS, (lo, hi))
    return {"lo": lo, "hi": hi, "counts": counts.tolist()}


def _thinned(image: Array) -> Array:
    every = pool_factor(image.shape, MAX_COUNTED_PX)
    return np.asarray(image[::every, ::every])


def _seen(image: Array) -> Array:
    rows, columns = (np.linspace(-1, 1, size) for size in image.shape)
    return np.asarray(image[rows[:, None] ** 2 + columns[None, :] ** 2 <= 1])
