"""Frame k of a series has row k of its acquisition."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from streamptycho.messages import Array, Quality
from streamptycho.pairing.frames import Placed
from streamptycho.pairing.rows import REORDER_ROWS, Acquisition
from streamptycho.pairing.waiting import WaitingFrames


class RowPositions:
    """Finds the positions of one series by row number.

    Parameters
    ----------
    acquisition
        Where the rows come in.
    first_row
        The row of frame 0.
    waiting
        The frames of the series.
    """

    def __init__(self, acquisition: Acquisition, first_row: int, waiting: WaitingFrames) -> None:
        self.acquisition = acquisition
        self.first_row = first_row
        self._waiting = waiting
        self._candidates: list[Array] = []
        self._swept_at = acquisition.newest_row

    def forget_rows(self, frames: int, others: Iterable[RowPositions]) -> None:
        """Free the rows of this series of `frames`, as far as `others` that use the acquisition do not need them."""
        self.acquisition.forget_rows(min([self.first_row + frames, *(other.first_row for other in others)]))

    def add_frames(self, indices: Array) -> None:
        """Take note of frames that came."""
        self._candidates.append(indices)

    def add_rows(self, rows: Array) -> None:
        """Take note of rows that came."""
        if len(self._waiting):
            self._candidates.append(rows - self.first_row)

    def take(self, *, at_once: bool) -> Placed:
        """Return the frames whose position is known by now, or known never to come."""
        acquisition = self.acquisition
        if acquisition.ended or acquisition.newest_row - self._swept_at > REORDER_ROWS:
            self._swept_at = acquisition.newest_row
            waiting = self._waiting.indices()
            self._candidates.append(waiting[acquisition.is_gone(waiting + self.first_row)])
        if not self._candidates:
            return Placed.missing(np.zeros(0, dtype=np.int64))
        index = np.concatenate(self._candidates)
        self._candidates.clear()
        index = index[self._waiting.contains(index)]
        if len(index) > 1 and not (np.diff(index) > 0).all():
            index = np.unique(index)
        found, xy_m, angle_deg = acquisition.look_up(index + self.first_row)
        done = found | acquisition.is_gone(index + self.first_row)
        quality = np.where(found, Quality.MEASURED, Quality.MISSING).astype(np.uint8)
        return Placed(index[done], xy_m[done], quality[done], angle_deg[done])
