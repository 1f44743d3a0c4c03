"""The sockets of an instrument: plays timed records of a detector and a PandABox to whoever connects."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

import zmq

from streamptycho.config import Config
from streamptycho.messages import RawRecord
from streamptycho.runtime.lookahead import Lookahead
from streamptycho.runtime.pandabox_server import PandaServer

SEND_QUEUE_MESSAGES = 2000
_POLL_S = 0.05
_SHORTEST_SLEEP_S = 0.5e-3

Device = Literal["detector", "positions"]


class ServingError(RuntimeError):
    """The instrument cannot be served: an address is taken or unusable, or nobody came."""


@dataclass(slots=True)
class InstrumentReport:
    """What was served. `behind_s` is the largest delay of a record against its time.

    Frames nobody pulled within the time allowed are in `dropped_no_receiver`, not in `frames_sent`.
    """

    frames_sent: int = 0
    series: int = 0
    rows_sent: int = 0
    dropped_no_receiver: int = 0
    overruns: int = 0
    behind_s: float = 0.0
    complete: bool = False


class InstrumentServer:
    """Binds a ZeroMQ PUSH and the two TCP ports of a PandABox, and sends records when they are due.

    Parameters
    ----------
    records
        What is sent: detector data as multipart messages, position data as bytes, "disconnected" of the positions to
        drop their clients. Times are relative to the first record. Iterated after the clients came, ahead of time.
    detector_endpoint
        Where the PUSH binds; port 0 or * takes a free one.
    positions_host, positions_port, control_port
        Where the PandABox listens; port 0 takes a free one.
    scaled
        Which option of a data client the position bytes answer.
    columns
        Captured columns, for the control port.
    speed
        Times the recorded speed; infinity sends as fast as receivers take it.
    send_timeout_s
        How long a frame waits for a receiver with a full queue before it is dropped and counted.
    progress
        Called with the report about ten times a second.
    """

    def __init__(
        self,
        records: Iterable[RawRecord],
        *,
        detector_endpoint: str,
        positions_host: str,
        positions_port: int,
        control_port: int = 0,
        scaled: bool = True,
        columns: Sequence[str] = (),
        speed: float = 1.0,
        send_timeout_s: float = 5.0,
        progress: Callable[[InstrumentReport], None] | None = None,
    ) -> None:
        self._records = records
        self._speed = speed
        self._send_timeout_ms = int(send_timeout_s * 1000)
        self._progress = progress
        self._receiver_gone = False
        self.report = InstrumentReport()
        try:
            self._panda = PandaServer(positions_host, positions_port, control_port, scaled=scaled, columns=columns)
        except OSError as error:
            raise ServingError(
                f"cannot listen on {positions_host}, ports {positions_port} and {control_port} ({error.strerror}): "
                "the simulated instrument needs a local address and free ports"
            ) from None
        self._push: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
        self._push.setsockopt(zmq.SNDHWM, SEND_QUEUE_MESSAGES)
        self._push.setsockopt(zmq.LINGER, 2000)
        try:
            self._push.bind(_bindable(detector_endpoint))
        except (zmq.ZMQError, OSError) as error:
            self.close()
            raise ServingError(
                f"cannot bind {detector_endpoint} ({error.strerror}): "
                "the simulated instrument needs a local address and a free port"
            ) from None
        self.detector_endpoint: str = self._push.last_endpoint.decode().rstrip("\0")
        self.positions_port = self._panda.data_port
        self.control_port = self._panda.control_port

    @classmethod
    def for_config(
        cls,
        config: Config,
        records: Iterable[RawRecord],
        *,
        speed: float = 1.0,
        progress: Callable[[InstrumentReport], None] | None = None,
    ) -> Self:
        """Return a server at the addresses at which the configuration looks for the instrument."""
        positions = config.positions
        axes = (positions.x, positions.y, positions.angle, positions.time)
        return cls(
            records,
            detector_endpoint=config.detector.endpoint,
            positions_host=positions.host,
            positions_port=positions.port,
            control_port=config.simulation.control_port if config.simulation else 0,
            scaled=positions.scaled,
            columns=[axis.column for axis in axes if axis is not None],
            speed=speed,
            progress=progress,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all sockets; what was sent is flushed for at most two seconds."""
        self._panda.close()
        self._push.close()

    def wait_for_clients(
        self,
        stop: threading.Event,
        timeout_s: float | None = 30.0,
        devices: Collection[Device] = ("detector", "positions"),
    ) -> bool:
        """Wait until someone pulls frames and someone reads positions; False when told to stop.

        Raises
        ------
        ServingError
            If nobody came within the time. None waits for ever.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while not stop.is_set():
            missing = []
            if "detector" in devices and not self._push.poll(0, zmq.POLLOUT):
                missing.append(f"frames from {self.detector_endpoint}")
            if "positions" in devices and self._panda.clients == 0:
                missing.append(f"positions from port {self.positions_port}")
            if not missing:
                return True
            if end is not None and time.monotonic() > end:
                raise ServingError(f"nobody fetched {' nor '.join(missing)} within {timeout_s:g} s")
            stop.wait(_POLL_S)
        return False

    def run(self, stop: threading.Event, connect_timeout_s: float | None = 30.0) -> InstrumentReport:
        """Wait for clients, send everything, and return what was sent. Sockets stay open until `close`.

        Raises
        ------
        ServingError
            If nobody connected within `connect_timeout_s`.
        """
        if not self.wait_for_clients(stop, connect_timeout_s):
            return self.report
        lookahead = Lookahead()
        with ThreadPoolExecutor(1, thread_name_prefix="instrument") as pool:
            producer = pool.submit(lookahead.fill, self._records)
            try:
                self._play(lookahead, stop)
            finally:
                lookahead.abandon()
            producer.result()
        self._tell()
        return self.report

    def _play(self, lookahead: Lookahead, stop: threading.Event) -> None:
        first_ns, begin_s, told_s = None, 0.0, 0.0
        while not stop.is_set():
            record = lookahead.take(_POLL_S)
            if record is None:
                if lookahead.exhausted:
                    self.report.complete = True
                    return
                continue
            if first_ns is None:
                first_ns, begin_s = record.received_ns, time.monotonic()
            due_s = begin_s + (record.received_ns - first_ns) * 1e-9 / self._speed
            early_s = due_s - time.monotonic()
            if early_s > _SHORTEST_SLEEP_S and stop.wait(early_s):
                return
            self.report.behind_s = max(self.report.behind_s, -early_s)
            self._send(record, stop)
            if time.monotonic() - told_s > 0.1:
                self._tell()
                told_s = time.monotonic()

    def _tell(self) -> None:
        self.report.rows_sent = self._panda.tracker.total_rows
        self.report.overruns = self._panda.overruns
        if self._progress is not None:
            self._progress(self.report)

    def _send(self, record: RawRecord, stop: threading.Event) -> None:
        if record.source == "positions" and record.kind == "data":
            for part in record.parts:
                self._panda.publish(part)
        elif record.source == "positions" and record.kind == "disconnected":
            self._panda.drop_clients()
        elif record.source == "detector" and record.kind == "data":
            what = _kind(record.parts)
            if self._push_message(record.parts, stop):
                self.report.frames_sent += what == "image"
                self.report.series += what == "start"
            else:
                self.report.dropped_no_receiver += what == "image"

    def _push_message(self, parts: tuple[bytes, ...], stop: threading.Event) -> bool:
        waited_ms = 0
        while not stop.is_set():
            try:
                self._push.send_multipart(parts, zmq.NOBLOCK)
            except zmq.Again:
                if self._receiver_gone or waited_ms >= self._send_timeout_ms:
                    self._receiver_gone = True
                    return False
                self._push.poll(50, zmq.POLLOUT)
                waited_ms += 50
            else:
                self._receiver_gone = False
                return True
        return False


def _bindable(endpoint: str) -> str:
    """Return the endpoint with its host as a number: ZeroMQ connects to names but does not bind to them."""
    scheme, _, rest = endpoint.partition("://")
    host, _, port = rest.rpartition(":")
    if scheme != "tcp" or host in ("", "*") or host.startswith("["):
        return endpoint
    return f"tcp://{socket.gethostbyname(host)}:{port}"


def _kind(parts: tuple[bytes, ...]) -> Literal["start", "image", "other"]:
    """Tell a detector message by its first bytes, in Stream V1 and V2 and in the open protocol."""
    head = parts[0][:256] if parts else b""
    if b"dimage-1.0" in head or b"dtypeeimage" in head[:24] or b'"type":"frames"' in head[:24]:
        return "image"
    if b"dheader-1.0" in head or b"dtypeestart" in head[:24] or b'"type":"start"' in head[:24]:
        return "start"
    return "other"
