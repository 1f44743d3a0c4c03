"""A process that sends a recorded detector series when told to: `python -m benchmarks.sender LOG ENDPOINT...`."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zmq
import zmq.backend.cython._zmq as binding
from numba import njit

from streamptycho.messages import Array, RawBlock
from streamptycho.recording.stream_log import StreamLogReader, StreamLogWriter

HIGH_WATER_MARK = 4096
TIMEOUT_MS = 20_000
MESSAGES_AT_ONCE = 2000
PACE_S = 0.001
LISTENING = "@"


class Sender:
    """The other end: starts the process and receives what it sends, over one connection or several."""

    def __init__(self, process: subprocess.Popen[bytes], sockets: Sequence[zmq.Socket[bytes]]) -> None:
        self._process = process
        self.sockets = sockets
        self.socket = sockets[0]
        self._poller = zmq.Poller()
        for socket in sockets:
            self._poller.register(socket, zmq.POLLIN)

    def send_all(self, rate_hz: float = 0.0) -> None:
        """Have the whole series sent once, at a rate, or as fast as it is received."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"%r\n" % rate_hz)
        self._process.stdin.flush()

    def wait(self, timeout_s: float = TIMEOUT_MS / 1000) -> bool:
        """Wait for a message; whether there is one."""
        return bool(self._poller.poll(int(timeout_s * 1000)))

    def receive(self) -> list[bytes]:
        """Return the next message.

        Raises
        ------
        TimeoutError
            If none comes.
        """
        if not self.socket.poll(TIMEOUT_MS):
            raise TimeoutError(f"no message in {TIMEOUT_MS / 1000:.0f} s from the sending process")
        return self.socket.recv_multipart()


@contextmanager
def sending(messages: list[tuple[bytes, ...]], folder: Path, connections: int = 1) -> Iterator[Sender]:
    """Give a process that holds these messages, of one part each, ready to be sent over so many connections."""
    log = kept_in_log(messages, folder / f"series-{connections}.log")
    with zmq.Context(connections) as context, ExitStack() as opened:
        sockets = [opened.enter_context(context.socket(zmq.PULL)) for _ in range(connections)]
        for number, socket in enumerate(sockets):
            socket.linger = 0
            socket.rcvhwm = HIGH_WATER_MARK // connections
            socket.setsockopt(zmq.AFFINITY, 1 << number)
        endpoints = [f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}" for socket in sockets]
        command = [sys.executable, "-m", "benchmarks.sender", str(log), *endpoints]
        root = Path(__file__).resolve().parents[1]
        with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=root) as process:
            try:
                yield Sender(process, sockets)
            finally:
                process.kill()


def kept_in_log(messages: list[tuple[bytes, ...]], log: Path) -> Path:
    """Return the log, in which these messages are now."""
    with StreamLogWriter(log) as writer:
        for first in range(0, len(messages), MESSAGES_AT_ONCE):
            writer.append_block(_block(messages[first : first + MESSAGES_AT_ONCE]))
    return log


def _block(messages: Sequence[tuple[bytes, ...]]) -> RawBlock:
    count, sizes = len(messages), [len(part) for parts in messages for part in parts]
    ends = np.cumsum([0, *sizes])
    return RawBlock(
        source=np.zeros(count, np.uint8),
        kind=np.zeros(count, np.uint8),
        sequence=np.arange(count),
        received_ns=np.zeros(count, np.int64),
        first_part=np.cumsum([0, *map(len, messages)]),
        spans=np.stack([ends[:-1], ends[1:]], axis=1),
        data=np.frombuffer(b"".join(part for parts in messages for part in parts), np.uint8),
    )


def main() -> None:
    log, *endpoints = sys.argv[1:]
    blocks = [block for block in StreamLogReader(Path(log)).blocks() if isinstance(block, RawBlock)]
    data = np.concatenate([block.data for block in blocks])
    moved = np.cumsum([0, *(len(block.data) for block in blocks[:-1])])
    spans = np.concatenate([block.spans + by for block, by in zip(blocks, moved, strict=True)])
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.linger = 0
        socket.sndhwm = HIGH_WATER_MARK
        socket.sndtimeo = TIMEOUT_MS
        for endpoint in endpoints:
            if endpoint.startswith(LISTENING):
                socket.bind(endpoint.removeprefix(LISTENING))
            else:
                socket.connect(endpoint)
        _send_at_once(socket.underlying, data, spans[:0])  # compiled now, not while the clock runs
        while line := sys.stdin.buffer.readline():
            if not _send(socket, data, spans, float(line)):
                sys.exit("nobody receives any more")


def _send(socket: zmq.Socket[bytes], data: Array, spans: Array, rate_hz: float) -> bool:
    """Send all messages, every one when it is due, those that are late at once; whether they were taken."""
    began, sent = time.perf_counter(), 0
    while sent < len(spans):
        due = int((time.perf_counter() - began) * rate_hz) + 1 if rate_hz else len(spans)
        if not _send_at_once(socket.underlying, data, spans[sent:due]):
            return False
        sent = max(sent, min(due, len(spans)))
        if sent < len(spans):
            time.sleep(PACE_S)
    return True


_zmq_send = ctypes.CDLL(binding.__file__).zmq_send
_zmq_send.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_zmq_send.restype = ctypes.c_int


@njit
def _send_at_once(socket: Any, data: Any, spans: Any) -> Any:
    """Send messages as fast as libzmq takes them: the detector is not what is measured."""
    for k in range(len(spans)):
        if _zmq_send(socket, data.ctypes.data + spans[k, 0], spans[k, 1] - spans[k, 0], 0) < 0:
            return False
    return True


if __name__ == "__main__":
    main()
