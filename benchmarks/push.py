"""A process that sends a detector series when told to: `python -m benchmarks.push SERIES ENDPOINT...`.

The detector is another machine at a beamline, and must not take from the processor what is measured here. So messages
are put on the wire as libzmq would put them there, but with one system call for hundreds; and what many messages have
in common is in memory once, as what a network card has just written would be in the cache.

References
----------
ZeroMQ Message Transport Protocol 3.0: https://rfc.zeromq.org/spec/23/
"""

from __future__ import annotations

import select
import socket
import sys
import time
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np

TIMEOUT_S = 20.0
PACE_S = 0.001
LISTENING = "@"
PIECES_AT_ONCE = 1024
OWN_BYTES = 448
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x05READY\x0bSocket-Type\x00\x00\x00\x04PUSH"


def kept(messages: Iterable[tuple[bytes, ...]], file: Path) -> Path:
    """Return the file, in which are these messages now: pieces of bytes, equal ones once, two pieces a message."""
    numbers: dict[bytes, int] = {}
    which = [numbers.setdefault(piece, len(numbers)) for (message,) in messages for piece in _own_and_common(message)]
    lengths = [len(piece) for piece in numbers]
    np.savez(file, data=np.frombuffer(b"".join(numbers), np.uint8), lengths=lengths, which=which)
    return file


def _own_and_common(message: bytes) -> tuple[bytes, bytes]:
    """Return a message with its frame of the protocol in two pieces: its own numbers are in the first."""
    size = len(message)
    frame = bytes([0, size]) if size < 256 else b"\x02" + size.to_bytes(8, "big")
    # from the end: numbers of different length shift what follows
    own = size - max(0, size - OWN_BYTES) // 64 * 64
    return frame + message[:own], message[own:]


def main() -> None:
    file, *endpoints = sys.argv[1:]
    with np.load(file) as series:
        data, ends = series["data"].tobytes(), np.cumsum([0, *series["lengths"].tolist()]).tolist()
        distinct = [data[begin:end] for begin, end in pairwise(ends)]
        pieces = [distinct[number] for number in series["which"].tolist()]
    count = len(endpoints)
    messages = [pieces[k : k + 2] for k in range(0, len(pieces), 2)]
    connections = [_Connection(endpoint, messages[k::count]) for k, endpoint in enumerate(endpoints)]
    while line := sys.stdin.buffer.readline():
        if not _send(connections, len(messages), float(line)):
            sys.exit("nobody receives any more")


def _send(connections: Sequence[_Connection], count: int, rate_hz: float) -> bool:
    """Send all messages, every one when it is due, those that are late at once; whether they were taken."""
    for connection in connections:
        connection.begin()
    began = taken_at = time.perf_counter()
    due = 0
    while due < count or any(not connection.is_done for connection in connections):
        now = time.perf_counter()
        due = min(count, int((now - began) * rate_hz) + 1) if rate_hz else count
        each = [-(-(due - k) // len(connections)) for k in range(len(connections))]
        pushed = [connection.push(messages) for connection, messages in zip(connections, each, strict=True)]
        if any(pushed):
            taken_at = now
            continue
        full = [
            connection.socket
            for connection, messages in zip(connections, each, strict=True)
            if connection.sent < messages
        ]
        if not full:
            taken_at = now
            time.sleep(PACE_S)
        elif now - taken_at > TIMEOUT_S:
            return False
        else:
            select.select([], full, [], TIMEOUT_S)
    return True


class _Connection:
    """One connection of a PUSH socket, and the messages that go over it."""

    def __init__(self, endpoint: str, messages: Iterable[Sequence[bytes]]) -> None:
        self._pieces = [piece for message in messages for piece in message]
        self._ends = [0, *accumulate(map(len, self._pieces))]
        self._bytes = 0
        self.socket = _connected(endpoint)
        self.socket.setblocking(False)

    @property
    def is_done(self) -> bool:
        """Whether all messages are on their way."""
        return self._bytes == self._ends[-1]

    @property
    def sent(self) -> int:
        """How many messages are wholly on their way."""
        return (bisect_right(self._ends, self._bytes) - 1) // 2

    def begin(self) -> None:
        """Start again with the first message."""
        self._bytes = 0

    def push(self, messages: int) -> bool:
        """Put what the connection takes of the first so many messages on the way; whether that was anything."""
        at = bisect_right(self._ends, self._bytes) - 1
        pieces: list[bytes | memoryview] = [*self._pieces[at : min(2 * messages, at + PIECES_AT_ONCE)]]
        if not pieces:
            return False
        pieces[0] = memoryview(pieces[0])[self._bytes - self._ends[at] :]
        try:
            self._bytes += self.socket.sendmsg(pieces)
        except BlockingIOError:
            return False
        return True


def _connected(endpoint: str) -> socket.socket:
    """Return a connection to a PULL socket, or from one where the endpoint is to be listened at."""
    host, _, port = endpoint.removeprefix(LISTENING).rpartition(":")
    if not endpoint.startswith(LISTENING):
        connection = socket.create_connection((host, int(port)), TIMEOUT_S)
        _shake_hands(connection)
        return connection
    with socket.create_server((host, int(port))) as listener:
        while True:
            connection = listener.accept()[0]
            connection.settimeout(TIMEOUT_S)
            try:
                _shake_hands(connection)
            except OSError:
                connection.close()
            else:
                return connection


def _shake_hands(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(GREETING)
    _receive(connection, len(GREETING))
    connection.sendall(bytes([4, len(READY)]) + READY)
    _receive(connection, _receive(connection, 2)[1])


def _receive(connection: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        more = connection.recv(size - len(got))
        if not more:
            raise ConnectionResetError("the other end has gone")
        got += more
    return got


if __name__ == "__main__":
    main()
