"""The sockets of the simulated instrument, read by clients that other people wrote."""

import asyncio
import contextlib
import socket
import threading
import time

import cbor2
import numpy as np
import pytest
import zmq
from pandablocks import asyncio as pandablocks_asyncio
from pandablocks.asyncio import AsyncioClient
from pandablocks.commands import Arm, Disarm, GetBlockInfo, GetPcapBitsLabels
from pandablocks.connections import DataConnection
from pandablocks.responses import EndData, FrameData, ReadyData, StartData

from streamptycho.config import Config
from streamptycho.messages import RawRecord
from streamptycho.runtime.instrument import InstrumentServer, ServingError
from streamptycho.simulation import Instrument

pytestmark = pytest.mark.system
LIMIT_S = 30.0


def _config(**changes):
    simulation = {
        "distance_m": 1.0,
        "detector_shape": [48, 48],
        "rate_hz": 500,
        "projections": 3,
        "sample": {"size_m": 1.6e-6},
        "beam": {"diameter_m": 0.7e-6, "defocus_m": 2.5e-4, "photons_per_frame": 1e5},
        "trajectory": {"width_m": 1.6e-6, "height_m": 1.2e-6, "step_x_m": 0.2e-6, "step_y_m": 0.2e-6, "turn_s": 0.004},
    } | changes.pop("simulation", {})
    tree = {"detector": {"endpoint": "tcp://127.0.0.1:*"}, "positions": {"port": 0}, "simulation": simulation}
    for section, values in changes.items():
        tree[section] = tree.get(section, {}) | values
    return Config.model_validate(tree)


@contextlib.contextmanager
def _puller(endpoint):
    puller = zmq.Context.instance().socket(zmq.PULL)
    puller.setsockopt(zmq.LINGER, 0)
    puller.connect(endpoint)
    try:
        yield puller
    finally:
        puller.close()


def _drain(puller, quiet_s=0.5):
    out = []
    while puller.poll(int(quiet_s * 1000)):
        out.append(puller.recv_multipart())
    return out


@contextlib.contextmanager
def _running(server, **settings):
    stop, failed = threading.Event(), []

    def run():
        try:
            server.run(stop, **settings)
        except ServingError as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join(LIMIT_S)
        assert not thread.is_alive()
        assert not failed


@contextlib.contextmanager
def _data_client(port, option=b"XML FRAMED SCALED\n"):
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as client:
        client.sendall(option)
        yield client


def _read_rows(client, ends):
    """Read with pandablocks' connection until the given number of acquisitions ended or the server hung up."""
    connection = DataConnection()
    connection.connect(True)
    items = []
    with contextlib.suppress(TimeoutError):
        while sum(isinstance(i, EndData) for i in items) < ends and (data := client.recv(4096)):
            items += connection.receive_bytes(data)
    return items


def test_the_asyncio_client_of_pandablocks_gets_rows_and_control(monkeypatch):
    config = _config()
    instrument = Instrument(config)
    server = InstrumentServer.for_config(config, instrument.events(time.time()))
    ports = {8888: server.control_port, 8889: server.positions_port}
    connect = pandablocks_asyncio._StreamHelper.connect

    async def connect_to_ours(self, host, port):
        await connect(self, host, ports[port])

    monkeypatch.setattr(pandablocks_asyncio._StreamHelper, "connect", connect_to_ours)

    async def talk():
        items, ends = [], 0
        async with AsyncioClient("127.0.0.1") as client:
            blocks = await client.send(GetBlockInfo(skip_description=True), timeout=LIMIT_S)
            bits = await client.send(GetPcapBitsLabels(), timeout=LIMIT_S)
            await client.send(Arm(), timeout=LIMIT_S)
            async for item in client.data(frame_timeout=20):
                items.append(item)
                ends += isinstance(item, EndData)
                if ends == 3:
                    break
            await client.send(Disarm(), timeout=LIMIT_S)
        return blocks, bits, items

    with server, _puller(server.detector_endpoint) as puller, _running(server):
        blocks, bits, items = asyncio.run(talk())
        messages = _drain(puller)
    n = instrument.frames_per_projection
    assert set(blocks) == {"INENC", "PCAP"}
    assert set(bits) == {f"PCAP.BITS{k}" for k in range(4)}
    assert isinstance(items[0], ReadyData)
    assert [i.samples for i in items if isinstance(i, EndData)] == [n, n, n]
    assert [i.missed for i in items if isinstance(i, StartData)] == [0, 0, 0]
    rows = np.concatenate([i.data for i in items if isinstance(i, FrameData)])
    truth_um = np.concatenate([instrument.positions_m(k) for k in range(3)]) * 1e6
    assert np.allclose(np.stack([rows["INENC1.VAL.Mean"], rows["INENC2.VAL.Mean"]], -1), truth_um, atol=1e-9)
    assert len(messages) == 3 * (n + 2)
    assert server.report.complete
    assert (server.report.frames_sent, server.report.rows_sent, server.report.series) == (3 * n, 3 * n, 3)
    assert server.report.dropped_no_receiver == 0


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_libertem_dectris_reads_stream1(dtype, tmp_path):
    libertem_dectris = pytest.importorskip("libertem_dectris")
    config = _config(
        detector={"protocol": "dectris_stream1", "endpoint": "tcp://127.0.0.1:*"},
        simulation={
            "projections": 1,
            "dtype": dtype,
            "detector_shape": [40, 56],
            "header_detail": "basic",
            "labels": False,
        },
    )
    instrument = Instrument(config)
    n = instrument.frames_per_projection
    server = InstrumentServer.for_config(config, instrument.events(time.time()))
    with server, _data_client(server.positions_port):
        receiver = libertem_dectris.DectrisConnection(
            server.detector_endpoint, 16, str(tmp_path / "handle"), num_slots=32, bytes_per_frame=40000, huge=False
        )
        receiver.start_passive()
        cam = libertem_dectris.CamClient(receiver.get_socket_path())
        frames = []
        try:
            with _running(server):
                armed = receiver.wait_for_arm(10.0)
                assert armed is not None
                assert armed[0].get_num_frames() == n
                while len(frames) < n:
                    stack = receiver.get_next_stack(16)
                    if stack is None:
                        break
                    block = np.zeros((len(stack), 40, 56), dtype)
                    cam.decode_range_into_buffer(stack, block, 0, len(stack))
                    cam.done(stack)
                    frames += list(block)
        finally:
            cam.close()
            receiver.close()
    assert np.array_equal(np.stack(frames), np.concatenate(list(instrument.frames(0))))


def test_a_late_client_is_told_what_it_missed():
    config = _config(simulation={"rate_hz": 100, "projections": 1})
    instrument = Instrument(config)
    n = instrument.frames_per_projection
    server = InstrumentServer.for_config(config, instrument.events(time.time()))
    with server, _puller(server.detector_endpoint), _data_client(server.positions_port) as early, _running(server):
        early.recv(4096)
        while server._panda.tracker.rows < 10:
            time.sleep(0.01)
        with _data_client(server.positions_port) as late:
            items = _read_rows(late, 1)
    (start,) = [i for i in items if isinstance(i, StartData)]
    rows = np.concatenate([i.data for i in items if isinstance(i, FrameData)])
    assert start.missed >= 10
    assert start.missed + len(rows) == n
    assert np.allclose(rows["INENC1.VAL.Mean"], instrument.positions_m(0)[start.missed :, 0] * 1e6, atol=1e-9)


def test_a_cut_connection_can_be_made_again():
    config = _config(simulation={"faults": {"disconnect_positions_after_rows": 20}, "projections": 2})
    instrument = Instrument(config)
    n = instrument.frames_per_projection
    server = InstrumentServer.for_config(config, instrument.events(time.time()))
    with server, _puller(server.detector_endpoint), _data_client(server.positions_port) as first, _running(server):
        before = _read_rows(first, 9)
        with _data_client(server.positions_port) as second:
            after = _read_rows(second, 2)
    read = [sum(len(i.data) for i in items if isinstance(i, FrameData)) for items in (before, after)]
    missed = next(i.missed for i in after if isinstance(i, StartData))
    assert read[0] == 20
    assert missed >= 20
    assert missed + read[1] == 2 * n


@pytest.mark.parametrize("option", [b"XML FRAMED RAW\n", b"nonsense\n", b"x" * 20000])
def test_a_data_option_that_is_not_served_is_refused(option):
    config = _config()
    with InstrumentServer.for_config(config, []) as server, _data_client(server.positions_port, option) as client:
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while data := client.recv(4096):
                answer += data
        assert answer in (b"ERR Invalid data capture option\n", b"")
        assert server._panda.clients == 0


def test_the_rate_is_kept_and_time_stamps_are_of_now():
    config = _config(simulation={"rate_hz": 400, "projections": 1})
    instrument = Instrument(config)
    begin = time.time()
    server = InstrumentServer.for_config(config, instrument.events(begin))
    with server, _puller(server.detector_endpoint) as puller, _data_client(server.positions_port), _running(server):
        arrivals = []
        while len(arrivals) < instrument.frames_per_projection + 2:
            assert puller.poll(10_000)
            message = cbor2.loads(puller.recv())
            arrivals.append((time.monotonic(), getattr(message, "value", message)))
    images = [(t, m) for t, m in arrivals if m["type"] == "image"]
    span_s = images[-1][0] - images[0][0]
    trajectory = instrument.projection(0).trajectory
    assert span_s >= 0.5 * (trajectory.stop_s[-1] - trajectory.stop_s[0])
    assert abs(images[0][1]["series_date"].timestamp() - begin) < 1


def test_frames_that_nobody_pulls_are_counted_and_the_run_ends():
    records = [
        RawRecord(
            source="detector", kind="data", sequence=k, received_ns=0, parts=(b"\xa9dtypeeimage" + bytes(50_000),)
        )
        for k in range(9000)
    ]
    config = _config()
    server = InstrumentServer(
        records,
        detector_endpoint=config.detector.endpoint,
        positions_host="127.0.0.1",
        positions_port=0,
        send_timeout_s=0.2,
    )
    with server, _puller(server.detector_endpoint), _data_client(server.positions_port):
        report = server.run(threading.Event(), 10)
    assert report.complete
    assert report.dropped_no_receiver > 0
    assert report.frames_sent + report.dropped_no_receiver == 9000


def test_nobody_comes():
    config = _config()
    with InstrumentServer.for_config(config, []) as server:
        with pytest.raises(ServingError, match=r"nobody fetched frames .* nor positions"):
            server.run(threading.Event(), 0.2)
        with _data_client(server.positions_port), pytest.raises(ServingError, match="nobody fetched frames"):
            server.run(threading.Event(), 0.5)


def test_stop_while_waiting_and_while_running():
    config = _config(simulation={"rate_hz": 20})
    stop = threading.Event()
    server = InstrumentServer.for_config(config, Instrument(config).events())
    threading.Timer(0.3, stop.set).start()
    with server:
        assert not server.run(stop, None).complete
        stop.clear()
        with _puller(server.detector_endpoint), _data_client(server.positions_port):
            threading.Timer(0.8, stop.set).start()
            report = server.run(stop, 10)
    assert not report.complete
    assert report.frames_sent < 144


def test_addresses_that_cannot_be_bound_are_named():
    config = _config()
    with InstrumentServer.for_config(config, []) as server:
        taken = _config(positions={"port": server.positions_port})
        with pytest.raises(ServingError, match=f"{server.positions_port}.*free ports"):
            InstrumentServer.for_config(taken, [])
        taken = _config(detector={"endpoint": server.detector_endpoint})
        with pytest.raises(ServingError, match="free port"):
            InstrumentServer.for_config(taken, [])
        with pytest.raises(ServingError, match="local address"):
            InstrumentServer.for_config(_config(detector={"endpoint": "tcp://192.0.2.1:31001"}), [])
    with InstrumentServer.for_config(_config(detector={"endpoint": "tcp://localhost:*"}), []) as server:
        assert server.detector_endpoint.startswith("tcp://127.0.0.1:")


def test_an_instrument_that_fails_says_why():
    def records():
        yield RawRecord(source="detector", kind="data", sequence=0, received_ns=0, parts=(b"x",))
        raise ArithmeticError("the sample exploded")

    config = _config()
    server = InstrumentServer.for_config(config, records())
    with (
        server,
        _puller(server.detector_endpoint),
        _data_client(server.positions_port),
        pytest.raises(ArithmeticError, match="exploded"),
    ):
        server.run(threading.Event(), 10)
