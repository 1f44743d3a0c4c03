"""A detector that shares its stream out among three connections: all of it comes, also when one of them is lost."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq

from streamptycho.config import Config, parse
from streamptycho.messages import DiffractionBatch, ProjectionEnd, RawBlock, RawRecord
from streamptycho.recording.stream_log import StreamLogReader, StreamLogWriter
from streamptycho.runtime.instrument_client import InstrumentClient, InstrumentError
from streamptycho.runtime.sockets import free_ports
from streamptycho.simulation import Instrument
from streamptycho.stages.ingest import IngestStage
from streamptycho.stages.recorder import Recorder
from tests.system.pipeline import SMALL_SCAN

pytestmark = pytest.mark.system
RECEIVERS = 3
LIMIT_S = 20.0


class Cable:
    """Leads TCP connections on to a port, until they are cut."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            pair = (near, socket.create_connection(("127.0.0.1", self._to)))
            self.pairs.append(pair)
            threading.Thread(target=_lead, args=pair, daemon=True).start()

    def cut(self, number: int) -> None:
        """Cut one connection; nobody can connect any more."""
        self._stop_listening()
        for end in self.pairs[number]:
            end.shutdown(socket.SHUT_RDWR)

    def _stop_listening(self) -> None:
        # Closing alone would let an accept that waits take one more.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def close(self) -> None:
        self._stop_listening()
        for pair in self.pairs:
            for end in pair:
                end.close()


def _lead(one: socket.socket, other: socket.socket) -> None:
    try:
        while True:
            for end in select.select([one, other], [], [])[0]:
                data = end.recv(1 << 16)
                if not data:
                    return
                (other if end is one else one).sendall(data)
    except (OSError, ValueError):
        return


def configuration(port: int) -> Config:
    tree = {
        "detector": {"endpoint": f"tcp://127.0.0.1:{port}", "region": {"size_px": 64}, "receivers": RECEIVERS},
        "positions": {"angle": {"column": "INENC3.VAL.Mean"}},
        "projections": {"count": 3},
        "simulation": {**SMALL_SCAN, "projections": 3},
    }
    return parse(json.dumps(tree))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def push() -> Iterator[tuple[zmq.Socket[bytes], int]]:
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.linger = 0
        socket.sndtimeo = int(LIMIT_S * 1000)
        yield socket, socket.bind_to_random_port("tcp://127.0.0.1")


def client_of(config: Config) -> InstrumentClient:
    (nobody,) = free_ports(1)
    return InstrumentClient(config.detector.endpoint, "127.0.0.1", nobody, b"", receivers=config.detector.receivers)


def recorded(log: Path, positions: list[RawRecord]) -> Iterator[RawRecord | RawBlock]:
    """Yield the records of a log, after those of the positions."""
    yield from positions
    yield from (m for m in StreamLogReader(log).blocks() if m is not None)


def test_three_connections_carry_a_scan_into_one_log_and_all_of_it_is_paired(tmp_path, push):
    sender, port = push
    config = configuration(port)
    instrument = Instrument(config)
    events = list(instrument.events(1.7e9))
    messages = [r.parts for r in events if r.source == "detector" and r.kind == "data"]
    positions = [r for r in events if r.source == "positions"]
    client = client_of(config)
    recorder = Recorder(client, StreamLogWriter(tmp_path / "a.log"), sync_s=1.0, connect_timeout_s=None)
    recorder.start()
    until(lambda: client.detector_connected)
    for parts in messages:
        sender.send_multipart(parts)
    until(lambda: recorder.records >= len(messages) + RECEIVERS)
    recorder.stop()
    recorder.join()
    assert recorder.failure is None

    came = [
        r
        for m in StreamLogReader(tmp_path / "a.log").blocks()
        for r in (m.records() if isinstance(m, RawBlock) else [m])
    ]
    data = [r.parts for r in came if r.source == "detector" and r.kind == "data"]
    assert sorted(data) == sorted(messages)
    assert data != messages, "three connections keep no common order"

    stage, pairs, ends = IngestStage(config), {}, []
    for message in recorded(tmp_path / "a.log", positions):
        for out in stage.handle(message, time.time_ns()):
            if isinstance(out, DiffractionBatch):
                pairs.update({(out.projection, int(k)): xy for k, xy in zip(out.index, out.xy_m, strict=True)})
            elif isinstance(out, ProjectionEnd):
                ends.append((out.projection, out.frames_sent, out.frames_paired, out.dropped))
    n = instrument.frames_per_projection
    assert ends == [(k, n, n, {}) for k in range(3)]
    assert len(pairs) == 3 * n
    for (projection, index), xy_m in pairs.items():
        np.testing.assert_allclose(xy_m, instrument.positions_m(projection)[index], atol=1e-12)


def test_the_operator_is_told_of_one_connection_that_is_lost_and_the_others_go_on(push):
    sender, port = push
    cable = Cable(port)
    client = client_of(configuration(cable.port))
    came: list[bytes] = []
    marks: list[str] = []

    def poll() -> None:
        for message in client.poll(0.02):
            for record in message.records() if isinstance(message, RawBlock) else [message]:
                came.extend(record.parts)
                if record.source == "detector" and record.kind != "data":
                    marks.append(record.kind)

    def polled(condition: Callable[[], bool]) -> bool:
        poll()
        return condition()

    try:
        assert "no detector answers" in (client.missing() or "")
        until(lambda: polled(lambda: client.detector_connected))
        assert "PandABox" in (client.missing() or "")
        for k in range(30):
            sender.send(b"%d" % k)
        until(lambda: polled(lambda: len(came) == 30))
        cable.cut(1)
        until(lambda: polled(lambda: not client.detector_connected))
        assert "2 of 3 connections to the detector" in (client.missing() or "")
        time.sleep(0.1)
        for k in range(30, 60):
            sender.send(b"%d" % k)
        until(lambda: polled(lambda: len(came) == 60))
        assert sorted(map(int, came)) == list(range(60))
        assert marks == ["connected"] * 3 + ["disconnected"]
        cable.cut(0)
        cable.cut(2)
        until(lambda: polled(lambda: "no detector answers" in (client.missing() or "")))
    finally:
        client.close()
        cable.close()


def test_a_detector_with_two_addresses_is_heard_at_both(push):
    one, port = push
    with zmq.Context() as context, context.socket(zmq.PUSH) as other:
        other.linger = 0
        second = f"tcp://127.0.0.1:{other.bind_to_random_port('tcp://127.0.0.1')}"
        client = InstrumentClient(f"tcp://127.0.0.1:{port}", "127.0.0.1", 1, b"", receivers=3, more_endpoints=[second])
        came: list[bytes] = []

        def all_came() -> bool:
            for message in client.poll(0.02):
                if isinstance(message, RawBlock):
                    came.extend(record.parts[0] for record in message.records())
            return client.detector_connected and len(came) == 20

        for k in range(10):
            one.send(b"one %d" % k)
            other.send(b"other %d" % k)
        until(all_came)
        assert len(set(came)) == 20
        client.close()


def test_an_address_that_is_none_leaves_nothing_open():
    with pytest.raises(InstrumentError, match=r"detector\.endpoint"):
        InstrumentClient("nowhere", "127.0.0.1", 1, b"", receivers=2)
