"""Rows are interpolated at the middle of the exposure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from streamptycho.config import PairingConfig
from streamptycho.messages import Array, Quality
from streamptycho.pairing.frames import Placed
from streamptycho.pairing.rows import Acquisition
from streamptycho.pairing.waiting import WaitingFrames
from streamptycho.positions.interpolation import REACH_ROWS, interpolate, interpolate_angle

MATCH_IN_EXPOSURES = 0.1
MATCH_AT_LEAST_S = 1e-6
TOGETHER = 16
KEPT_ROWS = 4 * REACH_ROWS


class TimePositions:
    """Finds the positions of one series by time.

    Parameters
    ----------
    acquisition
        Where the rows come in.
    shift_s
        Row time of an exposure time of zero.
    config
        How to interpolate.
    waiting
        The frames of the series.
    """

    def __init__(self, acquisition: Acquisition, shift_s: float, config: PairingConfig, waiting: WaitingFrames) -> None:
        self.acquisition = acquisition
        self.shift_s = shift_s
        self.config = config
        self._waiting = waiting
        self._early: list[_Frames] = []
        self._ready: list[_Frames] = []
        self._reach_s = 0.0
        self._first_s, self._last_s = np.inf, -np.inf

    def forget_rows(self, others: Iterable[TimePositions]) -> None:
        """Free the rows that neither later series need, nor `others` that use them too."""
        needed_s = min([self._last_s, *(other._first_s for other in others)])
        self.acquisition.forget_times(needed_s - self._reach_s, KEPT_ROWS)

    def add_frames(self, indices: Array) -> None:
        """Take note of frames that came."""
        if not len(indices):
            return
        middle_s, half_s = self._waiting.times_s(indices)
        if self.config.interpolation == "average":
            self._reach_s = max(self._reach_s, float(half_s.max()))
        time_s = middle_s + self.shift_s
        self._first_s, self._last_s = min(self._first_s, time_s.min()), max(self._last_s, time_s.max())
        self._early.append(_Frames(time_s, half_s, indices))

    def add_rows(self, rows: Array) -> None:
        """Rows are read from the acquisition."""

    def take(self, *, at_once: bool) -> Placed:
        """Return the frames around whose exposure all rows are there that can change the answer.

        Unless `at_once`, a few are left to be taken together with later ones, because each call costs as much.
        """
        row_time_s, row_xy_m, row_angle_deg = self.acquisition.timed()
        limit = np.inf
        if not self.acquisition.ended:
            limit = row_time_s[-REACH_ROWS - 1] if len(row_time_s) > REACH_ROWS + 1 else -np.inf
        self._divide(limit)
        if sum(len(frames.index) for frames in self._ready) < TOGETHER and not at_once:
            return Placed.missing(np.zeros(0, dtype=np.int64))
        ready = _joined(self._ready)
        self._ready.clear()
        ready = ready.some(self._waiting.contains(ready.index))
        if not len(ready.index):
            return Placed.missing(np.zeros(0, dtype=np.int64))
        ready = ready.some(np.lexsort((ready.index, ready.half_s, ready.time_s)))
        time_s, half_s, index = ready.time_s, ready.half_s, ready.index
        margin = 2 * REACH_ROWS
        begin = max(int(np.searchsorted(row_time_s, time_s[0] - self._reach_s)) - margin, 0)
        end = int(np.searchsorted(row_time_s, time_s[-1] + self._reach_s)) + margin
        near = slice(begin, end)
        xy_m, quality = interpolate(
            time_s,
            row_time_s[near],
            row_xy_m[near],
            method=self.config.interpolation,
            half_s=half_s,
            match_s=np.maximum(2 * MATCH_IN_EXPOSURES * half_s, MATCH_AT_LEAST_S),
            max_gap_s=self.config.max_gap_s,
        )
        angle_deg = interpolate_angle(time_s, row_time_s[near], row_angle_deg[near])
        angle_deg[quality == Quality.MISSING] = np.nan
        return Placed(index, xy_m, quality, angle_deg)

    def _divide(self, limit_s: float) -> None:
        """Take the frames that end before the limit from those that are too early."""
        if not self._early or limit_s == -np.inf:
            return
        early = _joined(self._early)
        early = early.some(self._waiting.contains(early.index))
        now = early.time_s + self._reach_s < limit_s
        if now.all():
            self._early.clear()
            self._ready.append(early)
            return
        self._early = [early.some(~now)]
        if now.any():
            self._ready.append(early.some(now))


@dataclass(frozen=True, slots=True, eq=False)
class _Frames:
    time_s: Array
    half_s: Array
    index: Array

    def some(self, which: Array) -> _Frames:
        return _Frames(self.time_s[which], self.half_s[which], self.index[which])


def _joined(pieces: list[_Frames]) -> _Frames:
    if len(pieces) == 1:
        return pieces[0]
    return _Frames(
        np.concatenate([np.zeros(0), *(piece.time_s for piece in pieces)]),
        np.concatenate([np.zeros(0), *(piece.half_s for piece in pieces)]),
        np.concatenate([np.zeros(0, np.int64), *(piece.index for piece in pieces)]),
    )
