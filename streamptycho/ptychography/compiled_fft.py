"""The Fourier transform of square images in compiled code, for sides that are multiples of 8 without factors over 5.

A field is an image as float32 in one piece, `LANES` columns after `LANES` columns: row by row the real parts and the
imaginary parts, which fill a cache line, and padding that keeps these pieces off each other in the cache. Each piece
goes through all passes of a Stockham transform while it lies in the nearest cache. Nothing here scales.

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

_CACHE_LINE = 64
_RADICES = (2, 3, 4, 5, 8)


@njit(nogil=True)
def field_size(n):
    """Return the numbers that a field takes."""
    return n // LANES * (n + LANES) * 2 * LANES


@njit(nogil=True)
def place_of(row, column, n):
    """Return the place in a field of the real parts from a column on, a multiple of `LANES`; imaginary ones follow."""
    return (column // LANES * (n + LANES) + row) * 2 * LANES


def fields_of(images: Array) -> Array:
    """Return images (K, n, n) complex as fields, (K, size) float32."""
    count, n, _ = images.shape
    fields = aligned((count, field_size(n)))
    parts = _parts(fields, n)
    for part, values in enumerate((images.real, images.imag)):
        parts[:, :, :, part] = values.reshape(count, n, n // LANES, LANES).transpose(0, 2, 1, 3)
    return fields


def images_of(fields: Array, n: int) -> Array:
    """Return fields (K, size) as images, (K, n, n) complex64."""
    images = np.empty((len(fields), n, n), np.complex64)
    parts = _parts(fields, n).transpose(3, 0, 2, 1, 4)
    images.real, images.imag = (parts[part].reshape(images.shape) for part in (0, 1))
    return images


def _parts(fields: Array, n: int) -> Array:
    """Return a view of fields: number, piece, row, real or imaginary part, column in the piece."""
    return fields.reshape(len(fields), n // LANES, n + LANES, 2, LANES)[:, :, :n]


def aligned(shape: tuple[int, ...]) -> Array:
    """Return float32 zeros that start with a cache line, so that no lanes lie across two."""
    size, line = int(np.prod(shape)), _CACHE_LINE // 4
    room = np.zeros(size + line, np.float32)
    first = -room.ctypes.data // 4 % line
    return room[first : first + size].reshape(shape)


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
def columns_of(field, column, n, inverse):
    """Return where `LANES` columns of a field lie, for a pass. The inverse is the transform with parts exchanged."""
    place = place_of(0, column, n)
    first, part = (place + LANES, -LANES) if inverse else (place, LANES)
    return field, np.int64(first), np.int64(2 * LANES), np.int64(part)


@njit(nogil=True)
def block_of(array, inverse):
    """Return where `LANES` columns of their own lie, (n, 2 x LANES), for a pass."""
    first, part = (LANES, -LANES) if inverse else (0, LANES)
    return array, np.int64(first), np.int64(2 * LANES), np.int64(part)


@njit(nogil=True)
def transform_block(source, target, n, radices, turns, scratch):
    """Transform `LANES` columns from one place to another, which may be the same; neither is scratch[0].

    `scratch` is (2, 2 x n x LANES) float32.
    """
    groups, stride, turn, rows = n, np.int64(1), np.int64(0), source
    for k in range(len(radices)):
        radix = radices[k]
        groups //= radix
        to = target if k == len(radices) - 1 else block_of(scratch[k % 2], False)
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


@njit(nogil=True)
def transform_turned(source, target, column, n, inverse, radices, turns, scratch):
    """Transform `LANES` columns and write them as rows of a field, from row `column` on."""
    last = scratch[(len(radices) - 1) % 2]
    transform_block(source, block_of(last, False), n, radices, turns, scratch)
    first, part = (LANES, -LANES) if inverse else (0, LANES)
    for row in range(0, n, LANES):
        to_first = place_of(column, row, n) + first
        transpose(last, 2 * row * LANES, 2 * LANES, target, to_first, 2 * LANES)
        transpose(last, 2 * row * LANES + LANES, 2 * LANES, target, to_first + part, 2 * LANES)


@njit(nogil=True)
def transform_columns(source, target, n, inverse, turn_over, radices, turns, scratch):
    """Transform every column of a field. `turn_over` writes the result transposed."""
    for column in range(0, n, LANES):
        rows = columns_of(source, column, n, inverse)
        if turn_over:
            transform_turned(rows, target, column, n, inverse, radices, turns, scratch)
        else:
            transform_block(rows, columns_of(target, column, n, inverse), n, radices, turns, scratch)
