"""A position source that publishes over ZeroMQ: one SUB socket, whose life is told as that of a connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import zmq
from zmq.utils.monitor import recv_monitor_message

RECEIVE_QUEUE_MESSAGES = 100_000
MAX_MESSAGE_BYTES = 64 << 20
BURST = 256

Arrival = tuple[Literal["data", "connected", "disconnected"], tuple[bytes, ...]]


class Subscription:
    """Receives everything that a PUB at `host` and `port` sends; ZeroMQ itself connects again after a loss.

    Parameters
    ----------
    host, port
        Where the source publishes.
    poller
        Asked by the caller; the sockets of the subscription join it.

    Raises
    ------
    zmq.ZMQError
        If the address is not one.
    """

    def __init__(self, host: str, port: int, poller: zmq.Poller) -> None:
        self.connected = False
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, RECEIVE_QUEUE_MESSAGES)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        self._socket.subscribe(b"")
        self._events: zmq.Socket[bytes] = self._socket.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
        )
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._events, zmq.POLLIN)
        try:
            self._socket.connect(f"tcp://{host}:{port}")
        except zmq.ZMQError:
            poller.unregister(self._socket)
            poller.unregister(self._events)
            self.close()
            raise

    def receive(self) -> Iterator[Arrival]:
        """Yield what is there, without waiting. A message counts before the loss of the connection that brought it."""
        states = list(self._states())
        if "connected" in states[:1]:
            yield "connected", ()
            states = states[1:]
        for _ in range(BURST):
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            yield "data", tuple(parts)
        for state in states:
            yield state, ()

    def close(self) -> None:
        """Close at once."""
        self._socket.disable_monitor()
        self._events.close(0)
        self._socket.close(0)

    def _states(self) -> Iterator[Literal["connected", "disconnected"]]:
        while self._events.poll(0):
            event = recv_monitor_message(self._events)["event"]
            self.connected = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            yield "connected" if self.connected else "disconnected"
