"""Rows are interpolated at the middle of the exposure."""

from __future__ import annotations

import heapq

import numpy as np

from streamptycho.config import PairingConfig
from streamptycho.messages import Array, Quality
from streamptycho.pairing.frames import Placed, Waiting
from streamptycho.pairing.rows import Acquisition
from streamptycho.positions.interpolation import REACH_ROWS, interpolate, interpolate_angle

MATCH_IN_EXPOSURES = 0.1
MATCH_AT_LEAST_S = 1e-6
TOGETHER = 16


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
    """

    def __init__(self, acquisition: Acquisition, shift_s: float, config: PairingConfig) -> None:
        self.acquisition = acquisition
        self.shift_s = shift_s
        self.config = config
        self._heap: list[tuple[float, float, int]] = []
        self._ready: list[tuple[float, float, int]] = []
        self._discarded: set[int] = set()

    def add_frames(self, frames: dict[int, Waiting], indices: list[int]) -> None:
        """Take note of frames that came."""
        for index in indices:
            frame = frames[index]
            heapq.heappush(self._heap, (frame.middle_s + self.shift_s, frame.half_s, index))

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
        while self._heap and self._heap[0][0] < limit:
            item = heapq.heappop(self._heap)
            if item[2] not in self._discarded:
                self._ready.append(item)
        if len(self._ready) < TOGETHER and not at_once:
            return Placed.missing(np.zeros(0, dtype=np.int64))
        ready, self._ready = sorted(item for item in self._ready if item[2] not in self._discarded), []
        if not ready:
            return Placed.missing(np.zeros(0, dtype=np.int64))
        time_s = np.array([item[0] for item in ready])
        half_s = np.array([item[1] for item in ready])
        index = np.array([item[2] for item in ready], dtype=np.int64)
        margin = 2 * REACH_ROWS
        begin = max(int(np.searchsorted(row_time_s, time_s[0])) - margin, 0)
        end = int(np.searchsorted(row_time_s, time_s[-1])) + margin
        near = slice(begin, end)
        xy_m, quality = interpolate(
            time_s,
            row_time_s[near],
            row_xy_m[near],
            method=self.config.interpolation,
            match_s=np.maximum(2 * MATCH_IN_EXPOSURES * half_s, MATCH_AT_LEAST_S),
            max_gap_s=self.config.max_gap_s,
        )
        angle_deg = interpolate_angle(time_s, row_time_s[near], row_angle_deg[near])
        angle_deg[quality == Quality.MISSING] = np.nan
        return Placed(index, xy_m, quality, angle_deg)

    def discard(self, indices: list[int]) -> None:
        """Forget frames that were given up."""
        self._discarded.update(indices)
