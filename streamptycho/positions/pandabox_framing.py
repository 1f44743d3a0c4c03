"""Cuts the byte stream of a PandABox data port into whole, bounded pieces and finds the way back after garbage."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

MAX_GREETING_BYTES = 1024
MAX_HEADER_BYTES = 256 * 1024
MAX_SAMPLE_BYTES = 64 * 1024
MAX_FRAME_BYTES = 8 << 20
_MAX_END_LINE_BYTES = 256
_HEADER_BEGIN = b"<header>\n"
_HEADER_END = b"</header>\n\n"


@dataclass(frozen=True)
class Piece:
    """A whole piece of the stream, or a description of what had to be thrown away (`kind` "garbage")."""

    kind: Literal["header", "frame", "end", "garbage"]
    data: bytes
    detail: str = ""


class PandaFraming:
    """State of one connection: greeting, then headers, frames and end lines.

    The buffer never holds more than one piece of the allowed size. After anything unexpected the stream is skipped to
    the next header, because a position whose row number is uncertain is worse than none.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._state: Literal["greeting", "hunting", "header", "data"] = "greeting"
        self._searched = 0
        self._garbage_reported = False

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Take bytes and yield the pieces they complete."""
        view = memoryview(data)
        for begin in range(0, len(view), MAX_FRAME_BYTES):
            self._buffer += view[begin : begin + MAX_FRAME_BYTES]
            yield from self._pieces()

    @property
    def unfinished(self) -> str:
        """What the bytes so far break off in, empty if they end where they may."""
        if self._state == "data" or self._garbage_reported or not bytes(self._buffer).strip():
            return ""
        return {"greeting": "the answer to the capture option", "header": "a header"}.get(self._state, "something else")

    def reject(self) -> None:
        """Skip to the next header, because the content of the last piece is not what it should be."""
        self._state = "hunting"
        self._searched = 0
        self._garbage_reported = True

    def _pieces(self) -> Iterator[Piece]:
        while True:
            before = (self._state, len(self._buffer))
            piece = getattr(self, f"_{self._state}")()
            if piece is not None:
                yield piece
            if (self._state, len(self._buffer)) == before:
                return

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._searched = 0
        return taken

    def _find(self, pattern: bytes) -> int:
        """Return where the pattern begins, searching each byte once however the stream was cut."""
        at = self._buffer.find(pattern, max(0, self._searched - len(pattern)))
        self._searched = len(self._buffer)
        return at

    def _garbage(self, detail: str) -> Piece | None:
        self._state = "hunting"
        self._searched = 0
        if self._garbage_reported:
            return None
        self._garbage_reported = True
        return Piece("garbage", b"", detail)

    def _greeting(self) -> Piece | None:
        at = self._find(b"\n")
        if at < 0:
            if len(self._buffer) > MAX_GREETING_BYTES:
                return self._garbage("no answer line to the capture option")
            return None
        line = bytes(self._buffer[:at])
        if line == b"OK":
            self._take(at + 1)
            self._state = "hunting"
            return None
        shown = line[:80].decode("ascii", "replace")
        return self._garbage(f"expected the answer OK to the capture option, got {shown!r}")

    def _hunting(self) -> Piece | None:
        at = self._find(_HEADER_BEGIN)
        if at < 0:
            skipped = self._take(max(0, len(self._buffer) - len(_HEADER_BEGIN)))
            self._searched = len(self._buffer)
        else:
            skipped = self._take(at)
            self._state = "header"
        piece = None
        if skipped.strip():
            piece = self._garbage("bytes that belong to no header, frame or end line")
            self._state = "header" if at >= 0 else "hunting"
        if at >= 0:
            self._garbage_reported = False
        return piece

    def _header(self) -> Piece | None:
        at = self._find(_HEADER_END)
        size = at + len(_HEADER_END) if at >= 0 else len(self._buffer)
        if size > MAX_HEADER_BYTES:
            self._take(len(_HEADER_BEGIN))
            return self._garbage(f"header of more than {MAX_HEADER_BYTES} bytes")
        if at < 0:
            return None
        self._state = "data"
        return Piece("header", self._take(size))

    def _data(self) -> Piece | None:
        if len(self._buffer) < 8:
            return None
        tag = bytes(self._buffer[:4])
        if tag == b"BIN ":
            (size,) = struct.unpack_from("<I", self._buffer, 4)
            if not 8 <= size <= MAX_FRAME_BYTES:
                return self._garbage(f"frame that declares {size} bytes, allowed are 8 to {MAX_FRAME_BYTES}")
            return Piece("frame", self._take(size)) if len(self._buffer) >= size else None
        if tag != b"END ":
            return self._garbage(f"expected a frame or an end line, got {tag!r}")
        at = self._find(b"\n")
        if at > _MAX_END_LINE_BYTES or (at < 0 and len(self._buffer) > _MAX_END_LINE_BYTES):
            return self._garbage("end line without an end")
        if at < 0:
            return None
        self._state = "hunting"
        return Piece("end", self._take(at + 1))
