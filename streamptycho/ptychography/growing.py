"""An array of rows that come one batch after another."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamptycho.messages import Array


class GrowingArray:
    """Rows in one block of memory with room to spare, so that taking more costs little.

    Parameters
    ----------
    row_shape
        Shape of one row, () for numbers.
    dtype
        Of the elements.
    """

    def __init__(self, row_shape: tuple[int, ...], dtype: Any) -> None:
        self._room = np.zeros((0, *row_shape), dtype)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def rows(self) -> Array:
        """View of the rows that are there, (N, ...). It may be written to; it ends with the next `extend`."""
        return self._room[: self._count]

    def extend(self, rows: Array) -> None:
        """Append rows (K, ...)."""
        total = self._count + len(rows)
        if total > len(self._room):
            room = np.zeros((max(total, 2 * len(self._room)), *self._room.shape[1:]), self._room.dtype)
            room[: self._count] = self.rows
            self._room = room
        self._room[self._count : total] = rows
        self._count = total
