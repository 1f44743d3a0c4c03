"""Position rows of one acquisition: found by number, and in order of time."""

from __future__ import annotations

import numpy as np

from streamptycho.messages import AcquisitionStart, Array, PositionBlock

REORDER_ROWS = 1024
MAX_ROW_JUMP = 1 << 22
LEAST_ROWS = 256


class Acquisition:
    """The rows of one acquisition that came so far.

    Rows may come in any order within `REORDER_ROWS`; a row that is further behind the newest is given up.

    Parameters
    ----------
    start
        Its announcement; rows before `start.missed` never come.
    order
        How many acquisitions were started before.

    Attributes
    ----------
    ended
        Whether its source sends no more rows.
    over
        Whether no frame will ask for its rows.
    heard_ns
        When something last came of it.
    """

    def __init__(self, start: AcquisitionStart, order: int) -> None:
        self.start = start
        self.order = order
        self.ended = self.over = False
        self.heard_ns = 0
        self.captures_angle = False
        self.newest_row = start.missed - 1
        self.newest_time_s = 0.0
        self.clock_offset_s: float | None = None
        self._first = start.missed
        self._next_ordered = start.missed
        self._table = _Table()
        self._present = np.zeros(len(self._table), dtype=bool)
        self._ordered = _Table()
        self._ordered_rows = 0

    @property
    def name(self) -> str:
        """Identity of the acquisition."""
        return self.start.acquisition

    @property
    def epoch_s(self) -> float | None:
        """Unix time of row time zero."""
        return self.start.epoch_s

    @property
    def held_rows(self) -> int:
        """How many rows there is memory for."""
        return max(len(self._table), len(self._ordered))

    @property
    def waiting_rows(self) -> int:
        """How many rows are there."""
        return int(np.count_nonzero(self._present))

    def add(self, block: PositionBlock) -> tuple[Array, int]:
        """Add rows; return the numbers of the new ones, and how many were duplicates or cannot be."""
        rows = np.asarray(block.row, dtype=np.int64)
        good = (rows >= self._first) & (rows <= self.newest_row + MAX_ROW_JUMP)
        if len(rows) > 1 and not np.all(np.diff(rows) > 0):
            once = np.zeros(len(rows), dtype=bool)
            once[np.unique(rows, return_index=True)[1]] = True
            good &= once
        at = rows[good] - self._first
        self._reserve(int(at.max(initial=-1)) + 1)
        new = ~self._present[at]
        good[good] = new
        at = at[new]
        if len(at):
            self._present[at] = True
            self._table.write(at, block.time_s[good], block.xy_m[good], None)
            if block.angle_deg is not None:
                self.captures_angle = True
                self._table.angle_deg[at] = block.angle_deg[good]
            self.newest_row = max(self.newest_row, int(at.max()) + self._first)
            time_s = block.time_s[good]
            self.newest_time_s = float(time_s[np.isfinite(time_s)].max(initial=self.newest_time_s))
        return rows[good], len(rows) - len(at)

    def look_up(self, rows: Array) -> tuple[Array, Array, Array]:
        """Return of rows (N,) which are there, their positions (N, 2) and angles (N,); NaN where they are not."""
        at = rows - self._first
        within = (at >= 0) & (at < len(self._present))
        safe = np.where(within, at, 0)
        found = within & self._present[safe]
        xy_m = np.where(found[:, None], self._table.xy_m[safe], np.nan)
        return found, xy_m, np.where(found, self._table.angle_deg[safe], np.nan)

    def is_gone(self, rows: Array) -> Array:
        """Return which of the rows (N,) that are not there will never come."""
        if self.ended:
            return np.ones(len(rows), dtype=bool)
        return np.asarray((rows < self._first) | (rows < self.newest_row - REORDER_ROWS))

    def order_by_time(self) -> int:
        """Append the rows that are next in order to the time axis; return how many had no usable time."""
        begin = self._next_ordered - self._first
        end = self.newest_row + 1 - self._first
        if not self.ended:
            holes = np.flatnonzero(~self._present[begin:end])
            if len(holes):
                end = max(begin + int(holes[0]), end - REORDER_ROWS)
        if end <= begin:
            return 0
        self._next_ordered = end + self._first
        at = begin + np.flatnonzero(self._present[begin:end])
        time_s = self._table.time_s[at]
        last = self._ordered.time_s[self._ordered_rows - 1] if self._ordered_rows else -np.inf
        reached = np.fmax.accumulate(np.append(last, time_s))
        good = np.isfinite(time_s) & (time_s > reached[:-1])
        at = at[good]
        self._ordered.reserve(self._ordered_rows + len(at))
        to = np.arange(self._ordered_rows, self._ordered_rows + len(at))
        self._ordered.write(to, self._table.time_s[at], self._table.xy_m[at], self._table.angle_deg[at])
        self._ordered_rows += len(at)
        return int(len(good) - good.sum())

    def timed(self) -> tuple[Array, Array, Array]:
        """Return times (M,) strictly increasing, positions (M, 2) and angles (M,) of the ordered rows."""
        m = self._ordered_rows
        return self._ordered.time_s[:m], self._ordered.xy_m[:m], self._ordered.angle_deg[:m]

    def forget(self) -> None:
        """Free the rows: no frame will ask for them."""
        self._table, self._ordered = _Table(), _Table()
        self._present = np.zeros(len(self._table), dtype=bool)
        self._first = self._next_ordered = self.newest_row + 1
        self._ordered_rows = 0

    def forget_rows(self, before: int) -> None:
        """Free the rows with numbers under `before`: no frame will ask for them."""
        known = self.newest_row + 1 - self._first
        gone = min(before - self._first, known)
        if gone > 0:
            self._table = self._table.part(gone, known)
            present = np.zeros(len(self._table), dtype=bool)
            present[: known - gone] = self._present[gone:known]
            self._present = present
            self._first += gone
            self._next_ordered = max(self._next_ordered, self._first)

    def forget_times(self, before_s: float, margin: int) -> None:
        """Free the rows of times under `before_s`, but for the last `margin` of them: no frame will ask for them."""
        gone = int(np.searchsorted(self.timed()[0], before_s)) - margin
        if gone > 0:
            self._ordered = self._ordered.part(gone, self._ordered_rows)
            self._ordered_rows -= gone
            self.forget_rows(self._next_ordered)

    def _reserve(self, size: int) -> None:
        self._table.reserve(size)
        if len(self._table) > len(self._present):
            grown = np.zeros(len(self._table), dtype=bool)
            grown[: len(self._present)] = self._present
            self._present = grown


class _Table:
    """Columns that grow together."""

    def __init__(self) -> None:
        # one row until there are rows: a scan may have thousands of acquisitions that are empty or over
        self.time_s = np.full(1, np.nan)
        self.xy_m = np.full((1, 2), np.nan)
        self.angle_deg = np.full(1, np.nan)

    def __len__(self) -> int:
        return len(self.time_s)

    def reserve(self, size: int) -> None:
        if size <= len(self):
            return
        extra = max(len(self), size - len(self), LEAST_ROWS)
        self.time_s = np.concatenate([self.time_s, np.full(extra, np.nan)])
        self.xy_m = np.concatenate([self.xy_m, np.full((extra, 2), np.nan)])
        self.angle_deg = np.concatenate([self.angle_deg, np.full(extra, np.nan)])

    def part(self, begin: int, end: int) -> _Table:
        """Return a table of its own with some of the rows."""
        part = _Table()
        part.reserve(end - begin)
        at = slice(begin, end)
        part.write(slice(0, end - begin), self.time_s[at], self.xy_m[at], self.angle_deg[at])
        return part

    def write(self, at: Array | slice, time_s: Array, xy_m: Array, angle_deg: Array | None) -> None:
        self.time_s[at], self.xy_m[at] = time_s, xy_m
        if angle_deg is not None:
            self.angle_deg[at] = angle_deg
