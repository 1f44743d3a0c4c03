"""One frame visit in compiled code.

Fields are those of `compiled_fft`. Those at the detector, and the spectrum of the probe, are transposed, which saves
every transform one of two transpositions.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import numpy as np
from numba import njit

from streamptycho.ptychography.compiled_fft import row_pitch, transform_columns
from streamptycho.ptychography.lanes import (
    LANES,
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
_FIELD, _FIELDS, _IMAGE = "float32[::1]", "float32[:,::1]", "complex64[:,:]"
_PLAN = "int64[::1], float32[::1], float32[:,::1]"


@njit(
    [f"void({kind}[:,::1], {kind}, float32[::1])" for kind in ("uint8", "uint16", "uint32", "float32")],
    cache=True,
    nogil=True,
)
def target_modulus(counts, highest, target):
    """Write the measured modulus of every pixel, -1 where it was not measured: below 0, NaN, `highest` and above."""
    flat = counts.ravel()
    for k in range(flat.size):
        value = flat[k]
        target[k] = np.sqrt(np.float32(value)) if 0 <= value < highest else np.float32(-1)


@njit(f"void({_FIELD}, {_FIELD}, int64, boolean, {_FIELD}, {_PLAN})", cache=True, nogil=True)
def transform(source, target, n, inverse, work, radices, turns, scratch):
    """Transform a field to the detector, or back with `inverse`, without scaling. `source` may be `target`."""
    transform_columns(source, work, n, inverse, np.bool_(True), radices, turns, scratch)
    transform_columns(work, target, n, inverse, np.bool_(False), radices, turns, scratch)


@njit(nogil=True)
def _write_ramp(distance_px, n, scale, ramp):
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
def _move(spectrum, down, right, n, moved):
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
def _add_moved_back(change, down, right, n, spectrum):
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
def _exit_waves(lit_by, patch, n, waves, spare):
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
def _correct_modulus(waves, target, n, spare):
    """Replace far fields (transposed) by what is missing to the measured modulus, / n; return the residual."""
    tiny, scale = splat(_TINY), splat(np.float32(1 / n))
    residual = 0.0
    for row in range(n):
        squares = splat(np.float32(0))
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
            factor = missing * scale / larger(modulus, tiny)
            for mode in range(len(waves)):
                store(load(waves[mode], k) * factor, waves[mode], k)
                store(load(waves[mode], k + n) * factor, waves[mode], k + n)
        store(squares, spare, 0)
        for lane in range(LANES):
            residual += spare[lane]
    return residual


@njit(nogil=True)
def _update(patch, lit_by, correction, object_step, probe_step, n, probe_change, add):
    """Add to the patch, and write the probe's change (or add it), both from what they were."""
    object_factor, probe_factor = splat(object_step), splat(probe_step)
    for row in range(n):
        for column in range(0, n, LANES):
            k = row * row_pitch(n) + column
            old_real, old_imaginary = load_complex(patch, row, column)
            sum_real, sum_imaginary = splat(np.float32(0)), splat(np.float32(0))
            for mode in range(len(lit_by)):
                probe_real, probe_imaginary = load(lit_by[mode], k), load(lit_by[mode], k + n)
                real, imaginary = load(correction[mode], k), load(correction[mode], k + n)
                sum_real = sum_real + probe_real * real + probe_imaginary * imaginary
                sum_imaginary = sum_imaginary + probe_real * imaginary - probe_imaginary * real
                if probe_step > 0:
                    change_real = (old_real * real + old_imaginary * imaginary) * probe_factor
                    change_imaginary = (old_real * imaginary - old_imaginary * real) * probe_factor
                    if add:
                        change_real, change_imaginary = change_real + probe_real, change_imaginary + probe_imaginary
                    store(change_real, probe_change[mode], k)
                    store(change_imaginary, probe_change[mode], k + n)
            store_complex(
                old_real + sum_real * object_factor, old_imaginary + sum_imaginary * object_factor, patch, row, column
            )


@njit(
    f"float64({_IMAGE}, {_FIELD}, boolean, boolean, float64, float64, float32, float32, "
    f"{_FIELDS}, {_FIELDS}, {_FIELDS}, {_FIELD}, {_FIELDS}, {_PLAN})",
    cache=True,
    nogil=True,
)
def visit(
    patch,
    target,
    only_compare,
    whole_pixel,
    down_px,
    right_px,
    object_step,
    probe_step,
    probe,
    moved,
    waves,
    work,
    ramps,
    radices,
    turns,
    scratch,
):
    """Visit a frame: change object and probe, and return sum((|F| - sqrt(I))**2) as it was before.

    Parameters
    ----------
    patch
        View of the object, (n, n) complex64, rows contiguous.
    target
        Measured modulus, (n x n) float32, transposed, -1 where it was not measured.
    only_compare
        Whether to change nothing.
    whole_pixel
        Whether `probe` is the probe itself, and not its spectrum, which is to move by `down_px` and `right_px`.
    object_step, probe_step
        Step sizes; the probe is not changed when its own is 0.
    probe
        (modes, size) fields.
    moved, waves, work, ramps
        Room: (modes, size) twice, (size), (2, 2 n).
    radices, turns, scratch
        Of `transform_columns`.
    """
    n = patch.shape[0]
    modes = len(probe)
    lit_by = probe
    if not whole_pixel:
        lit_by = moved
        _write_ramp(right_px, n, 1 / n, ramps[0])
        _write_ramp(down_px, n, 1.0, ramps[1])
        for mode in range(modes):
            _move(probe[mode], ramps[1], ramps[0], n, moved[mode])
            transform(moved[mode], moved[mode], n, True, work, radices, turns, scratch)
    object_peak, probe_peak = _exit_waves(lit_by, patch, n, waves, work)
    for mode in range(modes):
        transform(waves[mode], waves[mode], n, False, work, radices, turns, scratch)
    residual = _correct_modulus(waves, target, n, work)
    if only_compare:
        return residual
    for mode in range(modes):
        transform(waves[mode], waves[mode], n, True, work, radices, turns, scratch)
    object_factor = object_step / max(probe_peak, _TINY)
    probe_factor = probe_step / max(object_peak, _TINY)
    _update(patch, lit_by, waves, object_factor, probe_factor, n, probe if whole_pixel else waves, whole_pixel)
    if probe_step > 0 and not whole_pixel:
        for mode in range(modes):
            transform(waves[mode], waves[mode], n, False, work, radices, turns, scratch)
            _add_moved_back(waves[mode], ramps[1], ramps[0], n, probe[mode])
    return residual
