"""The compiled loop that cuts a masked, binned square out of a frame. Releases the GIL."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def cut_out(
    rows: Any, row_0: int, column_0: int, binning: int, masked: Any, mask_known: bool, largest_valid: int, out: Any
) -> int:
    """Crop, mask and bin one frame into `out` (n, n); return how many pixels were saturated.

    The square begins at row `row_0` of `rows` and at `column_0`; what lies outside `rows` was not measured. `masked`
    is (n x binning, n x binning) bool. Counts above `largest_valid` are saturated; where the mask is not known, the
    largest value of the dtype stands for masked pixels and is not counted. A bin that holds a pixel that was not
    measured, or a sum that its dtype cannot hold, becomes the largest value of the dtype of `out`.
    """
    height, width = rows.shape
    side = out.shape[0]
    top_in = np.int64(np.iinfo(rows.dtype).max)
    top_out = np.int64(np.iinfo(out.dtype).max)
    saturated = 0
    for i in range(side):
        for j in range(side):
            total = np.int64(0)
            measured = True
            for bin_row in range(binning):
                row = row_0 + i * binning + bin_row
                for bin_column in range(binning):
                    column = column_0 + j * binning + bin_column
                    if row < 0 or column < 0 or row >= height or column >= width:
                        measured = False
                    elif masked[i * binning + bin_row, j * binning + bin_column]:
                        measured = False
                    else:
                        value = np.int64(rows[row, column])
                        if value > largest_valid:
                            measured = False
                            if value < top_in or mask_known:
                                saturated += 1
                        total += value
            if measured and total >= top_out:
                measured = False
                saturated += 1
            out[i, j] = total if measured else top_out
    return saturated
