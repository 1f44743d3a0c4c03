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

from streamptycho.detectors.lz4_kernel import SLACK_BYTES, decode_lz4_at
from streamptycho.native import load_u8, load_u64

FRAME_OK, FRAME_TRUNCATED, FRAME_CORRUPT = 0, 1, 2

_SHORT_COPY = 16
_MASK_7 = np.uint64(0x00AA00AA00AA00AA)
_MASK_14 = np.uint64(0x0000CCCC0000CCCC)
_MASK_28 = np.uint64(0x00000000F0F0F0F0)
_BIT_MASKS = (np.uint64(0x5555555555555555), np.uint64(0x3333333333333333), np.uint64(0x0F0F0F0F0F0F0F0F))
_BYTE_MASKS = (np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0000FFFF0000FFFF), np.uint64(0x00000000FFFFFFFF))


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


@njit(cache=True, nogil=True, inline="always")
def _exchange(first: Any, second: Any, shift: Any, mask: Any) -> Any:
    """Exchange the bits of `first` under `mask << shift` with those of `second` under `mask`."""
    differing = ((first >> shift) ^ second) & mask
    return first ^ (differing << shift), second ^ differing


@njit(cache=True, nogil=True, inline="always")
def _transpose_words(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any, shift: int, masks: Any) -> Any:
    """Transpose 8 words of 8 units each; units are bits of each byte (`shift` 1) or bytes (`shift` 8)."""
    one, two, four = np.uint64(shift), np.uint64(2 * shift), np.uint64(4 * shift)
    a, b = _exchange(a, b, one, masks[0])
    c, d = _exchange(c, d, one, masks[0])
    e, f = _exchange(e, f, one, masks[0])
    g, h = _exchange(g, h, one, masks[0])
    a, c = _exchange(a, c, two, masks[1])
    b, d = _exchange(b, d, two, masks[1])
    e, g = _exchange(e, g, two, masks[1])
    f, h = _exchange(f, h, two, masks[1])
    a, e = _exchange(a, e, four, masks[2])
    b, f = _exchange(b, f, four, masks[2])
    c, g = _exchange(c, g, four, masks[2])
    d, h = _exchange(d, h, four, masks[2])
    return a, b, c, d, e, f, g, h


@njit(cache=True, nogil=True)
def _unshuffle_plane(plane: Any, groups: Any, first: Any, last: Any, words: Any) -> None:
    """Gather the bytes of groups `first` to `last` from the 8 rows of `groups` bytes at address `plane`."""
    group = first
    while last - group >= 8:
        at = plane + group
        a, b = load_u64(at), load_u64(at + groups)
        c, d = load_u64(at + 2 * groups), load_u64(at + 3 * groups)
        e, f = load_u64(at + 4 * groups), load_u64(at + 5 * groups)
        g, h = load_u64(at + 6 * groups), load_u64(at + 7 * groups)
        if (a | b | c | d | e | f | g | h) == np.uint64(0):
            for i in range(8):
                words[group + i] = np.uint64(0)
        else:
            a, b, c, d, e, f, g, h = _transpose_words(a, b, c, d, e, f, g, h, 1, _BIT_MASKS)
            a, b, c, d, e, f, g, h = _transpose_words(a, b, c, d, e, f, g, h, 8, _BYTE_MASKS)
            words[group], words[group + 1], words[group + 2], words[group + 3] = a, b, c, d
            words[group + 4], words[group + 5], words[group + 6], words[group + 7] = e, f, g, h
        group += 8
    while group < last:
        x = np.uint64(0)
        for i in range(8):
            x |= np.uint64(load_u8(plane + i * groups + group)) << np.uint64(8 * i)
        words[group] = _transpose_bits(x)
        group += 1


@njit(cache=True, nogil=True)
def _unshuffle_groups(shuffled: Any, groups: Any, first: Any, last: Any, words: Any, data: Any) -> None:
    """Undo the bit shuffle of groups of 8 elements, `first` to `last` of the `groups` at address `shuffled`.

    `data` are the elements of all groups; `words` is room for one byte of each of them.
    """
    begin, end = 8 * first, 8 * last
    out = data[begin:end]
    bytes_of_words = words.view(np.uint8)[begin:end]
    for byte in range(data.itemsize):
        plane = shuffled + byte * 8 * groups
        _unshuffle_plane(plane, groups, first, last, words)
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
def _length_at(source: Any, at: Any, end: Any) -> Any:
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
    source: Any, begin: Any, end: Any, total: Any, block: Any, first_row: Any, columns: Any, rows: Any
) -> int:
    """Decode columns `columns[0]` to `columns[1]` of `rows` (R, W), rows of a frame from `first_row` on.

    `source[begin:end]` is what follows the frame header of `total` elements; `block` is the number of elements in one
    block. Blocks before the wanted elements are stepped over, those behind them are not looked at. Other columns are
    overwritten or not, as is faster.
    """
    width, element_bytes = rows.shape[1], rows.itemsize
    data = rows.reshape(-1)
    first = first_row * width + columns[0]
    last = (first_row + rows.shape[0] - 1) * width + columns[1]
    origin = first_row * width
    narrow = 2 * (columns[1] - columns[0]) < width
    framed = total - total % 8
    block = min(block, max(total, 8))
    shuffled = np.empty(block * element_bytes + SLACK_BYTES, np.uint8)
    words = np.empty(block // 8 + 1, np.uint64)
    plain = np.empty(block, data.dtype)
    address, room = source.ctypes.data, shuffled.ctypes.data
    at: Any = begin
    for position in range(0, framed, block):
        if position >= last:
            return FRAME_OK
        count = min(block, framed - position)
        packed = _length_at(source, at, end)
        at += 4
        if packed < 0 or packed > end - at:
            return FRAME_TRUNCATED
        if position + count > first:
            if not decode_lz4_at(address + at, packed, room, count * element_bytes):
                return FRAME_CORRUPT
            if narrow:
                row = max((position - origin) // width, 0)
                while row < rows.shape[0]:
                    left = max(origin + row * width + columns[0], position)
                    right = min(origin + row * width + columns[1], position + count)
                    if left >= position + count:
                        break
                    if right > left:
                        _unshuffle_groups(
                            room, count // 8, (left - position) // 8, (right - position + 7) // 8, words, plain
                        )
                        data[left - origin : right - origin] = plain[left - position : right - position]
                    row += 1
            elif position >= origin and position + count <= origin + data.size:
                _unshuffle_groups(room, count // 8, 0, count // 8, words, data[position - origin :][:count])
            else:
                _unshuffle_groups(room, count // 8, 0, count // 8, words, plain)
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
def decode_lz4(source: Any, begin: Any, end: Any, total: Any, block: Any, first: Any, data: Any) -> int:
    """Decode bytes `first` to `first + data.size` of the `total` that LZ4 blocks of `block` bytes hold."""
    last = first + data.size
    block = min(block, total)
    plain = np.empty(block + SLACK_BYTES, np.uint8)
    address, room = source.ctypes.data, plain.ctypes.data
    at: Any = begin
    for position in range(0, total, block):
        if position >= last:
            return FRAME_OK
        count = min(block, total - position)
        packed = _length_at(source, at, end)
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
