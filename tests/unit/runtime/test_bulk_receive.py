"""Messages come out of the socket the same, many at once or one by one."""

from __future__ import annotations

import time

import numpy as np
import pytest
import zmq

from streamptycho.messages import RawBlock
from streamptycho.runtime import bulk_receive
from streamptycho.runtime.bulk_receive import BulkReceiver, function_addresses
from streamptycho.runtime.instrument_client import InstrumentClient

MESSAGES = [
    [b"a"],
    [b""],
    [b"one", b"", b"three"],
    [bytes(range(256)) * 20],
    *([b"%d" % k] for k in range(5000)),
    [b"large" * (1 << 20)],
    [b"\x01"] * 4096,
    [b"last"],
]


@pytest.fixture
def sockets():
    with zmq.Context() as context, context.socket(zmq.PULL) as pull, context.socket(zmq.PUSH) as push:
        pull.rcvhwm = push.sndhwm = 0
        pull.linger = push.linger = 0
        push.connect(f"tcp://127.0.0.1:{pull.bind_to_random_port('tcp://127.0.0.1')}")
        yield pull, push


def received(receiver, pull, count):
    blocks, deadline = [], time.monotonic() + 20
    while sum(map(len, blocks)) < count and time.monotonic() < deadline:
        if pull.poll(100):
            block = receiver.receive(1 + sum(map(len, blocks)))
            if block is not None:
                blocks.append([block.record(k) for k in range(len(block))])
    return [record for block in blocks for record in block]


@pytest.mark.parametrize("compiled", [True, False])
def test_every_message_comes_once_in_order_with_its_time(sockets, compiled):
    pull, push = sockets
    functions = function_addresses() if compiled else None
    assert functions is not None or not compiled
    receiver = BulkReceiver(pull, functions)
    before_ns = time.time_ns()
    for parts in MESSAGES:
        push.send_multipart(parts)
    records = received(receiver, pull, len(MESSAGES))
    assert [list(record.parts) for record in records] == MESSAGES
    assert [record.sequence for record in records] == list(range(1, len(MESSAGES) + 1))
    times_ns = np.array([record.received_ns for record in records])
    assert before_ns <= times_ns[0]
    assert times_ns[-1] <= time.time_ns()
    assert {(record.source, record.kind) for record in records} == {("detector", "data")}
    assert receiver.receive(1) is None
    receiver.close()


@pytest.mark.parametrize("compiled", [True, False])
def test_parts_beyond_what_a_record_holds_are_let_go(sockets, compiled):
    pull, push = sockets
    receiver = BulkReceiver(pull, function_addresses() if compiled else None)
    push.send_multipart([b"x"] * 5000)
    push.send(b"next")
    records = received(receiver, pull, 2)
    assert [len(record.parts) for record in records] == [4096, 1]
    assert records[1].parts == (b"next",)


def test_a_message_that_no_record_holds_leaves_its_place_empty(sockets, monkeypatch):
    pull, push = sockets
    monkeypatch.setattr(bulk_receive, "MAX_BYTES", 1000)
    receiver = BulkReceiver(pull, None)
    for parts in ([b"y" * 600, b"z" * 600], [b"good"]):
        push.send_multipart(parts)
    records = received(receiver, pull, 2)
    assert [record.parts for record in records] == [(b"", b""), (b"good",)]


def test_what_did_not_fit_is_let_go_when_the_receiver_closes(sockets):
    pull, push = sockets
    receiver = BulkReceiver(pull, function_addresses())
    push.send(b"w" * (bulk_receive.ROOM_BYTES - 10))
    push.send(b"v" * 100)
    time.sleep(0.3)
    assert pull.poll(2000)
    block = receiver.receive(1)
    assert block is not None
    assert len(block) == 1
    receiver.close()
    assert receiver.receive(2) is None


def test_what_did_not_fit_comes_without_waiting_for_another_message():
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.linger = 0
        port = push.bind_to_random_port("tcp://127.0.0.1")
        client = InstrumentClient(f"tcp://127.0.0.1:{port}", "127.0.0.1", 1, b"")
        sizes = [bulk_receive.ROOM_BYTES - 10, 100, bulk_receive.ROOM_BYTES - 10, 3 * bulk_receive.ROOM_BYTES]
        for size in sizes:
            push.send(b"v" * size)
        got, deadline = [], time.monotonic() + 20
        while len(got) < len(sizes) and time.monotonic() < deadline:
            for arrived in client.poll(0.05):
                if isinstance(arrived, RawBlock):
                    got += [len(record.parts[0]) for record in arrived.records()]
        client.close()
    assert got == sizes
