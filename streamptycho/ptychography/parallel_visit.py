"""Groups of frames visited at the same time by several threads, in compiled code: see `parallel`."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import numpy as np
from numba import njit

from streamptycho.ptychography.compiled_changes import TINY, finish_correction
from streamptycho.ptychography.compiled_fft import place_of, transform_columns
from streamptycho.ptychography.compiled_passes import add_moved_back
from streamptycho.ptychography.compiled_visit import find_correction
from streamptycho.ptychography.lanes import LANES, larger, load, load_complex, splat, store, store_complex
from streamptycho.ptychography.parallel_barrier import wait_for_all

_FIELD, _FIELDS = "float32[::1]", "float32[:,::1]"
_PLAN = "Tuple((int64[::1], float32[::1], float32[:,::1]))"
_RULE = "Tuple((int64, float64, float64, boolean))"
_ROOM = f"Tuple(({_FIELDS}, {_FIELDS}, {_FIELDS}, {_FIELDS}, {_FIELD}, {_FIELD}, {_FIELDS}, {_FIELD}))"


@njit(nogil=True)
def _wanted_changes(patch, lit_by, correction, steps, alphas, peaks, n, change, probe_change, add):
    """Write the change of the patch, and that of the probe to `probe_change`, or add it there.

    `change` is (3, n x n): real part, imaginary part, and the share of what is missing that the change makes up for.
    """
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
        for column in range(0, n, LANES):
            k, flat = place_of(row, column, n), row * n + column
            sum_real, sum_imaginary = splat(np.float32(0)), splat(np.float32(0))
            intensity = splat(np.float32(0))
            old_real, old_imaginary = load_complex(patch, row, column)
            if probe_alpha < 1:
                strength = old_real * old_real + old_imaginary * old_imaginary
                probe_factor = probe_lanes / (strength * probe_share + probe_rest)
            for mode in range(len(lit_by)):
                probe_real, probe_imaginary = load(lit_by[mode], k), load(lit_by[mode], k + LANES)
                real, imaginary = load(correction[mode], k), load(correction[mode], k + LANES)
                sum_real = sum_real + probe_real * real + probe_imaginary * imaginary
                sum_imaginary = sum_imaginary + probe_real * imaginary - probe_imaginary * real
                intensity = intensity + probe_real * probe_real + probe_imaginary * probe_imaginary
                if probe_step > 0:
                    change_real = (old_real * real + old_imaginary * imaginary) * probe_factor
                    change_imaginary = (old_real * imaginary - old_imaginary * real) * probe_factor
                    if add:
                        change_real = change_real + load(probe_change[mode], k)
                        change_imaginary = change_imaginary + load(probe_change[mode], k + LANES)
                    store(change_real, probe_change[mode], k)
                    store(change_imaginary, probe_change[mode], k + LANES)
            if object_alpha < 1:
                object_factor = object_lanes / (intensity * object_share + object_rest)
            store(sum_real * object_factor, change[0], flat)
            store(sum_imaginary * object_factor, change[1], flat)
            store(intensity * object_factor, change[2], flat)


@njit(nogil=True)
def _change_object(image, places, n, changes, worker, workers, sums):
    """Apply the changes of a group to the rows of this worker. `sums` is (3, columns + LANES), 0 before and after."""
    one, zero = splat(np.float32(1)), splat(np.float32(0))
    low, high = places[:, 0].min(), places[:, 0].max() + n
    for row in range(low + (high - low) * worker // workers, low + (high - low) * (worker + 1) // workers):
        for frame in range(len(places)):
            down, first = row - places[frame, 0], places[frame, 1]
            if 0 <= down < n:
                for column in range(0, n, LANES):
                    for part in range(3):
                        more = load(changes[frame, part], down * n + column)
                        store(load(sums[part], first + column) + more, sums[part], first + column)
        for frame in range(len(places)):
            down, first = row - places[frame, 0], places[frame, 1]
            if 0 <= down < n:
                for column in range(first, first + n, LANES):
                    share = one / larger(load(sums[2], column), one)
                    real, imaginary = load_complex(image, row, column)
                    real = real + load(sums[0], column) * share
                    imaginary = imaginary + load(sums[1], column) * share
                    store_complex(real, imaginary, image, row, column)
                    for part in range(3):
                        store(zero, sums[part], column)


@njit(nogil=True)
def _change_probe(probe, probe_changes, summed_steps, worker, workers):
    """Apply the changes that all lanes collected to this worker's part of the probe, and clear them."""
    share, zero = splat(np.float32(1 / max(summed_steps, 1.0))), splat(np.float32(0))
    pieces = probe.shape[1] // LANES
    for mode in range(len(probe)):
        for piece in range(pieces * worker // workers, pieces * (worker + 1) // workers):
            k = piece * LANES
            total = load(probe_changes[0, mode], k)
            store(zero, probe_changes[0, mode], k)
            for other in range(1, len(probe_changes)):
                total = total + load(probe_changes[other, mode], k)
                store(zero, probe_changes[other, mode], k)
            store(load(probe[mode], k) + total * share, probe[mode], k)


@njit(
    f"boolean(complex64[:,::1], int64[:,::1], float64[:,::1], int64[::1], int64[::1], float64[:,::1], int64, {_RULE}, "
    f"boolean, {_FIELDS}, float32[:,:,::1], float32[:,:,::1], {_FIELDS}, {_ROOM}, {_PLAN}, float64[:,::1], int64, "
    "int64, int64[::1])",
    cache=True,
    nogil=True,
)
def visit_groups(
    image,
    places,
    fractions_px,
    addresses,
    kinds,
    numbers,
    group,
    rule,
    is_spectrum,
    probe,
    changes,
    probe_changes,
    sums,
    room,
    plan,
    outcome,
    worker,
    workers,
    barrier,
):
    """Do one worker's part of visits in groups. Returns False when another worker could not come.

    The frames of a group are dealt out to lanes in turn, and the lanes to workers. Results depend on the number of
    lanes, by rounding, and not on that of workers.

    Parameters
    ----------
    image, places, fractions_px, addresses, kinds, rule, probe, room, plan, outcome
        As in `visit_frames`; `room` and the scratch in `plan` belong to this worker.
    numbers
        Gain, object step and probe step of each frame, (K, 3).
    group
        Frames that are visited at the same time.
    is_spectrum
        Whether `probe` is its spectrum, which frames between pixels need; all frames are then taken to be such.
    changes
        (group, 3, n x n): what frames of the present group want of the object.
    probe_changes
        (lanes, modes, size), 0: what the frames of each lane want of the probe.
    sums
        (3, columns + LANES), 0, this worker's.
    worker, workers
        This worker's number, and how many there are, no more than lanes.
    barrier
        Of `wait_for_all`.
    """
    _, object_alpha, probe_alpha, find_shifts = rule
    moved, waves, halfway, blocks, _, _, ramps, inner = room
    radices, turns, scratch = plan
    n = len(inner)
    for first in range(0, len(places), group):
        last = min(first + group, len(places))
        changes_object = changes_probe = False
        summed_steps = 0.0
        for k in range(first, last):
            changes_object |= numbers[k, 1] > 0
            changes_probe |= numbers[k, 2] > 0
            summed_steps += numbers[k, 2]
        for k in range(first, last):
            lane = (k - first) % len(probe_changes)
            if lane % workers != worker:
                continue
            gain, object_step, probe_step = numbers[k, 0], numbers[k, 1], numbers[k, 2]
            row, column = places[k, 0], places[k, 1]
            patch = image[row : row + n, column : column + n]
            fraction = fractions_px[k, 0], fractions_px[k, 1]
            peaks = find_correction(
                patch,
                not is_spectrum,
                fraction,
                (addresses[k], kinds[k]),
                gain,
                changes_object or changes_probe,
                rule,
                probe,
                room,
                plan,
                outcome[k],
            )
            if changes_object or changes_probe:
                if not find_shifts:
                    finish_correction(waves, n, plan)
                lit_by = moved if is_spectrum else probe
                probe_change = waves if is_spectrum else probe_changes[lane]
                steps, alphas = (object_step, probe_step), (object_alpha, probe_alpha)
                _wanted_changes(
                    patch,
                    lit_by,
                    waves,
                    steps,
                    alphas,
                    peaks,
                    n,
                    changes[k - first],
                    probe_change,
                    not is_spectrum,
                )
                if probe_step > 0 and is_spectrum:
                    for mode in range(len(probe)):
                        transform_columns(waves[mode], halfway[mode], n, False, True, radices, turns, scratch)
                    add_moved_back(halfway, ramps[1], ramps[0], n, probe_changes[lane], blocks, plan)
        if not (changes_object or changes_probe):
            continue
        if not wait_for_all(barrier, workers):
            return False
        if changes_object:
            _change_object(image, places[first:last], n, changes, worker, workers, sums)
        if changes_probe:
            _change_probe(probe, probe_changes, summed_steps, worker, workers)
        if not wait_for_all(barrier, workers):
            return False
    return True
