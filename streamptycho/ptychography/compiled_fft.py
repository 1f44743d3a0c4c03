"""The Fourier transform of square images in compiled code, for sides that are multiples of 8 without factors over 5.

A field is (n, pitch) float32, flat: the real parts of a row, its imaginary parts, and padding that keeps rows off each
other in the cache. `LANES` columns at a time go through all passes of a Stockham transform while they lie in the
nearest cache. Nothing here scales.

References
----------
Van Loan 1992, Computational Frameworks for the Fast Fourier Transform, doi 10.1137/1.9781611970999 (Stockham).
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from streamptycho.messages import Array
from streamptycho.ptychography.butterflies import butterfly, transpose
from streamptycho.ptychography.lanes import LANES

_RADICES = (2, 3, 4, 5, 8)


@njit(nogil=True)
def row_pitch(n):
    """Return the numbers that one row of a field takes."""
    return 2 * n + 2 * LANES


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """How a transform of length n is done: `radices` (passes,) int64, and `turns` float32, their phase factors."""

    n: int
    radices: Array
    turns: Array


def plan(n: int) -> Plan | None:
    """Return the plan of a length, None when it cannot be compiled."""
    radices = _factors(n) if n >= LANES and n % LANES == 0 else None
    if radices is None:
        return None
    turns, length = [], n
    for radix in radices:
        phase = np.outer(np.arange(length // radix), np.arange(1, radix)) / length
        turns.append(np.stack([np.cos(2 * np.pi * phase), -np.sin(2 * np.pi * phase)], axis=-1).ravel())
        length //= radix
    return Plan(n, np.array(radices, np.int64), np.concatenate(turns).astype(np.float32))


def _factors(n: int) -> list[int] | None:
    """Return the fewest radices of a length, small ones first, with as few twos as possible."""
    if n == 1:
        return []
    found = [
        sorted([radix, *rest]) for radix in _RADICES if n % radix == 0 and (rest := _factors(n // radix)) is not None
    ]
    return min(found, key=lambda radices: (len(radices), radices.count(2)), default=None)


def _stockham_pass(radix: int) -> Any:
    """Return compiled code for one pass over rows: `groups` short transforms, each for `stride` neighbours.

    `source` and `target` are (array, first element, elements from row to row, elements from real to imaginary part).
    """
    plain, turned = butterfly(radix, turned=False), butterfly(radix, turned=True)
    turns_of_group = 2 * (radix - 1)

    @njit(nogil=True)
    def run(groups, stride, source, target, turns, turn):
        array, first, pitch, part = source
        to, to_first, to_pitch, to_part = target
        step, to_step = groups * stride * pitch, stride * to_pitch
        for k in range(stride):
            plain(array, first + k * pitch, step, part, to, to_first + k * to_pitch, to_step, to_part, turns, turn)
        for group in range(1, groups):
            turn += turns_of_group
            for k in range(stride):
                start = first + (k + stride * group) * pitch
                to_start = to_first + (k + radix * stride * group) * to_pitch
                turned(array, start, step, part, to, to_start, to_step, to_part, turns, turn)

    return run


_pass_2, _pass_3, _pass_4, _pass_5, _pass_8 = (_stockham_pass(radix) for radix in _RADICES)


@njit(nogil=True)
def transform_columns(source, target, n, inverse, turn_over, radices, turns, scratch):
    """Transform every column of a field. `turn_over` writes the result transposed.

    The inverse is the transform with real and imaginary parts exchanged. `scratch` is (2, 2 x n x LANES) float32.
    """
    pitch = row_pitch(n)
    real, part = (n, -n) if inverse else (0, n)
    for column in range(0, n, LANES):
        groups, stride, turn = n, np.int64(1), np.int64(0)
        rows = source, real + column, pitch, part
        for k in range(len(radices)):
            radix = radices[k]
            groups //= radix
            if k == len(radices) - 1 and not turn_over:
                to = target, real + column, pitch, part
            else:
                to = scratch[k % 2], np.int64(0), np.int64(2 * LANES), np.int64(LANES)
            if radix == 8:
                _pass_8(groups, stride, rows, to, turns, turn)
            elif radix == 4:
                _pass_4(groups, stride, rows, to, turns, turn)
            elif radix == 2:
                _pass_2(groups, stride, rows, to, turns, turn)
            elif radix == 3:
                _pass_3(groups, stride, rows, to, turns, turn)
            else:
                _pass_5(groups, stride, rows, to, turns, turn)
            turn += 2 * (radix - 1) * groups
            stride *= radix
            rows = to
        if turn_over:
            array = rows[0]
            for row in range(0, n, LANES):
                to_first = real + column * pitch + row
                transpose(array, 2 * row * LANES, 2 * LANES, target, to_first, pitch)
                transpose(array, 2 * row * LANES + LANES, 2 * LANES, target, to_first + part, pitch)
