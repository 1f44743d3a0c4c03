"""The sockets towards the instrument: a PULL on the detector and a TCP connection to the position source."""

from __future__ import annotations

import socket as tcp
import time
from collections.abc import Callable, Iterator

import zmq
from zmq.utils.monitor import recv_monitor_message

from streamptycho.messages import RawBlock, RawRecord
from streamptycho.runtime.bulk_receive import BulkReceiver, Room, function_addresses
from streamptycho.runtime.subscription import Subscription

RECEIVE_BYTES = 1 << 20
MAX_DETECTOR_MESSAGE_BYTES = 1 << 30
RETRY_NS = 500_000_000
RECEIVE_QUEUE_MESSAGES = 4096


class InstrumentError(ConnectionError):
    """An instrument that does not answer: says which, where, and what to check."""


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
    clock_ns
        Receive times.
    """

    def __init__(
        self,
        detector_endpoint: str,
        positions_host: str,
        positions_port: int,
        request: bytes,
        *,
        subscribe: bool = False,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._clock_ns = clock_ns
        self._sequence = 0
        self._detector_endpoint = detector_endpoint
        self._detector: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PULL)
        self._detector.setsockopt(zmq.RCVHWM, RECEIVE_QUEUE_MESSAGES)
        self._detector.setsockopt(zmq.MAXMSGSIZE, MAX_DETECTOR_MESSAGE_BYTES)
        self._receiver = BulkReceiver(self._detector, function_addresses())
        self._events: zmq.Socket[bytes] = self._detector.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
        )
        self._poller = zmq.Poller()
        self._poller.register(self._detector, zmq.POLLIN)
        self._poller.register(self._events, zmq.POLLIN)
        try:
            self._detector.connect(detector_endpoint)
        except zmq.ZMQError as error:
            raise InstrumentError(
                f"{detector_endpoint!r} is not an address of a detector ({error.strerror}): "
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
        held = self._receiver.holds_message
        ready = dict(self._poller.poll(0 if held else int(timeout_s * 1000)))
        if self._events in ready:
            yield from self._follow_detector()
        if self._subscription is not None:
            for kind, content in self._subscription.receive():
                yield self._record("positions", kind, content)
        if self._positions is not None and self._positions.fileno() in ready:
            yield from self._receive_positions()
        if self._detector in ready or held:
            block = self._receiver.receive(self._sequence + 1)
            if block is not None:
                self._sequence += len(block)
                yield block

    def receive_into(self, lender: Room | None) -> None:
        """Let messages of the detector lie where `lender` says; None for memory of this client."""
        self._receiver.receive_into(lender)

    def missing(self) -> str | None:
        """Return a sentence about the instrument that is not connected, None when both are."""
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
        self._receiver.close()
        self._detector.disable_monitor()
        self._events.close(0)
        self._detector.close(0)

    def _record(self, source: str, kind: str, parts: tuple[bytes, ...] = ()) -> RawRecord:
        self._sequence += 1
        return RawRecord(
            source=source,  # type: ignore[arg-type]
            kind=kind,  # type: ignore[arg-type]
            sequence=self._sequence,
            received_ns=self._clock_ns(),
            parts=parts,
        )

    def _follow_detector(self) -> Iterator[RawRecord]:
        while self._events.poll(0):
            event = recv_monitor_message(self._events)["event"]
            self.detector_connected = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            yield self._record("detector", "connected" if self.detector_connected else "disconnected")

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
