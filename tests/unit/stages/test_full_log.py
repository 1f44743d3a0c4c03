"""A log that takes no more: what is in it stays, and what comes goes on or stops, as configured."""

from __future__ import annotations

import errno
import itertools
import resource
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from streamptycho.messages import RECORD_KINDS, RawBlock, RawRecord
from streamptycho.recording.stream_log import LogTail, StreamLogReader, StreamLogWriter
from streamptycho.stages import recorder as recorder_module
from streamptycho.stages.record import LogFeed, RecordStage
from streamptycho.stages.recorder import Recorder
from streamptycho.stages.unrecorded import Unrecorded, followed

MESSAGES = 600


def content(number: int) -> bytes:
    return bytes([number % 251]) * (50 + number % 700)


class Instrument:
    """Gives numbered messages in blocks, some of them by themselves, where it is told to put them."""

    detector_connected = True

    def __init__(self, messages: int, at_once: int = 7) -> None:
        self._left = iter(range(1, messages + 1))
        self._at_once = at_once
        self._lender = None
        self.empty = threading.Event()

    def receive_into(self, lender) -> None:
        self._lender = lender

    def poll(self, timeout_s: float):
        numbers = list(itertools.islice(self._left, self._at_once))
        if not numbers:
            self.empty.set()
            time.sleep(0.001)
        elif numbers[0] % 3 == 0:
            for number in numbers:
                yield RawRecord(
                    source="positions", kind="data", sequence=number, received_ns=number, parts=(content(number),)
                )
        else:
            yield self._block(numbers)

    def _block(self, numbers: list[int]) -> RawBlock:
        lender = self._lender
        head = 0 if lender is None else lender.head_bytes + lender.part_bytes
        sizes = np.array([len(content(number)) for number in numbers], np.int64)
        ends = np.cumsum(sizes + head)
        room = np.zeros(int(ends[-1]), np.uint8) if lender is None else lender.room(int(ends[-1]))
        spans = np.stack([ends - sizes, ends], axis=1)
        for number, (begin, end) in zip(numbers, spans.tolist(), strict=True):
            room[begin:end] = np.frombuffer(content(number), np.uint8)
        return RawBlock(
            source=np.zeros(len(numbers), np.uint8),
            kind=np.full(len(numbers), RECORD_KINDS.index("data"), np.uint8),
            sequence=np.array(numbers, np.int64),
            received_ns=np.array(numbers, np.int64),
            first_part=np.arange(len(numbers) + 1),
            spans=spans,
            data=room[: int(ends[-1])],
        )

    def missing(self) -> None:
        return None

    def close(self) -> None:
        pass


class Full:
    """A file on a disk that takes `room` bytes and no more."""

    def __init__(self, file, room: int) -> None:
        self._file, self._room = file, room

    def write(self, data) -> int:
        if not self._room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._file.write(memoryview(data)[: self._room])
        self._room -= written
        return written

    def __getattr__(self, name):
        return getattr(self._file, name)


def numbers_of(message) -> list[tuple[int, bytes]]:
    records = message.records() if isinstance(message, RawBlock) else [message]
    return [(record.sequence, b"".join(record.parts)) for record in records if record.kind == "data"]


def run(path, room, unrecorded, *, behind_s=0.0):
    """Record all messages on a disk with some room; return (recorder, stage, what the pipeline got)."""
    tail, instrument = LogTail(1 << 14, 3), Instrument(MESSAGES)
    writer = StreamLogWriter(path, configuration="a: 1", tail=tail)
    writer._file = Full(writer._file, room)
    recorder = Recorder(instrument, writer, sync_s=0.01, connect_timeout_s=None, unrecorded=unrecorded)
    stage, got = RecordStage(recorder), []
    recorder.start()
    with StreamLogReader(path, tail) as log:
        feed = LogFeed(followed(log.follow_blocks(), unrecorded or Unrecorded()))
        deadline = time.monotonic() + 30
        while not stage.finished and time.monotonic() < deadline:
            if recorder.failure is not None:
                feed.stop()
            if instrument.empty.is_set():
                recorder.stop()
            message = feed.get(0.01)
            if message is not None:
                for out in stage.handle(message, 0):
                    got += numbers_of(out)
                time.sleep(behind_s)
    recorder.join()
    return recorder, stage, got


@pytest.mark.parametrize("room", [0, 1, 5000, 40_000, 100_000])
@pytest.mark.parametrize("behind_s", [0.0, 0.002])
def test_everything_goes_on_once_and_in_order_when_the_log_is_full(tmp_path, room, behind_s):
    recorder, stage, got = run(tmp_path / "a.log", room, Unrecorded(30_000), behind_s=behind_s)
    assert got == [(number, content(number)) for number in range(1, MESSAGES + 1)]
    assert recorder.failure is None
    with StreamLogReader(tmp_path / "a.log") as log:
        kept = [record.sequence for record in log if record.kind == "data"]
        assert (log.torn_bytes, log.corrupt_records) == (0, 0)
    assert kept == list(range(1, len(kept) + 1))
    assert recorder.not_recorded == MESSAGES - len(kept) > 0
    status = stage.status(0)
    assert status.state == "finished"
    assert status.counters["not_recorded"] == recorder.not_recorded
    assert "NOT RECORDED" in status.text
    assert "free space" in status.text


def test_a_log_with_room_takes_all(tmp_path):
    recorder, _, got = run(tmp_path / "a.log", 1 << 30, Unrecorded())
    assert len(got) == MESSAGES
    assert recorder.not_recorded == 0
    with StreamLogReader(tmp_path / "a.log") as log:
        assert log.summary().complete


def test_a_run_stops_with_what_it_has_when_it_shall(tmp_path):
    recorder, stage, got = run(tmp_path / "a.log", 40_000, None)
    assert recorder.failure is not None
    assert "no room for record" in recorder.failure
    assert got == [(number, content(number)) for number in range(1, len(got) + 1)]
    with StreamLogReader(tmp_path / "a.log") as log:
        kept = [record.sequence for record in log if record.kind == "data"]
    assert [number for number, _ in got] == kept[: len(got)]
    assert 0 < len(kept) < MESSAGES
    assert stage.status(0).state == "failed"


def test_what_waits_beside_the_log_is_bounded():
    unrecorded = Unrecorded(2000)
    record = RawRecord(source="detector", kind="data", sequence=0, received_ns=0, parts=(b"x" * 900,))
    unrecorded.put(record)
    unrecorded.put(record)
    blocked = threading.Thread(target=unrecorded.put, args=(record,), daemon=True)
    blocked.start()
    blocked.join(0.1)
    assert blocked.is_alive()
    assert unrecorded.take() is record
    assert unrecorded.take() is record
    blocked.join(5)
    assert not blocked.is_alive()
    unrecorded.put(record)
    blocked = threading.Thread(target=unrecorded.put, args=(record,), daemon=True)
    blocked.start()
    blocked.join(0.1)
    assert blocked.is_alive()
    unrecorded.abandon()
    blocked.join(5)
    assert not blocked.is_alive()


def test_the_operator_is_told_before_what_will_happen(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder_module, "LOOK_AT_DISK_S", 0.0)
    monkeypatch.setattr(StreamLogWriter, "free_bytes", lambda self: 10 << 20)
    for unrecorded, then in ((Unrecorded(), "not recorded any more"), (None, "the run ends")):
        instrument = Instrument(MESSAGES)
        log = StreamLogWriter(tmp_path / f"{then}.log")
        recorder = Recorder(instrument, log, sync_s=1.0, connect_timeout_s=None, unrecorded=unrecorded)
        recorder.start()
        assert instrument.empty.wait(20)
        deadline = time.monotonic() + 20
        while "0.0 GB are free" not in recorder.text and time.monotonic() < deadline:
            time.sleep(0.01)
        assert then in recorder.text
        recorder.stop()
        recorder.join()


LIMITED = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_full_log as t
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
path = Path(sys.argv[1])
instrument, unrecorded = t.Instrument(t.MESSAGES, at_once=500), t.Unrecorded()
writer = t.StreamLogWriter(path, tail=(tail := t.LogTail()))
recorder = t.Recorder(instrument, writer, sync_s=0.01, connect_timeout_s=None, unrecorded=unrecorded)
recorder.start()
got, stage = [], t.RecordStage(recorder)
feed = t.LogFeed(t.followed(t.StreamLogReader(path, tail).follow_blocks(), unrecorded))
while not stage.finished:
    if instrument.empty.is_set():
        recorder.stop()
    message = feed.get(0.01)
    if message is not None:
        got += [n for out in stage.handle(message, 0) for n, _ in t.numbers_of(out)]
recorder.join()
assert got == list(range(1, t.MESSAGES + 1)), len(got)
kept = [r.sequence for r in t.StreamLogReader(path)]
assert kept == list(range(1, len(kept) + 1))
print(len(kept), recorder.not_recorded, path.stat().st_size, recorder.failure)
"""


def test_a_real_limit_of_the_file_within_a_large_direct_write(tmp_path):
    limit = 150_001
    code = LIMITED.format(tests=str(tmp_path.__class__(__file__).parent), limit=limit)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.log")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    kept, not_recorded, size, failure = done.stdout.split()
    assert (int(kept) + int(not_recorded), failure) == (MESSAGES, "None")
    assert int(kept) > 0
    assert int(size) <= limit
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != limit
