"""The way around a log that takes no more: from the recorder to the pipeline, in memory and bounded."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from streamptycho.messages import RawBlock, RawRecord

MOST_BYTES = 256 << 20
RECORD_OVERHEAD_BYTES = 200


class Unrecorded:
    """Records that are in no log. One thread puts, one takes; who puts too fast waits.

    Parameters
    ----------
    most_bytes
        How much may wait.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._waiting: deque[RawRecord | RawBlock] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._begun = False
        self._abandoned = False

    @property
    def begun(self) -> bool:
        """Whether the log takes no more: what is in it by now is all that it will hold."""
        with self._changed:
            return self._begun

    def begin(self) -> None:
        """Say that the log takes no more."""
        with self._changed:
            self._begun = True

    def put(self, message: RawRecord | RawBlock) -> None:
        """Hand on what came, once there is room. Of a block everything is copied."""
        kept = _copied(message) if isinstance(message, RawBlock) else message
        with self._changed:
            self._changed.wait_for(lambda: self._bytes < self._most_bytes or self._abandoned)
            self._waiting.append(kept)
            self._bytes += _size(kept)

    def take(self) -> RawRecord | RawBlock | None:
        """Return what was put first, None when nothing waits."""
        with self._changed:
            if not self._waiting:
                return None
            message = self._waiting.popleft()
            self._bytes -= _size(message)
            self._changed.notify_all()
            return message

    def abandon(self) -> None:
        """Let nobody wait any more: nothing will be taken."""
        with self._changed:
            self._abandoned = True
            self._waiting.clear()
            self._bytes = 0
            self._changed.notify_all()


def followed(
    log: Iterator[RawRecord | RawBlock | None], unrecorded: Unrecorded
) -> Iterator[RawRecord | RawBlock | None]:
    """Yield what a growing log holds and, once it takes no more, what goes around it. None where nothing is there yet.

    Ends behind the record of kind "end".
    """
    while True:
        # Asked before the log is: what came to it until then is what it will hold.
        full = unrecorded.begun
        message = next(log, _END)
        if isinstance(message, _End):
            return
        if message is None and full:
            break
        yield message
    while True:
        message = unrecorded.take()
        yield message
        if isinstance(message, RawRecord) and message.kind == "end":
            return


class _End:
    """What stands for the end of an iterator."""


_END = _End()


def _copied(block: RawBlock) -> RawBlock:
    return replace(
        block,
        received_ns=block.received_ns.copy(),
        first_part=block.first_part.copy(),
        spans=block.spans.copy(),
        data=block.data.copy(),
    )


def _size(message: RawRecord | RawBlock) -> int:
    if isinstance(message, RawBlock):
        return len(message.data) + RECORD_OVERHEAD_BYTES * len(message)
    return sum(map(len, message.parts)) + RECORD_OVERHEAD_BYTES
