"""The compiled inner loop of back-projection."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from streamptycho.messages import Array

SERIAL_BELOW = 2_000_000


def back_project(total: Array, columns: Array, angles_deg: Array, weights: Array, start: tuple[int, int, int]) -> None:
    """Add weighted filtered projections to a part of the volume, in place.

    Parameters
    ----------
    total
        (Y', X', Z') float32 or float64, the part of the volume that starts at `start`.
    columns
        (K, X, Z) float32, filtered projections, z fastest.
    angles_deg, weights
        (K,) float64.
    start
        First (z, y, x) of the part in the volume (Z, X, X). Voxels outside the circle that every projection sees
        are left alone.
    """
    angles = np.radians(np.asarray(angles_deg, dtype=np.float64))
    arguments = (columns, np.cos(angles), np.sin(angles), np.asarray(weights, dtype=np.float64))
    z, y, x = start
    rows = total.shape[0]
    threads = min(numba.get_num_threads(), rows)
    if threads == 1 or total.size * len(columns) < SERIAL_BELOW:
        _accumulate(total, *arguments, z, y, x)
        return
    # Bands on plain threads: Numba's own work queue aborts the process when two threads enter it at once.
    edges = np.linspace(0, rows, 4 * threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        bands = [
            pool.submit(_accumulate, total[first:last], *arguments, z, y + int(first), x)
            for first, last in itertools.pairwise(edges)
            if last > first
        ]
    for band in bands:
        band.result()


@numba.njit(cache=True, nogil=True)
def _accumulate(total, columns, cosines, sines, weights, z_first, y_first, x_first):  # type: ignore[no-untyped-def]
    height, width, depth = total.shape
    n = columns.shape[1]
    centre = n // 2
    radius = n - 1 - centre
    for row in range(height):
        y = row + y_first - centre
        for column in range(width):
            x = column + x_first - centre
            if x * x + y * y > radius * radius:
                continue
            for k in range(columns.shape[0]):
                s = x * cosines[k] + y * sines[k] + centre
                left = min(max(int(np.floor(s)), 0), n - 2)
                fraction = s - left
                a = total.dtype.type(weights[k] * (1.0 - fraction))
                b = total.dtype.type(weights[k] * fraction)
                for z in range(depth):
                    total[row, column, z] += a * columns[k, left, z + z_first] + b * columns[k, left + 1, z + z_first]
