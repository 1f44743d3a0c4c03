"""Histogram of values that come piece by piece, whose range nobody knows beforehand."""

from __future__ import annotations

import math

import numba
import numpy as np

from streamptycho.messages import Array

BINS = 256
NARROWEST = 2.0**-100
LARGEST_NUMBER = 2.0**40


class GrowingHistogram:
    """Counts of values in bins whose width is a power of two: it doubles, and bins join in pairs, when more is needed.

    Between the smallest and the largest value lie more than `BINS` / 4 and at most `BINS` bins, unless they are equal
    to a part in 10^12.
    """

    def __init__(self) -> None:
        self._width = NARROWEST
        self._first = 0
        self._counts: Array = np.zeros(BINS, np.int64)
        self._range = math.inf, -math.inf

    def add(self, values: Array) -> None:
        """Count finite values, an array of any shape."""
        if not values.size:
            return
        low, high = min(self._range[0], float(values.min())), max(self._range[1], float(values.max()))
        self._range = low, high
        width = self._width
        most = max(abs(low), abs(high))
        while math.floor(high / width) - math.floor(low / width) >= BINS or most / width > LARGEST_NUMBER:
            width *= 2.0
        self._widen(width, math.floor(low / width))
        _count(values.reshape(-1), 1.0 / self._width, self._first, self._counts)

    def result(self) -> tuple[Array, Array]:
        """Return how many values (N,) int64 lie between which edges (N + 1,) float64."""
        found = np.flatnonzero(self._counts)
        used = slice(found[0], found[-1] + 1) if found.size else slice(0, 1)
        counts = self._counts[used]
        return counts, (self._first + used.start + np.arange(len(counts) + 1)) * self._width

    def _widen(self, width: float, first: int) -> None:
        if width == self._width and first == self._first:
            return
        full = np.flatnonzero(self._counts)
        ratio = width / self._width
        bins = np.array([math.floor((self._first + int(k)) / ratio) - first for k in full], np.int64)
        counts = np.zeros(BINS, np.int64)
        np.add.at(counts, bins, self._counts[full])
        self._width, self._first, self._counts = width, first, counts


@numba.njit(cache=True, nogil=True)
def _count(values, per_width, first, counts):  # type: ignore[no-untyped-def]
    for value in values:
        counts[int(np.floor(value * per_width)) - first] += 1


def histogram(values: Array) -> tuple[Array, Array]:
    """Return how many values (N,) int64 lie between which edges (N + 1,) float64."""
    growing = GrowingHistogram()
    growing.add(values)
    return growing.result()
