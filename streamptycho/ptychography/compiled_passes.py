"""Frame visits in compiled code, `LANES` columns at a time: what is done between transforms, while they are at hand.

A field that goes through memory once more costs as much as half a transform. So what is done to the columns of a field
between the last pass of one Fourier transform and the first of the next is done to a block of `LANES` columns, which
stays in the nearest cache. `blocks` is (modes, 2 x n x LANES) float32, one for each mode: see `block_of`. Fields are
those of `compiled_steps`; every function reads its fields column by column and writes `target` row by row.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from streamptycho.ptychography.compiled_fft import (
    block_of,
    columns_of,
    field_size,
    place_of,
    transform_block,
    transform_turned,
)
from streamptycho.ptychography.lanes import (
    LANES,
    larger,
    load,
    load_complex,
    load_float32,
    load_uint8,
    load_uint16,
    load_uint32,
    splat,
    square_root,
    store,
    where_not_negative,
)

_TINY_POWER = np.float32(1e-24)


@njit(nogil=True)
def highest_of(lanes_of):
    """Return the highest of the first `LANES` numbers."""
    highest = lanes_of[0]
    for k in range(1, LANES):
        highest = max(highest, lanes_of[k])
    return highest


@njit(nogil=True)
def place_among(mode, row, column, n):
    """Return a place in one of several fields, (modes, size): slices of them would be counted each time."""
    return mode * field_size(n) + place_of(row, column, n)


@njit(nogil=True)
def block_place_of(mode, row, n):
    """Return the place of a row of lanes in `blocks`."""
    return (mode * n + row) * 2 * LANES


@njit(nogil=True)
def light(lit_by, patch, n, target, blocks, plan):
    """Transform probe x patch / n halfway to the detector; return max |patch|**2 and that of the probe intensity."""
    radices, turns, scratch = plan
    scale, object_peak, probe_peak = splat(np.float32(1 / n)), splat(np.float32(0)), splat(np.float32(0))
    for column in range(0, n, LANES):
        for row in range(n):
            real, imaginary = load_complex(patch, row, column)
            object_peak = larger(object_peak, real * real + imaginary * imaginary)
            real, imaginary = real * scale, imaginary * scale
            intensity = splat(np.float32(0))
            for mode in range(len(lit_by)):
                k, here = place_among(mode, row, column, n), block_place_of(mode, row, n)
                probe_real, probe_imaginary = load(lit_by, k), load(lit_by, k + LANES)
                intensity = intensity + probe_real * probe_real + probe_imaginary * probe_imaginary
                store(probe_real * real - probe_imaginary * imaginary, blocks, here)
                store(probe_real * imaginary + probe_imaginary * real, blocks, here + LANES)
            probe_peak = larger(probe_peak, intensity)
        for mode in range(len(lit_by)):
            source = block_of(blocks[mode], False)
            transform_turned(source, target[mode], column, n, False, radices, turns, scratch)
    store(object_peak, scratch[0], 0)
    store(probe_peak, scratch[1], 0)
    return highest_of(scratch[0]), highest_of(scratch[1])


def _block_correction(load_counts: Any) -> Any:
    """Return compiled code that replaces far fields in blocks by what is missing to the counts of a frame, / n.

    Written are, lane by lane, the squares of what is missing in the modulus, and the modelled and measured counts.
    """

    @njit(nogil=True)
    def correct(blocks, address, gain, column, n, sums):
        one, tiny, scale = splat(np.float32(1)), splat(_TINY_POWER), splat(np.float32(1 / n))
        each = splat(np.float32(1 / gain))
        squares, powers, counts = splat(np.float32(0)), splat(np.float32(0)), splat(np.float32(0))
        for row in range(n):
            measured = load_counts(address, row * n + column)
            power = splat(np.float32(0))
            for mode in range(len(blocks)):
                here = block_place_of(mode, row, n)
                real, imaginary = load(blocks, here), load(blocks, here + LANES)
                power = power + real * real + imaginary * imaginary
            modelled = larger(power, tiny)
            relative = where_not_negative(measured, square_root(measured * each / modelled) - one)
            squares = squares + relative * relative * modelled
            powers = powers + where_not_negative(measured, power)
            counts = counts + where_not_negative(measured, measured)
            factor = relative * scale
            for mode in range(len(blocks)):
                here = block_place_of(mode, row, n)
                store(load(blocks, here) * factor, blocks, here)
                store(load(blocks, here + LANES) * factor, blocks, here + LANES)
        store(squares, sums, 0)
        store(powers, sums, LANES)
        store(counts, sums, 2 * LANES)

    return correct


_correct_uint8, _correct_uint16, _correct_uint32, _correct_float32 = (
    _block_correction(load_counts) for load_counts in (load_uint8, load_uint16, load_uint32, load_float32)
)


@njit(nogil=True)
def replace_modulus(source, address, kind, gain, n, wanted, target, blocks, sums, plan):
    """Transform to the detector, compare with a frame, and transform what is missing, / n, halfway back if `wanted`.

    `address` and `kind` are those of `visit_frames`, `sums` is (3, LANES). Returns the residual, the modelled counts
    on measured pixels, both relative to the gain, and the measured ones.
    """
    radices, turns, scratch = plan
    residual = modelled = measured = 0.0
    for column in range(0, n, LANES):
        for mode in range(len(source)):
            rows = columns_of(source[mode], column, n, False)
            transform_block(rows, block_of(blocks[mode], False), n, radices, turns, scratch)
        if kind == 0:
            _correct_uint8(blocks, address, gain, column, n, sums)
        elif kind == 1:
            _correct_uint16(blocks, address, gain, column, n, sums)
        elif kind == 2:
            _correct_uint32(blocks, address, gain, column, n, sums)
        else:
            _correct_float32(blocks, address, gain, column, n, sums)
        for lane in range(LANES):
            residual += sums[lane]
            modelled += sums[LANES + lane]
            measured += sums[2 * LANES + lane]
        if wanted:
            for mode in range(len(source)):
                rows = block_of(blocks[mode], True)
                transform_turned(rows, target[mode], column, n, True, radices, turns, scratch)
    return residual, modelled, measured


@njit(nogil=True)
def start_move(spectrum, down, right, n, target, blocks, plan):
    """Transform the spectrum (transposed) times the ramps halfway to the sample."""
    radices, turns, scratch = plan
    for column in range(0, n, LANES):
        down_real, down_imaginary = load(down, column), load(down, n + column)
        for mode in range(len(spectrum)):
            for row in range(n):
                turn_real, turn_imaginary = splat(right[row]), splat(right[n + row])
                k, here = place_among(mode, row, column, n), block_place_of(mode, row, n)
                ramp_real = down_real * turn_real - down_imaginary * turn_imaginary
                ramp_imaginary = down_real * turn_imaginary + down_imaginary * turn_real
                real, imaginary = load(spectrum, k), load(spectrum, k + LANES)
                store(real * ramp_real - imaginary * ramp_imaginary, blocks, here)
                store(real * ramp_imaginary + imaginary * ramp_real, blocks, here + LANES)
            transform_turned(block_of(blocks[mode], True), target[mode], column, n, True, radices, turns, scratch)


@njit(nogil=True)
def move_and_light(source, moved, patch, n, target, blocks, plan):
    """Do what is left of `start_move`, to `moved`, and what `light` does with it."""
    radices, turns, scratch = plan
    scale, object_peak, probe_peak = splat(np.float32(1 / n)), splat(np.float32(0)), splat(np.float32(0))
    for column in range(0, n, LANES):
        for mode in range(len(source)):
            rows = columns_of(source[mode], column, n, True)
            transform_block(rows, block_of(blocks[mode], True), n, radices, turns, scratch)
        for row in range(n):
            real, imaginary = load_complex(patch, row, column)
            object_peak = larger(object_peak, real * real + imaginary * imaginary)
            real, imaginary = real * scale, imaginary * scale
            intensity = splat(np.float32(0))
            for mode in range(len(source)):
                k, here = place_among(mode, row, column, n), block_place_of(mode, row, n)
                probe_real, probe_imaginary = load(blocks, here), load(blocks, here + LANES)
                intensity = intensity + probe_real * probe_real + probe_imaginary * probe_imaginary
                store(probe_real, moved, k)
                store(probe_imaginary, moved, k + LANES)
                store(probe_real * real - probe_imaginary * imaginary, blocks, here)
                store(probe_real * imaginary + probe_imaginary * real, blocks, here + LANES)
            probe_peak = larger(probe_peak, intensity)
        for mode in range(len(source)):
            rows = block_of(blocks[mode], False)
            transform_turned(rows, target[mode], column, n, False, radices, turns, scratch)
    store(object_peak, scratch[0], 0)
    store(probe_peak, scratch[1], 0)
    return highest_of(scratch[0]), highest_of(scratch[1])


@njit(nogil=True)
def add_moved_back(source, down, right, n, spectrum, blocks, plan):
    """Transform changes of the moved probe that are halfway to spectra, and add them times the conjugate ramps."""
    radices, turns, scratch = plan
    for column in range(0, n, LANES):
        down_real, down_imaginary = load(down, column), load(down, n + column)
        for mode in range(len(source)):
            rows = columns_of(source[mode], column, n, False)
            transform_block(rows, block_of(blocks[mode], False), n, radices, turns, scratch)
            for row in range(n):
                turn_real, turn_imaginary = splat(right[row]), splat(right[n + row])
                k, here = place_among(mode, row, column, n), block_place_of(mode, row, n)
                ramp_real = down_real * turn_real - down_imaginary * turn_imaginary
                ramp_imaginary = down_real * turn_imaginary + down_imaginary * turn_real
                real, imaginary = load(blocks, here), load(blocks, here + LANES)
                more_real = real * ramp_real + imaginary * ramp_imaginary
                more_imaginary = imaginary * ramp_real - real * ramp_imaginary
                store(load(spectrum, k) + more_real, spectrum, k)
                store(load(spectrum, k + LANES) + more_imaginary, spectrum, k + LANES)
