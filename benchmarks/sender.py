"""A process that sends a recorded detector series when told to: `python -m benchmarks.sender LOG ENDPOINT`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zmq

from streamptycho.messages import RawRecord
from streamptycho.recording.stream_log import StreamLogReader, StreamLogWriter

HIGH_WATER_MARK = 4096
TIMEOUT_MS = 20_000


class Sender:
    """The other end: starts the process and receives what it sends."""

    def __init__(self, process: subprocess.Popen[bytes], socket: zmq.Socket[bytes]) -> None:
        self._process = process
        self.socket = socket

    def send_all(self) -> None:
        """Have the whole series sent once, as fast as it is received."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def wait(self, timeout_s: float = TIMEOUT_MS / 1000) -> bool:
        """Wait for a message; whether there is one."""
        return bool(self.socket.poll(int(timeout_s * 1000)))

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
def sending(messages: list[tuple[bytes, ...]], folder: Path) -> Iterator[Sender]:
    """Give a process that holds these messages ready to be sent."""
    log = folder / "series.log"
    with StreamLogWriter(log) as writer:
        for number, parts in enumerate(messages):
            writer.append(RawRecord(source="detector", kind="data", sequence=number, received_ns=number, parts=parts))
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        socket.linger = 0
        socket.rcvhwm = HIGH_WATER_MARK
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        command = [sys.executable, "-m", "benchmarks.sender", str(log), f"tcp://127.0.0.1:{port}"]
        root = Path(__file__).resolve().parents[1]
        with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=root) as process:
            try:
                yield Sender(process, socket)
            finally:
                process.kill()


def main() -> None:
    log, endpoint = sys.argv[1:]
    messages = [record.parts for record in StreamLogReader(Path(log))]
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.linger = 0
        socket.sndhwm = HIGH_WATER_MARK
        socket.sndtimeo = TIMEOUT_MS
        socket.connect(endpoint)
        try:
            while sys.stdin.buffer.read(1):
                for parts in messages:
                    if len(parts) == 1:
                        socket.send(parts[0])
                    else:
                        socket.send_multipart(parts)
        except zmq.Again:
            sys.exit("nobody receives any more")


if __name__ == "__main__":
    main()
