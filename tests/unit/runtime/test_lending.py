"""Arrays that another process uses where they lie."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from streamptycho.messages import RawBlock
from streamptycho.recording.log_tail import LogTail
from streamptycho.runtime.lending import (
    ASK_AGAIN_S,
    LENT_FROM_BYTES,
    STUCK_S,
    Borrower,
    Lender,
    LenderGoneError,
    LendingError,
    can_lend,
)
from streamptycho.runtime.sockets import PullSource, PushSink, free_ports

pytestmark = pytest.mark.skipif(not can_lend("127.0.0.1"), reason="this system lends no memory")

SIZE = 4 * LENT_FROM_BYTES

CHILD = """
import sys, time
import numpy as np
from streamptycho.messages import RawBlock
from streamptycho.runtime.lending import Lender
from streamptycho.runtime.sockets import PushSink, release_sockets
port, count, how = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
lender = Lender(most_bytes=4 << 20)
sink = PushSink(f"tcp://127.0.0.1:{port}", 4, lender)
for k in range(count):
    ends = np.array([0, 1 << 20])
    block = RawBlock(
        source=np.zeros(1, np.uint8), kind=np.zeros(1, np.uint8), sequence=np.array([k]), received_ns=np.array([k]),
        first_part=np.array([0, 1]), spans=np.array([[0, 1 << 20]]), data=np.full(1 << 20, k % 251, np.uint8),
    )
    while not sink.put(block, 0.1):
        pass
    print("sent", k, flush=True)
if how == "hang":
    time.sleep(60)
sink.close()
lender.wait_until_received(lambda: False)
release_sockets()
"""


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 0.01
        return self.now


def block_of(k, size):
    return RawBlock(
        source=np.zeros(1, np.uint8),
        kind=np.zeros(1, np.uint8),
        sequence=np.array([k]),
        received_ns=np.array([k]),
        first_part=np.array([0, 1]),
        spans=np.array([[0, size]]),
        data=np.full(size, k, np.uint8),
    )


def numbers(lender, size=SIZE, seed=1):
    array = np.frombuffer(lender.allocate(size), np.uint8)
    array[:] = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    return array


def child(port, count, how="end"):
    command = [sys.executable, "-c", CHILD, str(port), str(count), how]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def received(source, count, keep):
    blocks = []
    for _ in range(3000):
        block = source.get(0.01)
        if isinstance(block, RawBlock):
            assert (block.data == int(block.sequence[0]) % 251).all()
            blocks.append(block if keep else int(block.sequence[0]))
            if len(blocks) == count:
                break
    return blocks


def test_an_array_in_lent_memory_is_seen_where_it_lies():
    lender, borrower = Lender(), Borrower()
    array = numbers(lender)
    part = array[100_000:200_001]
    borrowed = borrower.borrow(lender.lend(part), part.nbytes)
    np.testing.assert_array_equal(borrowed, part)
    array[100_000] ^= 255
    assert borrowed[0] == array[100_000]
    with pytest.raises(ValueError, match="read-only"):
        borrowed[0] = 1


def test_another_array_is_copied_once_and_a_small_one_is_not_lent():
    lender, borrower = Lender(), Borrower()
    array = np.random.default_rng(1).normal(size=(10, 100, 100))
    borrowed = borrower.borrow(lender.lend(array), array.nbytes)
    kept = array.copy()
    array[:] = 0
    np.testing.assert_array_equal(borrowed.view(np.float64).reshape(kept.shape), kept)
    assert lender.lend(np.zeros(LENT_FROM_BYTES - 1, np.uint8)) is None


def test_memory_is_used_again_only_when_it_was_returned():
    lender, borrower = Lender(most_bytes=64 << 20), Borrower()
    held = []
    for k in range(30):
        array = np.full(1 << 20, k, np.uint8)
        held.append((k, borrower.borrow(lender.lend(array), array.nbytes)))
        if k % 3 == 2:
            del held[0]
            assert lender.has_room(0.0)
        for number, borrowed in held:
            assert (borrowed == number).all()
    assert len(held) == 20


def test_lending_stops_at_its_limit_until_something_is_returned_in_any_order():
    lender, borrower = Lender(most_bytes=3 * SIZE), Borrower()
    array = numbers(lender)
    borrowed = []
    for _ in range(3):
        assert lender.has_room(0.0)
        borrowed.append(borrower.borrow(lender.lend(array), SIZE))
    assert not lender.has_room(0.02)
    del borrowed[2]
    assert lender.has_room(0.0)
    # the first is kept for long: it does not hold up those behind it
    for _ in range(600):
        assert lender.has_room(0.0)
        borrower.borrow(lender.lend(array), SIZE)


def test_where_nothing_is_returned_arrays_are_sent_and_a_new_borrower_makes_all_well():
    clock = Clock()
    lender, dead = Lender(most_bytes=2 * SIZE, clock=clock), Borrower()
    array = numbers(lender)
    kept = [dead.borrow(lender.lend(array), SIZE) for _ in range(2)]
    assert not lender.has_room(0.1)
    clock.now += STUCK_S
    assert lender.has_room(0.1)
    asked = lender.lend(array)
    assert asked is not None
    assert lender.lend(array) is None
    assert lender.has_room(0.1)
    clock.now += ASK_AGAIN_S
    second = lender.lend(array)
    assert second is not None
    new = Borrower()
    new.borrow(second, SIZE)
    assert lender.has_room(0.0)
    assert [lender.lend(array) is not None for _ in range(2)] == [True, True]
    assert len(kept) == 2


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"offset": -1}, "do not lie"),
        ({"offset": SIZE}, "do not lie"),
        ({"line": 0}, "no line"),
        ({"line": 10**6}, "no line"),
        ({"memory_inode": 1}, "does not lend|has ended"),
        ({"memory": 10**6}, "has ended"),
        ({"process": "x"}, "does not say where"),
        ({"number": None}, "does not say where"),
    ],
)
def test_what_does_not_lie_where_it_is_said_to_is_refused(change, what):
    lender, borrower = Lender(), Borrower()
    place = lender.lend(numbers(lender))
    borrower.borrow(place, SIZE)
    borrower = Borrower() if "memory" in change or "memory_inode" in change else borrower
    with pytest.raises(LendingError, match=what):
        borrower.borrow({**place, **change}, SIZE)


@pytest.mark.parametrize("place", [None, [], {}, {"process": 1}, "here"])
def test_a_place_that_is_none_is_refused(place):
    with pytest.raises(LendingError, match="does not say where"):
        Borrower().borrow(place, SIZE)


def test_a_process_that_cannot_be_seen_from_here_is_named_with_what_to_do():
    lender = Lender()
    place = {**lender.lend(numbers(lender)), "process": 2**22 + 1}
    with pytest.raises(LendingError, match="shared_memory: false"):
        Borrower().borrow(place, SIZE)


def test_memory_that_could_shrink_is_not_used():
    lender, borrower = Lender(), Borrower()
    place = lender.lend(numbers(lender))
    file = os.memfd_create("other")
    os.ftruncate(file, SIZE)
    try:
        with pytest.raises(LendingError, match="does not lend"):
            borrower.borrow({**place, "memory": file, "memory_inode": os.fstat(file).st_ino}, SIZE)
    finally:
        os.close(file)


def test_memory_that_nobody_looks_at_is_given_back():
    lender, borrower = Lender(), Borrower()
    before = len(os.listdir("/proc/self/fd"))
    for seed in range(50):
        array = numbers(lender, seed=seed)
        borrower.borrow(lender.lend(array), SIZE)
        lender.has_room(0.0)
        del array
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before + 25


def test_what_could_not_be_sent_is_taken_back():
    lender, borrower = Lender(most_bytes=3 * SIZE), Borrower()
    array = numbers(lender)
    kept = borrower.borrow(lender.lend(array), SIZE)
    for _ in range(600):
        before = lender.lent_so_far
        assert lender.lend(array) is not None
        assert lender.lend(array[: SIZE // 2]) is not None
        lender.take_back(before)
    assert lender.lent_so_far == 1
    second = borrower.borrow(lender.lend(array), SIZE)
    assert (kept == second).all()
    assert lender.has_room(0.0)
    del kept, second
    assert lender._settled() == 0


def test_a_log_tail_lends_its_pieces_and_allocates_none_while_frames_come():
    lender, borrower, sizes = Lender(), Borrower(), []

    def allocate(size):
        sizes.append(size)
        return lender.allocate(size)

    tail = LogTail(slab_bytes=1 << 20, slabs=4, allocate=allocate, prepared=8)
    offset = 0
    for k in range(100):
        room = tail.room(900_000, offset)
        room[:900_000] = k
        tail.commit(900_000)
        data = tail.bytes_at(offset)
        assert lender.has_room(0.0)
        borrowed = borrower.borrow(lender.lend(data), len(data))
        assert (borrowed == k).all()
        offset += 900_000
        del data, room, borrowed
    assert len(sizes) == 8


@pytest.mark.parametrize("keeps", [True, False])
def test_what_another_process_lends_arrives_whole_and_it_ends_only_then(keeps):
    (port,) = free_ports(1)
    source = PullSource(f"tcp://127.0.0.1:{port}", 4, keeps=keeps)
    count = 200
    with child(port, count) as process:
        assert received(source, count, keep=False) == list(range(count))
        assert process.wait(20) == 0
    source.close()


def test_a_borrower_that_keeps_everything_gets_everything():
    (port,) = free_ports(1)
    source = PullSource(f"tcp://127.0.0.1:{port}", 4)
    with child(port, 12) as process:
        blocks = received(source, 12, keep=True)
        assert [int(block.sequence[0]) for block in blocks] == list(range(12))
        assert all((block.data == k).all() for k, block in enumerate(blocks))
        assert process.wait(20) == 0
    source.close()


def test_what_a_killed_process_lent_and_nobody_had_opened_is_left_out_and_its_successor_is_heard():
    (port,) = free_ports(1)
    source = PullSource(f"tcp://127.0.0.1:{port}", 4)
    with child(port, 30, "hang") as process:
        assert len(received(source, 1, keep=False)) == 1
        for line in process.stdout:
            if line.split() == ["sent", "4"]:
                break
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    # 4 MB are lent at once, in one piece of memory that is open here: they are still there, what follows is not
    rest = [source.get(0.05) for _ in range(20)]
    assert all(block is None or (block.data == int(block.sequence[0])).all() for block in rest)
    with child(port, 5) as process:
        assert received(source, 5, keep=False) == list(range(5))
        assert process.wait(20) == 0
    source.close()


def test_what_comes_late_of_a_lender_is_found_or_gone_when_its_successor_has_lent():
    first, second, borrower = Lender(), Lender(), Borrower()
    places = [first.lend(numbers(first, seed=k)) for k in range(2)]
    kept = borrower.borrow(places[0], SIZE)
    assert len(borrower.borrow(second.lend(numbers(second)), SIZE)) == SIZE
    # as it stands with a process that ended: what is open stays, the rest cannot be opened
    again = borrower.borrow(places[0], SIZE)
    assert (again == kept).all()
    unopened = {**places[1], "memory": 10**6, "memory_inode": 1}
    with pytest.raises(LenderGoneError):
        borrower.borrow(unopened, SIZE)
    with pytest.raises(LenderGoneError):
        borrower.borrow({**places[1], "process": 2**22 + 1}, SIZE)
    assert len(borrower.borrow(second.lend(numbers(second)), SIZE)) == SIZE


def test_nobody_waits_for_a_borrower_that_has_ended():
    (port,) = free_ports(1)
    lender = Lender()
    sink = PushSink(f"tcp://127.0.0.1:{port}", 8, lender)
    code = "import sys; from streamptycho.runtime.sockets import PullSource\n"
    code += f"assert PullSource('tcp://127.0.0.1:{port}', 8).get(20.0) is not None"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        sent = 0
        while process.poll() is None and sent < 4:
            sent += sink.put(block_of(sent, SIZE), 0.1)
        assert process.wait(30) == 0
    asked = []
    lender.wait_until_received(lambda: asked.append(1) or len(asked) > 500)
    assert len(asked) <= 500
    sink.close()


def test_after_a_loan_of_a_dead_process_nothing_of_it_is_heard_any_more(monkeypatch):
    (port,) = free_ports(1)
    lender = Lender()
    sink, source = PushSink(f"tcp://127.0.0.1:{port}", 8, lender), PullSource(f"tcp://127.0.0.1:{port}", 8)

    def gone(place, size):
        raise LenderGoneError("gone")

    assert sink.put(block_of(0, SIZE), 1.0)
    assert isinstance(source.get(5.0), RawBlock)
    monkeypatch.setattr(source, "_borrow", gone)
    assert sink.put(block_of(1, SIZE), 1.0)
    assert sink.put(block_of(2, 10), 1.0)
    assert [source.get(0.5), source.get(0.5)] == [None, None]
    sink.close()
    source.close()


@pytest.mark.parametrize(
    ("address", "there"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("10.1.2.3", False), ("*", False)],
)
def test_only_readers_on_this_machine_are_lent_to(address, there):
    assert can_lend(address) == there
