"""Compiled loops of the payload codec: bit shuffle and LZ4 block decoding. All of them release the GIL.

No index leaves the ranges that the caller gives, whatever the bytes say. Loops over slices that start at zero let the
compiler drop the test for negative indices and use vector instructions.

References
----------
LZ4 block format: https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md.
H. S. Warren, Hacker's Delight, 2nd ed., section 7-3 (transposing an 8 x 8 bit matrix).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from streamptycho.detectors.bit_vectors import STEP_GROUPS, transpose, transpose_u16
from streamptycho.detectors.lz4_kernel import SLACK_BYTES, decode_lz4_at
from streamptycho.native import load_u8, load_u64, store_u64

FRAME_OK, FRAME_TRUNCATED, FRAME_CORRUPT = 0, 1, 2

_SHORT_COPY = 16
_MASK_7 = np.uint64(0x00AA00AA00AA00AA)
_MASK_14 = np.uint64(0x0000CCCC0000CCCC)
_MASK_28 = np.uint64(0x00000000F0F0F0F0)


@njit(cache=True, nogil=True, inline="always")
def _transpose_bits(x: Any) -> Any:
    """Transpose the 8 x 8 bits of a 64-bit word: bit j of byte i becomes bit i of byte j."""
    t = (x ^ (x >> np.uint64(7))) & _MASK_7
    x = x ^ t ^ (t << np.uint64(7))
    t = (x ^ (x >> np.uint64(14))) & _MASK_14
    x = x ^ t ^ (t << np.uint64(14))
    t = (x ^ (x >> np.uint64(28))) & _MASK_28
    return x ^ t ^ (t << np.uint64(28))


@njit(cache=True, nogil=True)
def shuffle_blocks(data: Any, shuffled: Any, element_bytes: int, block_bytes: int) -> None:
    """Bit-shuffle `data` (bytes) into `shuffled`, block by block: all lowest bits first, all highest bits last.

    The length of `shuffled` is a multiple of 8 elements and not above that of `data`; so is `block_bytes`.
    """
    total = shuffled.size
    for begin in range(0, total, block_bytes):
        length = min(block_bytes, total - begin)
        groups = length // (8 * element_bytes)
        for byte in range(element_bytes):
            plane = shuffled[begin + byte * 8 * groups : begin + (byte + 1) * 8 * groups]
            for group in range(groups):
                source = data[begin + group * 8 * element_bytes + byte :]
                x = np.uint64(0)
                for i in range(8):
                    x |= np.uint64(source[i * element_bytes]) << np.uint64(8 * i)
                if x == 0:
                    for bit in range(8):
                        plane[bit * groups + group] = 0
                else:
                    x = _transpose_bits(x)
                    for bit in range(8):
                        plane[bit * groups + group] = np.uint8((x >> np.uint64(8 * bit)) & np.uint64(0xFF))


@njit(cache=True, nogil=True)
def _unshuffle_plane(plane: Any, groups: Any, first: Any, last: Any, out: Any) -> None:
    """Gather the bytes of groups `first` to `last` from the 8 rows of `groups` bytes at address `plane`.

    Those of group k go to address `out + 8 * k`. Bytes of other groups are gathered as well where that is faster.
    """
    steps = (last - first) // STEP_GROUPS
    transpose(plane + first, groups, steps, out + 8 * first)
    group = first + steps * STEP_GROUPS
    if group < last and groups >= STEP_GROUPS:
        begin = min(group, groups - STEP_GROUPS)
        transpose(plane + begin, groups, np.int64(1), out + 8 * begin)
        return
    while group < last:
        x = np.uint64(0)
        for i in range(8):
            x |= np.uint64(load_u8(plane + i * groups + group)) << np.uint64(8 * i)
        store_u64(out + 8 * group, _transpose_bits(x))
        group += 1


@njit(cache=True, nogil=True)
def _unshuffle_u16(shuffled: Any, groups: Any, first: Any, last: Any, data: Any, size: Any, at: Any) -> bool:
    """Undo the bit shuffle of groups `first` to `last` of 8 elements u16; group 0 belongs at element `at` of `data`.

    That is an address with room for `size` elements: counting who uses an array takes longer than a short line.

    Elements of groups before and behind them are written as well, to their places. False where there is no room for
    that; then nothing is.
    """
    steps = (last - first + STEP_GROUPS - 1) // STEP_GROUPS
    begin = min(first, groups - STEP_GROUPS * steps)
    if begin < 0 or at + 8 * begin < 0 or at + 8 * (begin + STEP_GROUPS * steps) > size:
        return False
    transpose_u16(shuffled + begin, groups, steps, data + 2 * (at + 8 * begin))
    return True


@njit(cache=True, nogil=True)
def _planes_in_use(shuffled: Any, groups: Any, planes: Any) -> Any:
    """Return how many of the `planes` bytes of the elements are not zero everywhere, from the lowest on; at least 1."""
    while planes > 1:
        found = np.uint64(0)
        begin = shuffled + (planes - 1) * 8 * groups
        for group in range(groups):
            found |= load_u64(begin + 8 * group)
        if found != np.uint64(0):
            return planes
        planes -= 1
    return planes


@njit(cache=True, nogil=True)
def _unshuffle_groups(shuffled: Any, groups: Any, planes: Any, first: Any, last: Any, words: Any, data: Any) -> None:
    """Undo the bit shuffle of groups of 8 elements, `first` to `last` of the `groups` at address `shuffled`.

    `data` are the elements of all groups, of which only the lowest `planes` bytes are in use; `words` is room for one
    byte of each of them. Elements of other groups are overwritten or not, as is faster.
    """
    if data.itemsize == 1:
        _unshuffle_plane(shuffled, groups, first, last, data.ctypes.data)
        return
    begin, end = 8 * first, 8 * last
    out = data[begin:end]
    bytes_of_words = words.view(np.uint8)[begin:end]
    for byte in range(planes):
        _unshuffle_plane(shuffled + byte * 8 * groups, groups, first, last, words.ctypes.data)
        if byte == 0:
            for i in range(out.size):
                out[i] = bytes_of_words[i]
        else:
            shift = np.uint32(8 * byte)
            for i in range(out.size):
                out[i] |= np.uint32(bytes_of_words[i]) << shift


@njit(cache=True, nogil=True, inline="always")
def _copy(source: Any, start: Any, target: Any, out: Any, count: Any) -> None:
    """Copy bytes between ranges that do not overlap."""
    to = target[out : out + count]
    what = source[start : start + count]
    for i in range(count):
        to[i] = what[i]


@njit(cache=True, nogil=True, inline="always")
def _repeat(target: Any, out: Any, offset: Any, count: Any) -> None:
    """Continue what stands `offset` bytes before `out` for `count` bytes, as LZ4 matches do."""
    if count < _SHORT_COPY:
        for i in range(count):
            target[out + i] = target[out + i - offset]
    elif offset == 1:
        target[out : out + count] = target[out - 1]
    else:
        done = 0
        while done < count:
            piece = min(offset + done, count - done)
            _copy(target, out - offset, target, out + done, piece)
            done += piece


@njit(cache=True, nogil=True)
def decode_lz4_block(source: Any, begin: Any, end: Any, target: Any, length: Any, whole: bool) -> bool:
    """Decode the LZ4 block `source[begin:end]` to `target[:length]`; False if it is not one of that length.

    With `whole` False the block may go on after `length` bytes. Nothing outside the two ranges is touched.
    """
    at: Any = begin
    out: Any = 0
    while at < end:
        token: Any = np.int64(source[at])
        at += 1
        literals = token >> 4
        if literals == 15:
            more: Any = 255
            while more == 255:
                if at >= end:
                    return False
                more = np.int64(source[at])
                at += 1
                literals += more
        if literals > end - at:
            return False
        copied = min(literals, length - out)
        if copied < _SHORT_COPY:
            for i in range(copied):
                target[out + i] = source[at + i]
        else:
            _copy(source, at, target, out, copied)
        out += copied
        if copied < literals:
            return not whole
        at += literals
        if at == end:
            return bool(out == length)
        if end - at < 2:
            return False
        offset: Any = np.int64(source[at]) | (np.int64(source[at + 1]) << 8)
        at += 2
        if offset == 0 or offset > out:
            return False
        matched: Any = (token & 15) + 4
        if matched == 19:
            more = 255
            while more == 255:
                if at >= end:
                    return False
                more = np.int64(source[at])
                at += 1
                matched += more
        copied = min(matched, length - out)
        _repeat(target, out, offset, copied)
        out += copied
        if copied < matched or (not whole and out == length):
            return not whole
    return False


@njit(cache=True, nogil=True, inline="always")
def length_at(source: Any, at: Any, end: Any) -> Any:
    """Return the block length (u32, big-endian) at `at`, -1 where the bytes end."""
    if end - at < 4:
        return np.int64(-1)
    return (
        (np.int64(source[at]) << 24)
        | (np.int64(source[at + 1]) << 16)
        | (np.int64(source[at + 2]) << 8)
        | np.int64(source[at + 3])
    )


@njit(cache=True, nogil=True)
def decode_bslz4(
    source: Any, begin: Any, end: Any, skipped: Any, total: Any, block: Any, first_row: Any, columns: Any, rows: Any
) -> int:
    """Decode columns `columns[0]` to `columns[1]` of `rows` (R, W), rows of a frame from `first_row` on.

    `source[begin:end]` are blocks of a frame of `total` elements from element `skipped` on, where a block begins;
    `block` is the number of elements in one. Blocks before the wanted elements are stepped over, those behind them are
    not looked at. Other columns are overwritten or not, as is faster.
    """
    element_bytes = rows.itemsize
    framed = total - total % 8
    block = min(block, max(total, 8))
    shuffled = np.empty(block * element_bytes + SLACK_BYTES, np.uint8)
    words = np.empty(block // 8 + 1, np.uint64)
    plain = np.empty(block, rows.dtype)
    # An array that is used by its address only is freed at once where it was made: it has to be an argument.
    return _decode_bslz4(
        source, begin, end, skipped, total, framed, block, first_row, columns, rows, shuffled, words, plain
    )


@njit(cache=True, nogil=True)
def _decode_bslz4(
    source: Any,
    begin: Any,
    end: Any,
    skipped: Any,
    total: Any,
    framed: Any,
    block: Any,
    first_row: Any,
    columns: Any,
    rows: Any,
    shuffled: Any,
    words: Any,
    plain: Any,
) -> int:
    """Do what `decode_bslz4` says, with room for one block in three states."""
    width, element_bytes = rows.shape[1], rows.itemsize
    data = rows.reshape(-1)
    first = first_row * width + columns[0]
    last = (first_row + rows.shape[0] - 1) * width + columns[1]
    origin = first_row * width
    narrow = 2 * (columns[1] - columns[0]) < width
    address, room, home = source.ctypes.data, shuffled.ctypes.data, data.ctypes.data
    at: Any = begin
    for position in range(skipped, framed, block):
        if position >= last:
            return FRAME_OK
        count = min(block, framed - position)
        packed = length_at(source, at, end)
        at += 4
        if packed < 0 or packed > end - at:
            return FRAME_TRUNCATED
        if position + count > first:
            if not decode_lz4_at(address + at, packed, room, count * element_bytes):
                return FRAME_CORRUPT
            groups = count // 8
            if narrow:
                planes = 0
                row = max((position - origin) // width, 0)
                while row < rows.shape[0]:
                    left = max(origin + row * width + columns[0], position)
                    right = min(origin + row * width + columns[1], position + count)
                    if left >= position + count:
                        break
                    begin_group, end_group = (left - position) // 8, (right - position + 7) // 8
                    if right > left and not (
                        element_bytes == 2
                        and _unshuffle_u16(room, groups, begin_group, end_group, home, data.size, position - origin)
                    ):
                        planes = planes or _planes_in_use(room, groups, element_bytes)
                        _unshuffle_groups(room, groups, planes, begin_group, end_group, words, plain)
                        data[left - origin : right - origin] = plain[left - position : right - position]
                    row += 1
            elif element_bytes != 2 or not _unshuffle_u16(room, groups, 0, groups, home, data.size, position - origin):
                planes = _planes_in_use(room, groups, element_bytes)
                if position >= origin and position + count <= origin + data.size:
                    _unshuffle_groups(room, groups, planes, 0, groups, words, data[position - origin :][:count])
                else:
                    _unshuffle_groups(room, groups, planes, 0, groups, words, plain)
                    left, right = max(position, origin), min(position + count, origin + data.size)
                    data[left - origin : right - origin] = plain[left - position : right - position]
        at += packed
    if last > framed:
        left = max(first, framed)
        if end - at < (last - framed) * element_bytes:
            return FRAME_TRUNCATED
        tail = data.view(np.uint8)
        for i in range((left - framed) * element_bytes, (last - framed) * element_bytes):
            tail[(framed - origin) * element_bytes + i] = source[at + i]
    return FRAME_OK


@njit(cache=True, nogil=True)
def decode_lz4(source: Any, begin: Any, end: Any, skipped: Any, total: Any, block: Any, first: Any, data: Any) -> int:
    """Decode bytes `first` to `first + data.size` of the `total` that LZ4 blocks of `block` bytes hold.

    `source[begin:end]` are those from byte `skipped` on, where a block begins.
    """
    last = first + data.size
    block = min(block, total)
    plain = np.empty(block + SLACK_BYTES, np.uint8)
    address, room = source.ctypes.data, plain.ctypes.data
    at: Any = begin
    for position in range(skipped, total, block):
        if position >= last:
            return FRAME_OK
        count = min(block, total - position)
        packed = length_at(source, at, end)
        at += 4
        if packed < 0 or packed > end - at:
            return FRAME_TRUNCATED
        if position + count > first:
            if packed == count:
                _copy(source, at, plain, 0, count)
            elif not decode_lz4_at(address + at, packed, room, count):
                return FRAME_CORRUPT
            skipped = max(first - position, 0)
            _copy(plain, skipped, data, position + skipped - first, min(count, last - position) - skipped)
        at += packed
    return FRAME_OK
