"""The pictures of the README, and the command that makes them."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_pictures", ROOT / "docs" / "make_pictures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_picture_of_the_readme_has_a_command_true_colours_and_few_bytes(maker: ModuleType) -> None:
    shown = set(re.findall(r"\]\(docs/(\w+)\.png\)", README.read_text(encoding="utf-8")))
    assert shown == set(maker.MAKERS)
    for name in shown:
        path = ROOT / "docs" / f"{name}.png"
        assert path.stat().st_size < maker.MAX_BYTES
        with Image.open(path) as picture:
            assert picture.mode == "RGB"
            assert picture.width >= 1000


def test_a_picture_of_too_many_bytes_becomes_smaller_and_keeps_its_colours(maker: ModuleType, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (600, 900, 3), np.uint8)
    maker._save(Image.fromarray(noise).convert("RGBA"), tmp_path / "noise.png")
    assert (tmp_path / "noise.png").stat().st_size <= maker.MAX_BYTES
    with Image.open(tmp_path / "noise.png") as picture:
        assert picture.mode == "RGB"
        assert picture.width / picture.height == pytest.approx(1.5, abs=0.01)
        assert picture.width > 400


def test_what_is_missing_is_said(
    maker: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(maker, "STAR", tmp_path / "absent.npz")
    monkeypatch.setattr(maker.sys, "argv", ["make_pictures.py", "star"])
    maker.main()
    assert "star.png skipped: the measured frames are not at" in capsys.readouterr().out
