"""Many records at once: the same bytes in the log, the same records out of it, whatever happened to it."""

from __future__ import annotations

import errno
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.messages import RECORD_KINDS, RECORD_SOURCES, RawBlock, RawRecord
from streamptycho.recording import log_kernels
from streamptycho.recording.stream_log import DiskFullError, StreamLogError, StreamLogReader, StreamLogWriter
from streamptycho.wire import WireError, decode, encode

PARTS = st.lists(st.binary(max_size=40), max_size=4)
RECORDS = st.lists(
    st.tuples(st.sampled_from(RECORD_SOURCES), st.sampled_from(RECORD_KINDS[:4]), PARTS, st.integers(0, 2**62)),
    max_size=20,
)


def records_of(drawn):
    return [
        RawRecord(source=source, kind=kind, sequence=k, received_ns=ns, parts=tuple(parts))
        for k, (source, kind, parts, ns) in enumerate(drawn)
    ]


def block_of(records):
    sizes = [len(part) for record in records for part in record.parts]
    ends = np.cumsum([0, *sizes]).astype(np.int64)
    return RawBlock(
        source=np.array([RECORD_SOURCES.index(r.source) for r in records], np.uint8),
        kind=np.array([RECORD_KINDS.index(r.kind) for r in records], np.uint8),
        sequence=np.array([r.sequence for r in records], np.int64),
        received_ns=np.array([r.received_ns for r in records], np.int64),
        first_part=np.cumsum([0, *(len(r.parts) for r in records)]).astype(np.int64),
        spans=np.stack([ends[:-1], ends[1:]], axis=1),
        data=np.frombuffer(b"".join(part for r in records for part in r.parts), np.uint8),
    )


def plain(items):
    """Records as tuples, blocks taken apart."""
    records = [r for item in items for r in (item.records() if isinstance(item, RawBlock) else [item])]
    return [(r.source, r.kind, r.sequence, r.received_ns, r.parts) for r in records]


def some(n=30, size=300):
    rng = np.random.default_rng(1)
    return records_of([("detector", "data", [rng.bytes(size), b"end"], k) for k in range(n)])


@settings(max_examples=60, deadline=None)
@given(RECORDS)
def test_a_block_is_written_as_its_records_one_by_one_and_read_back(tmp_path_factory, drawn):
    folder, records = tmp_path_factory.mktemp("log"), records_of(drawn)
    with StreamLogWriter(folder / "one") as one, StreamLogWriter(folder / "many") as many:
        for record in records:
            one.append(record)
        many.append_block(block_of(records))
        assert many.records == one.records
    assert (folder / "one").read_bytes() == (folder / "many").read_bytes()
    reader = StreamLogReader(folder / "many")
    assert plain(reader.blocks()) == plain(records) == plain(reader)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_log_gives_in_blocks_what_it_gives_one_by_one(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("log") / "a.log"
    with StreamLogWriter(path) as log:
        log.append_block(block_of(some(12, 60)))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(12, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(12, len(content)))])
    one, many = StreamLogReader(path), StreamLogReader(path)
    assert plain(many.blocks()) == plain(one)
    assert (many.torn_bytes, many.corrupt_records) == (one.torn_bytes, one.corrupt_records)


def test_a_growing_log_is_followed_to_its_end(tmp_path):
    records = [*some(), RawRecord(source="recorder", kind="end", sequence=99, received_ns=0)]
    with StreamLogWriter(tmp_path / "whole") as log:
        log.append_block(block_of(records))
        log.append(records[0])
    content, seen = (tmp_path / "whole").read_bytes(), []
    path = tmp_path / "growing"
    path.write_bytes(content[:12])
    cuts = iter([12, 20, 400, 401, 2000, 2000, 5001, len(content)])
    for item in StreamLogReader(path).follow_blocks():
        if item is None:
            path.write_bytes(content[: next(cuts)])
        else:
            seen.append(item)
    assert plain(seen) == plain(records)


def test_records_larger_than_a_step_are_read(tmp_path):
    records = records_of([("detector", "data", [bytes([k]) * size], k) for k, size in enumerate([10, 5 << 20, 20])])
    with StreamLogWriter(tmp_path / "a.log") as log:
        log.append_block(block_of(records))
    assert plain(StreamLogReader(tmp_path / "a.log").blocks()) == plain(records)


class _FullDisk:
    def __init__(self, file, room):
        self._file, self.room = file, room

    def write(self, data):
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._file.write(data[: self.room])
        self.room -= written
        return written

    def __getattr__(self, name):
        return getattr(self._file, name)


@pytest.mark.parametrize("room", [0, 1, 347, 350, 351, 352, 1000, 5000])
def test_a_disk_that_fills_within_a_block_keeps_whole_records(tmp_path, room):
    records = some()
    log = StreamLogWriter(tmp_path / "a.log")
    log._file = disk = _FullDisk(log._file, room)
    with pytest.raises(DiskFullError, match="safe in"):
        log.append_block(block_of(records))
    kept = log.records
    assert kept == room // (36 + 8 + 4 + 303)
    reader = StreamLogReader(tmp_path / "a.log")
    assert plain(reader.blocks()) == plain(records[:kept])
    assert reader.torn_bytes == 0
    disk.room = 10**6
    log.append_block(block_of(records[kept:]))
    log.close()
    assert plain(StreamLogReader(tmp_path / "a.log").blocks()) == plain(records)


def test_a_record_that_is_too_large_is_refused_before_anything_is_written(tmp_path):
    too_many = records_of([("detector", "data", [b""] * 4097, 0)])
    with StreamLogWriter(tmp_path / "a.log") as log:
        with pytest.raises(StreamLogError, match="4096 parts"):
            log.append_block(block_of(too_many))
        assert log.records == 0


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=2000), st.integers(0, 2**32 - 1))
def test_the_checksum_is_that_of_zlib(data, start):
    buffer = np.frombuffer(data + b"\x00", np.uint8).copy()
    assert int(log_kernels.crc32_at(buffer.ctypes.data, len(data), start)) == zlib.crc32(data, start)
    tables = int(log_kernels._by_tables(buffer.ctypes.data, len(data), start ^ 0xFFFFFFFF)) ^ 0xFFFFFFFF
    assert tables == zlib.crc32(data, start)


@pytest.mark.parametrize(
    "change",
    [
        {"spans": np.array([[0, 99]])},
        {"spans": np.array([[3, 1]])},
        {"spans": np.array([[-1, 1]])},
        {"first_part": np.array([0, 2])},
        {"first_part": np.array([1, 1])},
        {"kind": np.array([9], np.uint8)},
        {"source": np.array([0, 0], np.uint8)},
        {"data": np.zeros(5, np.int8)},
    ],
)
def test_a_block_of_another_process_whose_parts_lie_elsewhere_is_refused(change):
    good = {
        "source": np.array([0], np.uint8),
        "kind": np.array([0], np.uint8),
        "sequence": np.array([1]),
        "received_ns": np.array([1]),
        "first_part": np.array([0, 1]),
        "spans": np.array([[0, 5]]),
        "data": np.zeros(5, np.uint8),
    }
    assert len(decode(encode(RawBlock(**good)))) == 1
    with pytest.raises(WireError, match="block"):
        decode(encode(RawBlock(**{**good, **change})))
