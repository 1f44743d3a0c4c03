"""Filtering of projections into the order of the back-projection, z fastest, in compiled code."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from streamptycho.messages import Array
from streamptycho.tomography.filtering import FilterName, filter_rows, filter_taps

WIDEST_DIRECT_PX = 320
SERIAL_BELOW = 1_000_000
TILE_PX = 16
_AT_ONCE = 4


def filtered_columns(line_integrals: Array, filter_name: FilterName, order: Array | None = None) -> Array:
    """Return filtered projections (K, X, Z) float32 of `line_integrals` (K, Z, X), in the given order (K,) of them.

    Each value is that of `filter_rows` to the rounding of float32. Narrow projections are convolved directly, which
    costs the square of the width and yet less than Fourier transforms, padding and turning; wide ones are transformed.
    What a projection becomes does not depend on the others.
    """
    line_integrals = np.asarray(line_integrals, dtype=np.float32)
    count, rows, width = line_integrals.shape
    numbers = np.arange(count) if order is None else np.asarray(order, dtype=np.int64)
    columns = np.empty((count, width, rows), np.float32)
    taps = filter_taps(width, filter_name).astype(np.float32)

    def direct(first: int, last: int) -> None:
        _convolve(line_integrals, numbers[first:last], taps, columns[first:last])

    def transformed(first: int, last: int) -> None:
        for begin in range(first, last, _AT_ONCE):
            end = min(begin + _AT_ONCE, last)
            _turn(filter_rows(line_integrals[numbers[begin:end]], filter_name), columns[begin:end])

    _in_threads(direct if width <= WIDEST_DIRECT_PX else transformed, count, columns.size)
    return columns


def _in_threads(work: Callable[[int, int], None], count: int, size: int) -> None:
    threads = min(numba.get_num_threads(), count)
    if threads <= 1 or size < SERIAL_BELOW:
        work(0, count)
        return
    edges = np.linspace(0, count, 4 * threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        parts = [pool.submit(work, int(a), int(b)) for a, b in itertools.pairwise(edges) if b > a]
    for part in parts:
        part.result()


@numba.njit(cache=True, nogil=True)
def _turn(projections, columns):  # type: ignore[no-untyped-def]
    """Write (K, Z, X) as (K, X, Z)."""
    count, depth, width = projections.shape
    for k in range(count):
        for z_first in range(0, depth, TILE_PX):
            for start in range(0, width, TILE_PX):
                for x in range(start, min(start + TILE_PX, width)):
                    for z in range(z_first, min(z_first + TILE_PX, depth)):
                        columns[k, x, z] = projections[k, z, x]


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _convolve(projections, numbers, taps, columns):  # type: ignore[no-untyped-def]
    """Four columns out of four at a time; rows past the last are zero, columns past the last are thrown away."""
    _, depth, width = projections.shape
    padded = (width + 3) // 4 * 4
    turned = np.zeros((padded, depth), np.float32)
    sums = np.empty((4, depth), np.float32)
    s0, s1, s2, s3 = sums[0], sums[1], sums[2], sums[3]
    for k in range(len(numbers)):
        number = numbers[k]
        for z_first in range(0, depth, TILE_PX):
            for start in range(0, width, TILE_PX):
                for x in range(start, min(start + TILE_PX, width)):
                    for z in range(z_first, min(z_first + TILE_PX, depth)):
                        turned[x, z] = projections[number, z, x]
        for i in range(0, padded, 4):
            sums[:] = 0
            for j in range(0, padded, 4):
                at = i - j
                t0, t1, t2, t3 = taps[abs(at)], taps[abs(at - 1)], taps[abs(at - 2)], taps[abs(at - 3)]
                u1, u2, u3 = taps[abs(at + 1)], taps[abs(at + 2)], taps[abs(at + 3)]
                p0, p1, p2, p3 = turned[j], turned[j + 1], turned[j + 2], turned[j + 3]
                for z in range(depth):
                    a, b, c, d = p0[z], p1[z], p2[z], p3[z]
                    s0[z] += (t0 * a + t1 * b) + (t2 * c + t3 * d)
                    s1[z] += (u1 * a + t0 * b) + (t1 * c + t2 * d)
                    s2[z] += (u2 * a + u1 * b) + (t0 * c + t1 * d)
                    s3[z] += (u3 * a + u2 * b) + (u1 * c + t0 * d)
            for m in range(min(4, width - i)):
                for z in range(depth):
                    columns[k, i + m, z] = sums[m, z]
