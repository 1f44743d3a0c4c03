"""Frame visits in compiled code: many in one call, without the interpreter's lock."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import numpy as np
from numba import njit

from streamptycho.ptychography.compiled_changes import finish_correction, update
from streamptycho.ptychography.compiled_fft import transform_columns
from streamptycho.ptychography.compiled_passes import (
    add_moved_back,
    light,
    move_and_light,
    replace_modulus,
    start_move,
)
from streamptycho.ptychography.compiled_steps import (
    correct_summed_modulus,
    seeming_shift,
    target_modulus,
    transform,
    write_ramp,
)
from streamptycho.ptychography.propagation import WHOLE_PIXEL

_FIELD, _FIELDS = "float32[::1]", "float32[:,::1]"
_PLAN = "Tuple((int64[::1], float32[::1], float32[:,::1]))"
_RULE = "Tuple((int64, float64, float64, boolean))"
_ROOM = f"Tuple(({_FIELDS}, {_FIELDS}, {_FIELDS}, {_FIELDS}, {_FIELD}, {_FIELD}, {_FIELDS}, {_FIELD}))"


@njit(f"void({_FIELDS}, {_FIELDS}, int64, boolean, {_FIELD}, {_PLAN})", cache=True, nogil=True)
def convert_probe(source, target, n, inverse, work, plan):
    """Write the spectrum of the probe modes (transposed), or with `inverse` the modes of their spectrum."""
    radices, turns, scratch = plan
    for mode in range(len(source)):
        transform(source[mode], target[mode], n, inverse, work, radices, turns, scratch)
        for k in range(target.shape[1]):
            target[mode, k] *= np.float32(1 / n)


@njit(nogil=True)
def _replace_modulus(halfway, place, gain, rule, wanted, room, plan):
    """Do what `replace_modulus` does where several far-field pixels are measured as one."""
    _, waves, _, _, _, target, _, _ = room
    radices, turns, scratch = plan
    n, (address, kind), work = len(room[7]), place, room[4]
    measured = target_modulus(address, kind, gain, target)
    for mode in range(len(halfway)):
        transform_columns(halfway[mode], halfway[mode], n, False, False, radices, turns, scratch)
    residual, modelled = correct_summed_modulus(halfway, target, n, rule[0], work)
    if wanted:
        for mode in range(len(halfway)):
            transform_columns(halfway[mode], waves[mode], n, True, True, radices, turns, scratch)
    return residual, modelled, measured


@njit(nogil=True)
def find_correction(patch, whole_pixel, fraction, place, gain, wanted, rule, probe, room, plan, outcome):
    """Compare a frame with what is measured; leave what is missing, halfway to the sample, if it is `wanted`.

    It lies in the second fields of `room`; where shifts are found, it comes all the way. `place` is address and kind of
    the counts. `outcome` (4,) gets the residual, the shift down and right, and measured over modelled counts. Between
    pixels the probe that lights the frame is left in the first fields. Returns max |patch|**2 and the maximum of the
    probe intensity.
    """
    n, find_shifts = patch.shape[0], rule[3]
    moved, waves, halfway, blocks, work, _, ramps, inner = room
    if whole_pixel:
        lit_by = probe
        peaks = light(probe, patch, n, halfway, blocks, plan)
    else:
        lit_by = moved
        write_ramp(fraction[1], n, 1 / n, ramps[0])
        write_ramp(fraction[0], n, 1.0, ramps[1])
        start_move(probe, ramps[1], ramps[0], n, waves, blocks, plan)
        peaks = move_and_light(waves, moved, patch, n, halfway, blocks, plan)
    back = wanted or find_shifts
    if rule[0] == 1:
        found = replace_modulus(halfway, place[0], place[1], gain, n, back, waves, blocks, work, plan)
    else:
        found = _replace_modulus(halfway, place, gain, rule, back, room, plan)
    residual, modelled, measured = found
    outcome[0], outcome[3] = residual * gain, (measured / modelled if modelled > 0 else gain)
    if find_shifts:
        finish_correction(waves, n, plan)
        seeming_shift(patch, lit_by, waves, n, inner, work, outcome[1:3])
    return peaks


@njit(nogil=True)
def _visit(patch, whole_pixel, fraction, place, gain, steps, rule, probe, room, plan, outcome):
    _, object_alpha, probe_alpha, find_shifts = rule
    moved, waves, halfway, blocks, _, _, ramps, _ = room
    n, wanted = patch.shape[0], steps[0] > 0 or steps[1] > 0
    peaks = find_correction(patch, whole_pixel, fraction, place, gain, wanted, rule, probe, room, plan, outcome)
    if not wanted:
        return
    alphas = object_alpha, probe_alpha
    lit_by = probe if whole_pixel else moved
    update(patch, lit_by, waves, find_shifts, steps, alphas, peaks, n, whole_pixel, halfway, blocks, plan)
    if steps[1] > 0 and not whole_pixel:
        add_moved_back(halfway, ramps[1], ramps[0], n, probe, blocks, plan)


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
        moved, waves and halfway (modes, size), blocks (modes, 2 x n x LANES), work (size), target (frame pixels), ramps
        (2, 2 n), and `inner` of `seeming_shift`.
    plan
        radices, turns and scratch of `transform_columns`.
    outcome
        Residual, shift down and right, modelled counts over measured ones are written here, (K, 4).
    """
    work, n = room[4], len(room[7])
    for k in range(len(places)):
        down, right = fractions_px[k, 0], fractions_px[k, 1]
        whole_pixel = abs(down) < WHOLE_PIXEL and abs(right) < WHOLE_PIXEL
        if whole_pixel == is_spectrum:
            convert_probe(probe, probe, n, is_spectrum, work, plan)
            is_spectrum = not is_spectrum
        row, column = places[k, 0], places[k, 1]
        patch = image[row : row + n, column : column + n]
        place, steps = (addresses[k], kinds[k]), (numbers[k, 1], numbers[k, 2])
        _visit(patch, whole_pixel, (down, right), place, numbers[k, 0], steps, rule, probe, room, plan, outcome[k])
    return is_spectrum
