"""Frame k of a series has row k of its acquisition."""

from __future__ import annotations

import numpy as np

from streamptycho.messages import Array, Quality
from streamptycho.pairing.frames import Placed, Waiting
from streamptycho.pairing.rows import REORDER_ROWS, Acquisition


class RowPositions:
    """Finds the positions of one series by row number.

    Parameters
    ----------
    acquisition
        Where the rows come in.
    first_row
        The row of frame 0.
    """

    def __init__(self, acquisition: Acquisition, first_row: int) -> None:
        self.acquisition = acquisition
        self.first_row = first_row
        self._waiting: set[int] = set()
        self._candidates: list[int] = []
        self._swept_at = acquisition.newest_row

    def add_frames(self, frames: dict[int, Waiting], indices: list[int]) -> None:
        """Take note of frames that came."""
        self._waiting.update(indices)
        self._candidates.extend(indices)

    def add_rows(self, rows: Array) -> None:
        """Take note of rows that came."""
        if self._waiting:
            self._candidates.extend(i for i in (rows - self.first_row).tolist() if i in self._waiting)

    def take(self, *, at_once: bool) -> Placed:
        """Return the frames whose position is known by now, or known never to come."""
        acquisition = self.acquisition
        if acquisition.ended or acquisition.newest_row - self._swept_at > REORDER_ROWS:
            self._swept_at = acquisition.newest_row
            self._candidates = list(self._waiting)
        if not self._candidates:
            return Placed.missing(np.zeros(0, dtype=np.int64))
        index = np.array(sorted(self._waiting.intersection(self._candidates)), dtype=np.int64)
        self._candidates.clear()
        found, xy_m, angle_deg = acquisition.look_up(index + self.first_row)
        done = found | acquisition.is_gone(index + self.first_row)
        quality = np.where(found, Quality.MEASURED, Quality.MISSING).astype(np.uint8)
        self._waiting.difference_update(index[done].tolist())
        return Placed(index[done], xy_m[done], quality[done], angle_deg[done])

    def discard(self, indices: list[int]) -> None:
        """Forget frames that were given up."""
        self._waiting.difference_update(indices)
