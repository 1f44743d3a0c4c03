"""The sockets towards the instrument: a PULL on the detector and a TCP connection to the position source."""

from __future__ import annotations

import socket as tcp
import time
from collections.abc import Callable, Iterator, Sequence

import zmq
from zmq.utils.monitor import recv_monitor_message

from streamptycho.messages import Array, RawBlock, RawRecord
from streamptycho.runtime.bulk_receive import BulkReceiver, Room, function_addresses
from streamptycho.runtime.subscription import Subscription

RECEIVE_BYTES = 1 << 20
MAX_DETECTOR_MESSAGE_BYTES = 1 << 30
RETRY_NS = 500_000_000
RECEIVE_QUEUE_MESSAGES = 4096


class InstrumentError(ConnectionError):
    """An instrument that does not answer: says which, where, and what to check."""


class _Connection:
    """One connection to the detector."""

    def __init__(self, socket: zmq.Socket[bytes], functions: Array | None) -> None:
        self.socket = socket
        self.receiver = BulkReceiver(socket, functions)
        self.events = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        self.stands = False

    def close(self) -> None:
        self.receiver.close()
        self.socket.disable_monitor()
        self.events.close(0)
        self.socket.close(0)


class InstrumentClient:
    """Receives from both instruments at once and stamps every message with the time it came.

    A lost connection to the position source is recorded and tried again; ZeroMQ does the same for the detector.

    Parameters
    ----------
    detector_endpoint
        Where the detector pushes its stream.
    positions_host, positions_port
        Where the position source listens.
    request
        What is sent to the position source after connecting.
    subscribe
        The position source publishes over ZeroMQ, instead of answering a TCP connection.
    receivers
        How many connections to the detector share its stream. Each keeps its order, and is received by a thread of its
        own; what comes over several is out of order.
    more_endpoints
        Where it pushes the same stream as well. Connections are made to each endpoint in turn.
    clock_ns
        Receive times.

    Attributes
    ----------
    detector_connected
        Whether all connections to the detector stand.

    Raises
    ------
    InstrumentError
        If an address is none.
    """

    def __init__(
        self,
        detector_endpoint: str,
        positions_host: str,
        positions_port: int,
        request: bytes,
        *,
        subscribe: bool = False,
        receivers: int = 1,
        more_endpoints: Sequence[str] = (),
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._clock_ns = clock_ns
        self._sequence = 0
        endpoints = [detector_endpoint, *more_endpoints]
        self._detector_endpoint = " and ".join(endpoints)
        self._poller = zmq.Poller()
        self._context = zmq.Context(receivers) if receivers > 1 else None
        self._connections: list[_Connection] = []
        functions = function_addresses()
        try:
            for number in range(receivers):
                socket = (self._context or zmq.Context.instance()).socket(zmq.PULL)
                if self._context is not None:
                    socket.setsockopt(zmq.AFFINITY, 1 << number)
                socket.setsockopt(zmq.RCVHWM, max(1, RECEIVE_QUEUE_MESSAGES // receivers))
                socket.setsockopt(zmq.MAXMSGSIZE, MAX_DETECTOR_MESSAGE_BYTES)
                connection = _Connection(socket, functions)
                self._connections.append(connection)
                self._poller.register(socket, zmq.POLLIN)
                self._poller.register(connection.events, zmq.POLLIN)
                socket.connect(endpoints[number % len(endpoints)])
        except zmq.ZMQError as error:
            self._close_detector()
            raise InstrumentError(
                f"{self._detector_endpoint!r} is not an address of a detector ({error.strerror}): "
                "detector.endpoint must look like tcp://HOST:PORT"
            ) from None
        self._address = (positions_host, positions_port)
        self._subscription: Subscription | None = None
        if subscribe:
            try:
                self._subscription = Subscription(positions_host, positions_port, self._poller)
            except zmq.ZMQError as error:
                self._close_detector()
                raise InstrumentError(
                    f"tcp://{positions_host}:{positions_port} is not an address of a position source "
                    f"({error.strerror}): check positions.host and positions.port"
                ) from None
        self._request = request
        self._positions: tcp.socket | None = None
        self._next_try_ns = 0
        self._last_failure = "no answer"
        self.detector_connected = False

    def poll(self, timeout_s: float) -> Iterator[RawRecord | RawBlock]:
        """Yield what arrived, waiting for the first message at most the given time.

        A block of what the detector sent is valid until the next call.
        """
        yield from self._connect_positions()
        held = any(connection.receiver.holds_message for connection in self._connections)
        ready = dict(self._poller.poll(0 if held else int(timeout_s * 1000)))
        for connection in self._connections:
            if connection.events in ready:
                yield from self._follow(connection)
        if self._subscription is not None:
            for kind, content in self._subscription.receive():
                yield self._record("positions", kind, content)
        if self._positions is not None and self._positions.fileno() in ready:
            yield from self._receive_positions()
        for connection in self._connections:
            if connection.socket in ready or connection.receiver.holds_message:
                block = connection.receiver.receive(self._sequence + 1)
                if block is not None:
                    self._sequence += len(block)
                    yield block

    def receive_into(self, lender: Room | None) -> None:
        """Let messages of the detector lie where `lender` says; None for memory of this client."""
        for connection in self._connections:
            connection.receiver.receive_into(lender)

    def missing(self) -> str | None:
        """Return a sentence about the instrument that is not connected, None when both are."""
        standing = sum(connection.stands for connection in self._connections)
        if not self.detector_connected and standing:
            return (
                f"{standing} of {len(self._connections)} connections to the detector at {self._detector_endpoint} "
                "stand: what was on its way over another is lost when that was cut; check the cable"
            )
        if not self.detector_connected:
            return (
                f"no detector answers at {self._detector_endpoint}: check detector.endpoint, the cable, and that the "
                "stream interface is enabled"
            )
        if self._subscription is not None:
            host, port = self._address
            silent = f"nothing publishes positions at {host}:{port}: check positions.host and positions.port"
            return None if self._subscription.connected else silent
        if self._positions is None:
            host, port = self._address
            return (
                f"no PandABox answers at {host}:{port} ({self._last_failure}): check positions.host and "
                "positions.port, and that the box is on"
            )
        return None

    def close(self) -> None:
        """Close both connections."""
        self._close_detector()
        if self._subscription is not None:
            self._subscription.close()
        if self._positions is not None:
            self._positions.close()
            self._positions = None

    def _close_detector(self) -> None:
        for connection in self._connections:
            connection.close()
        if self._context is not None:
            self._context.term()

    def _record(self, source: str, kind: str, parts: tuple[bytes, ...] = ()) -> RawRecord:
        self._sequence += 1
        return RawRecord(
            source=source,  # type: ignore[arg-type]
            kind=kind,  # type: ignore[arg-type]
            sequence=self._sequence,
            received_ns=self._clock_ns(),
            parts=parts,
        )

    def _follow(self, connection: _Connection) -> Iterator[RawRecord]:
        while connection.events.poll(0):
            event = recv_monitor_message(connection.events)["event"]
            connection.stands = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            self.detector_connected = all(one.stands for one in self._connections)
            yield self._record("detector", "connected" if connection.stands else "disconnected")

    def _connect_positions(self) -> Iterator[RawRecord]:
        if self._subscription is not None or self._positions is not None or self._clock_ns() < self._next_try_ns:
            return
        self._next_try_ns = self._clock_ns() + RETRY_NS
        try:
            connection = tcp.create_connection(self._address, timeout=0.5)
            connection.sendall(self._request)
        except OSError as error:
            self._last_failure = error.strerror or str(error)
            return
        connection.setblocking(False)
        self._positions = connection
        self._poller.register(connection.fileno(), zmq.POLLIN)
        yield self._record("positions", "connected")

    def _receive_positions(self) -> Iterator[RawRecord]:
        assert self._positions is not None
        try:
            data = self._positions.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._last_failure, data = error.strerror or str(error), b""
        if data:
            yield self._record("positions", "data", (data,))
            return
        self._poller.unregister(self._positions.fileno())
        self._positions.close()
        self._positions = None
        yield self._record("positions", "disconnected")
