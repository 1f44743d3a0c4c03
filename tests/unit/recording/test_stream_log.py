"""The stream log: torn, damaged, growing, full."""

import errno
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.messages import RawRecord
from streamptycho.recording.log_format import CHECKSUM, FILE_HEADER, RECORD_HEADER, RECORD_MAGIC
from streamptycho.recording.log_index import index_path, load_index
from streamptycho.recording.stream_log import (
    DiskFullError,
    StreamLogError,
    StreamLogReader,
    StreamLogWriter,
)


def record(number, parts=(b"x",), source="detector", kind="data"):
    return RawRecord(source=source, kind=kind, sequence=number, received_ns=1_000 * number, parts=tuple(parts))


def plain(item):
    return (item.source, item.kind, item.sequence, item.received_ns, item.parts)


def write(path, records, configuration=None):
    with StreamLogWriter(path, configuration=configuration) as log:
        for item in records:
            log.append(item)
    return path


def sizes(records):
    return [RECORD_HEADER.size + 4 * len(r.parts) + CHECKSUM.size + sum(len(p) for p in r.parts) for r in records]


SOME = [
    record(0, kind="connected", parts=()),
    record(1, [b"a" * 5, b"", b"bc"]),
    record(2, [os.urandom(70_000), b"tail"]),
    record(3, [b"OK\n"], source="positions"),
    record(4, kind="end", source="recorder", parts=()),
]

any_record = st.builds(
    RawRecord,
    source=st.sampled_from(["detector", "positions", "recorder"]),
    kind=st.sampled_from(["data", "connected", "disconnected", "end"]),
    sequence=st.integers(0, 2**62),
    received_ns=st.integers(-(2**62), 2**62),
    parts=st.lists(st.binary(max_size=40), max_size=4).map(tuple),
)


@settings(deadline=None, max_examples=60)
@given(records=st.lists(any_record, max_size=6), data=st.data())
def test_every_record_before_a_tear_is_read_and_nothing_else(tmp_path_factory, records, data):
    path = write(tmp_path_factory.mktemp("log") / "a.log", records)
    whole = path.read_bytes()
    cut = data.draw(st.integers(FILE_HEADER.size, len(whole)))
    path.write_bytes(whole[:cut])
    ends = FILE_HEADER.size + np.cumsum([0, *sizes(records)])
    intact = int(np.searchsorted(ends, cut, side="right")) - 1
    reader = StreamLogReader(path)
    assert [plain(r) for r in reader] == [plain(r) for r in records[:intact]]
    assert reader.torn_bytes == cut - ends[intact]
    assert reader.corrupt_records == 0


def test_tear_at_every_byte_of_the_last_two_records(tmp_path):
    records = [record(i, [bytes([i]) * 7, b"z" * 3]) for i in range(4)]
    whole = write(tmp_path / "a.log", records).read_bytes()
    ends = FILE_HEADER.size + np.cumsum([0, *sizes(records)])
    for cut in range(int(ends[2]), len(whole) + 1):
        torn = tmp_path / "torn.log"
        torn.write_bytes(whole[:cut])
        reader = StreamLogReader(torn)
        found = [r.sequence for r in reader]
        assert found == list(range(int(np.searchsorted(ends, cut, side="right")) - 1))
        assert reader.torn_bytes == cut - ends[len(found)]


@settings(deadline=None, max_examples=80)
@given(data=st.data(), flips=st.integers(1, 4))
def test_damage_in_the_middle_costs_only_the_records_it_hits(tmp_path_factory, data, flips):
    records = [record(i, [bytes([i]) * 20, b"part"]) for i in range(8)]
    path = write(tmp_path_factory.mktemp("log") / "a.log", records)
    content = bytearray(path.read_bytes())
    ends = FILE_HEADER.size + np.cumsum([0, *sizes(records)])
    at = data.draw(st.integers(int(ends[1]), int(ends[6]) - 1))
    for place in range(at, min(at + flips, int(ends[6]))):
        content[place] ^= 0xFF
    hit = {int(np.searchsorted(ends, p, side="right")) - 1 for p in range(at, min(at + flips, int(ends[6])))}
    path.write_bytes(content)
    reader = StreamLogReader(path)
    assert {r.sequence for r in reader} == set(range(8)) - hit
    assert 1 <= reader.corrupt_records <= len(hit)
    assert reader.torn_bytes == 0


@pytest.mark.parametrize("lost", [1, 3, 11])
def test_bytes_lost_from_the_middle_cost_one_record(tmp_path, lost):
    records = [record(i, [bytes([i]) * 50]) for i in range(6)]
    path = write(tmp_path / "a.log", records)
    content = path.read_bytes()
    inside = FILE_HEADER.size + sum(sizes(records)[:2]) + RECORD_HEADER.size + 20
    path.write_bytes(content[:inside] + content[inside + lost :])
    reader = StreamLogReader(path)
    assert [r.sequence for r in reader] == [0, 1, 3, 4, 5]
    assert reader.corrupt_records == 1


def test_zeros_at_the_end_after_a_power_cut_are_a_torn_tail(tmp_path):
    path = write(tmp_path / "a.log", SOME[:3])
    with path.open("ab") as file:
        file.write(bytes(5000))
    reader = StreamLogReader(path)
    assert [plain(r) for r in reader] == [plain(r) for r in SOME[:3]]
    assert reader.torn_bytes == 5000


@settings(deadline=None, max_examples=100)
@given(garbage=st.binary(max_size=300))
def test_garbage_never_raises_and_never_invents_records(tmp_path_factory, garbage):
    path = write(tmp_path_factory.mktemp("log") / "a.log", SOME[:2])
    with path.open("ab") as file:
        file.write(RECORD_MAGIC + garbage)
    reader = StreamLogReader(path)
    assert len(list(reader)) == 2


def test_sizes_are_bounded_before_anything_is_allocated(tmp_path):
    path = write(tmp_path / "a.log", SOME[:1])
    forged = RECORD_HEADER.pack(RECORD_MAGIC, 0, 0, 1, 0, 0, 2**63, 0)
    with path.open("ab") as file:
        file.write(forged + b"\xff" * 64)
    reader = StreamLogReader(path)
    assert len(list(reader)) == 1
    assert reader.torn_bytes == len(forged) + 64


def test_too_large_a_record_is_refused_and_the_log_goes_on(tmp_path):
    with StreamLogWriter(tmp_path / "a.log") as log:
        with pytest.raises(StreamLogError, match="at most 4096 parts"):
            log.append(record(0, [b""] * 5000))
        log.append(record(1))
    assert [r.sequence for r in StreamLogReader(tmp_path / "a.log")] == [1]


def test_configuration_comes_first_and_does_not_count_as_time(tmp_path):
    path = write(tmp_path / "a.log", SOME, configuration="scan_id: bone")
    reader = StreamLogReader(path)
    assert reader.configuration == "scan_id: bone"
    summary = reader.summary()
    assert (summary.records, summary.by_source) == (6, {"recorder": 2, "detector": 3, "positions": 1})
    assert summary.duration_s == pytest.approx(4e-6)
    assert (summary.first_received_ns, summary.last_received_ns) == (0, 4000)
    assert summary.complete
    assert summary.bytes == path.stat().st_size
    assert StreamLogReader(write(tmp_path / "b.log", SOME)).configuration is None


def test_an_existing_recording_is_never_overwritten(tmp_path):
    path = write(tmp_path / "a.log", SOME)
    before = path.read_bytes()
    with pytest.raises(StreamLogError, match="never overwrites"):
        StreamLogWriter(path)
    assert path.read_bytes() == before
    (tmp_path / "empty.log").touch()
    StreamLogWriter(tmp_path / "empty.log").close()


def test_a_closed_log_says_so(tmp_path):
    log = StreamLogWriter(tmp_path / "a.log")
    log.close()
    log.close()
    with pytest.raises(StreamLogError, match="closed"):
        log.append(SOME[0])


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "0 bytes"),
        (b"\x89HDF\r\n\x1a\n" + bytes(8), "an HDF5 file"),
        (b"hello, this is text", "hello"),
        (FILE_HEADER.pack(b"\x89SPTYLG\n", 99), "format 99"),
    ],
)
def test_what_is_not_a_log_is_named(tmp_path, content, found):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(StreamLogError, match=found):
        StreamLogReader(tmp_path / "x")


def test_an_absent_log_is_named(tmp_path):
    with pytest.raises(StreamLogError, match=r"nothing\.log"):
        StreamLogReader(tmp_path / "nothing.log")


class _FullDisk:
    """A file on a disk that is full after `room` bytes, and takes at most `step` bytes at once."""

    def __init__(self, file, room, step=64):
        self._file, self.room, self._step = file, room, step

    def write(self, view):
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._file.write(view[: min(self._step, self.room)])
        self.room -= written
        return written

    def __getattr__(self, name):
        return getattr(self._file, name)


@pytest.mark.parametrize("room", [0, 1, 30, 64, 65, 200])
def test_a_full_disk_keeps_what_was_recorded_and_a_retry_continues(tmp_path, room):
    log = StreamLogWriter(tmp_path / "a.log")
    log.append(record(0, [b"first"]))
    log._file = disk = _FullDisk(log._file, room)
    with pytest.raises(DiskFullError, match="1 records before it are safe"):
        log.append(record(1, [b"s" * 300]))
    reader = StreamLogReader(tmp_path / "a.log")
    assert [r.sequence for r in reader] == [0]
    assert reader.torn_bytes == 0
    disk.room = 10_000
    log.append(record(2, [b"again"]))
    log.close()
    assert [r.sequence for r in StreamLogReader(tmp_path / "a.log")] == [0, 2]
    assert log.bytes_written == (tmp_path / "a.log").stat().st_size


def test_a_disk_that_can_not_be_cut_back_ends_the_log(tmp_path):
    log = StreamLogWriter(tmp_path / "a.log")
    log.append(record(0))
    log._file = disk = _FullDisk(log._file, 20)
    disk.truncate = lambda size: (_ for _ in ()).throw(OSError(errno.EIO, "I/O error"))
    with pytest.raises(DiskFullError):
        log.append(record(1))
    disk.room = 10_000
    with pytest.raises(StreamLogError, match="new file"):
        log.append(record(2))
    log.close()
    reader = StreamLogReader(tmp_path / "a.log")
    assert [r.sequence for r in reader] == [0]
    assert reader.torn_bytes == 20


def test_a_real_limit_of_the_file_size_is_a_full_disk(tmp_path):
    script = textwrap.dedent(
        """
        import resource, sys
        from pathlib import Path
        from streamptycho.messages import RawRecord
        from streamptycho.recording.stream_log import DiskFullError, StreamLogWriter
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        log = StreamLogWriter(Path(sys.argv[1]))
        try:
            for i in range(100):
                log.append(RawRecord(source="detector", kind="data", sequence=i, received_ns=i, parts=(b"x" * 900,)))
        except DiskFullError as error:
            print(log.records, error)
        """
    )
    path = tmp_path / "a.log"
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=60, check=True, cwd=root
    )
    recorded = int(done.stdout.split()[0])
    assert "free space" in done.stdout
    reader = StreamLogReader(path)
    assert len(list(reader)) == recorded > 10
    assert reader.torn_bytes == 0


def test_following_a_log_byte_by_byte_gives_each_record_once(tmp_path):
    records = [record(i, [bytes([i]) * 30, b"p"]) for i in range(5)] + [record(5, kind="end", parts=())]
    whole = write(tmp_path / "whole.log", records).read_bytes()
    growing = tmp_path / "growing.log"
    growing.write_bytes(whole[: FILE_HEADER.size])
    follower = StreamLogReader(growing).follow()
    found = []
    with growing.open("ab", buffering=0) as file:
        for at in range(FILE_HEADER.size, len(whole)):
            assert next(follower) is None
            file.write(whole[at : at + 1])
            if at + 1 in FILE_HEADER.size + np.cumsum(sizes(records)):
                found.append(next(follower))
    assert [plain(r) for r in found] == [plain(r) for r in records]
    assert next(follower, "over") == "over"


def test_following_survives_a_failed_append_that_was_cut_back_and_repeated(tmp_path):
    log = StreamLogWriter(tmp_path / "a.log")
    log.append(record(0))
    follower = StreamLogReader(tmp_path / "a.log").follow()
    assert next(follower).sequence == 0
    log._file.write(RECORD_HEADER.pack(RECORD_MAGIC, 0, 0, 0, 9, 9, 0, 0))
    assert next(follower) is None
    log._cut_back(log.bytes_written)
    assert next(follower) is None
    log.append(record(1, [b"different" * 4]))
    log.append(record(2, kind="end", parts=()))
    log.close()
    assert [r.sequence for r in follower] == [1, 2]


def test_following_waits_at_damage_and_passes_it_when_more_comes(tmp_path):
    log = StreamLogWriter(tmp_path / "a.log")
    log.append(record(0, [b"good"]))
    begin = log.bytes_written
    log.append(record(1, [b"bad!" * 10]))
    with (tmp_path / "a.log").open("r+b") as file:
        file.seek(begin + RECORD_HEADER.size + 12)
        file.write(b"????")
    reader = StreamLogReader(tmp_path / "a.log")
    follower = reader.follow()
    assert next(follower).sequence == 0
    assert next(follower) is None
    log.append(record(2, kind="end", parts=()))
    log.close()
    assert [r.sequence for r in follower] == [2]
    assert reader.corrupt_records == 1


def test_following_another_process(tmp_path):
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from streamptycho.messages import RawRecord
        from streamptycho.recording.stream_log import StreamLogWriter
        with StreamLogWriter(Path(sys.argv[1])) as log:
            for i in range(3000):
                log.append(RawRecord(source="detector", kind="data", sequence=i, received_ns=i,
                                     parts=(bytes(i % 251), b"q" * (i % 7) * 20_000)))
            log.append(RawRecord(source="recorder", kind="end", sequence=3000, received_ns=0))
        """
    )
    path = tmp_path / "a.log"
    root = Path(__file__).resolve().parents[3]
    with subprocess.Popen([sys.executable, "-c", script, str(path)], cwd=root) as process:
        try:
            for _ in range(20_000):
                if path.exists() and path.stat().st_size >= FILE_HEADER.size:
                    break
                assert process.poll() in (None, 0)
                time.sleep(0.001)
            reader = StreamLogReader(path)
            found = []
            for item in reader.follow():
                if item is None:
                    assert process.poll() in (None, 0)
                    time.sleep(0.001)
                else:
                    found.append(item.sequence)
        finally:
            process.kill()
    assert found == list(range(3001))
    assert reader.corrupt_records == 0


def test_the_index_is_made_reused_extended_and_rebuilt(tmp_path):
    path = tmp_path / "a.log"
    log = StreamLogWriter(path, configuration="a: 1")
    for i in range(10):
        log.append(record(i))
    index = load_index(path)
    assert len(index) == 11
    assert index.entries["sequence"].tolist() == [0, *range(10)]
    assert index_path(path).exists()
    for i in range(10, 15):
        log.append(record(i))
    log.close()
    assert len(load_index(path)) == 16
    reader = StreamLogReader(path)
    offset = load_index(path).offset_at(7_000)
    assert [r.sequence for _, _, r in reader.records(offset)] == list(range(7, 15))
    assert load_index(path).offset_at(10**9) is None

    index_path(path).write_bytes(b"not an index")
    assert len(load_index(path)) == 16
    path.unlink()
    write(path, [record(i, [b"other"]) for i in range(3)])
    assert load_index(path).entries["sequence"].tolist() == [0, 1, 2]


def test_the_index_of_another_log_is_not_believed(tmp_path):
    a = write(tmp_path / "a.log", [record(i, [b"aa"]) for i in range(5)])
    b = write(tmp_path / "b.log", [record(i + 50, [b"aa"]) for i in range(5)])
    load_index(a)
    index_path(a).replace(index_path(b))
    assert load_index(b).entries["sequence"].tolist() == [50, 51, 52, 53, 54]


def test_a_folder_without_room_for_the_index_still_gives_one(tmp_path, monkeypatch):
    path = write(tmp_path / "a.log", SOME)

    def refuse(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("streamptycho.recording.log_index.np.save", refuse)
    assert len(load_index(path)) == len(SOME)
    assert not index_path(path).exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.log"]


def test_the_log_needs_no_hdf5():
    code = "import sys, streamptycho.recording.stream_log; print('h5py' in sys.modules, 'matplotlib' in sys.modules)"
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=root
    )
    assert done.stdout.split() == ["False", "False"]
