"""The steps of one frame visit in compiled code, between its Fourier transforms.

Fields are those of `compiled_fft`. Those at the detector, and the spectrum of the probe, are transposed, which saves
every transform one of two transpositions.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import types
from numba.np.numpy_support import carray

from streamptycho.ptychography.compiled_fft import place_of, transform_columns
from streamptycho.ptychography.lanes import (
    LANES,
    intrinsic,
    load,
    load_complex,
    splat,
    store,
)

_TINY = np.float32(1e-12)
SLOPE_DAMPING = 1e-3
_FIELD = "float32[::1]"
_PLAN = "int64[::1], float32[::1], float32[:,::1]"


@intrinsic
def _pointer(_typing, address):
    """Return the address in an int64 as a pointer."""

    def generate(_context, builder, _signature, arguments):
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), generate


@njit(nogil=True)
def _moduli(counts, highest, scale, target):
    total = 0.0
    for k in range(counts.size):
        value = counts[k]
        if 0 <= value < highest:
            total += value
            target[k] = np.sqrt(np.float32(value)) * scale
        else:
            target[k] = np.float32(-1)
    return total


@njit(nogil=True)
def target_modulus(address, kind, gain, target):
    """Write the modulus that a frame asks for, -1 where it was not measured; return its counts.

    Not measured is below 0, NaN, and the highest number of an integer dtype. `kind` is one of `STORED_DTYPES`.
    """
    pointer, size, scale = _pointer(address), target.size, np.float32(1 / np.sqrt(gain))
    if kind == 0:
        return _moduli(carray(pointer, size, np.uint8), np.uint8(255), scale, target)
    if kind == 1:
        return _moduli(carray(pointer, size, np.uint16), np.uint16(65535), scale, target)
    if kind == 2:
        return _moduli(carray(pointer, size, np.uint32), np.uint32(4294967295), scale, target)
    return _moduli(carray(pointer, size, np.float32), np.float32(np.inf), scale, target)


@njit(f"void({_FIELD}, {_FIELD}, int64, boolean, {_FIELD}, {_PLAN})", cache=True, nogil=True)
def transform(source, target, n, inverse, work, radices, turns, scratch):
    """Transform a field to the detector, or back with `inverse`, without scaling. `source` may be `target`."""
    transform_columns(source, work, n, inverse, np.bool_(True), radices, turns, scratch)
    transform_columns(work, target, n, inverse, np.bool_(False), radices, turns, scratch)


@njit(nogil=True)
def write_ramp(distance_px, n, scale, ramp):
    """Write the phase factors (2 n) of a shift, by frequency."""
    angle = -2 * np.pi * distance_px / n
    turn = complex(np.cos(angle), np.sin(angle))
    factor = complex(scale, 0.0)
    for k in range(n // 2 + 1):
        if k < n - n // 2:
            ramp[k], ramp[n + k] = factor.real, factor.imag
        if k > 0:
            ramp[n - k], ramp[2 * n - k] = factor.real, -factor.imag
        factor *= turn


@njit(nogil=True)
def correct_summed_modulus(waves, target, n, upsampling, spare):
    """Replace far fields (transposed) by what is missing to the measured modulus, / n.

    The intensity of upsampling x upsampling far-field pixels is measured as one. Returns the residual and the modelled
    counts on measured pixels.
    """
    residual = modelled = 0.0
    for block in range(n // upsampling):
        for column in range(0, n, LANES):
            power = splat(np.float32(0))
            for row in range(block * upsampling, (block + 1) * upsampling):
                k = place_of(row, column, n)
                for mode in range(len(waves)):
                    real, imaginary = load(waves[mode], k), load(waves[mode], k + LANES)
                    power = power + real * real + imaginary * imaginary
            store(power, spare, column)
        for pixel in range(n // upsampling):
            power = np.float32(0)
            for column in range(pixel * upsampling, (pixel + 1) * upsampling):
                power += spare[column]
            measured, modulus = target[block * (n // upsampling) + pixel], np.sqrt(power)
            missing = np.float32(0)
            if measured >= 0:
                missing = measured - modulus
                residual += missing * missing
                modelled += power
            for column in range(pixel * upsampling, (pixel + 1) * upsampling):
                spare[column] = missing / max(modulus, _TINY) / np.float32(n)
        for row in range(block * upsampling, (block + 1) * upsampling):
            for column in range(0, n, LANES):
                k, factor = place_of(row, column, n), load(spare, column)
                for mode in range(len(waves)):
                    store(load(waves[mode], k) * factor, waves[mode], k)
                    store(load(waves[mode], k + LANES) * factor, waves[mode], k + LANES)
    return residual, modelled


@njit(nogil=True)
def _sum_of(lanes_of):
    total = 0.0
    for k in range(LANES):
        total += lanes_of[k]
    return total


@njit(nogil=True)
def seeming_shift(patch, lit_by, correction, n, inner, spare, shift_px):
    """Write the displacement (2,) that explains the correction best, from differences of neighbouring object pixels.

    `inner` (n,) is 0 at both ends, where a pixel has one neighbour only, and 1 between.
    """
    half = splat(np.float32(0.5))
    down, right = splat(np.float32(0)), splat(np.float32(0))
    down_down, down_right, right_right = splat(np.float32(0)), splat(np.float32(0)), splat(np.float32(0))
    for row in range(1, n - 1):
        for column in range(0, n, LANES):
            k = place_of(row, column, n)
            weight = load(inner, column) * half
            above_real, above_imaginary = load_complex(patch, row - 1, column)
            below_real, below_imaginary = load_complex(patch, row + 1, column)
            left_real, left_imaginary = load_complex(patch, row, column - 1)
            right_of_real, right_of_imaginary = load_complex(patch, row, column + 1)
            down_real, down_imaginary = (below_real - above_real) * weight, (below_imaginary - above_imaginary) * weight
            across_real = (right_of_real - left_real) * weight
            across_imaginary = (right_of_imaginary - left_imaginary) * weight
            sum_real, sum_imaginary = splat(np.float32(0)), splat(np.float32(0))
            intensity = splat(np.float32(0))
            for mode in range(len(lit_by)):
                probe_real, probe_imaginary = load(lit_by[mode], k), load(lit_by[mode], k + LANES)
                real, imaginary = load(correction[mode], k), load(correction[mode], k + LANES)
                intensity = intensity + probe_real * probe_real + probe_imaginary * probe_imaginary
                sum_real = sum_real + probe_real * real + probe_imaginary * imaginary
                sum_imaginary = sum_imaginary + probe_real * imaginary - probe_imaginary * real
            down = down + down_real * sum_real + down_imaginary * sum_imaginary
            right = right + across_real * sum_real + across_imaginary * sum_imaginary
            down_down = down_down + (down_real * down_real + down_imaginary * down_imaginary) * intensity
            right_right = right_right + (across_real * across_real + across_imaginary * across_imaginary) * intensity
            down_right = down_right + (down_real * across_real + down_imaginary * across_imaginary) * intensity
    store(down, spare, 0)
    store(right, spare, LANES)
    store(down_down, spare, 2 * LANES)
    store(right_right, spare, 3 * LANES)
    store(down_right, spare, 4 * LANES)
    g, h = _sum_of(spare), _sum_of(spare[LANES:])
    a, b, c = _sum_of(spare[2 * LANES :]), _sum_of(spare[3 * LANES :]), _sum_of(spare[4 * LANES :])
    damping = SLOPE_DAMPING * (a + b) + _TINY
    a, b = a + damping, b + damping
    determinant = a * b - c * c
    shift_px[0], shift_px[1] = (b * g - c * h) / determinant, (a * h - c * g) / determinant
