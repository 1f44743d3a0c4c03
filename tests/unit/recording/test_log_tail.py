"""The newest bytes of a log in memory: what a reader gets is what the log holds, however far behind it is."""

import errno
import os
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.memory import ReusedMemory
from streamptycho.messages import RECORD_KINDS, RawBlock, RawRecord
from streamptycho.recording.stream_log import DiskFullError, LogTail, StreamLogReader, StreamLogWriter

SLAB_BYTES = 4096


def record(number, size):
    content = np.random.default_rng(number).integers(0, 256, size, np.uint8).tobytes()
    parts = (content[: size // 3], content[size // 3 :])
    return RawRecord(source="detector", kind="data", sequence=number, received_ns=number, parts=parts)


def block(records):
    sizes = [len(part) for r in records for part in r.parts]
    ends = np.cumsum([0, *sizes]).astype(np.int64)
    return RawBlock(
        source=np.zeros(len(records), np.uint8),
        kind=np.full(len(records), RECORD_KINDS.index("data"), np.uint8),
        sequence=np.array([r.sequence for r in records], np.int64),
        received_ns=np.array([r.received_ns for r in records], np.int64),
        first_part=np.arange(0, 2 * len(records) + 1, 2),
        spans=np.stack([ends[:-1], ends[1:]], axis=1),
        data=np.frombuffer(b"".join(part for r in records for part in r.parts), np.uint8),
    )


def contents(records):
    return [(r.sequence, r.received_ns, r.parts) for r in records if r.kind != "end"]


def take_all(followed):
    """Return what is there now, as it was given."""
    taken = []
    while (message := next(followed, None)) is not None:
        taken.append(message)
    return taken


def single(messages):
    return [r for m in messages for r in (m.records() if isinstance(m, RawBlock) else (m,))]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.booleans(), st.booleans(), st.lists(st.integers(3, 3 * SLAB_BYTES // 2), min_size=1, max_size=6)),
        max_size=25,
    ),
    st.integers(1, 4),
    st.sampled_from([None, ReusedMemory()]),
)
def test_a_reader_gets_all_records_once_and_in_order_however_it_lags(tmp_path_factory, steps, slabs, memory):
    path = tmp_path_factory.mktemp("tail") / "log"
    tail, sent, taken = LogTail(SLAB_BYTES, slabs), [], []
    with StreamLogWriter(path, tail=tail) as writer, StreamLogReader(path, tail, memory) as reader:
        followed = reader.follow_blocks()
        for in_block, read_now, sizes in steps:
            records = [record(len(sent) + k, size) for k, size in enumerate(sizes)]
            sent += records
            if in_block:
                writer.append_block(block(records))
            else:
                for one in records:
                    writer.append(one)
            if read_now:
                taken += take_all(followed)
            assert tail.held_bytes <= (slabs + 3) * SLAB_BYTES
        writer.append(RawRecord(source="recorder", kind="end", sequence=0, received_ns=0))
        taken += take_all(followed)
        # What was handed out early must not have been written over since.
        assert contents(single(taken)) == contents(sent)
        with StreamLogReader(path) as replay:
            assert contents(replay) == contents(sent)


def test_a_reader_that_keeps_up_does_not_touch_the_file(tmp_path):
    path, tail = tmp_path / "log", LogTail(SLAB_BYTES, 4)
    with StreamLogWriter(path, tail=tail) as writer, StreamLogReader(path, tail) as reader:
        followed = reader.follow_blocks()
        writer.append_block(block([record(k, 100) for k in range(10)]))
        with path.open("r+b") as file:
            file.seek(12)
            file.write(b"\0" * (path.stat().st_size - 12))
        assert [r.sequence for r in single([next(followed)])] == list(range(10))


def test_a_reader_that_is_too_far_behind_reads_the_file(tmp_path):
    path, tail = tmp_path / "log", LogTail(SLAB_BYTES, 2)
    with StreamLogWriter(path, tail=tail) as writer, StreamLogReader(path, tail) as reader:
        followed = reader.follow_blocks()
        for first in range(0, 400, 10):
            writer.append_block(block([record(first + k, 100) for k in range(10)]))
        assert tail.bytes_at(12) is None
        assert [r.sequence for r in single(take_all(followed))] == list(range(400))


@pytest.mark.parametrize("refused", ["not", "opening", "reading"])
def test_what_was_written_past_the_page_cache_is_read_back_so_where_the_file_system_does_it(
    tmp_path, monkeypatch, refused
):
    path, tail, size = tmp_path / "log", LogTail(1 << 20, 2), 300_001
    if refused == "reading":
        monkeypatch.setattr(os, "preadv", Mock(side_effect=OSError(errno.EINVAL, "refused")))
    with StreamLogWriter(path, tail=tail) as writer:
        if refused == "opening":
            monkeypatch.delattr(os, "O_DIRECT")
        with StreamLogReader(path, tail, ReusedMemory()) as reader:
            followed, taken, sent = reader.follow_blocks(), [], []
            for first in range(0, 90, 3):
                sent += [record(first + k, size) for k in range(3)]
                writer.append_block(block(sent[-3:]))
                if first in (0, 60):
                    taken += take_all(followed)
            writer.append(RawRecord(source="recorder", kind="end", sequence=0, received_ns=0))
            taken += take_all(followed)
    assert contents(single(taken)) == contents(sent)


def test_damage_is_passed_when_the_page_cache_is(tmp_path):
    path, tail = tmp_path / "log", LogTail(1 << 20, 1)
    with StreamLogWriter(path, tail=tail) as writer, StreamLogReader(path, tail, ReusedMemory()) as reader:
        sent = [record(k, 200_000) for k in range(60)]
        for first in range(0, 60, 4):
            writer.append_block(block(sent[first : first + 4]))
        writer.append(RawRecord(source="recorder", kind="end", sequence=0, received_ns=0))
        writer.sync()
        with path.open("r+b") as file:
            file.seek(30 * 200_000 + 1000)
            file.write(b"\xff" * 8)
        taken = single(take_all(reader.follow_blocks()))
        lost = {r.sequence for r in sent} - {r.sequence for r in taken if r.kind == "data"}
        assert len(lost) == 1
        assert contents(taken) == [c for c in contents(sent) if c[0] not in lost]
        assert reader.corrupt_records == 1


def test_memory_is_used_again_when_the_reader_keeps_up(tmp_path):
    path, tail = tmp_path / "log", LogTail(SLAB_BYTES, 4)
    pages = set()
    with StreamLogWriter(path, tail=tail) as writer, StreamLogReader(path, tail) as reader:
        followed = reader.follow_blocks()
        for first in range(0, 1000, 10):
            writer.append_block(block([record(first + k, 300) for k in range(10)]))
            taken = take_all(followed)
            pages.add(taken[0].data.ctypes.data // SLAB_BYTES)
            assert tail.held_bytes <= 3 * SLAB_BYTES
            del taken
    # Pieces begin anywhere in their first page, as the file does.
    assert len(pages) <= 3 * 3


@pytest.mark.parametrize("in_block", [True, False])
def test_what_a_full_disk_did_not_take_is_not_in_the_tail(tmp_path, monkeypatch, in_block):
    path, tail = tmp_path / "log", LogTail(1 << 16, 4)
    with StreamLogWriter(path, tail=tail) as writer, StreamLogReader(path, tail) as reader:
        followed = reader.follow_blocks()
        writer.append_block(block([record(0, 100)]))

        class Full:
            closed = False

            def __init__(self, file):
                self._file = file

            def write(self, view):
                self._file.write(view[:150])
                raise OSError(errno.ENOSPC, "No space left on device")

            def __getattr__(self, name):
                return getattr(self._file, name)

        file = writer._file
        monkeypatch.setattr(writer, "_file", Full(file))
        lost = [record(1, 1000), record(2, 1000)]
        with pytest.raises(DiskFullError):
            writer.append_block(block(lost)) if in_block else writer.append(lost[0])
        monkeypatch.setattr(writer, "_file", file)
        writer.bytes_written = file.tell()
        writer.append_block(block([record(3, 100)]))
        assert [r.sequence for r in single(take_all(followed))] == [0, 3]
