"""Positions between samples: linear or smooth, and never across the turn of a line.

Everything here looks at most `REACH_ROWS` rows to either side, so an answer does not change when more rows arrive.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from streamptycho.messages import Array, Quality

REACH_ROWS = 5
GAP_IN_SAMPLES = 3.0
_REVERSED_COSINE = -0.5
_ALIGNED_COSINE = 0.8
# A turn takes one interval or two: those that hold it lie between these neighbours.
_TURN_SPANS = ((-1, 1), (-1, 2), (-2, 1))
_SAME_VELOCITY = 0.25
_JUMP_IN_VELOCITIES = 3.0


def find_turns(row_time_s: Array, row_xy_m: Array) -> Array:
    """Return which of the M - 1 intervals between rows hold the turn of a line or a jump back, (M - 1,) bool.

    An interval is a turn when the motion before and after it is straight and opposite, and the motion across it is
    like neither; it is a jump when it is much faster than both its neighbours.
    """
    count = max(len(row_time_s) - 1, 0)
    turns = np.zeros(count, dtype=bool)
    if count < 3:
        return turns
    velocity = np.diff(row_xy_m, axis=0) / np.diff(row_time_s)[:, None]
    speed = np.linalg.norm(velocity, axis=1)
    turns[1:-1] = speed[1:-1] > _JUMP_IN_VELOCITIES * np.maximum(speed[:-2], speed[2:])
    goes_on = _cosine(velocity[:-1], velocity[1:]) > _ALIGNED_COSINE
    straight_before, straight_after = np.append(True, goes_on), np.append(goes_on, True)
    for before, after in _TURN_SPANS:
        at = np.arange(-before, count - after)
        if not len(at):
            continue
        one, two = at + before, at + after
        opposite = _cosine(velocity[one], velocity[two]) < _REVERSED_COSINE
        unlike = (_change(velocity[at], velocity[one]) > _SAME_VELOCITY) & (
            _change(velocity[at], velocity[two]) > _SAME_VELOCITY
        )
        turns[at] |= opposite & unlike & straight_before[one] & straight_after[two]
    return turns


def find_gaps(row_time_s: Array, max_gap_s: float | None) -> Array:
    """Return which of the M - 1 intervals are too long to interpolate in, (M - 1,) bool.

    Without `max_gap_s` an interval is too long when it lasts three times as long as its longer neighbour.
    """
    lasts = np.diff(row_time_s)
    if max_gap_s is not None:
        return np.asarray(lasts > max_gap_s)
    if len(lasts) < 2:
        return np.zeros(len(lasts), dtype=bool)
    neighbour = np.maximum(np.append(lasts[1:], 0.0), np.insert(lasts[:-1], 0, 0.0))
    return np.asarray(lasts > GAP_IN_SAMPLES * neighbour)


def interpolate(
    time_s: Array,
    row_time_s: Array,
    row_xy_m: Array,
    *,
    method: Literal["linear", "smooth", "average"] = "linear",
    half_s: Array | float = 0.0,
    match_s: Array | float = 0.0,
    max_gap_s: float | None = None,
) -> tuple[Array, Array]:
    """Return where the beam was at given times, and how well that is known.

    A time is MEASURED within `match_s` of a row, TURNAROUND in an interval where a line turns, INTERPOLATED in any
    other interval that is not too long, EXTRAPOLATED up to one sampling interval beyond the rows, else MISSING.

    Parameters
    ----------
    time_s
        (N,) times wanted, seconds, on the clock of the rows.
    row_time_s
        (M,) float64 strictly increasing, seconds.
    row_xy_m
        (M, 2) float64, metres.
    method
        "linear"; "smooth" for cubic Hermite pieces with three-point slopes; "average" for the mean of the linear path
        from `half_s` before to `half_s` after.
    half_s
        Half the exposure, for "average"; one number or (N,).
    match_s
        How far a time may be from a row and still count as that row; one number or (N,).
    max_gap_s
        Longest interval to interpolate in, None for three sampling intervals.

    Returns
    -------
    xy_m : (N, 2) float64
        NaN where the quality is MISSING.
    quality : (N,) uint8
        Values of `Quality`.

    References
    ----------
    C. de Boor, A Practical Guide to Splines, chapter IV (Bessel interpolation). DOI 10.1007/978-1-4612-6333-3
    """
    time_s = np.asarray(time_s, dtype=np.float64)
    xy_m = np.full((len(time_s), 2), np.nan)
    quality = np.full(len(time_s), Quality.MISSING, dtype=np.uint8)
    rows = len(row_time_s)
    if rows == 0 or len(time_s) == 0:
        return xy_m, quality
    nearest = _nearest(time_s, row_time_s)
    distance = np.abs(time_s - row_time_s[nearest])
    averaged = np.zeros(len(time_s), dtype=bool)
    if rows >= 2:
        turns, gaps = find_turns(row_time_s, row_xy_m), find_gaps(row_time_s, max_gap_s)
        left = np.clip(np.searchsorted(row_time_s, time_s, side="right") - 1, 0, rows - 2)
        inside = (time_s >= row_time_s[0]) & (time_s <= row_time_s[-1])
        path = _smooth if method == "smooth" else _linear
        crossable = inside & (~gaps[left] | turns[left])
        xy_m[crossable] = path(time_s[crossable], left[crossable], row_time_s, row_xy_m, turns | gaps)
        if method == "average":
            half_s = np.broadcast_to(np.asarray(half_s, dtype=np.float64), time_s.shape)
            averaged = crossable & _spans_no_gap(time_s - half_s, time_s + half_s, row_time_s, gaps & ~turns)
            xy_m[averaged] = _mean(time_s[averaged], half_s[averaged], row_time_s, row_xy_m)
        quality[crossable] = np.where(turns[left[crossable]], Quality.TURNAROUND, Quality.INTERPOLATED)
        _extrapolate(xy_m, quality, np.flatnonzero(~crossable), time_s, nearest, (row_time_s, row_xy_m, turns | gaps))
    matched = distance <= match_s
    taken = matched & ~averaged & ((quality == Quality.MISSING) | (quality == Quality.TURNAROUND))
    xy_m[taken] = row_xy_m[nearest[taken]]
    quality[matched] = Quality.MEASURED
    return xy_m, quality


def interpolate_angle(time_s: Array, row_time_s: Array, row_angle_deg: Array) -> Array:
    """Return the rotation angle at given times, (N,) degrees: linear, the nearest row's beyond the rows."""
    if len(row_time_s) == 0:
        return np.full(len(time_s), np.nan)
    return np.asarray(np.interp(time_s, row_time_s, row_angle_deg))


def _extrapolate(
    xy_m: Array, quality: Array, which: Array, time_s: Array, nearest: Array, rows: tuple[Array, Array, Array]
) -> None:
    """Continue the motion of the interval next to the nearest row, at most as long as that interval lasts."""
    row_time_s, row_xy_m, broken = rows
    near, wanted = nearest[which], time_s[which]
    ahead = wanted > row_time_s[near]
    interval = np.where(ahead, near - 1, near)
    known = (interval >= 0) & (interval < len(broken))
    interval = np.clip(interval, 0, len(broken) - 1)
    lasts = row_time_s[interval + 1] - row_time_s[interval]
    reached = known & ~broken[interval] & (np.abs(wanted - row_time_s[near]) <= lasts)
    velocity = (row_xy_m[interval + 1] - row_xy_m[interval]) / lasts[:, None]
    guess = row_xy_m[near] + velocity * (wanted - row_time_s[near])[:, None]
    xy_m[which[reached]] = guess[reached]
    quality[which[reached]] = Quality.EXTRAPOLATED


def _linear(time_s: Array, left: Array, row_time_s: Array, row_xy_m: Array, broken: Array) -> Array:
    lasts = row_time_s[left + 1] - row_time_s[left]
    part = ((time_s - row_time_s[left]) / lasts)[:, None]
    return np.asarray(row_xy_m[left] * (1 - part) + row_xy_m[left + 1] * part)


def _spans_no_gap(start_s: Array, stop_s: Array, row_time_s: Array, gaps: Array) -> Array:
    """Return which exposures (N,) last, lie within the rows and have no gap between these."""
    last = len(row_time_s) - 1
    first = np.clip(np.searchsorted(row_time_s, start_s, side="right") - 1, 0, last)
    beyond = np.clip(np.searchsorted(row_time_s, stop_s, side="left"), 0, last)
    gaps_before = np.append(0, np.cumsum(gaps))
    within = (start_s >= row_time_s[0]) & (stop_s <= row_time_s[-1]) & (stop_s > start_s)
    return np.asarray(within & (gaps_before[beyond] == gaps_before[first]))


def _mean(time_s: Array, half_s: Array, row_time_s: Array, row_xy_m: Array) -> Array:
    """Return the mean of the linear path over each exposure, from its integral."""
    offset_m = row_xy_m[0]
    path_m = row_xy_m - offset_m
    pieces = (path_m[1:] + path_m[:-1]) / 2 * np.diff(row_time_s)[:, None]
    integral = np.vstack([np.zeros((1, 2)), np.cumsum(pieces, axis=0)])

    def until(at_s: Array) -> Array:
        left = np.clip(np.searchsorted(row_time_s, at_s, side="right") - 1, 0, len(row_time_s) - 2)
        lasts = (at_s - row_time_s[left])[:, None]
        slope = (path_m[left + 1] - path_m[left]) / (row_time_s[left + 1] - row_time_s[left])[:, None]
        return np.asarray(integral[left] + path_m[left] * lasts + slope * lasts**2 / 2)

    return np.asarray(offset_m + (until(time_s + half_s) - until(time_s - half_s)) / (2 * half_s)[:, None])


def _smooth(time_s: Array, left: Array, row_time_s: Array, row_xy_m: Array, broken: Array) -> Array:
    lasts = np.diff(row_time_s)
    slope = np.diff(row_xy_m, axis=0) / lasts[:, None]
    before = np.vstack([slope[:1], slope])
    after = np.vstack([slope, slope[-1:]])
    shorter, longer = np.append(lasts[0], lasts), np.append(lasts, lasts[-1])
    bessel = (before * longer[:, None] + after * shorter[:, None]) / (shorter + longer)[:, None]
    broken_before, broken_after = np.append(True, broken)[:, None], np.append(broken, True)[:, None]
    bessel = np.where(broken_before & ~broken_after, after, np.where(broken_after & ~broken_before, before, bessel))
    h = lasts[left][:, None]
    u = (time_s - row_time_s[left])[:, None] / h
    cubic = (
        row_xy_m[left] * (1 + 2 * u) * (1 - u) ** 2
        + bessel[left] * h * u * (1 - u) ** 2
        + row_xy_m[left + 1] * u**2 * (3 - 2 * u)
        + bessel[left + 1] * h * u**2 * (u - 1)
    )
    straight = broken[left][:, None]
    return np.where(straight, _linear(time_s, left, row_time_s, row_xy_m, broken), cubic)


def _nearest(time_s: Array, row_time_s: Array) -> Array:
    after = np.clip(np.searchsorted(row_time_s, time_s), 0, len(row_time_s) - 1)
    before = np.maximum(after - 1, 0)
    return np.where(np.abs(time_s - row_time_s[before]) <= np.abs(row_time_s[after] - time_s), before, after)


def _cosine(first: Array, second: Array) -> Array:
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.asarray(np.einsum("ij,ij->i", first, second) / np.where(lengths > 0, lengths, 1.0))


def _change(first: Array, second: Array) -> Array:
    length = np.linalg.norm(second, axis=1)
    return np.asarray(np.linalg.norm(first - second, axis=1) / np.where(length > 0, length, 1.0))
