"""Record: what the instruments send goes to the stream log, and from the log to the pipeline.

The log stands between, so that a slow reconstruction falls behind and catches up, and never loses a frame. A replay
is the same service reading an old log.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from streamptycho.messages import RECORD_KINDS, Message, RawBlock, RawRecord, ServiceStatus
from streamptycho.recording.stream_log import StreamLogError, StreamLogReader, StreamLogWriter
from streamptycho.runtime.instrument_client import InstrumentClient
from streamptycho.stages.rates import Rate

POLL_S = 0.05
DRAIN_S = 5.0
AT_END_S = 0.002
CONNECTING_S = 5.0
LOOK_AT_DISK_S = 2.0
ALMOST_FULL_BYTES = 1 << 30


class Recorder:
    """Writes everything the instruments send to the log, in a thread of its own.

    Parameters
    ----------
    client
        Connection to both instruments.
    writer
        The log.
    sync_s
        Longest time that data stay in memory.
    connect_timeout_s
        How long the instruments may take to answer, None for ever.
    warn_s
        From how long before the disk is full on the operator is told.
    """

    def __init__(
        self,
        client: InstrumentClient,
        writer: StreamLogWriter,
        *,
        sync_s: float,
        connect_timeout_s: float | None,
        warn_s: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._writer, self._clock = client, writer, clock
        self._sync_s, self._connect_timeout_s = sync_s, connect_timeout_s
        self._warn_s, self._disk = warn_s, ""
        self._looked, self._bytes_then = clock(), 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self.failure: str | None = None
        self.text = "connecting"
        self.records = self.bytes = 0

    def start(self) -> None:
        """Begin to record."""
        self._thread.start()

    def stop(self) -> None:
        """Take what still waits in the sockets, close the log with an end record."""
        self._stop.set()

    def join(self) -> None:
        """Wait until the log is closed."""
        self._thread.join(DRAIN_S + 5.0)

    def _run(self) -> None:
        try:
            self._record()
        except StreamLogError as error:
            self.failure = str(error)
        finally:
            self._client.close()
            try:
                self._writer.close()
            except StreamLogError as error:
                self.failure = self.failure or str(error)

    def _record(self) -> None:
        started = synced = self._clock()
        seen_both = False
        while not self._stop.is_set():
            taken = self._take(POLL_S)
            missing = self._client.missing()
            seen_both = seen_both or missing is None
            now = self._clock()
            patient = not seen_both and now - started < CONNECTING_S
            text = "recording" if missing is None else "connecting" if patient else missing
            warning = self._warning()
            self.text = f"{text}; {warning}" if warning else text
            if not seen_both and self._connect_timeout_s is not None and now - started > self._connect_timeout_s:
                self.failure = missing
                break
            if taken:
                self._writer.flush()
            if now - synced > self._sync_s:
                self._writer.sync()
                synced = now
        deadline = self._clock() + DRAIN_S
        while self.failure is None and self._take(POLL_S) and self._clock() < deadline:
            pass
        self._writer.append(
            RawRecord(source="recorder", kind="end", sequence=self.records + 1, received_ns=time.time_ns())
        )

    def _take(self, timeout_s: float) -> int:
        before = self.records
        for arrived in self._client.poll(timeout_s):
            if isinstance(arrived, RawBlock):
                self._writer.append_block(arrived)
                self.records += len(arrived)
                self.bytes += len(arrived.data)
            else:
                self._writer.append(arrived)
                self.records += 1
                self.bytes += sum(map(len, arrived.parts))
        return self.records - before

    def _warning(self) -> str:
        """Return what the operator has to know of the disk, before it is full."""
        now = self._clock()
        if now - self._looked >= LOOK_AT_DISK_S:
            rate = (self.bytes - self._bytes_then) / (now - self._looked)
            free = self._writer.free_bytes()
            self._looked, self._bytes_then = now, self.bytes
            self._disk = "" if free is None else disk_warning(free, rate, self._warn_s)
        return self._disk


def disk_warning(free_bytes: int, bytes_per_s: float, warn_s: float) -> str:
    """Return in words how soon a disk is full at this rate, empty while that is far."""
    left_s = free_bytes / bytes_per_s if bytes_per_s > 0 else math.inf
    if left_s > warn_s and free_bytes > ALMOST_FULL_BYTES:
        return ""
    room = f"{free_bytes / 1e9:.1f} GB are free for the log"
    if math.isinf(left_s):
        return f"the disk is almost full: {room}"
    when = f"{left_s / 60:.0f} min" if left_s >= 120 else f"{left_s:.0f} s"
    return f"the disk is full in {when} at {bytes_per_s / 1e6:.0f} MB/s, {room}: free space or stop the scan"


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
        first = self._pending.record(0) if isinstance(self._pending, RawBlock) else self._pending
        wait_s = self._due(first) - self._clock()
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

    def _due(self, record: RawRecord) -> float:
        if self._speed is None or record.kind == "configuration":
            return self._clock()
        if self._first_ns is None:
            self._first_ns, self._began = record.received_ns, self._clock()
        return self._began + (record.received_ns - self._first_ns) * 1e-9 / self._speed

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
            text = (log.damage if log is not None else "") or "end of the stream"
        return ServiceStatus(
            service=self.name,
            state="failed" if failed else "finished" if self.finished else "running" if self._handed else "waiting",
            text=text,
            counters={
                "records": recorded,
                "handed_on": self._handed,
                "bytes": recorder.bytes if recorder is not None else 0,
                "torn_bytes": log.torn_bytes if log is not None else 0,
                "corrupt_records": log.corrupt_records if log is not None else 0,
            },
            rates={"records_per_s": self._rate.per_s(now_ns)},
            queue=waiting,
        )
