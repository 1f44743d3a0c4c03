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

from streamptycho.ptychography.compiled_fft import row_pitch, transform_columns
from streamptycho.ptychography.lanes import (
    LANES,
    intrinsic,
    larger,
    load,
    load_complex,
    splat,
    square_root,
    store,
    store_complex,
    where_not_negative,
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
def move(spectrum, down, right, n, moved):
    """Write the spectrum (transposed) times the ramps."""
    for row in range(n):
        turn_real, turn_imaginary = splat(right[row]), splat(right[n + row])
        for k in range(row * row_pitch(n), row * row_pitch(n) + n, LANES):
            column = k - row * row_pitch(n)
            down_real, down_imaginary = load(down, column), load(down, n + column)
            ramp_real = down_real * turn_real - down_imaginary * turn_imaginary
            ramp_imaginary = down_real * turn_imaginary + down_imaginary * turn_real
            real, imaginary = load(spectrum, k), load(spectrum, k + n)
            store(real * ramp_real - imaginary * ramp_imaginary, moved, k)
            store(real * ramp_imaginary + imaginary * ramp_real, moved, k + n)


@njit(nogil=True)
def add_moved_back(change, down, right, n, spectrum):
    """Add the change (transposed) times the conjugate ramps."""
    for row in range(n):
        turn_real, turn_imaginary = splat(right[row]), splat(right[n + row])
        for k in range(row * row_pitch(n), row * row_pitch(n) + n, LANES):
            column = k - row * row_pitch(n)
            down_real, down_imaginary = load(down, column), load(down, n + column)
            ramp_real = down_real * turn_real - down_imaginary * turn_imaginary
            ramp_imaginary = down_real * turn_imaginary + down_imaginary * turn_real
            real, imaginary = load(change, k), load(change, k + n)
            store(load(spectrum, k) + real * ramp_real + imaginary * ramp_imaginary, spectrum, k)
            store(load(spectrum, k + n) + imaginary * ramp_real - real * ramp_imaginary, spectrum, k + n)


@njit(nogil=True)
def _highest(lanes_of):
    highest = lanes_of[0]
    for k in range(1, LANES):
        highest = max(highest, lanes_of[k])
    return highest


@njit(nogil=True)
def exit_waves(lit_by, patch, n, waves, spare):
    """Write probe x patch / n; return max |patch|**2 and the maximum of the probe intensity."""
    scale = splat(np.float32(1 / n))
    object_peak = splat(np.float32(0))
    probe_peak = splat(np.float32(0))
    for row in range(n):
        for column in range(0, n, LANES):
            real, imaginary = load_complex(patch, row, column)
            object_peak = larger(object_peak, real * real + imaginary * imaginary)
            real, imaginary = real * scale, imaginary * scale
            intensity = splat(np.float32(0))
            k = row * row_pitch(n) + column
            for mode in range(len(lit_by)):
                probe_real, probe_imaginary = load(lit_by[mode], k), load(lit_by[mode], k + n)
                intensity = intensity + probe_real * probe_real + probe_imaginary * probe_imaginary
                store(probe_real * real - probe_imaginary * imaginary, waves[mode], k)
                store(probe_real * imaginary + probe_imaginary * real, waves[mode], k + n)
            probe_peak = larger(probe_peak, intensity)
    store(object_peak, spare, 0)
    store(probe_peak, spare, LANES)
    return _highest(spare[:LANES]), _highest(spare[LANES : 2 * LANES])


@njit(nogil=True)
def correct_modulus(waves, target, n, spare):
    """Replace far fields (transposed) by what is missing to the measured modulus, / n.

    Returns the residual and the modelled counts on measured pixels.
    """
    tiny, scale = splat(_TINY), splat(np.float32(1 / n))
    residual = modelled = 0.0
    for row in range(n):
        squares, powers = splat(np.float32(0)), splat(np.float32(0))
        for column in range(0, n, LANES):
            k = row * row_pitch(n) + column
            power = splat(np.float32(0))
            for mode in range(len(waves)):
                real, imaginary = load(waves[mode], k), load(waves[mode], k + n)
                power = power + real * real + imaginary * imaginary
            modulus = square_root(power)
            measured = load(target, row * n + column)
            missing = where_not_negative(measured, measured - modulus)
            squares = squares + missing * missing
            powers = powers + where_not_negative(measured, power)
            factor = missing * scale / larger(modulus, tiny)
            for mode in range(len(waves)):
                store(load(waves[mode], k) * factor, waves[mode], k)
                store(load(waves[mode], k + n) * factor, waves[mode], k + n)
        store(squares, spare, 0)
        store(powers, spare, LANES)
        for lane in range(LANES):
            residual += spare[lane]
            modelled += spare[LANES + lane]
    return residual, modelled


@njit(nogil=True)
def correct_summed_modulus(waves, target, n, upsampling, spare):
    """Do what `correct_modulus` does where the intensity of upsampling x upsampling far-field pixels is measured."""
    residual = modelled = 0.0
    for block in range(n // upsampling):
        for column in range(0, n, LANES):
            power = splat(np.float32(0))
            for row in range(block * upsampling, (block + 1) * upsampling):
                k = row * row_pitch(n) + column
                for mode in range(len(waves)):
                    real, imaginary = load(waves[mode], k), load(waves[mode], k + n)
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
                k, factor = row * row_pitch(n) + column, load(spare, column)
                for mode in range(len(waves)):
                    store(load(waves[mode], k) * factor, waves[mode], k)
                    store(load(waves[mode], k + n) * factor, waves[mode], k + n)
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
            k = row * row_pitch(n) + column
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
                probe_real, probe_imaginary = load(lit_by[mode], k), load(lit_by[mode], k + n)
                real, imaginary = load(correction[mode], k), load(correction[mode], k + n)
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


@njit(nogil=True)
def update(patch, lit_by, correction, object_step, probe_step, alphas, peaks, n, probe_change, add):
    """Add to the patch, and write the probe's change (or add it), both from what they were.

    Both are divided by (1 - alpha) x the intensity of the other + alpha x its peak.
    """
    object_alpha, probe_alpha = alphas
    object_peak, probe_peak = peaks
    object_factor = splat(np.float32(object_step / max(probe_peak, _TINY)))
    probe_factor = splat(np.float32(probe_step / max(object_peak, _TINY)))
    object_lanes, probe_lanes = splat(np.float32(object_step)), splat(np.float32(probe_step))
    object_share, probe_share = splat(np.float32(1 - object_alpha)), splat(np.float32(1 - probe_alpha))
    object_rest = splat(np.float32(max(object_alpha * probe_peak, _TINY)))
    probe_rest = splat(np.float32(max(probe_alpha * object_peak, _TINY)))
    for row in range(n):
        for column in range(0, n, LANES):
            k = row * row_pitch(n) + column
            old_real, old_imaginary = load_complex(patch, row, column)
            if probe_alpha < 1:
                strength = old_real * old_real + old_imaginary * old_imaginary
                probe_factor = probe_lanes / (strength * probe_share + probe_rest)
            sum_real, sum_imaginary = splat(np.float32(0)), splat(np.float32(0))
            intensity = splat(np.float32(0))
            for mode in range(len(lit_by)):
                probe_real, probe_imaginary = load(lit_by[mode], k), load(lit_by[mode], k + n)
                real, imaginary = load(correction[mode], k), load(correction[mode], k + n)
                sum_real = sum_real + probe_real * real + probe_imaginary * imaginary
                sum_imaginary = sum_imaginary + probe_real * imaginary - probe_imaginary * real
                if object_alpha < 1:
                    intensity = intensity + probe_real * probe_real + probe_imaginary * probe_imaginary
                if probe_step > 0:
                    change_real = (old_real * real + old_imaginary * imaginary) * probe_factor
                    change_imaginary = (old_real * imaginary - old_imaginary * real) * probe_factor
                    if add:
                        change_real, change_imaginary = change_real + probe_real, change_imaginary + probe_imaginary
                    store(change_real, probe_change[mode], k)
                    store(change_imaginary, probe_change[mode], k + n)
            if object_alpha < 1:
                object_factor = object_lanes / (intensity * object_share + object_rest)
            store_complex(
                old_real + sum_real * object_factor, old_imaginary + sum_imaginary * object_factor, patch, row, column
            )
