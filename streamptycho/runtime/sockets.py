"""ZeroMQ ports: PUSH and PULL for data (bounded, pushing back), PUB and SUB for what people look at."""

from __future__ import annotations

import os
from collections.abc import Iterable

import zmq

from streamptycho import wire
from streamptycho.config import ServiceAddress
from streamptycho.messages import Message
from streamptycho.runtime.lending import Borrower, Lender, LenderGoneError

LINGER_UNTIL_SENT = -1
MAX_MESSAGE_BYTES = 2 << 30


class PortError(OSError):
    """A socket that could not be opened."""


def data_endpoint(address: ServiceAddress, host: str | None = None) -> str:
    """Return where the data of a service leave it."""
    return f"tcp://{host or address.host}:{address.port}"


def status_endpoint(address: ServiceAddress, host: str | None = None) -> str:
    """Return where a service publishes what people look at."""
    return f"tcp://{host or address.host}:{address.status_port}"


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Return TCP ports that are free now (held open together while looking, so that they differ)."""
    with zmq.Context() as context:
        sockets = [context.socket(zmq.PULL) for _ in range(count)]
        try:
            return [socket.bind_to_random_port(f"tcp://{host}") for socket in sockets]
        finally:
            for socket in sockets:
                socket.close(0)


def is_free(host: str, port: int) -> bool:
    """Whether nothing listens on a TCP port now."""
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        try:
            socket.bind(f"tcp://{host}:{port}")
        except zmq.ZMQError:
            return False
        return True


class PushSink:
    """Sends data to the next service. Full queues block, nothing is dropped.

    The process does not end before the next service has taken everything, however slow it is: see `release_sockets`.

    Parameters
    ----------
    endpoint
        Where to listen.
    high_water_mark
        How many messages wait at most.
    lender
        Lends the next service, which is on this machine, the arrays that lie in its memory; None to copy all.
    """

    def __init__(self, endpoint: str, high_water_mark: int, lender: Lender | None = None) -> None:
        self._lender = lender
        self._origin = str(os.getpid()).encode()
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
        self._socket.setsockopt(zmq.SNDHWM, high_water_mark)
        self._socket.setsockopt(zmq.LINGER, LINGER_UNTIL_SENT)
        _bind(self._socket, endpoint)

    def put(self, message: Message, timeout_s: float) -> bool:
        """Send a message; False when the queue stayed full for the time."""
        lender = self._lender
        if not self._socket.poll(int(timeout_s * 1000), zmq.POLLOUT):
            return False
        if lender is not None and not lender.has_room(timeout_s):
            return False
        lent_before = 0 if lender is None else lender.lent_so_far
        try:
            parts = [*wire.encode(message, None if lender is None else lender.lend), self._origin]
            self._socket.send_multipart(parts, zmq.NOBLOCK, copy=False)
        except zmq.Again:
            if lender is not None:
                lender.take_back(lent_before)
            return False
        return True

    def close(self) -> None:
        """Close; what was put still leaves, as long as it takes."""
        self._socket.close()


class _Receiver:
    """A socket that messages are received from."""

    def __init__(self, kind: int, high_water_mark: int) -> None:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
        self._socket.setsockopt(zmq.RCVHWM, high_water_mark)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)

    def get(self, timeout_s: float) -> Message | None:
        """Return the next message, or None when none came within the time."""
        if not self._socket.poll(int(timeout_s * 1000)):
            return None
        return self._decode([frame.buffer for frame in self._socket.recv_multipart(copy=False)])

    def _decode(self, parts: list[memoryview]) -> Message | None:
        return wire.decode(parts)

    def close(self) -> None:
        """Close at once."""
        self._socket.close(0)


class PullSource(_Receiver):
    """Receives data from the service before.

    Parameters
    ----------
    endpoint
        Where that listens.
    high_water_mark
        How many messages wait at most.
    keeps
        Whether messages are kept for long: then what it lends is copied and returned at once.
    """

    def __init__(self, endpoint: str, high_water_mark: int, *, keeps: bool = False) -> None:
        super().__init__(zmq.PULL, high_water_mark)
        borrower = Borrower()
        self._borrow = borrower.copy if keeps else borrower.borrow
        self._gone: bytes | None = None
        self._socket.connect(endpoint)

    def _decode(self, parts: list[memoryview]) -> Message | None:
        """Leave out what a dead process had lent, and what it sent behind that: who takes its place sends it again."""
        origin = bytes(parts.pop()) if len(parts) > 1 else b""
        if origin == self._gone:
            return None
        try:
            return wire.decode(parts, self._borrow)
        except LenderGoneError:
            self._gone = origin
            return None


class PubSink:
    """Publishes what people look at. Slow readers miss messages, never hold up the pipeline."""

    def __init__(self, endpoint: str, high_water_mark: int = 32) -> None:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUB)
        self._socket.setsockopt(zmq.SNDHWM, high_water_mark)
        self._socket.setsockopt(zmq.LINGER, 500)
        _bind(self._socket, endpoint)

    def put(self, message: Message, timeout_s: float = 0.0) -> bool:
        """Publish a message."""
        self._socket.send_multipart(wire.encode(message), copy=False)
        return True

    def close(self) -> None:
        """Close after half a second at most."""
        self._socket.close()


class SubSource(_Receiver):
    """Reads what several services publish: everything, or only messages of the given types."""

    def __init__(
        self, endpoints: Iterable[str], types: Iterable[type[Message]] = (), high_water_mark: int = 256
    ) -> None:
        super().__init__(zmq.SUB, high_water_mark)
        for topic in [wire.prefix(kind) for kind in types] or [b""]:
            self._socket.subscribe(topic)
        for endpoint in endpoints:
            self._socket.connect(endpoint)


def release_sockets() -> None:
    """Wait until everything that was sent has left, then give up all sockets. Call at the end of a process."""
    zmq.Context.instance().term()


def _bind(socket: zmq.Socket[bytes], endpoint: str) -> None:
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        socket.close(0)
        raise PortError(f"cannot listen on {endpoint}: {error.strerror}. Is another run using this port?") from None
