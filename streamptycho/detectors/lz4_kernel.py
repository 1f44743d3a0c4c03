"""Decoding of one LZ4 block at an address, eight bytes at a time. Releases the GIL.

References
----------
LZ4 block format: https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from streamptycho.native import copy_bytes, load_u8, load_u16, load_u64, store_u8, store_u64

SLACK_BYTES = 32

_EVERY_BYTE = np.uint64(0x0101010101010101)
_EVERY_SECOND_BYTE = np.uint64(0x0001000100010001)
_EVERY_FOURTH_BYTE = np.uint64(0x0000000100000001)


@njit(cache=True, nogil=True, inline="always")
def _copy_literals(source: Any, source_end: Any, target: Any, count: Any) -> None:
    """Copy `count` bytes and up to 16 more, none of them from behind `source_end`."""
    copied = np.int64(0)
    while copied < count and source + copied + 16 <= source_end:
        store_u64(target + copied, load_u64(source + copied))
        store_u64(target + copied + 8, load_u64(source + copied + 8))
        copied += 16
    if copied < count:
        copy_bytes(target + copied, source + copied, count - copied)


@njit(cache=True, nogil=True, inline="always")
def _repeat(out: Any, offset: Any, done: Any) -> None:
    """Continue what stands `offset` bytes before `out` up to `done`, and up to 16 bytes further."""
    if offset >= 8:
        back = out - offset
        while out < done:
            store_u64(out, load_u64(back))
            store_u64(out + 8, load_u64(back + 8))
            out += 16
            back += 16
    elif offset == 1 or offset == 2 or offset == 4:
        if offset == 1:
            word = np.uint64(load_u8(out - 1)) * _EVERY_BYTE
        elif offset == 2:
            word = np.uint64(load_u16(out - 2)) * _EVERY_SECOND_BYTE
        else:
            word = (np.uint64(load_u16(out - 4)) | (np.uint64(load_u16(out - 2)) << np.uint64(16))) * _EVERY_FOURTH_BYTE
        while out < done:
            store_u64(out, word)
            store_u64(out + 8, word)
            out += 16
    else:
        for i in range(16):
            store_u8(out + i, load_u8(out + i - offset))
        # The pattern also repeats at this multiple of the offset, which is far enough to copy eight bytes at once.
        apart = offset * ((7 + offset) // offset)
        out += 16
        while out < done:
            store_u64(out, load_u64(out - apart))
            out += 8


@njit(cache=True, nogil=True)
def decode_lz4_at(source: Any, source_bytes: Any, target: Any, length: Any) -> bool:
    """Decode the LZ4 block at address `source` to exactly `length` bytes at `target`; False if it is not that.

    Behind `target + length` are `SLACK_BYTES` that may be written to. Nothing outside the ranges is touched.
    """
    at = np.int64(source)
    end = at + source_bytes
    out = np.int64(target)
    stop = out + length
    while at < end:
        token = np.int64(load_u8(at))
        at += 1
        literals = token >> 4
        if literals == 15:
            more = np.int64(255)
            while more == 255:
                if at >= end:
                    return False
                more = np.int64(load_u8(at))
                at += 1
                literals += more
        if literals > end - at or literals > stop - out:
            return False
        _copy_literals(at, end, out, literals)
        out += literals
        at += literals
        if at == end:
            return bool(out == stop)
        if end - at < 2:
            return False
        offset = np.int64(load_u16(at))
        at += 2
        if offset == 0 or offset > out - target:
            return False
        matched = (token & 15) + 4
        if matched == 19:
            more = np.int64(255)
            while more == 255:
                if at >= end:
                    return False
                more = np.int64(load_u8(at))
                at += 1
                matched += more
        if matched > stop - out:
            return False
        _repeat(out, offset, out + matched)
        out += matched
    return False
