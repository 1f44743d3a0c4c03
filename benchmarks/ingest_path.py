"""The whole way of frames in one process: socket, log, decoding, pairing; and the same without the log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from benchmarks.row import WrongResult
from benchmarks.sender import Sender
from streamptycho import detectors
from streamptycho.config import Config
from streamptycho.messages import Array, FrameBlock, Message, RawBlock, RawRecord
from streamptycho.recording.stream_log import StreamLogReader, StreamLogWriter
from streamptycho.runtime.bulk_receive import BulkReceiver, Room, function_addresses
from streamptycho.stages.gathering import Gathering
from streamptycho.stages.ingest import IngestStage
from streamptycho.stages.record import LogFeed
from streamptycho.stages.recorder import Recorder

WAIT_S = 0.02
PAUSE_S = 0.0005
AHEAD_BYTES = 64 << 20
RING_FRAMES = 256

Kind = Literal["connected", "disconnected", "data"]


class FromPositions(NamedTuple):
    """Bytes of the position source, or a mark of its connection, which come after so many messages of the detector."""

    after: int
    kind: Kind
    data: bytes = b""


class Instrument:
    """Both instruments as the recorder sees them: frames from the socket, and the positions that belong to them.

    Nothing is taken from the socket while more than `AHEAD_BYTES` wait to be handled: what is measured then is what
    can be held for ever, not until a disk is full.
    """

    detector_connected = True

    def __init__(self, sender: Sender, plan: list[FromPositions]) -> None:
        self._sender, self._plan, self._done = sender, plan, 0
        self._receivers = sender.receivers
        self._sockets = sender.sockets
        self.taken = self.taken_bytes = self.handled_bytes = 0

    def poll(self, timeout_s: float) -> Iterator[RawRecord | RawBlock]:
        """Yield what is there."""
        yield from self._due()
        if self.taken_bytes - self.handled_bytes > AHEAD_BYTES:
            time.sleep(PAUSE_S)
            return
        there = any(receiver.holds_message for receiver in self._receivers) or self._sender.wait(timeout_s)
        for receiver in self._receivers if there else ():
            block = receiver.receive(self.taken + 1)
            if block is not None:
                self.taken += len(block)
                self.taken_bytes += len(block.data)
                yield block

    def _due(self) -> Iterator[RawRecord]:
        """Yield what waits; bytes that wait in a TCP connection are read at once."""
        begin = self._done
        while self._done < len(self._plan) and self._plan[self._done].after <= self.taken:
            item = self._plan[self._done]
            self._done += 1
            if item.kind != "data" or self._done == len(self._plan) or self._plan[self._done].kind != "data":
                data = b"".join(piece.data for piece in self._plan[begin : self._done])
                yield _record(item.kind, data)
                begin = self._done
        if begin < self._done:
            yield _record("data", b"".join(piece.data for piece in self._plan[begin : self._done]))

    def receive_into(self, lender: Room | None) -> None:
        """Let messages lie where `lender` says."""
        functions = function_addresses()
        self._receivers = [BulkReceiver(socket, functions, lender) for socket in self._sockets]

    def missing(self) -> None:
        """Nothing is missing."""

    def close(self) -> None:
        """Let go what was received and not taken."""
        for receiver in self._receivers:
            receiver.close()


def through_log(
    sender: Sender, config: Config, plan: list[FromPositions], messages: int, path: Path
) -> Iterator[Message]:
    """Yield what comes out of the ingest stage that reads a log, not there before, which another thread writes.

    Raises
    ------
    WrongResult
        If the log was not written.
    """
    client: Any = Instrument(sender, plan)
    stage = IngestStage(config, memory=sender.memory)
    tail = sender.begin_log()
    recorder = Recorder(client, StreamLogWriter(path, tail=tail), sync_s=1.0, connect_timeout_s=None)
    recorder.start()
    with StreamLogReader(path, tail) as log:
        feed = LogFeed(log.follow_blocks())
        while not stage.finished:
            message = feed.get(WAIT_S)
            if client.taken == messages:
                recorder.stop()
            if message is not None:
                yield from stage.handle(message, time.time_ns())
            if isinstance(message, RawBlock):
                client.handled_bytes += len(message.data)
            if recorder.failure is not None:
                break
    recorder.join()
    if recorder.failure is not None:
        raise WrongResult(recorder.failure)


def without_log(sender: Sender, config: Config, plan: list[FromPositions], messages: int) -> Iterator[Message]:
    """Yield what `through_log` does, of messages that go from the socket to the stage in one thread.

    With the pauses that the recorder makes.
    """
    client, stage, gathering = Instrument(sender, plan), IngestStage(config, memory=sender.memory), Gathering()
    taken_at = time.monotonic()
    while not stage.finished:
        nothing_follows = client.taken == messages
        taken, size = client.taken, client.taken_bytes
        for arrived in client.poll(WAIT_S if not nothing_follows else 0.0):
            yield from stage.handle(arrived, time.time_ns())
            client.handled_bytes = client.taken_bytes
        now = time.monotonic()
        pause_s, taken_at = gathering.pause_s(client.taken - taken, client.taken_bytes - size, now - taken_at), now
        if client.taken != messages and pause_s:
            time.sleep(pause_s)
        if nothing_follows:
            end = RawRecord(source="recorder", kind="end", sequence=0, received_ns=time.time_ns())
            yield from stage.handle(end, time.time_ns())
    client.close()


def socket_alone(sender: Sender, messages: int, file: Any = None) -> None:
    """Receive all messages as the recorder does and drop them, or write them to a file as they are."""
    for block in _received(sender, messages):
        if file is not None:
            file.write(block.data)


def decoding_alone(sender: Sender, config: Config, messages: int) -> None:
    """Receive all messages and copy what they hold to a ring of frames: nothing is kept, paired or counted.

    Raises
    ------
    WrongResult
        If not every message but the first and the last was a frame.
    """
    decoder: Any = detectors.decoder(config.detector, sender.memory)
    ring: Array | None = None
    frames = 0
    for block in _received(sender, messages):
        for out in decoder.feed_block(block.data, block.spans, block.received_ns):
            if isinstance(out, FrameBlock):
                ring = np.empty((RING_FRAMES, *out.counts.shape[1:]), out.counts.dtype) if ring is None else ring
                for first in range(0, len(out.counts), RING_FRAMES):
                    piece = out.counts[first : first + RING_FRAMES]
                    ring[: len(piece)] = piece
                frames += len(out.counts)
    if frames != messages - 2:
        raise WrongResult(f"{frames} of {messages - 2} frames were decoded")


def _received(sender: Sender, messages: int) -> Iterator[RawBlock]:
    """Yield all messages in blocks, with the pauses that the recorder makes."""
    (receiver,), gathering = sender.receivers, Gathering()
    left, taken_at = messages, time.monotonic()
    while left:
        block = receiver.receive(1) if receiver.holds_message or sender.wait() else None
        if block is not None:
            left -= len(block)
            yield block
            now = time.monotonic()
            pause_s, taken_at = gathering.pause_s(len(block), len(block.data), now - taken_at), now
            if left and pause_s:
                time.sleep(pause_s)


def _record(kind: Kind, data: bytes) -> RawRecord:
    parts = (data,) if kind == "data" else ()
    return RawRecord(source="positions", kind=kind, sequence=0, received_ns=time.time_ns(), parts=parts)
