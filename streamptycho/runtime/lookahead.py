"""Records computed ahead of the time when they are due, by a thread of their own."""

from __future__ import annotations

import collections
import threading
from collections.abc import Iterable

from streamptycho.messages import RawRecord

LOOKAHEAD_BYTES = 64 << 20
RECORD_OVERHEAD_BYTES = 200


class Lookahead:
    """A queue of records that is bounded in bytes. One thread fills, one takes."""

    def __init__(self) -> None:
        self._records: collections.deque[RawRecord] = collections.deque()
        self._bytes = 0
        self._open = True
        self._abandoned = False
        self._changed = threading.Condition()

    @property
    def exhausted(self) -> bool:
        """Whether everything was taken and nothing follows."""
        with self._changed:
            return not self._open and not self._records

    def fill(self, records: Iterable[RawRecord]) -> None:
        """Put records until there are no more or nobody wants them."""
        try:
            for record in records:
                with self._changed:
                    self._changed.wait_for(lambda: self._bytes < LOOKAHEAD_BYTES or self._abandoned)
                    if self._abandoned:
                        return
                    self._records.append(record)
                    self._bytes += _size(record)
                    self._changed.notify()
        finally:
            with self._changed:
                self._open = False
                self._changed.notify()

    def take(self, timeout_s: float) -> RawRecord | None:
        """Return the next record, None when there is none within the time or at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._records or not self._open, timeout_s)
            if not self._records:
                return None
            record = self._records.popleft()
            self._bytes -= _size(record)
            self._changed.notify()
            return record

    def abandon(self) -> None:
        """Let the filling thread end."""
        with self._changed:
            self._abandoned = True
            self._changed.notify()


def _size(record: RawRecord) -> int:
    return sum(map(len, record.parts)) + RECORD_OVERHEAD_BYTES
