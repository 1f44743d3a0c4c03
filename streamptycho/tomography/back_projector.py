"""The compiled inner loops: back-projection, and projection, its adjoint."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from streamptycho.messages import Array

SERIAL_BELOW = 2_000_000
TILE_PX = 16
PIECE_PX = 32


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


def back_projected(columns: Array, angles_deg: Array, weights: Array, scale: float) -> Array:
    """Return `scale` times the back-projection of columns (K, X, Z) as a whole volume (Z, X, X) float32.

    Band by band: what is summed with z fastest is turned upright while it is still in the cache.
    """
    _, side, depth = columns.shape
    angles = np.radians(np.asarray(angles_deg, dtype=np.float64))
    arguments = (columns, np.cos(angles), np.sin(angles), np.asarray(weights, dtype=np.float64))
    volume = np.empty((depth, side, side), np.float32)

    def band(first: int) -> None:
        total = np.zeros((min(TILE_PX, side - first), side, depth), np.float32)
        _accumulate(total, *arguments, 0, first, 0)
        _turned(total, volume[:, first : first + TILE_PX], np.float32(scale))

    threads = max(1, numba.get_num_threads())
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(band, first) for first in range(0, side, TILE_PX)]:
            done.result()
    return volume


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _accumulate(total, columns, cosines, sines, weights, z_first, y_first, x_first):  # type: ignore[no-untyped-def]
    """Four projections at a time on small tiles: what they need of the projections stays in the nearest cache."""
    height, width, depth = total.shape
    count, n, _ = columns.shape
    centre = n // 2
    reach = (n - 1 - centre) ** 2
    z_last = z_first + depth
    fours = count // 4 * 4
    for top in range(0, height, TILE_PX):
        for start in range(0, width, TILE_PX):
            for k in range(0, fours, 4):
                for row in range(top, min(top + TILE_PX, height)):
                    y = row + y_first - centre
                    for column in range(start, min(start + TILE_PX, width)):
                        x = column + x_first - centre
                        if x * x + y * y > reach:
                            continue
                        left0, a0, b0 = _between(x, y, cosines[k], sines[k], weights[k], n)
                        left1, a1, b1 = _between(x, y, cosines[k + 1], sines[k + 1], weights[k + 1], n)
                        left2, a2, b2 = _between(x, y, cosines[k + 2], sines[k + 2], weights[k + 2], n)
                        left3, a3, b3 = _between(x, y, cosines[k + 3], sines[k + 3], weights[k + 3], n)
                        p0, q0 = columns[k, left0, z_first:z_last], columns[k, left0 + 1, z_first:z_last]
                        p1, q1 = columns[k + 1, left1, z_first:z_last], columns[k + 1, left1 + 1, z_first:z_last]
                        p2, q2 = columns[k + 2, left2, z_first:z_last], columns[k + 2, left2 + 1, z_first:z_last]
                        p3, q3 = columns[k + 3, left3, z_first:z_last], columns[k + 3, left3 + 1, z_first:z_last]
                        voxels = total[row, column]
                        for z in range(depth):
                            voxels[z] += (
                                (a0 * p0[z] + b0 * q0[z])
                                + (a1 * p1[z] + b1 * q1[z])
                                + (a2 * p2[z] + b2 * q2[z])
                                + (a3 * p3[z] + b3 * q3[z])
                            )
            for k in range(fours, count):
                for row in range(top, min(top + TILE_PX, height)):
                    y = row + y_first - centre
                    for column in range(start, min(start + TILE_PX, width)):
                        x = column + x_first - centre
                        if x * x + y * y > reach:
                            continue
                        left, a, b = _between(x, y, cosines[k], sines[k], weights[k], n)
                        p, q = columns[k, left, z_first:z_last], columns[k, left + 1, z_first:z_last]
                        voxels = total[row, column]
                        for z in range(depth):
                            voxels[z] += a * p[z] + b * q[z]


@numba.njit(inline="always")
def _between(x, y, cosine, sine, weight, n):  # type: ignore[no-untyped-def]
    """Return the column to the left of a voxel's ray, and the shares of it and of the next one."""
    s = x * cosine + y * sine + n // 2
    left = min(max(int(np.floor(s)), 0), n - 2)
    right_share = np.float32(weight * (s - left))
    return left, np.float32(weight) - right_share, right_share


def upright(total: Array, scale: float) -> Array:
    """Return a volume (Y, X, Z) float32 times `scale` as (Z, Y, X)."""
    height, width, depth = total.shape
    volume = np.empty((depth, height, width), np.float32)
    threads = max(1, min(numba.get_num_threads(), height))
    edges = np.linspace(0, height, threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        parts = [
            pool.submit(_turned, total[a:b], volume[:, a:b], np.float32(scale)) for a, b in itertools.pairwise(edges)
        ]
    for part in parts:
        part.result()
    return volume


@numba.njit(cache=True, nogil=True)
def _turned(total, volume, scale):  # type: ignore[no-untyped-def]
    height, width, depth = total.shape
    for row in range(height):
        for start in range(0, width, TILE_PX):
            for z_first in range(0, depth, TILE_PX):
                for z in range(z_first, min(z_first + TILE_PX, depth)):
                    for column in range(start, min(start + TILE_PX, width)):
                        volume[z, row, column] = total[row, column, z] * scale


def project(volume: Array, angles_deg: Array) -> Array:
    """Return the line integrals (K, X, Z) float32 of a volume (Y, X, Z) float32, Y = X: the adjoint of `back_project`.

    Every voxel is shared by the two columns beside its ray; voxels outside the circle count as empty.
    """
    angles = np.radians(np.asarray(angles_deg, dtype=np.float64))
    side, _, depth = volume.shape
    columns = np.zeros((angles.size, side, depth), np.float32)
    threads = max(1, min(numba.get_num_threads(), angles.size))
    cosines, sines = np.cos(angles), np.sin(angles)
    if threads == 1 or volume.size * angles.size < SERIAL_BELOW:
        _spread(volume, columns, cosines, sines)
        return columns
    edges = np.linspace(0, angles.size, threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        parts = [
            pool.submit(_spread, volume, columns[a:b], cosines[a:b], sines[a:b]) for a, b in itertools.pairwise(edges)
        ]
    for part in parts:
        part.result()
    return columns


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _spread(volume, columns, cosines, sines):  # type: ignore[no-untyped-def]
    side, _, depth = volume.shape
    centre = side // 2
    reach = (side - 1 - centre) ** 2
    for z_first in range(0, depth, PIECE_PX):
        z_last = min(z_first + PIECE_PX, depth)
        for k in range(columns.shape[0]):
            for row in range(side):
                y = row - centre
                for column in range(side):
                    x = column - centre
                    if x * x + y * y > reach:
                        continue
                    left, a, b = _between(x, y, cosines[k], sines[k], 1.0, side)
                    voxels = volume[row, column, z_first:z_last]
                    p, q = columns[k, left, z_first:z_last], columns[k, left + 1, z_first:z_last]
                    for z in range(z_last - z_first):
                        p[z] += a * voxels[z]
                    for z in range(z_last - z_first):
                        q[z] += b * voxels[z]
