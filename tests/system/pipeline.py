"""Helpers to run the command line as a user does, and to find its processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

from streamptycho.runtime.sockets import free_ports

SMALL_SCAN = {
    "energy_ev": 6200,
    "distance_m": 1.3,
    "detector_pixel_m": 75.0e-6,
    "detector_shape": [64, 64],
    "rate_hz": 400,
    "projections": 4,
    "sample": {"size_m": 3.0e-6, "delta": 1.1e-5, "seed": 7},
    "beam": {"photons_per_frame": 1.0e6, "diameter_m": 1.1e-6, "defocus_m": 5.0e-4},
    "trajectory": {"width_m": 3.6e-6, "height_m": 3.0e-6, "step_x_m": 0.36e-6, "step_y_m": 0.36e-6},
}


def small_config(folder: Path, *, faults: dict | None = None, **sections: dict) -> Path:
    """Write the configuration of a scan of a few seconds and return its path."""
    detector, data, control, monitor = free_ports(4)
    simulation = {**SMALL_SCAN, "control_port": control, **sections.pop("simulation", {}), "faults": faults or {}}
    tree = {
        "scan_id": "small",
        "detector": {
            "endpoint": f"tcp://127.0.0.1:{detector}",
            "region": {"size_px": 64},
            **sections.pop("detector", {}),
        },
        "positions": {
            "port": data,
            "x": {"column": "INENC1.VAL.Mean", "scale": 1e-6},
            "y": {"column": "INENC2.VAL.Mean", "scale": 1e-6},
            "angle": {"column": "INENC3.VAL.Mean"},
            **sections.pop("positions", {}),
        },
        "projections": {"count": simulation["projections"], **sections.pop("projections", {})},
        "reconstruction": {
            "sweeps": 12,
            "min_sweeps": 6,
            "probe": {"diameter_m": 1.1e-6, "defocus_m": 5.0e-4},
            **sections.pop("reconstruction", {}),
        },
        "pairing": {"positions_timeout_s": 4.0, **sections.pop("pairing", {})},
        "record": {"connect_timeout_s": 20.0, **sections.pop("record", {})},
        "tomography": sections.pop("tomography", {}),
        "pipeline": {"drain_timeout_s": 60.0, **sections.pop("pipeline", {})},
        "monitor": {"port": monitor},
        "simulation": simulation,
    }
    assert not sections, sections
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


class Run:
    """One `streamptycho` command in a process of its own."""

    def __init__(self, *arguments: str | Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streamptycho", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, timeout_s: float = 240.0) -> tuple[int, str, str]:
        """Wait for the end and return exit code, output and errors."""
        try:
            out, err = self.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGTERM)
            try:
                out, err = self.process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                out, err = self.process.communicate()
            raise AssertionError(f"did not end within {timeout_s} s:\n{out}\n{err}") from None
        return self.process.returncode, out, err

    def service_pid(self, name: str, timeout_s: float = 30.0) -> int:
        """Return the process id of a service of this run, waiting until it is there."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit() and _is_child(entry, self.process.pid, name):
                    return int(entry.name)
            time.sleep(0.05)
        raise AssertionError(f"no service {name} within {timeout_s} s")


def _is_child(entry: Path, parent: int, name: str) -> bool:
    try:
        command = (entry / "cmdline").read_bytes().split(b"\0")
        status = (entry / "status").read_text()
    except OSError:
        return False
    return f"\nPPid:\t{parent}\n" in status and name.encode() in command and b"service" in command


def wait_until(condition, timeout_s: float = 120.0) -> None:
    """Wait for a condition, at most the given time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("what the test waited for did not happen")
        time.sleep(0.05)


def finished_projections(out: Path) -> int:
    """Return how many projections of a run have been written."""
    return len(list((out / "projections").glob("*.nxs")))


def summary_of(out: Path) -> dict:
    """Return the summary of a run."""
    return json.loads((out / "summary.json").read_text())


def alive(pid: int) -> bool:
    """Whether a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
