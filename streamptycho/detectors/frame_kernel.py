"""The compiled loop over the frames of a block: decode what the region needs, crop, mask, bin. Releases the GIL."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from streamptycho.detectors.kernels import FRAME_CORRUPT, FRAME_OK, FRAME_TRUNCATED, decode_bslz4, decode_lz4
from streamptycho.detectors.region_kernel import bin_down, cut_out, mask_line

RAW, LZ4, BSLZ4 = range(3)

_FRAME_HEADER_BYTES = 12
_DEFAULT_BLOCK_BYTES = 8192


@njit(cache=True, nogil=True, inline="always")
def _big_endian(data: Any, at: Any, size: Any) -> Any:
    number = np.uint64(0)
    for i in range(size):
        number = (number << np.uint64(8)) | np.uint64(data[at + i])
    return number


@njit(cache=True, nogil=True)
def _decode(
    data: Any, begin: Any, end: Any, encoding: Any, height: Any, first_row: Any, columns: Any, rows: Any
) -> int:
    """Fill columns `columns` of `rows`, rows of a frame from `first_row` on, from the payload `data[begin:end]`."""
    width, element_bytes = rows.shape[1], rows.itemsize
    total = height * width
    if encoding == RAW:
        if end - begin != total * element_bytes:
            return FRAME_TRUNCATED if end - begin < total * element_bytes else FRAME_CORRUPT
        flat = rows.reshape(-1).view(np.uint8)
        source = data[begin + first_row * width * element_bytes :]
        for row in range(rows.shape[0]):
            first = (row * width + columns[0]) * element_bytes
            last = (row * width + columns[1]) * element_bytes
            flat[first:last] = source[first:last]
        return FRAME_OK
    if end - begin < _FRAME_HEADER_BYTES:
        return FRAME_TRUNCATED
    declared = _big_endian(data, begin, 8)
    block_bytes = np.int64(_big_endian(data, begin + 8, 4))
    if declared == np.uint64(0) and block_bytes == 0:
        declared, block_bytes = np.uint64(total * element_bytes), np.int64(_DEFAULT_BLOCK_BYTES)
    if declared != np.uint64(total * element_bytes) or block_bytes == 0:
        return FRAME_CORRUPT
    begin += _FRAME_HEADER_BYTES
    if encoding == BSLZ4:
        if block_bytes % (8 * element_bytes):
            return FRAME_CORRUPT
        return decode_bslz4(data, begin, end, total, block_bytes // element_bytes, first_row, columns, rows)
    flat = rows.reshape(-1).view(np.uint8)
    return decode_lz4(data, begin, end, total * element_bytes, block_bytes, first_row * width * element_bytes, flat)


@njit(cache=True, nogil=True)
def cut_frames(
    data: Any,
    payload: Any,
    encoding: Any,
    height_of_frame: Any,
    first_row: Any,
    rows: Any,
    corner: Any,
    masked: Any,
    mask_known: Any,
    largest_valid: Any,
    binning: Any,
    tops: Any,
    first_out: Any,
    counts: Any,
    saturated: Any,
) -> int:
    """Cut a band of the square out of frames with payloads `data[begin:end]` for the rows of `payload` (N, 2).

    `rows` (R, W) is room for those rows of one frame, from `first_row` on, that the band touches. The band begins
    at row and column `corner` of them, is as high as `masked`, and comes to row `first_out` of the square; the other
    arguments are those of `cut_out` and `bin_down`, `tops` the largest values of the dtypes of `rows` and `counts`.
    Fills its part of `counts` (N, n, n) and `saturated` (N,), and returns how many frames could be decoded before the
    first that could not.
    """
    top, top_out = tops
    height, width = masked.shape
    last_out = first_out + height // binning
    columns = (max(corner[1], 0), min(corner[1] + width, rows.shape[1]))
    square = np.empty((height, width) if binning > 1 else (0, 0), rows.dtype)
    whole = binning == 1 and corner[0] == 0 and corner[1] == 0 and rows.shape == masked.shape
    for frame in range(len(payload)):
        begin, end = payload[frame, 0], payload[frame, 1]
        if _decode(data, begin, end, encoding, height_of_frame, first_row, columns, rows) != FRAME_OK:
            return frame
        out = counts[frame, first_out:last_out]
        if whole:
            # One long line instead of many short ones.
            saturated[frame] = mask_line(
                rows.reshape(-1), masked.reshape(-1), mask_known, largest_valid, top, out.reshape(-1)
            )
        elif binning == 1:
            saturated[frame] = cut_out(rows, corner[0], corner[1], masked, mask_known, largest_valid, top, out)
        else:
            saturated[frame] = cut_out(rows, corner[0], corner[1], masked, mask_known, largest_valid, top, square)
            saturated[frame] += bin_down(square, binning, top, top_out, out)
    return len(payload)
