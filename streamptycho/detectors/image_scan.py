"""A compiled reader for image messages of Stream V2 that look like one which the general decoder has read.

It vouches for nothing by itself: every byte that is not a number of its own, a payload, or an entry that nobody reads
must equal that of the message learned from. Whatever else comes is left to the general decoder.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from streamptycho.messages import Array
from streamptycho.native import load_u8, load_u64

# Places of entries in the table of spans. Those before IMAGE_ID have to stay as they were learned.
TYPE, SERIES, UNIQUE, DATE, IMAGE_ID, REAL_TIME, START_TIME, STOP_TIME, DATA = range(9)
KEYS = (
    "type",
    "series_id",
    "series_unique_id",
    "series_date",
    "image_id",
    "real_time",
    "start_time",
    "stop_time",
    "data",
)
CHANNELS, HEAD = 4, 5

_ENTRIES = len(KEYS)
_MAX_ENTRIES = 64
_MAX_LEVELS = 12
_MAX_ITEMS = 1000
_MAX_INDEX = np.uint64(1 << 62)
_EXACT_IN_DOUBLE = np.uint64(1 << 53)
_KEY_BYTES = np.frombuffer("".join(KEYS).encode(), np.uint8)
_KEY_BEGINS = np.cumsum([0, *map(len, KEYS)])

_IMAGE = np.frombuffer(b"\x65image", np.uint8)
_HASH_BASIS, _HASH_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG = range(7)


@njit(cache=True, nogil=True, inline="always")
def _head(data: Any, at: Any, end: Any) -> Any:
    """Return (major type, argument, where the head ends); a major type of -1 where none stands that is understood."""
    nothing = (-1, np.uint64(0), at)
    if at >= end:
        return nothing
    major, detail = np.int64(data[at]) >> 5, np.int64(data[at]) & 31
    at += 1
    if detail < 24:
        return major, np.uint64(detail), at
    if detail > 27:
        return nothing
    size = 1 << (detail - 24)
    if end - at < size:
        return nothing
    argument = np.uint64(0)
    for i in range(size):
        argument = (argument << np.uint64(8)) | np.uint64(data[at + i])
    return major, argument, at + size


@njit(cache=True, nogil=True)
def skip_item(data: Any, at: Any, end: Any) -> int:
    """Return where the item at `at` ends, -1 if it is not plain: an open end, text beyond ASCII, a key not text."""
    left = np.zeros(_MAX_LEVELS, np.int64)
    in_map = np.zeros(_MAX_LEVELS, np.bool_)
    level, items = 0, 0
    left[0] = 1
    while level >= 0:
        if left[level] == 0:
            level -= 1
            continue
        is_key = in_map[level] and left[level] % 2 == 0
        left[level] -= 1
        items += 1
        major, argument, at = _head(data, at, end)
        if major < 0 or items > _MAX_ITEMS or (is_key and major != _TEXT):
            return -1
        if major in (_BYTES, _TEXT):
            if argument > np.uint64(end - at):
                return -1
            stop = at + np.int64(argument)
            if major == _TEXT:
                for i in range(at, stop):
                    if data[i] >= 128:
                        return -1
            at = stop
        elif major in (_ARRAY, _MAP, _TAG):
            if argument > np.uint64(_MAX_ITEMS) and major != _TAG:
                return -1
            level += 1
            if level == _MAX_LEVELS:
                return -1
            left[level] = 1 if major == _TAG else np.int64(argument) * (2 if major == _MAP else 1)
            in_map[level] = major == _MAP
        elif major == 7 and not (np.uint64(20) <= argument <= np.uint64(23)):
            return -1
    return int(at)


@njit(cache=True, nogil=True)
def find_entries(data: Any, begin: Any, end: Any, spans: Any) -> bool:
    """Note in `spans` (9, 2) where the values of `KEYS` begin and end; False if the message is not a plain map."""
    spans[:] = -1
    at = begin
    if end - at > 3 and data[at] == 0xD9 and data[at + 1] == 0xD9 and data[at + 2] == 0xF7:
        at += 3
    major, entries, at = _head(data, at, end)
    if major != _MAP or entries > np.uint64(_MAX_ENTRIES):
        return False
    expected = 0
    for _ in range(np.int64(entries)):
        major, length, at = _head(data, at, end)
        if major != _TEXT or length > np.uint64(end - at):
            return False
        found = -1
        for step in range(_ENTRIES):
            key = (expected + step) % _ENTRIES
            first = _KEY_BEGINS[key]
            if _KEY_BEGINS[key + 1] - first != np.int64(length):
                continue
            equal = True
            for i in range(np.int64(length)):
                if data[at + i] != _KEY_BYTES[first + i]:
                    equal = False
                    break
            if equal:
                found = key
                break
        if found < 0:
            for i in range(np.int64(length)):
                if data[at + i] >= 128:
                    return False
        at += np.int64(length)
        stop = skip_item(data, at, end)
        if stop < 0:
            return False
        if found >= 0:
            if spans[found, 0] >= 0:
                return False
            spans[found, 0], spans[found, 1] = at, stop
            expected = found + 1
        at = stop
    return bool(at == end)


@njit(cache=True, nogil=True, inline="always")
def _same(data: Any, begin: Any, end: Any, learned: Any, first: Any, last: Any) -> bool:
    if end - begin != last - first or begin < 0:
        return bool(begin < 0 and last == first)
    equal = True
    for i in range(end - begin):
        equal &= data[begin + i] == learned[first + i]
    return equal


@njit(cache=True, nogil=True, inline="always")
def _fraction(data: Any, begin: Any, end: Any) -> Any:
    """Return (a fraction of two integers that doubles hold exactly, whether it is one, where it ends)."""
    if begin >= end or data[begin] != 0x82:
        return np.nan, False, begin
    first, above, at = _head(data, begin + 1, end)
    second, below, at = _head(data, at, end)
    good = first == _UNSIGNED and second == _UNSIGNED and above < _EXACT_IN_DOUBLE
    if not good or below == np.uint64(0) or below >= _EXACT_IN_DOUBLE:
        return np.nan, False, at
    return np.float64(above) / np.float64(below), True, at


@njit(cache=True, nogil=True, inline="always")
def _seconds(data: Any, begin: Any, end: Any) -> Any:
    """Return (a fraction, whether it is one or absent); NaN where there is none."""
    if begin < 0:
        return np.nan, True
    value, good, _ = _fraction(data, begin, end)
    return value, good


@njit(cache=True, nogil=True, inline="always")
def _equal(one: Any, other: Any, count: Any) -> bool:
    """Whether `count` bytes at two addresses are the same."""
    differ = np.uint64(0)
    at = np.int64(0)
    while at + 8 <= count:
        differ |= load_u64(one + at) ^ load_u64(other + at)
        at += 8
    while at < count:
        differ |= np.uint64(load_u8(one + at) ^ load_u8(other + at))
        at += 1
    return bool(differ == np.uint64(0))


@njit(cache=True, nogil=True)
def _by_pattern(
    data: Any, begin: Any, end: Any, pattern: Any, cuts: Any, keys: Any, index: Any, times_s: Any, payload: Any
) -> bool:
    """Read one message that differs from the pattern in its numbers and its payload only; False if it does not.

    `index` (1,), `times_s` (3,) and `payload` (2,) are filled in.
    """
    address, learned = data.ctypes.data, pattern.ctypes.data
    at = begin
    times_s[:] = np.nan
    for item in range(len(keys)):
        size = cuts[item + 1] - cuts[item]
        if end - at < size or not _equal(address + at, learned + cuts[item], size):
            return False
        at += size
        key = keys[item]
        if key == IMAGE_ID:
            major, number, at = _head(data, at, end)
            if major != _UNSIGNED or number >= _MAX_INDEX:
                return False
            index[0] = np.int64(number)
        elif key == DATA:
            major, length, at = _head(data, at, end)
            if major != _BYTES or length > np.uint64(end - at):
                return False
            payload[0], payload[1] = at, at + np.int64(length)
            at = payload[1]
        else:
            times_s[key - REAL_TIME], good, at = _fraction(data, at, end)
            if not good:
                return False
    size = cuts[len(keys) + 1] - cuts[len(keys)]
    return bool(end - at == size) and _equal(address + at, learned + cuts[len(keys)], size)


@njit(cache=True, nogil=True)
def find_payload(data: Any, begin: Any, end: Any, learned: Any, places: Any, wanted: Any, payload: Any) -> bool:
    """Note in `payload` (2,) where that of channel number `wanted` begins and ends.

    False if the map at `begin` has other channels than were learned, or another kind of array in this one.
    """
    major, channels, at = _head(data, begin, end)
    if major != _MAP or channels > np.uint64(_MAX_ENTRIES):
        return False
    key_at = places[CHANNELS]
    for channel in range(np.int64(channels)):
        key_end = skip_item(data, at, end)
        if key_end < 0 or key_end - at > places[CHANNELS + 1] - key_at:
            return False
        if not _same(data, at, key_end, learned, key_at, key_at + key_end - at):
            return False
        key_at += key_end - at
        at = key_end
        if channel != wanted:
            at = skip_item(data, at, end)
            if at < 0:
                return False
            continue
        head = places[HEAD + 1] - places[HEAD]
        if end - at < head or not _same(data, at, at + head, learned, places[HEAD], places[HEAD + 1]):
            return False
        major, length, at = _head(data, at + head, end)
        if major != _BYTES or length > np.uint64(end - at):
            return False
        payload[0], payload[1] = at, at + np.int64(length)
        at += np.int64(length)
    return bool(key_at == places[CHANNELS + 1] and at == end)


@njit(cache=True, nogil=True)
def scan_images(
    data: Any,
    spans: Any,
    learned: Any,
    places: Any,
    wanted: Any,
    pattern: Any,
    cuts: Any,
    keys: Any,
    index: Any,
    times_s: Any,
    payload: Any,
) -> int:
    """Read messages `data[begin:end]` for the rows of `spans` (N, 2), and return how many of the first could be read.

    `learned` holds the bytes that must come again, item k of them from `places[k]` to `places[k + 1]`. `pattern` are
    those of a whole message without the values of `keys`, cut where these stand: most messages need no closer look.
    Filled are
    `index` (N,), `times_s` (N, 3) (real, start, stop; NaN where absent) and `payload` (N, 2), where it begins and ends.
    """
    entries = np.empty((_ENTRIES, 2), np.int64)
    for message in range(len(spans)):
        begin, end = spans[message, 0], spans[message, 1]
        one = index[message : message + 1]
        if _by_pattern(data, begin, end, pattern, cuts, keys, one, times_s[message], payload[message]):
            continue
        if not find_entries(data, spans[message, 0], spans[message, 1], entries):
            return message
        for key in range(IMAGE_ID):
            if not _same(data, entries[key, 0], entries[key, 1], learned, places[key], places[key + 1]):
                return message
        if entries[IMAGE_ID, 0] < 0 or entries[DATA, 0] < 0:
            return message
        major, number, _ = _head(data, entries[IMAGE_ID, 0], entries[IMAGE_ID, 1])
        if major != _UNSIGNED or number >= _MAX_INDEX:
            return message
        index[message] = np.int64(number)
        for k in range(3):
            times_s[message, k], good = _seconds(data, entries[REAL_TIME + k, 0], entries[REAL_TIME + k, 1])
            if not good:
                return message
        begin, end = entries[DATA, 0], entries[DATA, 1]
        if not find_payload(data, begin, end, learned, places, wanted, payload[message]):
            return message
    return len(spans)


@njit(cache=True, nogil=True)
def glimpse_images(data: Any, spans: Any, marks: Any, index: Any) -> None:
    """Fill, for messages `data[begin:end]`, `marks` (N,) uint64 and `index` (N,), the number of the image.

    Marks are made from the bytes that name the series: equal for images of one series, 0 for what is no plain image.
    A message that begins like the one before it, up to the number of the image, is not looked at any further.
    """
    entries = np.empty((_ENTRIES, 2), np.int64)
    address = data.ctypes.data
    like, same = np.int64(0), np.int64(0)
    mark = np.uint64(0)
    for message in range(len(spans)):
        begin, end = spans[message, 0], spans[message, 1]
        if same and end - begin > same and _equal(address + begin, address + like, same):
            major, number, _ = _head(data, begin + same, end)
            if major == _UNSIGNED and number < _MAX_INDEX:
                marks[message], index[message] = mark, np.int64(number)
                continue
        marks[message] = np.uint64(0)
        index[message] = -1
        if not find_entries(data, spans[message, 0], spans[message, 1], entries):
            continue
        if not _same(data, entries[TYPE, 0], entries[TYPE, 1], _IMAGE, 0, len(_IMAGE)) or entries[IMAGE_ID, 0] < 0:
            continue
        major, number, _ = _head(data, entries[IMAGE_ID, 0], entries[IMAGE_ID, 1])
        if major != _UNSIGNED or number >= _MAX_INDEX:
            continue
        mark = _HASH_BASIS
        for key in (SERIES, UNIQUE):
            for at in range(entries[key, 0], entries[key, 1]):
                mark = (mark ^ np.uint64(data[at])) * _HASH_PRIME
            mark = (mark ^ np.uint64(0xFF)) * _HASH_PRIME
        mark |= np.uint64(1)
        marks[message], index[message] = mark, np.int64(number)
        like, same = begin, entries[IMAGE_ID, 0] - begin
        for key in (TYPE, SERIES, UNIQUE):
            if entries[key, 0] < 0 or entries[key, 0] > entries[IMAGE_ID, 0]:
                same = np.int64(0)


def entries_of(data: Array) -> Array | None:
    """Return where the values of `KEYS` begin and end in one message, (9, 2); None if it is not a plain map."""
    spans = np.empty((_ENTRIES, 2), np.int64)
    return spans if find_entries(data, 0, len(data), spans) else None
