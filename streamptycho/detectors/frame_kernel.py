"""The compiled loop over the frames of a block: decode what the region needs, crop, mask, bin. Releases the GIL."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from streamptycho.detectors.kernels import FRAME_CORRUPT, FRAME_OK, FRAME_TRUNCATED, decode_bslz4, decode_lz4, length_at
from streamptycho.detectors.region_kernel import bin_down, cut_out, mask_line

RAW, LZ4, BSLZ4 = range(3)

_FRAME_HEADER_BYTES = 12
_DEFAULT_BLOCK_BYTES = 8192
_TOGETHER = 8


@njit(cache=True, nogil=True, inline="always")
def _big_endian(data: Any, at: Any, size: Any) -> Any:
    number = np.uint64(0)
    for i in range(size):
        number = (number << np.uint64(8)) | np.uint64(data[at + i])
    return number


@njit(cache=True, nogil=True)
def _skip_blocks(data: Any, payload: Any, first_byte: Any, found: Any) -> None:
    """Find the block with byte `first_byte` of each frame: where it begins in its payload and in the frame, (N, 2).

    Every step waits for the length that it reads: with several frames in turn they wait together. What does not look
    like blocks is left as it is, to be decoded, and refused, from its beginning.
    """
    most = np.int64(0)
    steps = np.zeros(len(found), np.int64)
    for frame in range(len(found)):
        begin, end = payload[frame, 0], payload[frame, 1]
        found[frame, 0], found[frame, 1] = begin + _FRAME_HEADER_BYTES, 0
        if end - begin < _FRAME_HEADER_BYTES:
            continue
        block_bytes = np.int64(_big_endian(data, begin + 8, 4)) or _DEFAULT_BLOCK_BYTES
        steps[frame] = first_byte // block_bytes
        found[frame, 1] = steps[frame] * block_bytes
        most = max(most, steps[frame])
    for step in range(most):
        for frame in range(len(found)):
            if step < steps[frame]:
                at, end = found[frame, 0], payload[frame, 1]
                packed = length_at(data, at, end)
                if packed < 0 or packed > end - at - 4:
                    steps[frame] = 0
                    found[frame, 0], found[frame, 1] = payload[frame, 0] + _FRAME_HEADER_BYTES, 0
                else:
                    found[frame, 0] = at + 4 + packed


@njit(cache=True, nogil=True)
def _decode(
    data: Any, begin: Any, end: Any, encoding: Any, height: Any, first_row: Any, columns: Any, rows: Any, known: Any
) -> int:
    """Fill columns `columns` of `rows`, rows of a frame from `first_row` on, from the payload `data[begin:end]`.

    `known` (2,) is what `_skip_blocks` found.
    """
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
    at, skipped = known[0], known[1]
    if encoding == BSLZ4:
        if block_bytes % (8 * element_bytes):
            return FRAME_CORRUPT
        block = block_bytes // element_bytes
        return decode_bslz4(data, at, end, skipped // element_bytes, total, block, first_row, columns, rows)
    flat = rows.reshape(-1).view(np.uint8)
    first = first_row * width * element_bytes
    return decode_lz4(data, at, end, skipped, total * element_bytes, block_bytes, first, flat)


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
    row_bytes = rows.shape[1] * rows.itemsize
    known = np.empty((_TOGETHER, 2), np.int64)
    for frame in range(len(payload)):
        if encoding != RAW and frame % _TOGETHER == 0:
            those = payload[frame : frame + _TOGETHER]
            found = known[: len(those)]
            _skip_blocks(data, those, first_row * row_bytes, found)
        begin, end = payload[frame, 0], payload[frame, 1]
        place = known[frame % _TOGETHER]
        if _decode(data, begin, end, encoding, height_of_frame, first_row, columns, rows, place) != FRAME_OK:
            return frame
        out = counts[frame, first_out:last_out]
        if whole:
            # One long line instead of many short ones.
            line = out.reshape(-1)
            saturated[frame] = mask_line(
                rows.reshape(-1), 0, masked.reshape(-1), 0, mask_known, largest_valid, top, line, 0, line.size
            )
        elif binning == 1:
            saturated[frame] = cut_out(rows, corner[0], corner[1], masked, mask_known, largest_valid, top, out)
        else:
            saturated[frame] = cut_out(rows, corner[0], corner[1], masked, mask_known, largest_valid, top, square)
            saturated[frame] += bin_down(square, binning, top, top_out, out)
    return len(payload)
