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
def _unshuffle_block(shuffled: Any, words: Any, data: Any) -> None:
    """Undo the bit shuffle of one block into the elements `data`; `words` is room for one byte of each of them."""
    groups = data.size // 8
    bytes_of_words = words.view(np.uint8)
    for byte in range(data.itemsize):
        plane = shuffled[byte * 8 * groups : (byte + 1) * 8 * groups]
        anything = np.uint8(0)
        for i in range(plane.size):
            anything |= plane[i]
        if anything == 0:
            if byte == 0:
                data[:] = 0
            continue
        row_0, row_1, row_2, row_3 = plane[:groups], plane[groups:], plane[2 * groups :], plane[3 * groups :]
        row_4, row_5, row_6, row_7 = (
            plane[4 * groups :],
            plane[5 * groups :],
            plane[6 * groups :],
            plane[7 * groups :],
        )
        for group in range(groups):
            x = (
                np.uint64(row_0[group])
                | (np.uint64(row_1[group]) << np.uint64(8))
                | (np.uint64(row_2[group]) << np.uint64(16))
                | (np.uint64(row_3[group]) << np.uint64(24))
                | (np.uint64(row_4[group]) << np.uint64(32))
                | (np.uint64(row_5[group]) << np.uint64(40))
                | (np.uint64(row_6[group]) << np.uint64(48))
                | (np.uint64(row_7[group]) << np.uint64(56))
            )
            words[group] = _transpose_bits(x)
        if byte == 0:
            for i in range(data.size):
                data[i] = bytes_of_words[i]
        else:
            shift = np.uint32(8 * byte)
            for i in range(data.size):
                data[i] |= np.uint32(bytes_of_words[i]) << shift


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
def _length_at(source: Any, at: Any) -> Any:
    """Return the block length (u32, big-endian) at `at`, -1 where the bytes end."""
    if source.size - at < 4:
        return np.int64(-1)
    return (
        (np.int64(source[at]) << 24)
        | (np.int64(source[at + 1]) << 16)
        | (np.int64(source[at + 2]) << 8)
        | np.int64(source[at + 3])
    )


@njit(cache=True, nogil=True)
def decode_bslz4(source: Any, begin: int, total: int, block: int, first: int, data: Any) -> int:
    """Decode elements `first` to `first + data.size` of the `total` that bit-shuffled LZ4 blocks hold.

    `source[begin:]` is what follows the frame header; `block` is the number of elements in one block. Blocks before
    the wanted elements are stepped over, those after them are not looked at.
    """
    element_bytes = data.itemsize
    last = first + data.size
    framed = total - total % 8
    block = min(block, total)
    shuffled = np.empty(block * element_bytes, np.uint8)
    words = np.empty(block // 8 + 1, np.uint64)
    plain = np.empty(block, data.dtype)
    at: Any = begin
    for position in range(0, framed, block):
        if position >= last:
            return FRAME_OK
        count = min(block, framed - position)
        packed = _length_at(source, at)
        at += 4
        if packed < 0 or packed > source.size - at:
            return FRAME_TRUNCATED
        if position + count > first:
            if not decode_lz4_block(source, at, at + packed, shuffled, count * element_bytes, True):
                return FRAME_CORRUPT
            if position >= first and position + count <= last:
                _unshuffle_block(shuffled, words, data[position - first : position - first + count])
            else:
                _unshuffle_block(shuffled, words, plain[:count])
                for i in range(max(first - position, 0), min(count, last - position)):
                    data[position + i - first] = plain[i]
        at += packed
    if last > framed:
        if source.size - at < (last - framed) * element_bytes:
            return FRAME_TRUNCATED
        tail = data.view(np.uint8)
        for i in range(max(first - framed, 0) * element_bytes, (last - framed) * element_bytes):
            tail[(framed - first) * element_bytes + i] = source[at + i]
    return FRAME_OK


@njit(cache=True, nogil=True)
def decode_lz4(source: Any, begin: int, total: int, block: int, first: int, data: Any) -> int:
    """Decode bytes `first` to `first + data.size` of the `total` that LZ4 blocks of `block` bytes hold."""
    last = first + data.size
    block = min(block, total)
    plain = np.empty(block, np.uint8)
    at: Any = begin
    for position in range(0, total, block):
        if position >= last:
            return FRAME_OK
        count = min(block, total - position)
        packed = _length_at(source, at)
        at += 4
        if packed < 0 or packed > source.size - at:
            return FRAME_TRUNCATED
        if position + count > first:
            if packed == count:
                _copy(source, at, plain, 0, count)
            elif not decode_lz4_block(source, at, at + packed, plain, count, True):
                return FRAME_CORRUPT
            skipped = max(first - position, 0)
            _copy(plain, skipped, data, position + skipped - first, min(count, last - position) - skipped)
        at += packed
    return FRAME_OK
