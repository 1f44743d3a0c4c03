"""Folders of runs: one run each, and none left behind by a mistake."""

import json
import subprocess
import sys

import numpy as np
import pytest

from streamptycho.cli.runs import close_run, run_folder
from streamptycho.config import Config
from streamptycho.stages.folder import RunFolder, RunFolderError
from streamptycho.stages.pipeline import RunResult


def test_a_folder_in_which_nothing_was_left_goes_again(tmp_path):
    with pytest.raises(ValueError), run_folder(tmp_path / "new", "x"):
        raise ValueError
    assert not (tmp_path / "new").exists()
    with run_folder(tmp_path / "used", "x") as folder:
        folder.summary.write_text("{}")
    assert folder.summary.exists()
    (tmp_path / "mine").mkdir()
    with run_folder(tmp_path / "mine", "x"):
        pass
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_folder_with_a_log_takes_no_second_run(tmp_path):
    (tmp_path / "stream.log").write_bytes(b"x")
    with pytest.raises(RunFolderError, match=r"already holds a run.*--out"), run_folder(tmp_path, "x"):
        raise AssertionError
    (tmp_path / "c.yaml").write_text("scan_id: s")
    command = [sys.executable, "-m", "streamptycho", "service", "record", "--config", tmp_path / "c.yaml"]
    ended = subprocess.run([*command, "--out", tmp_path], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert "already holds a run" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_service_that_fails_alone_ends_with_a_sentence(tmp_path):
    config = "detector: {endpoint: 'tcp://127.0.0.1:1'}\npositions: {port: 1}\nrecord: {connect_timeout_s: 0.5}\n"
    (tmp_path / "c.yaml").write_text(config)
    command = [sys.executable, "-m", "streamptycho", "service", "record", "--config", tmp_path / "c.yaml"]
    ended = subprocess.run([*command, "--out", tmp_path / "o"], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 3
    assert "no detector answers" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_unreadable_volume_does_not_cost_the_summary(tmp_path):
    folder = RunFolder(tmp_path)
    folder.create()
    folder.volume.write_bytes(b"no HDF5")
    result = RunResult(duration_s=1.0)
    close_run(Config(), folder, result, simulate=False)
    summary = json.loads(folder.summary.read_text())
    assert summary["volume"] is None
    assert any("volume.nxs" in failure for failure in summary["failures"])


def test_positions_in_a_wrong_unit_end_as_a_failure_with_the_key_to_change(tmp_path):
    rng = np.random.default_rng(0)
    places = np.arange(40)[:, None] * [1e9, 2e9]
    np.savez(tmp_path / "m.npz", data=rng.poisson(5, (40, 16, 16)).astype(np.uint16), scan=places)
    command = [sys.executable, "-m", "streamptycho", "reconstruct", tmp_path / "m.npz", "--out", tmp_path / "o"]
    ended = subprocess.run([*command, "--sweeps", "2"], capture_output=True, text=True, timeout=100)
    assert ended.returncode == 3
    summary = json.loads((tmp_path / "o" / "summary.json").read_text())
    assert "positions.x.scale" in summary["warnings"][0]
    assert "nothing was reconstructed" in summary["failures"][0]
    assert not summary["projections"][0]["reconstructed"]
    assert "positions.x.scale" in " ".join(ended.stdout.split())
