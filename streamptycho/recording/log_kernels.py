"""Compiled loops of the stream log: checksums, writing and finding many records at once. They release the GIL.

References
----------
M. E. Kounavis and F. L. Berry, doi:10.1109/ISCC.2005.18 (CRC by several tables at once).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from streamptycho.messages import RECORD_KINDS, RECORD_SOURCES, Array
from streamptycho.native import copy_bytes, load_u8, load_u64, store_u8, store_u64
from streamptycho.recording.crc_folding import STEP_BYTES, available, fold

HEADER_BYTES = 36
CHECKSUM_BYTES = 4
MAX_PARTS = 4096
MAX_CONTENT_BYTES = 1 << 30

_FOLDED_FROM_BYTES = 256
_TABLES = 16
_POLYNOMIAL = 0xEDB88320
_MAGIC = 0x1A525053
_END_KIND = RECORD_KINDS.index("end")
_SOURCES, _KINDS = len(RECORD_SOURCES), len(RECORD_KINDS)
_LOW_BYTE = np.uint64(0xFF)


def _crc_tables() -> Array:
    """Return what each byte does to the checksum when 0 to 15 zero bytes follow it, (16, 256) uint32."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1)
    tables = [table]
    for _ in range(_TABLES - 1):
        tables.append(table[tables[-1] & 0xFF] ^ (tables[-1] >> 8))
    return np.array(tables, np.uint32)


_CRC: Any = _crc_tables()


@njit(cache=True, nogil=True)
def _by_tables(address: Any, count: Any, crc: Any) -> Any:
    """Return the register after `count` more bytes."""
    crc = np.uint64(crc)
    at = np.int64(address)
    end = at + count
    while end - at >= 16:
        one, two = load_u64(at) ^ crc, load_u64(at + 8)
        low = np.uint32(0)
        high = np.uint32(0)
        for k in range(8):
            shift = np.uint64(8 * k)
            low ^= _CRC[15 - k, (one >> shift) & _LOW_BYTE]
            high ^= _CRC[7 - k, (two >> shift) & _LOW_BYTE]
        crc = np.uint64(low ^ high)
        at += 16
    while at < end:
        crc = (crc >> np.uint64(8)) ^ np.uint64(_CRC[0, (crc ^ np.uint64(load_u8(at))) & _LOW_BYTE])
        at += 1
    return np.uint32(crc)


@njit(cache=True, nogil=True)
def _folded(address: Any, count: Any, crc: Any, rest: Any) -> Any:
    """Do what `_by_folding` says with room for two words, which its caller keeps: here only their address is used."""
    steps = count // STEP_BYTES
    fold(address, steps, np.uint32(crc), rest.ctypes.data)
    crc = _by_tables(rest.ctypes.data, 16, np.uint32(0))
    return _by_tables(address + steps * STEP_BYTES, count - steps * STEP_BYTES, crc)


@njit(cache=True, nogil=True)
def _by_folding(address: Any, count: Any, crc: Any) -> Any:
    """Return the register after `count` more bytes, at least `STEP_BYTES`."""
    return _folded(address, count, crc, np.zeros(2, np.uint64))


_many_bytes = _by_folding if available() else _by_tables


@njit(cache=True, nogil=True)
def crc32_at(address: Any, count: Any, start: Any) -> Any:
    """Return the checksum of zlib.crc32 over `count` bytes at an address, continued from `start`, as uint32."""
    crc = np.uint32(start) ^ np.uint32(0xFFFFFFFF)
    crc = _many_bytes(address, count, crc) if count >= _FOLDED_FROM_BYTES else _by_tables(address, count, crc)
    return np.uint32(crc ^ np.uint32(0xFFFFFFFF))


@njit(cache=True, nogil=True, inline="always")
def _store(address: Any, number: Any, size: int) -> None:
    """Write an integer, little-endian."""
    for k in range(size):
        store_u8(address + k, np.uint8((np.uint64(number) >> np.uint64(8 * k)) & _LOW_BYTE))


@njit(cache=True, nogil=True, inline="always")
def _load(address: Any, size: int) -> Any:
    number = np.uint64(0)
    for k in range(size):
        number |= np.uint64(load_u8(address + k)) << np.uint64(8 * k)
    return np.int64(number)


@njit(cache=True, nogil=True)
def encoded_ends(first_part: Any, spans: Any, ends: Any) -> int:
    """Fill in where each record of a block ends in a log, (R,), and return the last; -1 if one is too large."""
    total = 0
    for record in range(len(first_part) - 1):
        content = 0
        for part in range(first_part[record], first_part[record + 1]):
            content += spans[part, 1] - spans[part, 0]
        parts = first_part[record + 1] - first_part[record]
        if parts > MAX_PARTS or content > MAX_CONTENT_BYTES:
            return -1
        total += HEADER_BYTES + 4 * parts + CHECKSUM_BYTES + content
        ends[record] = total
    return total


@njit(cache=True, nogil=True)
def stand_in_place(first_part: Any, spans: Any) -> bool:
    """Whether the parts of records (P, 2) begin and end where they would in a log that begins with the first."""
    at = np.int64(0)
    for record in range(len(first_part) - 1):
        at += HEADER_BYTES + 4 * (first_part[record + 1] - first_part[record]) + CHECKSUM_BYTES
        for part in range(first_part[record], first_part[record + 1]):
            if spans[part, 0] != at:
                return False
            at = spans[part, 1]
    return True


@njit(cache=True, nogil=True)
def encode_records(
    source: Any, kind: Any, sequence: Any, received_ns: Any, first_part: Any, spans: Any, data: Any, out: Any
) -> None:
    """Write the records of a block to `out` as they stand in a log. It has room for all of them.

    Where `data` is `out` itself its parts have to stand in place already.
    """
    at, origin = out.ctypes.data, data.ctypes.data
    for record in range(len(source)):
        first, last = first_part[record], first_part[record + 1]
        parts = last - first
        header = at
        at += HEADER_BYTES + 4 * parts + CHECKSUM_BYTES
        content, checksum = np.int64(0), np.uint32(0)
        for part in range(first, last):
            begin = origin + spans[part, 0]
            size = spans[part, 1] - spans[part, 0]
            _store(header + HEADER_BYTES + 4 * (part - first), size, 4)
            if at != begin:
                copy_bytes(at, begin, size)
            checksum = crc32_at(begin, size, checksum)
            content += size
            at += size
        _store(header, _MAGIC, 4)
        store_u8(header + 4, source[record])
        store_u8(header + 5, kind[record])
        _store(header + 6, parts, 2)
        store_u64(header + 8, np.uint64(sequence[record]))
        store_u64(header + 16, np.uint64(received_ns[record]))
        store_u64(header + 24, np.uint64(content))
        _store(header + 32, checksum, 4)
        _store(header + HEADER_BYTES + 4 * parts, crc32_at(header, HEADER_BYTES + 4 * parts, 0), 4)


@njit(cache=True, nogil=True)
def scan_records(
    data: Any, check: bool, source: Any, kind: Any, sequence: Any, received_ns: Any, first_part: Any, spans: Any
) -> Any:
    """Find the first intact records in `data`, bytes of a log, and return (how many, their parts, their bytes).

    With `check` False contents are taken as they are: they never left the memory. Stops behind a record of kind "end",
    before anything incomplete or damaged, and when the columns are full.
    """
    origin, size = data.ctypes.data, len(data)
    records, parts_so_far, at = 0, 0, 0
    first_part[0] = 0
    while records < len(source) and size - at >= HEADER_BYTES + CHECKSUM_BYTES:
        header = origin + at
        if _load(header, 4) != _MAGIC:
            break
        parts, content = _load(header + 6, 2), _load(header + 24, 8)
        if parts > MAX_PARTS or content < 0 or content > MAX_CONTENT_BYTES or parts > len(spans) - parts_so_far:
            break
        if load_u8(header + 4) >= _SOURCES or load_u8(header + 5) >= _KINDS:
            break
        begin = at + HEADER_BYTES + 4 * parts + CHECKSUM_BYTES
        if begin + content > size:
            break
        said = _load(header + HEADER_BYTES + 4 * parts, 4)
        if said != np.int64(crc32_at(header, HEADER_BYTES + 4 * parts, 0)):
            break
        if check and _load(header + 32, 4) != np.int64(crc32_at(origin + begin, content, 0)):
            break
        part_at = begin
        for part in range(parts):
            spans[parts_so_far + part, 0] = part_at
            part_at += _load(header + HEADER_BYTES + 4 * part, 4)
            spans[parts_so_far + part, 1] = part_at
        if part_at != begin + content:
            break
        source[records], kind[records] = load_u8(header + 4), load_u8(header + 5)
        sequence[records], received_ns[records] = _load(header + 8, 8), _load(header + 16, 8)
        parts_so_far += parts
        records += 1
        first_part[records] = parts_so_far
        at = begin + content
        if kind[records - 1] == _END_KIND:
            break
    return records, parts_so_far, at
