"""The operator's page in a real browser."""

import dataclasses
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import uvicorn

from streamptycho.config import MonitorConfig
from streamptycho.messages import FramePreview, ObjectUpdate, ScanEnd, ServiceStatus
from streamptycho.monitor import MonitorServer, Store, create_app
from tests.browser import synthetic_messages as made_up

pytestmark = pytest.mark.browser

CLIPPED = """() => [...document.querySelectorAll("h2, h2 .label, .figure b, .figure span, dt, dd, .state, #losses td")]
  .filter((node) => node.scrollWidth > node.clientWidth + 1 && getComputedStyle(node).display !== "inline")
  .map((node) => `${node.closest("article, .figure").id}: ${node.textContent}`)"""
CUT_CARDS = """() => {
  const frame = document.getElementById("services").getBoundingClientRect();
  return [...document.querySelectorAll("#services .card")]
    .filter((card) => card.getBoundingClientRect().bottom > frame.bottom + 1)
    .map((card) => card.textContent);
}"""
PICTURES = ("frame", "path", "phase", "amplitude", "probe", "slice_z", "slice_y", "slice_x")
COUNT_COLOURS = """name => {
  const canvas = document.getElementById(`canvas-${name}`);
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return new Set(new Uint32Array(data.buffer)).size;
}"""
WIDTH = "document.getElementById('canvas-phase').getBoundingClientRect().width"
FINGERPRINT = """name => {
  const canvas = document.getElementById(`canvas-${name}`);
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let sum = 0;
  for (const value of new Uint32Array(data.buffer)) sum = (sum * 31 + value) >>> 0;
  return sum;
}"""


@pytest.fixture
def store() -> Store:
    return Store(expected_projections=31)


@pytest.fixture
def server(store: Store) -> Iterator[MonitorServer]:
    running = MonitorServer(store, MonitorConfig(port=0, pictures_per_s=20, results="/data/run-7"), "I13-1")
    yield running
    running.stop()


@pytest.fixture
def page(browser, server) -> Iterator[object]:
    tab = browser.new_page(viewport={"width": 1280, "height": 800})
    tab.set_default_timeout(20_000)
    problems: list[str] = []
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    tab.problems = problems
    tab.goto(server.start())
    tab.wait_for_selector("body[data-link=live]")
    yield tab
    tab.close()


def feed(store: Store, messages: list) -> None:
    for message in messages:
        store.handle(message)


def wait_until(page, expression: str, wanted: Callable[[Any], bool], argument: object = None) -> None:
    """Ask the page until the answer is wanted: its security policy forbids that it evaluates text by itself."""
    deadline = time.monotonic() + 20
    while not wanted(answer := page.evaluate(expression, argument)):
        if time.monotonic() > deadline:
            pytest.fail(f"the page still answers {answer!r} to {expression[:80]}")
        page.wait_for_timeout(50)


def wait_headline(page, start: str) -> None:
    wait_until(page, "document.getElementById('headline').textContent", lambda text: text.startswith(start))


def wait_label(page, part: str) -> None:
    wait_until(page, "document.querySelector('#panel-frame .label').textContent", lambda text: part in text)


def wait_painted(page, name: str, least: int) -> None:
    wait_until(page, f"document.querySelector('#panel-{name} .label').textContent", bool)
    wait_until(page, COUNT_COLOURS, lambda colours: colours > least, name)


def test_nothing_known_is_shown_as_unknown(page) -> None:
    assert page.inner_text("#headline") == "Waiting for the pipeline"
    for name in ("projection", "frames", "error", "resolution", "rate", "lag", "lost"):
        assert page.inner_text(f"#figure-{name} b") == "—"
    assert page.problems == []


def test_everything_is_on_the_page(page, store) -> None:
    empty_plot = page.evaluate(FINGERPRINT, "errors")
    feed(store, made_up.scan())
    wait_headline(page, "Projection 11")
    assert page.inner_text("#headline") == "Projection 11 at 63.9°: 182 of 252 frames, error 0.033"
    assert page.inner_text("#title") == "I13-1"
    assert page.inner_text("#scan") == "i13-1_0042"
    assert page.inner_text("#figure-frames b") == "182 / 252"
    assert page.inner_text("#figure-resolution b") == "62 nm"
    assert page.inner_text("#figure-lost b") == "3"
    assert "detector never sent" in page.inner_text("#losses")
    assert page.locator("#projections tr").count() == 12
    assert page.locator("#projections tr").first.inner_text().split()[:2] == ["11", "63.9°"]
    assert page.locator("#services .card").count() == 4
    assert "frames 498/s" in page.inner_text("#services").replace("\u00a0", " ")
    for name in PICTURES:
        wait_painted(page, name, 20)
    wait_until(page, FINGERPRINT, lambda now: now != empty_plot, "errors")
    for name in ("fsc", "frc"):
        wait_until(page, COUNT_COLOURS, lambda colours: colours > 10, name)
    for width, height in ((1280, 800), (1920, 1080)):
        page.set_viewport_size({"width": width, "height": height})
        overflow = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
        assert overflow == [width, height]
    assert page.problems == []


def test_pictures_change_when_something_new_comes(page, store) -> None:
    feed(store, made_up.scan(1))
    for name in PICTURES:
        wait_painted(page, name, 20)
    before = {name: page.evaluate(FINGERPRINT, name) for name in PICTURES}
    feed(store, [made_up.frame(300), made_up.path(1, 90), made_up.object_update(1, 25, 90), made_up.volume(9)])
    for name in ("frame", "path", "phase", "amplitude", "slice_z", "slice_y", "slice_x"):
        wait_until(page, FINGERPRINT, lambda now, old=before[name]: now != old, name)
    assert page.problems == []


def test_value_under_the_pointer_and_enlarging(page, store) -> None:
    feed(store, [made_up.object_update(3)])
    wait_painted(page, "phase", 20)
    box = page.locator("#canvas-phase").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    wait_until(page, "document.querySelector('#panel-phase .reading').textContent", lambda t: t.endswith("rad"))
    page.click("#panel-phase .enlarge")
    wait_until(page, WIDTH, lambda width: width > 1000)
    page.keyboard.press("Escape")
    wait_until(page, WIDTH, lambda width: width < 1000)


def test_text_from_the_wire_stays_text(page, store) -> None:
    evil = "<img src=x onerror=\"document.title='taken'\">"
    feed(
        store,
        [
            ServiceStatus(
                service=evil, state="running", text=evil, dropped={evil: 3}, rates={evil: 1.0}, counters={evil: 2}
            ),
            FramePreview(series=evil, index=0, counts=np.ones((8, 8), np.uint16)),
        ],
    )
    page.wait_for_selector("#services .card")
    wait_label(page, "frame 0")
    assert "onerror" in page.get_attribute("#panel-frame .label", "title")
    assert evil in page.inner_text("#services")
    assert page.locator("main img").count() == 0
    assert page.title() != "taken"
    assert page.problems == []


def test_old_data_is_marked_stale(browser) -> None:
    now_ns = [time.time_ns()]
    store = Store(clock_ns=lambda: now_ns[0])
    feed(store, [made_up.object_update(0), *made_up.statuses()])
    now_ns[0] += 9_000_000_000
    server = MonitorServer(store, MonitorConfig(port=0))
    tab = browser.new_page()
    try:
        tab.goto(server.start())
        wait_headline(tab, "Nothing has arrived for 9 s")
        assert "old" in tab.inner_text("#panel-phase .stale")
        assert "silent for 9.0 s" in tab.inner_text("#services")
    finally:
        tab.close()
        server.stop()


def finished() -> list:
    ends = [dataclasses.replace(status, state="finished") for status in made_up.statuses()]
    return [
        made_up.object_update(11, 30, 252, final=True),
        ScanEnd(scan_id="i13-1_0042", reason="complete", projections=12),
        *ends,
    ]


def test_a_run_that_is_over_leaves_its_last_figures_on_the_page(page, store, server) -> None:
    feed(store, made_up.scan())
    wait_painted(page, "phase", 20)
    feed(store, finished())
    server.stop()
    page.wait_for_selector("body[data-link=over]")
    assert page.inner_text("#headline") == "The run is over: results in run-7"
    assert "/data/run-7 · 12 projections, complete" in page.inner_text("#second-line")
    assert page.inner_text("#link-text") == "run over"
    assert page.inner_text("#figure-projection b") == "12 / 31"
    assert page.inner_text("#figure-frames b") == "252 / 252"
    assert page.inner_text("#figure-rate span") == "frames, mean"
    assert page.inner_text("#figure-rate b") == "498 /s"
    assert page.inner_text("#panel-phase .label").endswith("final")
    assert page.evaluate("getComputedStyle(document.querySelector('main')).opacity") == "1"
    red, green, blue = page.evaluate(
        "getComputedStyle(document.getElementById('headline')).color.match(/\\d+/g).slice(0, 3).map(Number)"
    )
    assert max(red, green, blue) - min(red, green, blue) < 40
    page.wait_for_timeout(5000)
    assert page.inner_text("#headline") == "The run is over: results in run-7"


def test_a_server_that_dies_is_told_from_a_run_that_is_over(browser) -> None:
    store = Store()
    feed(store, [made_up.object_update(4)])
    dying = uvicorn.Server(
        uvicorn.Config(
            create_app(store),
            port=0,
            ws="websockets-sansio",
            log_config=None,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
    )
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=dying.run, args=([listener],), daemon=True)
    thread.start()
    port = listener.getsockname()[1]
    tab = browser.new_page()
    try:
        tab.goto(f"http://127.0.0.1:{port}/")
        wait_headline(tab, "Projection 4")
        dying.should_exit = True
        thread.join(10)
        listener.close()
        tab.wait_for_selector("body[data-link=gone]")
        assert tab.inner_text("#headline") == "The pipeline does not answer"
        feed(store, [made_up.object_update(5)])
        again = MonitorServer(store, MonitorConfig(port=port), "I13-1")
        again.start()
        try:
            tab.wait_for_selector("body[data-link=live]")
            wait_headline(tab, "Projection 5")
        finally:
            again.stop()
    finally:
        dying.should_exit = True
        tab.close()


@pytest.mark.parametrize("size", [(1440, 900), (1920, 1080), (1000, 800)], ids=str)
def test_nothing_is_cut_off(page, store, size) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    long = "0123456789" * 3
    feed(
        store,
        [
            dataclasses.replace(message, series=long) if isinstance(message, FramePreview) else message
            for message in made_up.scan()
        ],
    )
    for name in (*PICTURES, "fsc", "quality"):
        wait_until(page, COUNT_COLOURS, lambda colours: colours > 3, name)
    assert page.evaluate(CLIPPED) == []
    assert page.evaluate(CUT_CARDS) == []
    assert page.evaluate("document.documentElement.scrollWidth") == size[0]
    assert long in page.get_attribute("#panel-frame .label", "title")


def test_quality_of_the_tomogram_is_on_the_page(page, store) -> None:
    empty = page.evaluate(FINGERPRINT, "fsc")
    assert "No volume yet" in page.inner_text("#quality")
    feed(store, [made_up.volume(11)])
    wait_until(page, "document.getElementById('quality').innerText", lambda text: "Dose" in text)
    words = page.locator("#quality dd").all_inner_texts()
    names = page.locator("#quality dt").all_inner_texts()
    shown = dict(zip(names, words, strict=True))
    assert shown["Resolution"] == "110 nm half period"
    assert shown["Limited by"] == "shell correlation, ½ bit"
    assert shown["Wanted"] == "100 nm, not reached yet"
    assert shown["Missing wedge"] == "16.4°"
    assert shown["Photons on sample"] == "2.33e8 /µm²"
    assert shown["Dose"] == "2.77 MGy"
    assert shown["Dense matter"] == "0.42 e/Å³"
    wait_until(page, FINGERPRINT, lambda now: now != empty, "fsc")
    wait_until(page, COUNT_COLOURS, lambda colours: colours > 10, "quality")
    whole = {"largest_gap_deg": 5.0, "angular_range_complete": 1.0, "resolution_angular_sampling_m": 110e-9}
    feed(store, [dataclasses.replace(made_up.volume(11), figures=whole)])
    wait_until(page, "document.getElementById('quality').innerText", lambda text: "none, gaps up to 5.0°" in text)
    assert "angular step" in page.inner_text("#quality")
    with_curve = page.evaluate(FINGERPRINT, "fsc")
    feed(store, [dataclasses.replace(made_up.volume(12), fsc={}, figures={}, resolution_m=None)])
    wait_until(page, FINGERPRINT, lambda now: now != with_curve, "fsc")
    wait_until(page, "document.getElementById('quality').innerText", lambda text: "MGy" not in text)
    assert page.problems == []


def test_page_stays_responsive_when_updates_rain(page, store) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.poisson(20, (512, 512)).astype(np.uint16) for _ in range(4)]
    wave = np.exp(1j * rng.normal(0, 0.3, (512, 512))).astype(np.complex64)
    stop = threading.Event()
    fed = [0]

    def rain() -> None:
        while not stop.wait(0.02):
            store.handle(FramePreview(series="1", index=fed[0], counts=frames[fed[0] % 4]))
            store.handle(
                ObjectUpdate(
                    scan_id="rain",
                    projection=0,
                    angle_deg=0.0,
                    object=wave,
                    probe=np.ones((1, 64, 64), np.complex64),
                    coverage=np.ones((512, 512), np.float32),
                    pixel_m=2e-8,
                    energy_ev=6200.0,
                    origin_xy_m=np.zeros(2),
                    index=np.arange(fed[0]),
                    xy_m=np.zeros((fed[0], 2)),
                    errors=np.full(30, 0.1, np.float32),
                    sweeps=30.0,
                )
            )
            fed[0] += 1

    feeder = threading.Thread(target=rain)
    feeder.start()
    try:
        answers = 0
        seen = set()
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            seen.add(page.inner_text("#panel-frame .label"))
            answers += 1
    finally:
        stop.set()
        feeder.join(10)
    assert answers > 20
    assert len(seen) > 5
    wait_label(page, f"frame {fed[0] - 1}")
    assert page.problems == []
