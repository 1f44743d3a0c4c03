"""The compiled loops that cut a masked square out of a frame and bin it. They release the GIL."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, inline="always")
def mask_line(source: Any, hidden: Any, mask_known: bool, largest_valid: int, top: int, target: Any) -> int:
    """Mask counts `source` (n,) into `target` (n,) as `cut_out` does; return how many were saturated."""
    limit, not_measured = source.dtype.type(largest_valid), source.dtype.type(top)
    nothing = source.dtype.type(0)
    # Counting would keep the compiler from using vectors of counts: only where there is something to count.
    largest = nothing
    for j in range(target.size):
        value = source[j]
        seen = nothing if hidden[j] else value
        largest = seen if seen > largest else largest
        target[j] = not_measured if (value > limit) | hidden[j] else value
    saturated = 0
    if largest > limit:
        for j in range(target.size):
            over = source[j] > limit
            saturated += over and not hidden[j] and (mask_known or source[j] != not_measured)
    return int(saturated)


@njit(cache=True, nogil=True)
def cut_out(
    rows: Any, row_0: int, column_0: int, masked: Any, mask_known: bool, largest_valid: int, top: int, out: Any
) -> int:
    """Crop and mask one frame into `out` (h, n); return how many of its pixels were saturated.

    It begins at row `row_0` and column `column_0` of `rows`; what lies outside `rows`, or is `masked` (h, n),
    becomes `top`, the largest value of the dtype. Counts above `largest_valid` are saturated and become `top` as
    well; where the mask is not known, `top` itself stands for masked pixels and is not counted.
    """
    height, width = out.shape
    first_row, last_row = max(0, -row_0), min(height, rows.shape[0] - row_0)
    first_column, last_column = max(0, -column_0), min(width, rows.shape[1] - column_0)
    not_measured = rows.dtype.type(top)
    saturated = 0
    for i in range(height):
        if i < first_row or i >= last_row:
            out[i, :] = not_measured
            continue
        out[i, :first_column] = not_measured
        out[i, last_column:] = not_measured
        source = rows[row_0 + i, column_0 + first_column : column_0 + last_column]
        hidden = masked[i, first_column:last_column]
        saturated += mask_line(source, hidden, mask_known, largest_valid, top, out[i, first_column:last_column])
    return int(saturated)


@njit(cache=True, nogil=True)
def bin_down(counts: Any, binning: int, top_in: int, top_out: int, out: Any) -> int:
    """Sum squares of `binning` pixels into `out`; return how many sums `out` cannot hold.

    A square that holds `top_in` (a pixel that was not measured) and a sum that is too large become `top_out`.
    """
    saturated: Any = 0
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            total = np.int64(0)
            measured = True
            for row in range(i * binning, (i + 1) * binning):
                for column in range(j * binning, (j + 1) * binning):
                    value = np.int64(counts[row, column])
                    measured = measured and value != top_in
                    total += value
            too_much = measured and total >= top_out
            saturated += too_much
            out[i, j] = total if measured and not too_much else top_out
    return int(saturated)
