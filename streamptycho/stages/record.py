"""Record: what the instruments sent goes from the stream log to the pipeline.

The log stands between, so that a slow reconstruction falls behind and catches up, and never loses a frame. A replay
is the same service reading an old log.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from streamptycho.messages import RECORD_KINDS, Message, RawBlock, RawRecord, ServiceStatus
from streamptycho.recording.stream_log import StreamLogReader
from streamptycho.stages.rates import Rate
from streamptycho.stages.recorder import Recorder

AT_END_S = 0.02


class LogFeed:
    """A source that reads a log, at the speed of the recording, faster, or as fast as it is taken.

    Parameters
    ----------
    records
        Records of a log; None where a growing log has no more for now.
    speed
        1 for the recorded speed, N for N times faster, None for as fast as possible.
    """

    def __init__(
        self,
        records: Iterable[RawRecord | RawBlock | None],
        *,
        speed: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._records = iter(records)
        self._speed, self._clock, self._sleep = speed, clock, sleep
        self._pending: RawRecord | RawBlock | None = None
        self._first_ns: int | None = None
        self._began = 0.0
        self._last_ns = 0
        self._stop = threading.Event()

    def stop(self) -> None:
        """Let the next record be the end."""
        self._stop.set()

    def get(self, timeout_s: float) -> Message | None:
        """Return the next record when it is due, None when none is within the time; after the last one an end."""
        if self._stop.is_set():
            return self._ending()
        if self._pending is None:
            try:
                self._pending = next(self._records)
            except StopIteration:
                return self._ending()
            if self._pending is None:
                self._sleep(min(timeout_s, AT_END_S))
                return None
        wait_s = self._due(self._pending) - self._clock()
        if wait_s > timeout_s:
            self._sleep(timeout_s)
            return None
        if wait_s > 0:
            self._sleep(wait_s)
        record, self._pending = self._pending, None
        if isinstance(record, RawBlock):
            count = self._count_due(record)
            if count < len(record):
                self._pending = record.some(count, len(record))
                record = record.some(0, count)
            self._last_ns = int(record.received_ns[-1])
        else:
            self._last_ns = record.received_ns
        return record

    def close(self) -> None:
        """Nothing to release: the log belongs to whoever opened it."""

    def _due(self, first: RawRecord | RawBlock) -> float:
        """Return when the record, or the first of a block, is due."""
        if isinstance(first, RawBlock):
            kind, received_ns = RECORD_KINDS[first.kind[0]], int(first.received_ns[0])
        else:
            kind, received_ns = first.kind, first.received_ns
        if self._speed is None or kind == "configuration":
            return self._clock()
        if self._first_ns is None:
            self._first_ns, self._began = received_ns, self._clock()
        return self._began + (received_ns - self._first_ns) * 1e-9 / self._speed

    def _count_due(self, block: RawBlock) -> int:
        """Return how many of the first records of a block are due, one at least."""
        if self._speed is None:
            return len(block)
        if self._first_ns is None:
            return 1
        reached_ns = self._first_ns + (self._clock() - self._began) * 1e9 * self._speed
        later = np.flatnonzero(block.received_ns > reached_ns)
        return max(1, int(later[0])) if len(later) else len(block)

    def _ending(self) -> RawRecord:
        return RawRecord(source="recorder", kind="end", sequence=0, received_ns=self._last_ns)


class RecordStage:
    """Hands records on and counts them.

    Parameters
    ----------
    recorder
        What fills the log at the same time, None in a replay.
    log
        The log that is replayed, None while one is recorded.
    """

    name = "record"
    busy = False
    accepts = True

    def __init__(self, recorder: Recorder | None = None, log: StreamLogReader | None = None) -> None:
        self._recorder, self._log = recorder, log
        self._handed = 0
        self._rate = Rate()
        self.finished = False

    def handle(self, message: Message, now_ns: int) -> Iterator[Message]:
        """Hand a record or a block of them on."""
        if not isinstance(message, RawRecord | RawBlock):
            return
        count = len(message) if isinstance(message, RawBlock) else 1
        self._handed += count
        self._rate.add(count, now_ns)
        kind = RECORD_KINDS[message.kind[-1]] if isinstance(message, RawBlock) else message.kind
        self.finished = kind == "end"
        yield message

    def work(self, now_ns: int) -> Iterator[Message]:
        """Nothing to do between records."""
        return iter(())

    def stop(self, now_ns: int) -> Iterator[Message]:
        """Tell the pipeline that nothing follows."""
        yield RawRecord(source="recorder", kind="end", sequence=0, received_ns=now_ns)

    def status(self, now_ns: int) -> ServiceStatus:
        """Return how much was recorded and how much of it waits in the log."""
        recorder = self._recorder
        recorded = recorder.records if recorder is not None else self._handed
        waiting = max(0, recorded - self._handed)
        log = self._log
        text = recorder.text if recorder is not None else "replaying"
        failed = recorder is not None and recorder.failure is not None
        if recorder is not None and recorder.failure is not None:
            text = recorder.failure
        elif self.finished:
            damage = log.damage if log is not None else ""
            loss = recorder.loss if recorder is not None else ""
            text = "; ".join(filter(None, (damage or "end of the stream", loss)))
        return ServiceStatus(
            service=self.name,
            state="failed" if failed else "finished" if self.finished else "running" if self._handed else "waiting",
            text=text,
            counters={
                "records": recorded,
                "handed_on": self._handed,
                "bytes": recorder.bytes if recorder is not None else 0,
                "not_recorded": recorder.not_recorded if recorder is not None else 0,
                "torn_bytes": log.torn_bytes if log is not None else 0,
                "corrupt_records": log.corrupt_records if log is not None else 0,
            },
            rates={"records_per_s": self._rate.per_s(now_ns)},
            queue=waiting,
        )
