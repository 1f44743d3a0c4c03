"""Many messages of a ZeroMQ socket at once: libzmq is called from compiled code, which does not hold the GIL."""

from __future__ import annotations

import ctypes
import time
from typing import Any, Protocol

import numpy as np
import zmq
import zmq.backend.cython._zmq as binding
from numba import njit

from streamptycho.messages import RECORD_KINDS, RECORD_SOURCES, Array, RawBlock
from streamptycho.native import call_int, call_long, copy_bytes, load_u64

ROOM_BYTES = 16 << 20
LENT_BYTES = 8 << 20
MAX_MESSAGES = 4096
MAX_PARTS = 4096
MAX_BYTES = 1 << 30

_MESSAGE_BYTES = 64
_FUNCTIONS = ("zmq_msg_init", "zmq_msg_recv", "zmq_msg_close", "zmq_msg_more", "zmq_msg_data", "zmq_msg_size")
_INIT, _RECEIVE, _CLOSE, _MORE, _DATA, _SIZE, _CLOCK = range(7)
_CLOCK_REALTIME = 0
_DONTWAIT = int(zmq.DONTWAIT)
_WAITING_PARTS, _WAITING_SINCE_NS = range(2)


@njit(cache=True, nogil=True, inline="always")
def _now_ns(clock: Any, time_spec: Any) -> Any:
    call_int(clock, _CLOCK_REALTIME, time_spec, 0)
    return np.int64(load_u64(time_spec)) * 1_000_000_000 + np.int64(load_u64(time_spec + 8))


@njit(cache=True, nogil=True)
def _receive(
    functions: Any,
    socket: Any,
    handles: Any,
    state: Any,
    room: Any,
    left_free: Any,
    received_ns: Any,
    first_part: Any,
    spans: Any,
) -> Any:
    """Receive what is there as far as there is room: (messages, parts, bytes, bytes that the next one needs).

    `left_free` says how many bytes are left free before every message, and how many more for each of its parts.
    `handles` holds the parts of a message that was received and did not fit; `state` how many, and since when.
    """
    message_at, room_at = handles.ctypes.data, room.ctypes.data
    time_spec = np.zeros(2, np.int64)
    messages: Any = 0
    parts: Any = 0
    used: Any = 0
    needed: Any = 0
    first_part[0] = 0
    while messages < len(received_ns):
        if state[_WAITING_PARTS] == 0:
            call_int(functions[_INIT], message_at, 0, 0)
            if call_int(functions[_RECEIVE], message_at, socket, _DONTWAIT) < 0:
                call_int(functions[_CLOSE], message_at, 0, 0)
                break
            state[_WAITING_SINCE_NS] = _now_ns(functions[_CLOCK], time_spec.ctypes.data)
            count, last = 1, message_at
            more = call_int(functions[_MORE], last, 0, 0)
            while more:
                # Parts of one message arrive together. Those beyond what a record can hold are let go.
                last = message_at + min(count, MAX_PARTS) * _MESSAGE_BYTES
                call_int(functions[_INIT], last, 0, 0)
                more = (
                    call_int(functions[_RECEIVE], last, socket, 0) >= 0 and call_int(functions[_MORE], last, 0, 0) != 0
                )
                if count < MAX_PARTS:
                    count += 1
                else:
                    call_int(functions[_CLOSE], last, 0, 0)
            state[_WAITING_PARTS] = count
        count = state[_WAITING_PARTS]
        size = np.int64(0)
        for part in range(count):
            size += call_long(functions[_SIZE], message_at + part * _MESSAGE_BYTES)
        kept = size <= MAX_BYTES
        free = left_free[0] + count * left_free[1]
        if used + free + (size if kept else 0) > len(room) or parts + count > len(spans):
            needed = free + (size if kept else 0)
            break
        used += free
        for part in range(count):
            handle = message_at + part * _MESSAGE_BYTES
            size = call_long(functions[_SIZE], handle) if kept else np.int64(0)
            copy_bytes(room_at + used, call_long(functions[_DATA], handle), size)
            call_int(functions[_CLOSE], handle, 0, 0)
            spans[parts, 0], spans[parts, 1] = used, used + size
            used += size
            parts += 1
        received_ns[messages] = state[_WAITING_SINCE_NS]
        state[_WAITING_PARTS] = 0
        messages += 1
        first_part[messages] = parts
    return messages, parts, used, needed


def function_addresses() -> Array | None:
    """Return where the functions of libzmq and the clock are in this process, None where they cannot be found."""
    try:
        libzmq, libc = ctypes.CDLL(binding.__file__), ctypes.CDLL(None)
        found = [getattr(libzmq, name) for name in _FUNCTIONS]
        found.append(libc.clock_gettime)
    except (OSError, AttributeError, TypeError):
        return None
    return np.array([ctypes.cast(function, ctypes.c_void_p).value for function in found], np.int64)


class Room(Protocol):
    """Somebody who says where messages shall lie, so that they need not be copied again.

    `head_bytes` are left free before every message, and `part_bytes` more for each of its parts.
    """

    head_bytes: int
    part_bytes: int

    def room(self, size: int) -> Array:
        """Return memory (at least `size`,) uint8 for the next messages."""


class BulkReceiver:
    """Receives from one socket: as blocks of records, which are valid until the next call.

    Parameters
    ----------
    socket
        A socket that only this receives from, in one thread.
    functions
        From `function_addresses`; None to receive message by message, with the same result.
    lender
        Where messages shall lie; None for memory of the receiver.
    """

    def __init__(self, socket: zmq.Socket[bytes], functions: Array | None, lender: Room | None = None) -> None:
        self._socket, self._functions = socket, functions
        self._lender: Room | None = None
        self._left_free = np.zeros(2, np.int64)
        self._handles = np.zeros((MAX_PARTS + 1) * _MESSAGE_BYTES // 8, np.int64)
        self._state = np.zeros(2, np.int64)
        self._room: Array = np.empty(0, np.uint8)
        self._received_ns = np.empty(MAX_MESSAGES, np.int64)
        self._first_part = np.empty(MAX_MESSAGES + 1, np.int64)
        self._spans = np.empty((4 * MAX_MESSAGES, 2), np.int64)
        if functions is not None:
            # Compiled before the first message comes, not while the queue of the socket fills.
            nothing = np.empty(0, np.int64)
            first_part, spans = self._first_part[:1], self._spans[:0]
            _receive(functions, 0, self._handles, self._state, self._room, self._left_free, nothing, first_part, spans)
        self.receive_into(lender)

    def receive_into(self, lender: Room | None) -> None:
        """Put what comes from now on into the room of `lender`, None for memory of the receiver."""
        self._lender = lender if self._functions is not None else None
        self._left_free[:] = (0, 0) if lender is None else (lender.head_bytes, lender.part_bytes)
        self._room = np.empty(ROOM_BYTES, np.uint8)

    @property
    def holds_message(self) -> bool:
        """Whether a message was taken from the socket and did not fit: it comes with the next call, not with a poll."""
        return bool(self._state[_WAITING_PARTS])

    def receive(self, sequence: int) -> RawBlock | None:
        """Return what waits in the socket, bounded, as records of the detector numbered from `sequence`; or None."""
        self._make_room(0)
        messages, parts, used, needed = self._fill()
        if not messages and needed:
            self._make_room(needed)
            messages, parts, used, _ = self._fill()
        if not messages:
            return None
        return RawBlock(
            source=np.full(messages, RECORD_SOURCES.index("detector"), np.uint8),
            kind=np.full(messages, RECORD_KINDS.index("data"), np.uint8),
            sequence=np.arange(sequence, sequence + messages),
            received_ns=self._received_ns[:messages],
            first_part=self._first_part[: messages + 1],
            spans=self._spans[:parts],
            data=self._room[:used],
        )

    def close(self) -> None:
        """Let go what was received and did not fit. Call before the socket is closed."""
        if self._functions is not None and self._state[_WAITING_PARTS]:
            close = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(int(self._functions[_CLOSE]))
            for part in range(int(self._state[_WAITING_PARTS])):
                close(self._handles.ctypes.data + part * _MESSAGE_BYTES)
            self._state[_WAITING_PARTS] = 0

    def _make_room(self, needed: int) -> None:
        if self._lender is not None:
            size = max(needed, LENT_BYTES)
            self._room = self._lender.room(size)[: max(needed, ROOM_BYTES)]
        elif needed:
            self._room = np.empty(max(needed, ROOM_BYTES), np.uint8)

    def _fill(self) -> tuple[int, int, int, int]:
        if self._functions is None:
            return self._fill_one_by_one()
        messages, parts, used, needed = _receive(
            self._functions,
            self._socket.underlying,
            self._handles,
            self._state,
            self._room,
            self._left_free,
            self._received_ns,
            self._first_part,
            self._spans,
        )
        return messages, parts, used, needed

    def _fill_one_by_one(self) -> tuple[int, int, int, int]:
        received: list[list[bytes]] = []
        size = 0
        while len(received) < MAX_MESSAGES and size < ROOM_BYTES:
            try:
                message = self._socket.recv_multipart(zmq.NOBLOCK)[:MAX_PARTS]
            except zmq.Again:
                break
            self._received_ns[len(received)] = time.time_ns()
            if sum(map(len, message)) > MAX_BYTES:
                message = [b""] * len(message)
            received.append(message)
            size += sum(map(len, message))
            if sum(map(len, received)) > len(self._spans) - MAX_PARTS:
                break
        sizes = [len(part) for message in received for part in message]
        ends = np.cumsum([0, *sizes])
        self._room = np.frombuffer(b"".join(part for message in received for part in message), np.uint8)
        self._spans[: len(sizes), 0], self._spans[: len(sizes), 1] = ends[:-1], ends[1:]
        self._first_part[: len(received) + 1] = np.cumsum([0, *map(len, received)])
        return len(received), len(sizes), size, 0
