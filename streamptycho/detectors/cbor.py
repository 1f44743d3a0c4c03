"""A reader for CBOR that never copies payloads, interprets no tag and survives any bytes.

Byte strings come as views into the message, tags as `Tag`. A message that was cut still gives the entries of its
outer map that arrived whole, so that a lost frame can be named. Depth and number of items are bounded.

References
----------
C. Bormann and P. Hoffman, RFC 8949, doi:10.17487/RFC8949.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

MAX_DEPTH = 24
MAX_ITEMS = 100_000

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG = range(7)
_INDEFINITE = 31
_BREAK = 0xFF
_SIMPLE = {20: False, 21: True, 22: None, 23: None}
_FLOATS = {25: struct.Struct(">e"), 26: struct.Struct(">f"), 27: struct.Struct(">d")}
_ARGUMENTS = {24: 1, 25: 2, 26: 4, 27: 8}


class CborError(ValueError):
    """Bytes that are not CBOR, or too deep or too many. `entries` of the outer map were readable."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.entries: dict[Any, Any] = {}


class CutCborError(CborError):
    """The message ends before its last item does."""


@dataclass(frozen=True, slots=True)
class Tag:
    """A tagged item, as it stands in the message."""

    number: int
    value: Any


def loads(data: bytes | memoryview) -> Any:
    """Return the first item of `data`: int, float, str, memoryview, list, dict, bool, None or `Tag`.

    Raises
    ------
    CborError
        If it cannot be read. `CutCborError` if the reason is that bytes are missing at the end.
    """
    reader = _Reader(data)
    try:
        return reader.item(0)
    except CborError as error:
        error.entries = reader.outer
        raise


class _Reader:
    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data).cast("B")
        self._at = 0
        self._items = 0
        self.outer: dict[Any, Any] = {}

    def item(self, depth: int) -> Any:
        self._items += 1
        if depth > MAX_DEPTH or self._items > MAX_ITEMS:
            raise CborError(f"more than {MAX_DEPTH} levels or {MAX_ITEMS} items")
        head = self._take(1)[0]
        major, detail = head >> 5, head & 31
        if major == 7:
            return self._simple(detail)
        if detail == _INDEFINITE:
            return self._indefinite(major, depth)
        argument = self._argument(detail)
        if major == _UNSIGNED:
            return argument
        if major == _NEGATIVE:
            return -1 - argument
        if major == _BYTES:
            return self._take(argument)
        if major == _TEXT:
            return self._text(self._take(argument))
        if major == _ARRAY:
            return [self.item(depth + 1) for _ in range(argument)]
        if major == _TAG:
            # A tag around the outer map is not a level of its own: the map behind it stays the outer one.
            return Tag(argument, self.item(depth if depth == 0 and self._items < 8 else depth + 1))
        entries = self._entries(depth)
        for _ in range(argument):
            self._entry(entries, depth)
        return entries

    def _indefinite(self, major: int, depth: int) -> Any:
        if major in (_BYTES, _TEXT):
            joined = b"".join(self._chunks(major))
            return memoryview(joined) if major == _BYTES else self._text(memoryview(joined))
        if major == _ARRAY:
            items = []
            while not self._break():
                items.append(self.item(depth + 1))
            return items
        if major == _MAP:
            entries = self._entries(depth)
            while not self._break():
                self._entry(entries, depth)
            return entries
        raise CborError(f"major type {major} cannot have an open end")

    def _chunks(self, major: int) -> list[memoryview]:
        chunks = []
        while not self._break():
            head = self._take(1)[0]
            if head >> 5 != major or head & 31 == _INDEFINITE:
                raise CborError("a string of chunks holds something else")
            self._items += 1
            if self._items > MAX_ITEMS:
                raise CborError(f"more than {MAX_ITEMS} items")
            chunks.append(self._take(self._argument(head & 31)))
        return chunks

    def _entries(self, depth: int) -> dict[Any, Any]:
        return self.outer if depth == 0 else {}

    def _entry(self, entries: dict[Any, Any], depth: int) -> None:
        key = self.item(depth + 1)
        if not isinstance(key, str | int):
            raise CborError(f"a key of a map is {type(key).__name__}, expected text")
        entries[key] = self.item(depth + 1)

    def _simple(self, detail: int) -> Any:
        if detail in _SIMPLE:
            return _SIMPLE[detail]
        if detail in _FLOATS:
            layout = _FLOATS[detail]
            return layout.unpack(self._take(layout.size))[0]
        raise CborError(f"simple value {detail} means nothing here")

    def _argument(self, detail: int) -> int:
        if detail < 24:
            return detail
        if detail not in _ARGUMENTS:
            raise CborError(f"reserved length {detail}")
        return int.from_bytes(self._take(_ARGUMENTS[detail]), "big")

    def _text(self, raw: memoryview) -> str:
        try:
            return str(raw, "utf-8")
        except UnicodeDecodeError as error:
            raise CborError(f"text is not UTF-8: {error}") from None

    def _break(self) -> bool:
        if self._at < len(self._data) and self._data[self._at] == _BREAK:
            self._at += 1
            return True
        return False

    def _take(self, count: int) -> memoryview:
        end = self._at + count
        if end > len(self._data):
            raise CutCborError(f"message of {len(self._data)} bytes ends inside an item that reaches to {end}")
        taken = self._data[self._at : end]
        self._at = end
        return taken
