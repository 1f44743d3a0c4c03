"""What stays the same from one image message of a series to the next, learned from one that was decoded in general."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamptycho.detectors import cbor
from streamptycho.detectors.compression import Encoding
from streamptycho.detectors.image_scan import DATA, IMAGE_ID, entries_of, scan_images, skip_item
from streamptycho.detectors.typed_array import TypedArrayError, typed_array
from streamptycho.messages import Array

_EMPTY_BYTES = b"\x40"


@dataclass(frozen=True, slots=True)
class Scanned:
    """What the compiled reader found in `index` (N,): `times_s` (N, 3) real, start, stop; `payload` (N, 2) spans."""

    index: Array
    times_s: Array
    payload: Array


@dataclass(frozen=True, slots=True, eq=False)
class ImageLayout:
    """The constant bytes of the image messages of a series, and the kind of array that they carry.

    See `scan_images` for `learned` and `places`, `pattern`, `cuts` and `keys`.
    """

    learned: Array
    places: Array
    pattern: Array
    cuts: Array
    keys: Array
    channel: int
    encoding: Encoding
    dtype: np.dtype[Any]
    shape: tuple[int, int]

    def scan(self, data: Array, spans: Array) -> Scanned:
        """Read messages `data[begin:end]` for the rows of `spans` (N, 2) up to the first that is not of this layout."""
        count = len(spans)
        index, times_s = np.empty(count, np.int64), np.empty((count, 3))
        payload = np.empty((count, 2), np.int64)
        read = scan_images(
            data,
            spans,
            self.learned,
            self.places,
            self.channel,
            self.pattern,
            self.cuts,
            self.keys,
            index,
            times_s,
            payload,
        )
        return Scanned(index[:read], times_s[:read], payload[:read])


def learn(part: bytes | memoryview, entries: dict[Any, Any], channel: str) -> ImageLayout | None:
    """Return the layout of an image message that was decoded to `entries`; None if it is not plain enough."""
    data = np.frombuffer(part, np.uint8)
    spans = entries_of(data)
    if spans is None or spans[DATA, 0] < 0:
        return None
    table = typed_array(entries["data"][channel])
    found = _channels(data, spans[DATA], list(entries["data"]))
    if found is None or table.column_major or table.dtype.byteorder == ">":
        return None
    keys, values = found
    number = list(entries["data"]).index(channel)
    head = _head_of(bytes(data[slice(*values[number])]), len(table.payload))
    if head is None:
        return None
    constant = [bytes(data[slice(*spans[key])]) if spans[key, 0] >= 0 else b"" for key in range(IMAGE_ID)]
    item_end = int(values[number][1])
    pattern, cuts, wanted = _pattern(data, spans, (int(values[number][0]) + len(head), item_end))
    items = [*constant, b"".join(bytes(data[slice(*key)]) for key in keys), head]
    return ImageLayout(
        learned=np.frombuffer(b"".join(items), np.uint8),
        places=np.cumsum([0, *map(len, items)]),
        pattern=pattern,
        cuts=cuts,
        keys=wanted,
        channel=number,
        encoding=table.encoding,
        dtype=table.dtype,
        shape=table.shape,
    )


def _pattern(data: Array, spans: Array, payload: tuple[int, int]) -> tuple[Array, Array, Array]:
    """Return a message without its numbers and its payload, where these stood, and which of `KEYS` each was."""
    found = {key: (int(spans[key, 0]), int(spans[key, 1])) for key in range(IMAGE_ID, DATA) if spans[key, 0] >= 0}
    found[DATA] = payload
    keys = sorted(found, key=lambda key: found[key])
    begins = [0, *(found[key][1] for key in keys)]
    pieces = [data[b:e].tobytes() for b, e in zip(begins, [*(found[key][0] for key in keys), len(data)], strict=True)]
    pattern = np.frombuffer(b"".join(pieces), np.uint8)
    return pattern, np.cumsum([0, *map(len, pieces)]), np.array(keys, np.int64)


def _channels(data: Array, span: Array, names: Sequence[Any]) -> tuple[list[tuple[int, int]], list[Any]] | None:
    """Return the spans of keys and values of the map of channels, None if a channel is named twice."""
    at, end = int(span[0]) + 1, int(span[1])
    if not 0xA0 <= data[span[0]] < 0xB8:
        return None
    keys, values = [], []
    while at < end:
        middle = skip_item(data, at, end)
        stop = skip_item(data, middle, end)
        keys.append((at, middle))
        values.append((middle, stop))
        at = stop
    return (keys, values) if len(keys) == len(names) else None


def _head_of(item: bytes, payload_bytes: int) -> bytes | None:
    """Return what stands before the byte string of `payload_bytes` at the end of an array item."""
    for size in (1, 2, 3, 5, 9):
        head = item[: len(item) - payload_bytes - size]
        try:
            table = typed_array(cbor.loads(head + _EMPTY_BYTES))
            string = cbor.loads(item[len(head) :])
        except (cbor.CborError, TypedArrayError):
            continue
        if len(table.payload) == 0 and isinstance(string, memoryview) and len(string) == payload_bytes:
            return head
    return None
