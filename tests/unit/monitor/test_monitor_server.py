import contextlib
import io
import json
import socket
import threading
import time

import httpx
import numpy as np
import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from streamptycho.config import MonitorConfig
from streamptycho.messages import FramePreview, PathPreview, ServiceStatus
from streamptycho.monitor import MonitorError, MonitorServer, Store
from streamptycho.monitor import app as monitor_app
from streamptycho.monitor import server as monitor_server
from streamptycho.monitor.pictures import decode
from streamptycho.monitor.store import PICTURE_NAMES


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def url(store):
    server = MonitorServer(store, MonitorConfig(port=0, pictures_per_s=50), "test beamline")
    yield server.start()
    server.stop()


def frame(value: int = 5, size: int = 32) -> FramePreview:
    counts = np.zeros((size, size), np.uint16)
    counts[size // 2, size // 2] = value
    return FramePreview(series="1", index=value, counts=counts)


def watch(url: str, **options: object) -> ClientConnection:
    return connect(url.replace("http", "ws") + "ws", max_size=None, proxy=None, compression=None, **options)


def receive(viewer: ClientConnection, timeout: float = 10) -> tuple[dict, list[dict]]:
    """Return one state and the headers of the pictures that came before it."""
    headers = []
    while True:
        data = viewer.recv(timeout=timeout)
        if isinstance(data, str):
            return json.loads(data), headers
        headers.append(decode(data)[0])


def receive_until_closed(viewer: ClientConnection) -> None:
    while True:
        viewer.recv(timeout=10)


def test_page_and_static_files_are_complete_and_refer_to_no_other_server(url) -> None:
    page = httpx.get(url)
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    scripts = ["app.js", "canvas.js", "link.js", "picture.js", "plots.js", "quality.js", "tables.js", "words.js"]
    for name in [*scripts, "style.css"]:
        answer = httpx.get(f"{url}static/{name}")
        assert answer.status_code == 200
        assert "http://" not in answer.text
        assert "https://" not in answer.text


def test_state_and_health(url, store) -> None:
    assert httpx.get(f"{url}health").json() == {"status": "ok", "viewers": 0, "last_message_age_s": None}
    store.handle(ServiceStatus(service="ingest", state="running", text="<script>alert(1)</script>"))
    state = httpx.get(f"{url}api/state").json()
    assert state["title"] == "test beamline"
    assert state["services"][0]["text"] == "<script>alert(1)</script>"
    assert httpx.get(f"{url}health").json()["last_message_age_s"] >= 0


def test_picture_as_png(url, store) -> None:
    missing = httpx.get(f"{url}api/picture/frame.png")
    assert missing.status_code == 404
    assert missing.json()["error"] == "there is no frame to show yet"
    store.handle(frame())
    answer = httpx.get(f"{url}api/picture/frame.png")
    assert answer.headers["content-type"] == "image/png"
    assert np.asarray(Image.open(io.BytesIO(answer.content))).std() > 0


@pytest.mark.parametrize("path", ["nothing", "api/picture/cat.png", "api/picture/path.png", "static/%2e%2e/app.py"])
def test_unknown_addresses_are_clean_json(url, path) -> None:
    answer = httpx.get(url + path)
    assert answer.status_code == 404
    assert set(answer.json()) == {"error", "path"}


def test_unknown_picture_lists_the_known(url) -> None:
    error = httpx.get(f"{url}api/picture/cat.png").json()["error"]
    assert all(name in error for name in PICTURE_NAMES if name != "path")


def test_other_methods_are_refused_as_json(url) -> None:
    answer = httpx.post(f"{url}api/state")
    assert answer.status_code == 405
    assert "error" in answer.json()


def test_viewer_gets_state_and_only_changed_pictures(url, store) -> None:
    store.handle(frame(1))
    store.handle(PathPreview(scan_id="s", projection=0, xy_m=np.zeros((3, 2)), quality=np.zeros(3, np.uint8)))
    with watch(url) as viewer:
        state, headers = receive(viewer)
        assert state["title"] == "test beamline"
        assert {h["name"] for h in headers} == {"frame", "path"}
        assert "projections" in state
        store.handle(frame(2))
        viewer.send("ack")
        state, headers = receive(viewer)
        assert [(h["name"], h["version"]) for h in headers] == [("frame", 2)]
        assert "projections" not in state


def test_server_speaks_when_nothing_happens(url) -> None:
    with watch(url) as viewer:
        first, _ = receive(viewer)
        viewer.send("ack")
        second, headers = receive(viewer, timeout=5)
        assert second["version"] == first["version"]
        assert headers == []


def test_slow_viewer_gets_the_newest_only_and_delays_nobody(url, store) -> None:
    store.handle(frame(1, 512))
    with watch(url) as slow, watch(url) as quick:
        receive(slow)
        for value in range(2, 202):
            store.handle(frame(value, 512))
            if value % 20 == 0:
                receive(quick)
                quick.send("ack")
        with pytest.raises(TimeoutError):
            slow.recv(timeout=0.3)
        slow.send("ack")
        _, headers = receive(slow)
        assert [h["version"] for h in headers] == [201]


def test_viewer_that_vanishes_is_forgotten(url, store) -> None:
    with watch(url) as viewer:
        receive(viewer)
        assert httpx.get(f"{url}health").json()["viewers"] == 1
        viewer.socket.shutdown(socket.SHUT_RDWR)
    for _ in range(100):
        if httpx.get(f"{url}health").json()["viewers"] == 0:
            break
        time.sleep(0.05)
    assert httpx.get(f"{url}health").json()["viewers"] == 0


def test_viewer_that_sends_too_much_is_closed(url) -> None:
    with watch(url) as viewer:
        receive(viewer)
        viewer.send("x" * 100_000)
        with pytest.raises(ConnectionClosed):
            receive_until_closed(viewer)


def test_page_of_another_server_cannot_watch(url) -> None:
    with pytest.raises(InvalidStatus, match="403"), watch(url, origin="http://elsewhere.example"):
        pass
    with watch(url, origin=url.rstrip("/")) as viewer:
        receive(viewer)


def test_number_of_viewers_is_limited(url, monkeypatch) -> None:
    monkeypatch.setattr(monitor_app, "MAX_VIEWERS", 1)
    with watch(url) as viewer:
        receive(viewer)
        with pytest.raises(InvalidStatus), watch(url):
            pass


def test_port_in_use_is_explained(store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(MonitorError, match=rf"127\.0\.0\.1:{port}.*monitor\.port"):
            MonitorServer(store, MonitorConfig(port=port)).start()


def test_unknown_host_is_explained(store) -> None:
    with pytest.raises(MonitorError, match=r"192\.0\.2\.1"):
        MonitorServer(store, MonitorConfig(host="192.0.2.1", port=0)).start()


def test_stop_is_bounded_with_open_viewers_and_start_works_again(store) -> None:
    server = MonitorServer(store, MonitorConfig(port=0))
    server.stop()
    url = server.start()
    with pytest.raises(MonitorError, match="already running"):
        server.start()
    with watch(url) as viewer:
        receive(viewer)
        server.stop()
        with pytest.raises(ConnectionClosed):
            receive_until_closed(viewer)
    again = server.start()
    assert httpx.get(f"{again}health").status_code == 200
    server.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{again}health")


def test_the_last_state_reaches_every_viewer_before_the_server_stops(store) -> None:
    server = MonitorServer(store, MonitorConfig(port=0, pictures_per_s=2, results="/data/run-7"))
    address = server.start()
    with watch(address) as quick, watch(address) as slow:
        states: dict[str, list[dict]] = {"quick": [], "slow": []}

        def look(name: str, viewer: ClientConnection, pause_s: float) -> None:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    state, _ = receive(viewer)
                    states[name].append(state)
                    time.sleep(pause_s)
                    viewer.send("ack")

        lookers = [
            threading.Thread(target=look, args=("quick", quick, 0.0)),
            threading.Thread(target=look, args=("slow", slow, 0.3)),
        ]
        for looker in lookers:
            looker.start()
        deadline = time.monotonic() + 10
        while not all(states.values()) and time.monotonic() < deadline:
            time.sleep(0.01)
        store.handle(frame(7))
        server.stop()
        for looker in lookers:
            looker.join(10)
            assert not looker.is_alive()
    for seen in states.values():
        assert seen[-1]["over"]
        assert seen[-1]["results"] == "/data/run-7"
        assert seen[-1]["pictures"]["frame"]["version"] == 1


def test_a_viewer_that_never_answers_does_not_keep_the_server(store) -> None:
    server = MonitorServer(store, MonitorConfig(port=0))
    with watch(server.start()) as viewer:
        receive(viewer)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < monitor_server.FAREWELL_S + monitor_server.STOP_TIMEOUT_S
