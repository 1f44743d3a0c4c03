"""What receives a detector series that another process sends, and what it keeps from one series to the next."""

from __future__ import annotations

import mmap
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import zmq

from benchmarks.push import TIMEOUT_S, kept
from streamptycho.memory import ReusedMemory, fresh
from streamptycho.recording.stream_log import LogTail
from streamptycho.runtime.bulk_receive import BulkReceiver, function_addresses

HIGH_WATER_MARK = 4096
MOST_SLABS = 16


class Sender:
    """The other end: receives what the sending process sends, over one connection or several.

    `receivers`, `memory` for frames and that of a log are kept from one series to the next, as a service has them
    before a series begins: memory that is new to this machine comes slowly, and that is not what is measured.
    """

    def __init__(self, process: subprocess.Popen[bytes], sockets: Sequence[zmq.Socket[bytes]]) -> None:
        self._process = process
        self.sockets = sockets
        self.socket = sockets[0]
        functions = function_addresses()
        self.receivers = [BulkReceiver(socket, functions) for socket in sockets]
        self.memory = ReusedMemory()
        self._slabs: list[mmap.mmap] = []
        self._slabs_used = 0
        self._poller = zmq.Poller()
        for socket in sockets:
            self._poller.register(socket, zmq.POLLIN)

    def send_all(self, rate_hz: float = 0.0) -> None:
        """Have the whole series sent once, at a rate, or as fast as it is received."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"%r\n" % rate_hz)
        self._process.stdin.flush()

    def begin_log(self) -> LogTail:
        """Return the memory of a new log: that of the one before, which nobody reads any more."""
        self._slabs_used = 0
        return LogTail(allocate=self._slab)

    def _slab(self, size: int) -> mmap.mmap:
        if self._slabs_used == MOST_SLABS:
            return fresh(size)
        if self._slabs_used == len(self._slabs):
            self._slabs.append(fresh(size))
        self._slabs_used += 1
        return self._slabs[self._slabs_used - 1]

    def wait(self, timeout_s: float = TIMEOUT_S) -> bool:
        """Wait for a message; whether there is one."""
        return bool(self._poller.poll(int(timeout_s * 1000)))

    def receive(self) -> list[bytes]:
        """Return the next message.

        Raises
        ------
        TimeoutError
            If none comes.
        """
        if not self.socket.poll(int(TIMEOUT_S * 1000)):
            raise TimeoutError(f"no message in {TIMEOUT_S:.0f} s from the sending process")
        return self.socket.recv_multipart()


@contextmanager
def sending(messages: Sequence[tuple[bytes, ...]], folder: Path, connections: int = 1) -> Iterator[Sender]:
    """Give a process that holds these messages, of one part each, ready to be sent over so many connections."""
    series = kept(messages, folder / f"series-{connections}.npz")
    with zmq.Context(connections) as context, ExitStack() as opened:
        sockets = [opened.enter_context(context.socket(zmq.PULL)) for _ in range(connections)]
        for number, socket in enumerate(sockets):
            socket.linger = 0
            socket.rcvhwm = HIGH_WATER_MARK // connections
            socket.setsockopt(zmq.AFFINITY, 1 << number)
        ports = [socket.bind_to_random_port("tcp://127.0.0.1") for socket in sockets]
        command = [sys.executable, "-m", "benchmarks.push", str(series), *(f"127.0.0.1:{port}" for port in ports)]
        root = Path(__file__).resolve().parents[1]
        with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=root) as process:
            try:
                yield Sender(process, sockets)
            finally:
                process.kill()
