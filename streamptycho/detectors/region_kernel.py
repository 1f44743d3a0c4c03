"""The compiled loops that cut a masked square out of a frame and bin it. They release the GIL."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, inline="always")
def mask_line(
    source: Any,
    at: Any,
    hidden: Any,
    hidden_at: Any,
    mask_known: bool,
    largest_valid: int,
    top: int,
    target: Any,
    out: Any,
    count: Any,
) -> int:
    """Mask `count` counts of `source` (S,) from `at` on into `target` (T,) from `out` on; return how many saturated.

    As `cut_out` does, with the mask of the first in `hidden` (M,) at `hidden_at`. Places are counted without a sign
    and nothing is sliced: a slice of every short line would cost as much as its pixels.
    """
    limit, not_measured = source.dtype.type(largest_valid), source.dtype.type(top)
    nothing = source.dtype.type(0)
    at, hidden_at, out = np.uint64(at), np.uint64(hidden_at), np.uint64(out)
    # Counting would keep the compiler from using vectors of counts: only where there is something to count.
    largest = nothing
    for j in range(np.uint64(count)):
        value, masked = source[at + j], hidden[hidden_at + j]
        seen = nothing if masked else value
        largest = seen if seen > largest else largest
        target[out + j] = not_measured if (value > limit) | masked else value
    saturated = 0
    if largest > limit:
        for j in range(np.uint64(count)):
            value = source[at + j]
            saturated += value > limit and not hidden[hidden_at + j] and (mask_known or value != not_measured)
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
    row_pixels = rows.shape[1]
    first_row, last_row = max(0, -row_0), min(height, rows.shape[0] - row_0)
    first_column, last_column = max(0, -column_0), min(width, row_pixels - column_0)
    not_measured = rows.dtype.type(top)
    source, hidden, target = rows.reshape(-1), masked.reshape(-1), out.reshape(-1)
    saturated = 0
    for i in range(height):
        if i < first_row or i >= last_row:
            target[i * width : (i + 1) * width] = not_measured
            continue
        for j in range(first_column):
            target[i * width + j] = not_measured
        for j in range(last_column, width):
            target[i * width + j] = not_measured
        begin = i * width + first_column
        at = (row_0 + i) * row_pixels + column_0 + first_column
        count = max(last_column - first_column, 0)
        saturated += mask_line(source, at, hidden, begin, mask_known, largest_valid, top, target, begin, count)
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
