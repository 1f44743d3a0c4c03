"""What a frame visit changes, in compiled code: the last steps of `compiled_visit`, `LANES` columns at a time."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from streamptycho.ptychography.compiled_fft import block_of, columns_of, transform_block, transform_turned
from streamptycho.ptychography.compiled_passes import block_place_of, place_among
from streamptycho.ptychography.lanes import LANES, load, load_complex, splat, store, store_complex

TINY = np.float32(1e-12)


@njit(nogil=True)
def finish_correction(correction, n, plan):
    """Transform what is missing from halfway to the sample, in place."""
    radices, turns, scratch = plan
    for mode in range(len(correction)):
        for column in range(0, n, LANES):
            rows = columns_of(correction[mode], column, n, True)
            transform_block(rows, rows, n, radices, turns, scratch)


@njit(nogil=True)
def correction_block(correction, is_finished, mode, column, n, blocks, plan):
    """Write columns of what is missing at the sample to a block, unless `is_finished` from halfway there."""
    radices, turns, scratch = plan
    if is_finished:
        for row in range(n):
            k, here = place_among(mode, row, column, n), block_place_of(mode, row, n)
            store(load(correction, k), blocks, here)
            store(load(correction, k + LANES), blocks, here + LANES)
    else:
        rows = columns_of(correction[mode], column, n, True)
        transform_block(rows, block_of(blocks[mode], True), n, radices, turns, scratch)


def _change_block(probe_change: str, *, regularised: bool) -> Any:
    """Return compiled code that changes columns of the patch, and of the probe in place, or in blocks, or not.

    Unless `regularised`, both alphas are 1.
    """
    in_place, in_blocks = probe_change == "in place", probe_change == "in blocks"

    @njit(nogil=True)
    def change(patch, lit_by, n, column, steps, alphas, peaks, blocks):
        object_step, probe_step = steps
        object_alpha, probe_alpha = alphas
        object_peak, probe_peak = peaks
        object_factor = splat(np.float32(object_step / max(probe_peak, TINY)))
        probe_factor = splat(np.float32(probe_step / max(object_peak, TINY)))
        object_lanes, probe_lanes = splat(np.float32(object_step)), splat(np.float32(probe_step))
        object_share, probe_share = splat(np.float32(1 - object_alpha)), splat(np.float32(1 - probe_alpha))
        object_rest = splat(np.float32(max(object_alpha * probe_peak, TINY)))
        probe_rest = splat(np.float32(max(probe_alpha * object_peak, TINY)))
        for row in range(n):
            old_real, old_imaginary = load_complex(patch, row, column)
            if regularised:
                strength = old_real * old_real + old_imaginary * old_imaginary
                probe_factor = probe_lanes / (strength * probe_share + probe_rest)
            sum_real, sum_imaginary = splat(np.float32(0)), splat(np.float32(0))
            intensity = splat(np.float32(0))
            for mode in range(len(lit_by)):
                k, here = place_among(mode, row, column, n), block_place_of(mode, row, n)
                probe_real, probe_imaginary = load(lit_by, k), load(lit_by, k + LANES)
                real, imaginary = load(blocks, here), load(blocks, here + LANES)
                sum_real = sum_real + probe_real * real + probe_imaginary * imaginary
                sum_imaginary = sum_imaginary + probe_real * imaginary - probe_imaginary * real
                if regularised:
                    intensity = intensity + probe_real * probe_real + probe_imaginary * probe_imaginary
                if in_place or in_blocks:
                    change_real = (old_real * real + old_imaginary * imaginary) * probe_factor
                    change_imaginary = (old_real * imaginary - old_imaginary * real) * probe_factor
                    if in_place:
                        store(probe_real + change_real, lit_by, k)
                        store(probe_imaginary + change_imaginary, lit_by, k + LANES)
                    else:
                        store(change_real, blocks, here)
                        store(change_imaginary, blocks, here + LANES)
            if regularised:
                object_factor = object_lanes / (intensity * object_share + object_rest)
            store_complex(
                old_real + sum_real * object_factor, old_imaginary + sum_imaginary * object_factor, patch, row, column
            )

    return change


_object, _both, _object_and_block = (
    _change_block(probe_change, regularised=False) for probe_change in ("not", "in place", "in blocks")
)
_object_regularised, _both_regularised, _object_and_block_regularised = (
    _change_block(probe_change, regularised=True) for probe_change in ("not", "in place", "in blocks")
)


@njit(nogil=True)
def _change(patch, lit_by, n, column, steps, alphas, peaks, whole_pixel, blocks):
    if alphas[0] < 1 or alphas[1] < 1:
        if steps[1] <= 0:
            _object_regularised(patch, lit_by, n, column, steps, alphas, peaks, blocks)
        elif whole_pixel:
            _both_regularised(patch, lit_by, n, column, steps, alphas, peaks, blocks)
        else:
            _object_and_block_regularised(patch, lit_by, n, column, steps, alphas, peaks, blocks)
    elif steps[1] <= 0:
        _object(patch, lit_by, n, column, steps, alphas, peaks, blocks)
    elif whole_pixel:
        _both(patch, lit_by, n, column, steps, alphas, peaks, blocks)
    else:
        _object_and_block(patch, lit_by, n, column, steps, alphas, peaks, blocks)


@njit(nogil=True)
def update(patch, lit_by, correction, is_finished, steps, alphas, peaks, n, whole_pixel, target, blocks, plan):
    """Add to the patch, and to `lit_by` if it is the probe, being `whole_pixel`, both from what they were.

    Otherwise the change of the moved probe is transformed halfway to spectra, written to `target`. Both are divided by
    (1 - alpha) x the intensity of the other + alpha x its peak. `correction` is what is missing at the sample if it
    `is_finished`, else halfway there.
    """
    radices, turns, scratch = plan
    for column in range(0, n, LANES):
        for mode in range(len(lit_by)):
            correction_block(correction, is_finished, mode, column, n, blocks, plan)
        _change(patch, lit_by, n, column, steps, alphas, peaks, whole_pixel, blocks)
        if steps[1] > 0 and not whole_pixel:
            for mode in range(len(lit_by)):
                rows = block_of(blocks[mode], False)
                transform_turned(rows, target[mode], column, n, False, radices, turns, scratch)
