"""Messages that were received where the log wants them are in it as if they had been copied."""

from __future__ import annotations

import time

import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.messages import RECORD_KINDS, RawBlock, RawRecord
from streamptycho.recording.stream_log import LogTail, StreamLogReader, StreamLogWriter
from streamptycho.runtime.bulk_receive import BulkReceiver, function_addresses

SLAB_BYTES = 1 << 14
MESSAGES = st.lists(st.lists(st.binary(max_size=60), min_size=1, max_size=4), min_size=1, max_size=8)


def block_in(room, messages, first, *, head, part, shift=0):
    """Return messages as a block that lies in `room`, `shift` bytes from where the log wants it."""
    spans, at = [], shift
    for parts in messages:
        at += head + part * len(parts)
        for content in parts:
            room[at : at + len(content)] = np.frombuffer(content, np.uint8)
            spans.append((at, at + len(content)))
            at += len(content)
    numbers = np.arange(first, first + len(messages))
    return RawBlock(
        source=np.zeros(len(messages), np.uint8),
        kind=np.full(len(messages), RECORD_KINDS.index("data"), np.uint8),
        sequence=numbers,
        received_ns=10 * numbers,
        first_part=np.cumsum([0, *map(len, messages)]),
        spans=np.array(spans, np.int64).reshape(-1, 2),
        data=room[: max(at, 1)],
    )


def records_of(messages, first):
    return [
        RawRecord(source="detector", kind="data", sequence=k, received_ns=10 * k, parts=tuple(parts))
        for k, parts in enumerate(messages, first)
    ]


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(MESSAGES, st.sampled_from(["in place", "elsewhere", "shifted", "after a record", "twice", "some"])),
        max_size=12,
    ),
    with_tail=st.booleans(),
    read_now=st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_the_log_is_that_of_records_one_by_one(tmp_path_factory, steps, with_tail, read_now):
    folder = tmp_path_factory.mktemp("log")
    tail = LogTail(SLAB_BYTES, 3) if with_tail else None
    with StreamLogWriter(folder / "one") as one, StreamLogWriter(folder / "many", tail=tail) as many:
        reader, taken, given_out, number = StreamLogReader(folder / "many", tail), [], [], 1
        followed = reader.follow_blocks()
        for (messages, how), look in zip(steps, read_now, strict=False):
            head, part = (0, 0) if how == "elsewhere" else (many.head_bytes, many.part_bytes)
            room = np.zeros(4096, np.uint8) if how == "elsewhere" else many.room(4096)
            if how == "twice":
                room = many.room(4096)
            block = block_in(room, messages, number, head=head, part=part, shift=3 if how == "shifted" else 0)
            between = records_of([[b"between"]], number + len(messages)) if how == "after a record" else []
            expected = records_of(messages, number)
            if how == "some":
                block, expected = block.some(1, len(block)), expected[1:]
            for record in (*between, *expected):
                one.append(record)
            for record in between:
                many.append(record)
            many.append_block(block)
            number += len(messages) + 1
            if look:
                got = list(iter(lambda: next(followed), None))
                given_out += got
                taken += [r for m in got for r in (m.records() if isinstance(m, RawBlock) else (m,))]
        taken += [
            r for m in iter(lambda: next(followed), None) for r in (m.records() if isinstance(m, RawBlock) else (m,))
        ]
        assert many.records == one.records
    assert (folder / "one").read_bytes() == (folder / "many").read_bytes()
    with StreamLogReader(folder / "many") as whole:
        assert [(r.sequence, r.parts) for r in taken] == [(r.sequence, r.parts) for r in whole]
        # What was given out early must not have been written over since.
        again = [r for m in given_out for r in (m.records() if isinstance(m, RawBlock) else (m,))]
        assert [(r.sequence, r.parts) for r in again] == [(r.sequence, r.parts) for r in whole][: len(again)]


@pytest.mark.parametrize("sizes", [[10, 0, 500], [3000] * 50, [SLAB_BYTES - 100, 5, 3 * SLAB_BYTES, 7], [1 << 21, 20]])
def test_what_a_socket_gave_is_in_the_log(tmp_path, sizes):
    random = np.random.default_rng(0)
    messages = [[random.bytes(size), b"tail"] for size in sizes]
    tail = LogTail(1 << 21, 3)
    with zmq.Context() as context, context.socket(zmq.PULL) as pull, context.socket(zmq.PUSH) as push:
        pull.linger = push.linger = 0
        push.connect(f"tcp://127.0.0.1:{pull.bind_to_random_port('tcp://127.0.0.1')}")
        with StreamLogWriter(tmp_path / "a.log", tail=tail) as writer:
            receiver = BulkReceiver(pull, function_addresses(), writer)
            for parts in messages:
                push.send_multipart(parts)
            received, deadline = 0, time.monotonic() + 20
            while received < len(messages) and time.monotonic() < deadline:
                block = receiver.receive(received + 1) if receiver.holds_message or pull.poll(100) else None
                if block is not None:
                    received += len(block)
                    writer.append_block(block)
            receiver.close()
    with StreamLogReader(tmp_path / "a.log") as log:
        assert [list(record.parts) for record in log] == messages
        assert (log.torn_bytes, log.corrupt_records) == (0, 0)
