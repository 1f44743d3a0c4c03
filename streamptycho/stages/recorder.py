"""The thread that takes what the instruments send and writes it to the log, and what it does when that is full."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from streamptycho.messages import RawBlock, RawRecord
from streamptycho.recording.stream_log import StreamLogError, StreamLogWriter
from streamptycho.runtime.instrument_client import InstrumentClient
from streamptycho.stages.gathering import Gathering
from streamptycho.stages.unrecorded import Unrecorded

POLL_S = 0.05
DRAIN_S = 5.0
CONNECTING_S = 5.0
LOOK_AT_DISK_S = 2.0
ALMOST_FULL_BYTES = 1 << 30

_THEN = {
    "go_on": "when it is full, frames are reconstructed and not recorded any more",
    "stop": "when it is full, the run ends",
}


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
    unrecorded
        Takes what comes after the log took no more; None to stop then. What the log holds stays as it is, and nothing
        is written to it any more.

    Attributes
    ----------
    failure
        Why the recorder stopped by itself, None while it did not.
    records, bytes
        What came.
    not_recorded
        How many of the records are not in the log.
    """

    def __init__(
        self,
        client: InstrumentClient,
        writer: StreamLogWriter,
        *,
        sync_s: float,
        connect_timeout_s: float | None,
        warn_s: float = 600.0,
        unrecorded: Unrecorded | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._writer, self._clock = client, writer, clock
        self._sync_s, self._connect_timeout_s = sync_s, connect_timeout_s
        self._warn_s, self._disk = warn_s, ""
        self._unrecorded = unrecorded
        self._not_recorded_because = ""
        self._syncing: Future[None] | None = None
        self._looked, self._bytes_then = clock(), 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self.failure: str | None = None
        self.text = "connecting"
        self.records = self.bytes = self.not_recorded = 0

    def start(self) -> None:
        """Begin to record."""
        self._thread.start()

    def stop(self) -> None:
        """Take what still waits in the sockets, close the log with an end record."""
        self._stop.set()

    def join(self) -> None:
        """Wait until the log is closed. Nothing is taken from the way around it any more."""
        if self._unrecorded is not None:
            self._unrecorded.abandon()
        self._thread.join(DRAIN_S + 5.0)

    def _run(self) -> None:
        try:
            with ThreadPoolExecutor(1, "sync") as aside:
                self._record(aside)
        except StreamLogError as error:
            self.failure = str(error)
        finally:
            self._client.close()
            try:
                self._writer.close()
            except StreamLogError as error:
                if not self._not_recorded_because:
                    self.failure = self.failure or str(error)

    def _record(self, aside: ThreadPoolExecutor) -> None:
        self._client.receive_into(self._writer)
        started = synced = taken_at = self._clock()
        gathering = Gathering()
        seen_both = False
        while not self._stop.is_set():
            size = self.bytes
            taken = self._take(POLL_S)
            now = self._clock()
            pause_s, taken_at = gathering.pause_s(taken, self.bytes - size, now - taken_at), now
            if pause_s:
                time.sleep(pause_s)
            missing = self._client.missing()
            seen_both = seen_both or missing is None
            patient = not seen_both and now - started < CONNECTING_S
            text = "recording" if missing is None else "connecting" if patient else missing
            self.text = "; ".join(filter(None, (text, self.loss or self._warning())))
            if not seen_both and self._connect_timeout_s is not None and now - started > self._connect_timeout_s:
                self.failure = missing
                break
            if now - synced > self._sync_s and self._sync(aside):
                synced = now
        deadline = self._clock() + DRAIN_S
        while self.failure is None and self._take(POLL_S) and self._clock() < deadline:
            pass
        end = RawRecord(source="recorder", kind="end", sequence=self.records + 1, received_ns=time.time_ns())
        self._append(end)

    def _take(self, timeout_s: float) -> int:
        before = self.records
        for arrived in self._client.poll(timeout_s):
            self._append(arrived)
            self.records += len(arrived) if isinstance(arrived, RawBlock) else 1
            self.bytes += len(arrived.data) if isinstance(arrived, RawBlock) else sum(map(len, arrived.parts))
        return self.records - before

    def _append(self, arrived: RawRecord | RawBlock) -> None:
        """Write to the log, or lead around it what it does not take."""
        done = 0
        if not self._not_recorded_because:
            before = self._writer.records
            try:
                if isinstance(arrived, RawBlock):
                    self._writer.append_block(arrived)
                else:
                    self._writer.append(arrived)
                return
            except StreamLogError as error:
                done = self._writer.records - before
                self._go_on_without(error)
        if self._unrecorded is None:
            return
        if not isinstance(arrived, RawBlock):
            self._unrecorded.put(arrived)
            self.not_recorded += arrived.kind != "end"
        elif done < len(arrived):
            self._unrecorded.put(arrived.some(done, len(arrived)))
            self.not_recorded += len(arrived) - done

    def _go_on_without(self, error: StreamLogError) -> None:
        if self._unrecorded is None:
            raise error
        self._not_recorded_because = str(error)
        self._client.receive_into(None)
        self._unrecorded.begin()

    @property
    def loss(self) -> str:
        """What the operator has to know of what is not in the log, empty when everything is."""
        if not self._not_recorded_because:
            return ""
        so_far = f"{self.not_recorded} messages so far, and none of this run any more even if there is room again"
        return f"NOT RECORDED any more, only reconstructed, {so_far}: {self._not_recorded_because}"

    def _sync(self, aside: ThreadPoolExecutor) -> bool:
        """Have the log brought to the disk beside receiving; whether that was begun."""
        if self._not_recorded_because or (self._syncing is not None and not self._syncing.done()):
            return False
        try:
            if self._syncing is not None:
                self._syncing.result()
        except StreamLogError as error:
            self._syncing = None
            self._go_on_without(error)
            return False
        self._syncing = aside.submit(self._writer.sync)
        return True

    def _warning(self) -> str:
        """Return what the operator has to know of the disk, before it is full."""
        now = self._clock()
        if now - self._looked >= LOOK_AT_DISK_S:
            rate = (self.bytes - self._bytes_then) / (now - self._looked)
            free = self._writer.free_bytes()
            self._looked, self._bytes_then = now, self.bytes
            warning = "" if free is None else disk_warning(free, rate, self._warn_s)
            self._disk = f"{warning} ({_THEN['stop' if self._unrecorded is None else 'go_on']})" if warning else ""
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
