"""Frame visits in compiled code: many in one call, without the interpreter's lock."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import numpy as np
from numba import njit

from streamptycho.ptychography.compiled_steps import (
    add_moved_back,
    correct_modulus,
    correct_summed_modulus,
    exit_waves,
    move,
    seeming_shift,
    target_modulus,
    transform,
    update,
    write_ramp,
)
from streamptycho.ptychography.propagation import WHOLE_PIXEL

_FIELD, _FIELDS = "float32[::1]", "float32[:,::1]"
_PLAN = "Tuple((int64[::1], float32[::1], float32[:,::1]))"
_RULE = "Tuple((int64, float64, float64, boolean))"
_ROOM = f"Tuple(({_FIELDS}, {_FIELDS}, {_FIELD}, {_FIELD}, {_FIELDS}, {_FIELD}))"


@njit(f"void({_FIELDS}, {_FIELDS}, int64, boolean, {_FIELD}, {_PLAN})", cache=True, nogil=True)
def convert_probe(source, target, n, inverse, work, plan):
    """Write the spectrum of the probe modes (transposed), or with `inverse` the modes of their spectrum."""
    radices, turns, scratch = plan
    for mode in range(len(source)):
        transform(source[mode], target[mode], n, inverse, work, radices, turns, scratch)
        for k in range(target.shape[1]):
            target[mode, k] *= np.float32(1 / n)


@njit(nogil=True)
def find_correction(patch, whole_pixel, fraction, wanted, rule, probe, room, plan, outcome):
    """Compare a frame with what is measured; write what is missing, at the sample, to `room` if it is `wanted`.

    `outcome` (4,) gets the residual, the shift down and right, and the modelled counts. Between pixels the probe that
    lights the frame is left in `room` too. Returns max |patch|**2 and the maximum of the probe intensity.
    """
    n, modes = patch.shape[0], len(probe)
    upsampling, _, _, find_shifts = rule
    moved, waves, work, target, ramps, inner = room
    radices, turns, scratch = plan
    lit_by = probe
    if not whole_pixel:
        lit_by = moved
        write_ramp(fraction[1], n, 1 / n, ramps[0])
        write_ramp(fraction[0], n, 1.0, ramps[1])
        for mode in range(modes):
            move(probe[mode], ramps[1], ramps[0], n, moved[mode])
            transform(moved[mode], moved[mode], n, True, work, radices, turns, scratch)
    peaks = exit_waves(lit_by, patch, n, waves, work)
    for mode in range(modes):
        transform(waves[mode], waves[mode], n, False, work, radices, turns, scratch)
    if upsampling == 1:
        residual, modelled = correct_modulus(waves, target, n, work)
    else:
        residual, modelled = correct_summed_modulus(waves, target, n, upsampling, work)
    outcome[0], outcome[3] = residual, modelled
    if wanted or find_shifts:
        for mode in range(modes):
            transform(waves[mode], waves[mode], n, True, work, radices, turns, scratch)
    if find_shifts:
        seeming_shift(patch, lit_by, waves, n, inner, work, outcome[1:3])
    return peaks


@njit(nogil=True)
def _visit(patch, whole_pixel, fraction, steps, rule, probe, room, plan, outcome):
    n, modes = patch.shape[0], len(probe)
    _, object_alpha, probe_alpha, _ = rule
    moved, waves, work, _, ramps, _ = room
    radices, turns, scratch = plan
    object_step, probe_step = steps
    wanted = object_step > 0 or probe_step > 0
    peaks = find_correction(patch, whole_pixel, fraction, wanted, rule, probe, room, plan, outcome)
    if not wanted:
        return
    alphas = object_alpha, probe_alpha
    lit_by, change = (probe, probe) if whole_pixel else (moved, waves)
    update(patch, lit_by, waves, object_step, probe_step, alphas, peaks, n, change, whole_pixel)
    if probe_step > 0 and not whole_pixel:
        for mode in range(modes):
            transform(waves[mode], waves[mode], n, False, work, radices, turns, scratch)
            add_moved_back(waves[mode], ramps[1], ramps[0], n, probe[mode])


@njit(
    f"boolean(complex64[:,::1], int64[:,::1], float64[:,::1], int64[::1], int64[::1], float64[:,::1], {_RULE}, "
    f"boolean, {_FIELDS}, {_ROOM}, {_PLAN}, float64[:,::1])",
    cache=True,
    nogil=True,
)
def visit_frames(image, places, fractions_px, addresses, kinds, numbers, rule, is_spectrum, probe, room, plan, outcome):
    """Visit frames one after another. Returns whether `probe` is its spectrum afterwards.

    Parameters
    ----------
    image
        The object, (H, W) complex64.
    places
        First row and column of each frame, (K, 2).
    fractions_px
        Of a pixel by which each frame is further down and right, (K, 2).
    addresses, kinds
        Of the counts of each frame, as in `FrameStore`, (K,).
    numbers
        Gain, object step and probe step of each frame, (K, 3). Nothing changes where both steps are 0.
    rule
        upsampling, object alpha, probe alpha, whether to find shifts: see `UpdateRule`.
    is_spectrum
        Whether `probe` is its spectrum, transposed, as sub-pixel visits keep it.
    probe
        (modes, size) fields.
    room
        moved and waves (modes, size), work (size), target (frame pixels), ramps (2, 2 n), and `inner` of
        `seeming_shift`.
    plan
        radices, turns and scratch of `transform_columns`.
    outcome
        Residual, shift down and right, modelled counts over measured ones are written here, (K, 4).
    """
    work, target = room[2], room[3]
    n = len(room[5])
    for k in range(len(places)):
        down, right = fractions_px[k, 0], fractions_px[k, 1]
        whole_pixel = abs(down) < WHOLE_PIXEL and abs(right) < WHOLE_PIXEL
        if whole_pixel == is_spectrum:
            convert_probe(probe, probe, n, is_spectrum, work, plan)
            is_spectrum = not is_spectrum
        gain = numbers[k, 0]
        total = target_modulus(addresses[k], kinds[k], gain, target)
        row, column = places[k, 0], places[k, 1]
        patch = image[row : row + n, column : column + n]
        steps = numbers[k, 1], numbers[k, 2]
        _visit(patch, whole_pixel, (down, right), steps, rule, probe, room, plan, outcome[k])
        outcome[k, 0] *= gain
        outcome[k, 3] = total / outcome[k, 3] if outcome[k, 3] > 0 else gain
    return is_spectrum
