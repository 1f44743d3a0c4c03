"""Decoding of one LZ4 block at an address, eight bytes at a time. Releases the GIL.

References
----------
LZ4 block format: https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from streamptycho.native import copy_bytes, load_u8, load_u16, load_u64, store_u64

SLACK_BYTES = 32

_SHORT_LITERALS = 15
# For patterns of 1 to 8 bytes: which bytes of a word are one, by what it is multiplied to fill the word, and how far on
# it begins anew at least 8 bytes further.
_PATTERN = np.array([0, *((1 << 8 * n) - 1 for n in range(1, 9))], np.uint64)
_FILLING = np.array([0, *(sum(1 << at for at in range(0, 64, 8 * n)) for n in range(1, 9))], np.uint64)
_APART = np.array([0, *(n * ((7 + n) // n) for n in range(1, 9))], np.int64)


@njit(cache=True, nogil=True, inline="always")
def _copy_literals(source: Any, source_end: Any, target: Any, count: Any) -> None:
    """Copy `count` bytes and up to 16 more, none of them from behind `source_end`."""
    copied = np.int64(0)
    while copied < count and source + copied + 16 <= source_end:
        copy_bytes(target + copied, source + copied, 16)
        copied += 16
    if copied < count:
        copy_bytes(target + copied, source + copied, count - copied)


@njit(cache=True, nogil=True, inline="always")
def _repeat(out: Any, offset: Any, count: Any) -> None:
    """Continue what stands `offset` bytes before `out` for `count` bytes, and up to 31 more.

    The first 16 bytes are the same steps for every offset: a branch that is guessed wrong costs more than all of them.
    """
    pattern = min(offset, 8)
    word = (load_u64(out - offset) & _PATTERN[pattern]) * _FILLING[pattern]
    apart = max(_APART[pattern], offset)
    store_u64(out, word)
    store_u64(out + 8, load_u64(out + 8 - apart))
    if count <= 16:
        return
    done = out + count
    out += 16
    if apart >= 32:
        while out < done:
            copy_bytes(out, out - apart, 32)
            out += 32
    elif apart == 8:
        while out < done:
            store_u64(out, word)
            store_u64(out + 8, word)
            store_u64(out + 16, word)
            store_u64(out + 24, word)
            out += 32
    else:
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
        if literals < _SHORT_LITERALS and end - at >= 16:
            # Always as many: what is too much is overwritten, and there is nothing to decide.
            copy_bytes(out, at, 16)
            if literals > stop - out:
                return False
        else:
            if literals == _SHORT_LITERALS:
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
        _repeat(out, offset, matched)
        out += matched
    return False
