"""The page while the whole pipeline runs, in processes of its own."""

import time

import pytest
import yaml

from tests.system.pipeline import Run, small_config

pytestmark = [pytest.mark.browser, pytest.mark.system, pytest.mark.timeout(300)]

COLOURS = """name => {
  const canvas = document.getElementById(`canvas-${name}`);
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return new Set(new Uint32Array(data.buffer)).size;
}"""


def wait_for(page, expression, wanted, argument=None, timeout_s=100.0):
    deadline = time.monotonic() + timeout_s
    while not wanted(answer := page.evaluate(expression, argument)):
        assert time.monotonic() < deadline, f"the page still answers {answer!r}"
        page.wait_for_timeout(100)
    return answer


def number_in(headline):
    return int(headline.split()[1].rstrip(":"))


def open_when_served(page, address, timeout_s=60.0):
    sync_api = pytest.importorskip("playwright.sync_api")
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            page.goto(address)
            return
        except sync_api.Error:
            assert time.monotonic() < deadline, "the page was never served"
            page.wait_for_timeout(200)


@pytest.fixture
def compiled(tmp_path):
    """A first run, which compiles: the second one then is at work while it is measured."""
    folder = tmp_path / "first"
    folder.mkdir()
    run = Run("demo", "--config", small_config(folder), "--out", folder / "run", "--json", "--no-monitor")
    code, _, errors = run.finish()
    assert code == 0, errors


def test_the_page_shows_the_scan_while_it_is_measured(browser, tmp_path, compiled):
    config = small_config(
        tmp_path, faults={"drop_frames": 0.05}, simulation={"projections": 20}, projections={"count": 20}
    )
    address = f"http://127.0.0.1:{yaml.safe_load(config.read_text())['monitor']['port']}"
    run = Run("demo", "--config", config, "--out", tmp_path / "run", "--json")
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    try:
        open_when_served(page, address)
        first = wait_for(
            page, "document.getElementById('headline').textContent", lambda text: text.startswith("Projection")
        )
        for name in ("frame", "path", "phase", "amplitude", "probe", "slice_z", "slice_y", "slice_x"):
            wait_for(page, COLOURS, lambda colours: colours > 20, name)
        wait_for(page, "document.getElementById('losses').innerText", lambda text: "detector never sent" in text)
        wait_for(
            page,
            "document.getElementById('headline').textContent",
            lambda text: text.startswith("Projection") and number_in(text) > number_in(first),
        )
        assert "20" in page.inner_text("#figure-projection b")
        names = {card.split()[0] for card in page.locator("#services .card").all_inner_texts()}
        assert names == {"record", "ingest", "reconstruct", "tomography"}
        shown = page.evaluate("fetch('/api/state').then(answer => answer.json())")
        assert shown["losses"]
        over = wait_for(
            page, "document.getElementById('headline').textContent", lambda text: text.startswith("The run")
        )
        assert over == "The run is over: results in run"
        page.wait_for_selector("body[data-link=over]")
        assert str(tmp_path / "run") in page.inner_text("#second-line")
        assert page.inner_text("#figure-projection b") == "20 / 20"
        assert "MGy" in page.inner_text("#quality") or "kGy" in page.inner_text("#quality")
        assert page.evaluate(COLOURS, "fsc") > 20
    finally:
        page.close()
        code, _, errors = run.finish()
    assert code == 0, errors
