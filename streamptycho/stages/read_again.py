"""What lets a service that was started again give every projection whole, and none twice: the log is the truth."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import numpy as np

from streamptycho.messages import Message, ProjectionEnd, RawBlock, RawRecord
from streamptycho.runtime.ports import Sink, Source

PATIENCE_S = 5.0


class LogFirst:
    """A source that gives what a log holds before the first message of another source, then the other source.

    What was on its way to a service that died is lost to the sockets, but the log has it. Records are told apart by
    their sequence numbers, so that none comes twice.

    Parameters
    ----------
    log
        Records of the log from its beginning; None where a growing log has no more for now.
    following
        The records that come now, all of which are in the log, or will be within moments.
    patience_s
        How long the log may lack what comes before the first message of the other source. After that it is full or
        damaged there, and what it lacks is left out.
    """

    def __init__(
        self,
        log: Iterator[RawRecord | RawBlock | None],
        following: Source,
        *,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log: Iterator[RawRecord | RawBlock | None] | None = log
        self._following, self._patience_s, self._clock = following, patience_s, clock
        self._held: Message | None = None
        self._reached = -1
        self._lacking_since: float | None = None

    def get(self, timeout_s: float) -> Message | None:
        """Return the next record or block of records, None when none came within the time."""
        while self._log is not None:
            if self._held is None:
                self._held = self._following.get(0)
            first = math.inf if self._held is None else _first_sequence(self._held)
            if self._reached + 1 >= first:
                break
            records = next(self._log, _OVER)
            if isinstance(records, _Over):
                break
            if records is None:
                if self._held is None:
                    self._held = self._following.get(timeout_s)
                    return None
                if self._lacks_for_good():
                    break
                time.sleep(min(timeout_s, 0.01))
                return None
            self._lacking_since = None
            before = _before(records, first)
            if before is not None:
                self._reached = _last_sequence(before)
                return before
            break
        self._log = None
        held, self._held = self._held, None
        return held if held is not None else self._following.get(timeout_s)

    def close(self) -> None:
        """Close the other source; the log belongs to whoever opened it."""
        self._following.close()

    def _lacks_for_good(self) -> bool:
        now = self._clock()
        if self._lacking_since is None:
            self._lacking_since = now
        return now - self._lacking_since > self._patience_s


class _Over:
    """What stands for the end of an iterator."""


_OVER = _Over()


def _first_sequence(message: Message) -> float:
    """Return where a message belongs; the mark that nothing follows belongs behind everything."""
    if isinstance(message, RawBlock):
        return int(message.sequence[0])
    return message.sequence if isinstance(message, RawRecord) and message.kind != "end" else math.inf


def _last_sequence(records: RawRecord | RawBlock) -> int:
    return int(records.sequence[-1]) if isinstance(records, RawBlock) else records.sequence


def _before(records: RawRecord | RawBlock, first: float) -> RawRecord | RawBlock | None:
    """Return the records with a sequence number under `first`, None if there are none."""
    if isinstance(records, RawRecord):
        return records if records.sequence < first else None
    count = int(np.searchsorted(records.sequence, first)) if math.isfinite(first) else len(records)
    return None if count == 0 else records if count == len(records) else records.some(0, count)


class WithoutProjections:
    """A sink that leaves out all messages of some projections: those that have results already.

    Parameters
    ----------
    sink
        Takes everything else.
    left_out
        Numbers of the projections.
    """

    def __init__(self, sink: Sink, left_out: frozenset[int]) -> None:
        self._sink, self._left_out = sink, left_out

    def put(self, message: Message, timeout_s: float) -> bool:
        """Send a message, or take one of these projections as sent."""
        return getattr(message, "projection", None) in self._left_out or self._sink.put(message, timeout_s)

    def close(self) -> None:
        """Close the sink."""
        self._sink.close()


class EachOnce:
    """A source that leaves out projections which another source gives again, although they were there to their end.

    One that was broken off in its middle passes again from its beginning.

    Parameters
    ----------
    source
        Where projections come from.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._ended: set[int] = set()

    def get(self, timeout_s: float) -> Message | None:
        """Return the next message, None when none came within the time."""
        while (message := self._source.get(timeout_s)) is not None:
            number = getattr(message, "projection", None)
            if number not in self._ended:
                if isinstance(message, ProjectionEnd):
                    self._ended.add(message.projection)
                return message
        return None

    def close(self) -> None:
        """Close the source."""
        self._source.close()
