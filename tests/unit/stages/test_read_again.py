"""What a service that was started again gets: everything, once, in order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.messages import DiffractionBatch, ObjectUpdate, ProjectionEnd, RawBlock, RawRecord, ScanEnd
from streamptycho.recording.projection_file import write_projection
from streamptycho.recording.provenance import Provenance
from streamptycho.runtime.memory import MemoryQueue
from streamptycho.stages.finished_first import FinishedFirst
from streamptycho.stages.folder import RunFolder, write_json
from streamptycho.stages.read_again import EachOnce, LogFirst, WithoutProjections


def record(sequence, kind="data"):
    return RawRecord(source="detector", kind=kind, sequence=sequence, received_ns=sequence, parts=(b"%d" % sequence,))


def block(first, last):
    numbers = np.arange(first, last + 1)
    data = np.frombuffer(b"x" * len(numbers), np.uint8)
    return RawBlock(
        source=np.zeros(len(numbers), np.uint8),
        kind=np.zeros(len(numbers), np.uint8),
        sequence=numbers,
        received_ns=numbers,
        first_part=np.arange(len(numbers) + 1),
        spans=np.stack([np.arange(len(numbers)), np.arange(1, len(numbers) + 1)], axis=1),
        data=data,
    )


def sequences(messages):
    found = []
    for message in messages:
        if message is not None:
            found += message.sequence.tolist() if isinstance(message, RawBlock) else [message.sequence]
    return found


def cut(numbers, sizes):
    """Return records in blocks of the given sizes, again and again; size 1 is a record by itself."""
    messages, begin, k = [], 0, 0
    while begin < len(numbers):
        size = min(sizes[k % len(sizes)], len(numbers) - begin)
        first = numbers[begin]
        messages.append(record(first) if size == 1 else block(first, first + size - 1))
        begin, k = begin + size, k + 1
    return messages


@settings(deadline=None, max_examples=80)
@given(
    st.integers(0, 40),
    st.integers(0, 40),
    st.lists(st.integers(1, 7), min_size=1, max_size=4),
    st.lists(st.integers(1, 7), min_size=1, max_size=4),
    st.integers(0, 5),
)
def test_every_record_comes_once_and_in_order(behind, begins, in_log, in_socket, pauses):
    """The socket begins anywhere, the log may end before it, at it or behind it, and blocks overlap anyhow."""
    last = begins + 20
    socket = MemoryQueue()
    for message in cut(list(range(begins, last + 1)), in_socket):
        socket.put(message, 0)
    written = cut(list(range(begins + behind + 1)), in_log)
    source = LogFirst(iter([*[None] * pauses, *written]), socket)
    got = sequences(source.get(0) for _ in range(200))
    assert got == list(range(last + 1))


def test_what_the_log_writes_late_is_waited_for():
    socket, log = MemoryQueue(), [record(0), record(1)]

    def growing():
        yield from log
        yield None
        yield None
        yield record(2)
        yield record(3)
        while True:
            yield None

    socket.put(record(4), 0)
    source = LogFirst(growing(), socket, clock=lambda: 0.0)
    assert sequences(source.get(0) for _ in range(10)) == [0, 1, 2, 3, 4]


def test_what_the_log_never_gets_is_left_out_after_a_while():
    now = iter(range(100))
    socket = MemoryQueue()
    for number in (7, 8):
        socket.put(record(number), 0)
    source = LogFirst(iter([record(0), *[None] * 90]), socket, patience_s=5.0, clock=lambda: next(now))
    assert sequences(source.get(0) for _ in range(20)) == [0, 7, 8]


def test_a_log_that_ends_is_enough_when_nobody_sends_any_more():
    source = LogFirst(iter([block(0, 5), record(6, "end")]), MemoryQueue())
    assert sequences(source.get(0) for _ in range(5)) == list(range(7))


def test_the_mark_that_nothing_follows_does_not_cut_the_log_short():
    socket = MemoryQueue()
    socket.put(record(0, "end"), 0)
    source = LogFirst(iter([block(0, 5), record(6)]), socket)
    got = [source.get(0) for _ in range(4)]
    assert sequences(got) == [*range(7), 0]
    assert got[2].kind == "end"


def batch(projection, index=0):
    return DiffractionBatch(
        scan_id="s",
        projection=projection,
        index=np.array([index]),
        counts=np.zeros((1, 4, 4), np.uint8),
        xy_m=np.zeros((1, 2)),
        quality=np.zeros(1, np.uint8),
    )


def ended(projection):
    return ProjectionEnd(
        scan_id="s",
        projection=projection,
        angle_deg=None,
        reason="complete",
        frames_sent=1,
        frames_received=1,
        frames_paired=1,
    )


def drain(source):
    return list(iter(lambda: source.get(0), None))


def test_projections_with_results_are_not_handed_on_again():
    queue = MemoryQueue()
    sink = WithoutProjections(queue, frozenset({0, 1}))
    last = ScanEnd(scan_id="s", reason="complete", projections=3)
    for message in (batch(0), ended(0), batch(1), batch(2), ended(2), last):
        assert sink.put(message, 0)
    assert [getattr(m, "projection", None) for m in drain(queue)] == [2, 2, None]


def test_a_projection_that_was_whole_is_not_taken_again_and_one_broken_off_is():
    queue = MemoryQueue()
    for message in (batch(0), ended(0), batch(1), batch(0), ended(0), batch(1), batch(1, 1), ended(1)):
        queue.put(message, 0)
    got = drain(EachOnce(queue))
    assert [(type(m).__name__, m.projection) for m in got] == [
        ("DiffractionBatch", 0),
        ("ProjectionEnd", 0),
        ("DiffractionBatch", 1),
        ("DiffractionBatch", 1),
        ("DiffractionBatch", 1),
        ("ProjectionEnd", 1),
    ]


def update(projection):
    return ObjectUpdate(
        scan_id="s",
        projection=projection,
        angle_deg=float(projection),
        object=np.ones((8, 8), np.complex64),
        probe=np.ones((1, 4, 4), np.complex64),
        coverage=np.ones((8, 8), np.float32),
        pixel_m=1e-8,
        energy_ev=6200.0,
        origin_xy_m=np.zeros(2),
        index=np.arange(3),
        xy_m=np.zeros((3, 2)),
        errors=np.array([0.1], np.float32),
        sweeps=1.0,
        final=True,
    )


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    return folder


def write(folder, projection):
    write_projection(folder.projection(projection), update(projection), Provenance(configuration=""))


def test_a_projection_that_was_written_and_never_came_is_in_the_volume(folder):
    queue = MemoryQueue()
    source = FinishedFirst(folder, queue, "s")
    queue.put(update(0), 0)
    assert source.get(0).projection == 0
    for number in (0, 1, 2):
        write(folder, number)
    queue.put(ScanEnd(scan_id="s", reason="complete", projections=3), 0)
    assert [source.get(0).projection for _ in range(2)] == [1, 2]
    assert isinstance(source.get(0), ScanEnd)


def test_a_service_that_stops_takes_what_was_written_and_never_came(folder):
    stopping = False
    source = FinishedFirst(folder, MemoryQueue(), "s", stopping=lambda: stopping)
    write(folder, 3)
    assert source.get(0) is None
    stopping = True
    assert [m and m.projection for m in (source.get(0), source.get(0))] == [3, None]


def test_an_end_that_went_to_a_dead_process_is_noticed(folder):
    write_json(folder.statuses / "tomography.json", {"state": "running"})
    now = 0.0
    source = FinishedFirst(folder, MemoryQueue(), "s", clock=lambda: now)
    now = 10.0
    assert source.get(0) is None
    write_json(folder.statuses / "reconstruct.json", {"state": "finished"})
    write(folder, 0)
    now = 20.0
    assert source.get(0).projection == 0
    assert isinstance(source.get(0), ScanEnd)
