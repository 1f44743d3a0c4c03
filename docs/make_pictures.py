"""Makes the pictures of the README: the page while the demonstration runs, and a measured Siemens star.

python docs/make_pictures.py [page] [star]
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
STAR = ROOT.parent / "shared" / "data" / "siemens-star-aps" / "siemens-star-small.npz.bz2"
COMMAND = [sys.executable, "-m", "streamptycho"]
SIZE = {"width": 1440, "height": 900}
MAX_BYTES = 600_000
RECONSTRUCTED = 35
SWEEPS = 15
TIMEOUT_S = 600.0


class NotPossibleError(RuntimeError):
    """A picture that cannot be made on this machine: says what is missing."""


def page(target: Path) -> None:
    """Run the demonstration and take a picture of its page shortly before the end."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise NotPossibleError("playwright is not installed: pip install -e .[dev]") from None
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise NotPossibleError("Chromium is not installed")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        command = [*COMMAND, "demo", "--json", "--out", f"{folder}/demo"]
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=folder)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        try:
            assert run.stdout is not None
            address = json.loads(run.stdout.readline())["monitor"]
            tab = browser.new_page(viewport=SIZE)
            _open(tab, address)
            _wait(tab, lambda state: state["reconstructed"] >= RECONSTRUCTED and state["current"]["sweeps"] >= SWEEPS)
            _save(Image.open(io.BytesIO(tab.screenshot())), target)
            run.communicate(timeout=TIMEOUT_S)
        finally:
            browser.close()
            if run.poll() is None:
                run.terminate()
                run.communicate(timeout=60)
    if run.returncode:
        raise NotPossibleError(f"the demonstration ended with exit code {run.returncode}")


def star(target: Path) -> None:
    """Reconstruct the measured star with three modes and corrected positions, and draw the result."""
    if not STAR.exists():
        raise NotPossibleError(f"the measured frames are not at {STAR}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for arguments in (
            ["import", str(STAR), "star.log", "--orientation", "auto"],
            ["reconstruct", "star.log", "--modes", "3", "--positions", "gradient", "--out", "star"],
            ["show", "star", "--out", "shown"],
        ):
            subprocess.run([*COMMAND, *arguments], cwd=folder, check=True, timeout=TIMEOUT_S)
        _save(Image.open(next(folder.glob("shown/projection*.png"))), target)


def _open(tab: Any, address: str) -> None:
    from playwright.sync_api import Error

    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            tab.goto(address)
            return
        except Error:
            if time.monotonic() > deadline:
                raise NotPossibleError(f"there is no page at {address}") from None
            tab.wait_for_timeout(200)


def _wait(tab: Any, wanted: Callable[[dict[str, Any]], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not wanted(tab.evaluate("fetch('/api/state').then(answer => answer.json())")):
        if time.monotonic() > deadline:
            raise NotPossibleError(f"the demonstration did not get that far in {TIMEOUT_S:.0f} s")
        tab.wait_for_timeout(100)


def _save(image: Image.Image, target: Path) -> None:
    """Write a picture in true colour, smaller where it would be too many bytes for a repository."""
    picture = image.convert("RGB")
    while True:
        buffer = io.BytesIO()
        picture.save(buffer, "png", optimize=True)
        if buffer.tell() <= MAX_BYTES:
            break
        shrunk = (round(picture.width * 0.92), round(picture.height * 0.92))
        picture = image.convert("RGB").resize(shrunk, Image.Resampling.LANCZOS)
    target.write_bytes(buffer.getvalue())
    print(f"{target}: {picture.width} x {picture.height} px, {buffer.tell() / 1000:.0f} kB")  # noqa: T201


MAKERS = {"page": page, "star": star}


def main() -> None:
    """Make the pictures that were asked for, all by default; say why one cannot be made."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="page or star; both when none is given")
    names = parser.parse_args().names or list(MAKERS)
    for name in names:
        if name not in MAKERS:
            parser.error(f"no picture is called {name!r}; known: {', '.join(MAKERS)}")
        try:
            MAKERS[name](ROOT / "docs" / f"{name}.png")
        except NotPossibleError as error:
            print(f"{name}.png skipped: {error}")  # noqa: T201


if __name__ == "__main__":
    main()
