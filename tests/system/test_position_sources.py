"""Positions over their sockets: JSON from a PUB, and a PandABox whose connection breaks in mid-acquisition."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
import zmq

from streamptycho import positions
from streamptycho.config import Config
from streamptycho.messages import (
    AcquisitionEnd,
    Anomaly,
    DiffractionBatch,
    PositionBlock,
    ProjectionEnd,
    RawBlock,
    RawRecord,
    Reason,
)
from streamptycho.runtime.instrument import InstrumentServer
from streamptycho.runtime.instrument_client import InstrumentClient, InstrumentError
from streamptycho.runtime.sockets import free_ports
from streamptycho.simulation import Instrument
from streamptycho.stages.ingest import IngestStage

pytestmark = pytest.mark.system
LIMIT_S = 30.0


def client_of(config: Config) -> InstrumentClient:
    target = positions.decoder(config.positions)
    return InstrumentClient(
        config.detector.endpoint,
        config.positions.host,
        config.positions.port,
        target.request(),
        subscribe=target.transport == "zmq_sub",
    )


def polled(client: InstrumentClient) -> list[RawRecord]:
    """Return what came, record by record."""
    return [
        record
        for message in client.poll(0.02)
        for record in (message.records() if isinstance(message, RawBlock) else (message,))
    ]


class Listener:
    """Reads positions over a socket, as the services do."""

    def __init__(self, config: Config) -> None:
        self.client, self._decoder = client_of(config), positions.decoder(config.positions)
        self.kinds: list[str] = []
        self.heard: list[object] = []

    def rows(self) -> list[int]:
        return [int(k) for m in self.heard if isinstance(m, PositionBlock) for k in m.row]

    def until(self, done: Callable[[], bool], meanwhile: Callable[[], None] = lambda: None) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not done():
            assert time.monotonic() < deadline
            meanwhile()
            for record in polled(self.client):
                self.kinds.append(record.kind)
                if record.kind == "data":
                    self.heard += (m for part in record.parts for m in self._decoder.feed(part, 1))
                elif record.kind == "disconnected":
                    self.heard += self._decoder.disconnected()


def publish(socket: zmq.Socket[bytes], first: int) -> None:
    values = [float(k) for k in range(first, first + 5)]
    socket.send(json.dumps({"message_type": "data", "frame_number": first, "x": values, "y": values}).encode())


def test_json_from_a_publisher_that_is_restarted():
    detector, port = free_ports(2)
    at = {"protocol": "panda_json", "port": port, "x": {"column": "x"}, "y": {"column": "y"}, "time": None}
    listener = Listener(
        Config.model_validate({"detector": {"endpoint": f"tcp://127.0.0.1:{detector}"}, "positions": at})
    )
    try:
        assert "nothing publishes positions" in positions_missing(listener.client)
        for session, first in enumerate((0, 20)):
            with zmq.Context() as context, context.socket(zmq.PUB) as socket:
                socket.linger = 1000
                socket.bind(f"tcp://127.0.0.1:{port}")
                # a subscription reaches its publisher a moment after the connection is made
                listener.until(lambda: first in listener.rows(), lambda: publish(socket, first))  # noqa: B023
                publish(socket, first + 5)
                listener.until(lambda: first + 9 in listener.rows())  # noqa: B023
                assert positions_missing(listener.client) == ""
            listener.until(lambda: listener.kinds.count("disconnected") > session)  # noqa: B023
        assert set(listener.rows()) == {*range(10), *range(20, 30)}
        assert not [m for m in listener.heard if isinstance(m, AcquisitionEnd)]
        lost = [m for m in listener.heard if isinstance(m, Anomaly)]
        assert [(m.reason, m.count) for m in lost if m.reason is Reason.MISSING] == [(Reason.MISSING, 10)]
        assert sum(m.reason is Reason.DISCONNECTED for m in lost) == 2
    finally:
        listener.client.close()


def positions_missing(client: InstrumentClient) -> str:
    client.detector_connected = True
    return client.missing() or ""


def test_an_address_that_is_none_is_said():
    with pytest.raises(InstrumentError, match=r"positions\.host"):
        InstrumentClient("tcp://127.0.0.1:1", "not a host", 1, b"", subscribe=True)


@pytest.mark.parametrize("scaled", [True, False])
def test_a_lost_connection_costs_only_the_rows_that_were_captured_meanwhile(scaled):
    config = Config.model_validate(
        {
            "detector": {"endpoint": "tcp://127.0.0.1:*"},
            "positions": {"port": 0, "scaled": scaled},
            "projections": {"count": 1},
            "simulation": {
                "distance_m": 1.0,
                "detector_shape": [32, 32],
                "rate_hz": 250,
                "projections": 1,
                "sample": {"size_m": 1.6e-6},
                "beam": {"diameter_m": 0.7e-6, "defocus_m": 2.5e-4, "photons_per_frame": 1e4},
                "trajectory": {"width_m": 4e-6, "height_m": 8e-6, "step_x_m": 0.2e-6, "step_y_m": 0.2e-6},
                "faults": {"disconnect_positions_after_rows": 60},
            },
        }
    )
    instrument = Instrument(config)
    server = InstrumentServer.for_config(config, instrument.events(time.time()))
    there = {
        "detector": config.detector.model_copy(update={"endpoint": server.detector_endpoint}),
        "positions": config.positions.model_copy(update={"port": server.positions_port}),
    }
    config = config.model_copy(update=there)
    stage, client = IngestStage(config), client_of(config)
    stop = threading.Event()
    thread = threading.Thread(target=server.run, args=(stop,))
    thread.start()
    said, until = [], time.monotonic() + LIMIT_S
    try:
        quiet = 0
        while quiet < 20 and time.monotonic() < until:
            records = polled(client)
            quiet = 0 if records or thread.is_alive() else quiet + 1
            for record in records:
                said += stage.handle(record, record.received_ns)
        now_ns = time.time_ns()
        said += stage.handle(RawRecord(source="recorder", kind="end", sequence=0, received_ns=now_ns), now_ns)
    finally:
        stop.set()
        thread.join(LIMIT_S)
        client.close()
        server.close()
    batches = [m for m in said if isinstance(m, DiffractionBatch)]
    index = np.concatenate([b.index for b in batches])
    true_m = instrument.positions_m(0)
    np.testing.assert_allclose(np.concatenate([b.xy_m for b in batches]), true_m[index], atol=2e-9)
    (end,) = (m for m in said if isinstance(m, ProjectionEnd))
    n, lost = instrument.frames_per_projection, end.dropped.get("unpaired", 0)
    assert end.frames_sent == end.frames_received == n
    assert end.dropped == {"unpaired": lost}
    assert end.frames_paired == n - lost == len(index)
    assert set(range(60)) < set(index.tolist())
    assert index.max() == n - 1
    assert 0 < lost < n // 2
    assert stage.status(0).anomalies["missing"] >= lost
