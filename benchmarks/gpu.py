"""Every GPU test and measurement in one call of a few minutes, and one table.

    python -m benchmarks.gpu [--json FILE]

Leaves with 2 and one sentence where CuPy sees no GPU, with 1 when a test or a measurement failed. What fails does not
keep the rest from being done.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console

from benchmarks import gpu_scans, gpu_tomography, machine, table
from benchmarks.row import Row
from streamptycho.array import Backend, DeviceError, backend

LIMIT_S = 440.0
TESTS_LIMIT_S = 150
ROOT = Path(__file__).resolve().parents[1]

Step = tuple[str, float, Callable[[Backend], Iterator[Row]]]

STEPS: tuple[Step, ...] = (
    ("128x128, 4 modes, positions between pixels", 25, gpu_scans.speed(128, 4)),
    ("64x64, 2 modes, from 32x32 counts", 20, gpu_scans.speed(64, 2, upsampling=2)),
    ("128x128, 1 mode, whole-pixel", 20, gpu_scans.speed(128, 1, whole_pixels=True)),
    ("256x256, 2 modes, fields in device memory", 25, gpu_scans.speed(256, 2)),
    ("agreement with sequential visits on the CPU", 90, gpu_scans.agreement),
    ("110 kHz scan: 56 000 frames, x2 upsampling, 2 modes", 25, gpu_scans.projection(56_000, 64, 2, 2, 50, 3.0)),
    ("100 000 frames of 128x128, 4 modes", 60, gpu_scans.projection(100_000, 128, 4, 1, 10, 50.0, of_sweeps=50)),
    ("tomography, 128^3", 5, gpu_tomography.volume(128)),
    ("tomography, 256^3", 6, gpu_tomography.volume(256)),
    ("tomography, 512^3", 14, gpu_tomography.volume(512)),
    ("tomography, 1024^3", 45, gpu_tomography.volume(1024)),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the rows there as well")
    options = parser.parse_args()
    try:
        device = backend("gpu")
    except DeviceError as error:
        print(f"No GPU measurement is possible here: {error}.", file=sys.stderr)
        return 2
    began = time.monotonic()
    facts = {**machine.describe(), **_device_facts(device)}
    for name, value in facts.items():
        print(f"{name}: {value}", flush=True)
    failed: dict[str, str] = {}
    rows: list[Row] = []
    tests = _run_tests()
    print(f"tests/gpu: {tests[1]}", flush=True)
    if not tests[0]:
        failed["tests/gpu"] = tests[1]
    for name, needed_s, measure in STEPS:
        if time.monotonic() - began + needed_s > LIMIT_S:
            failed[name] = "left out: no time was left"
            continue
        print(f"{time.monotonic() - began:5.0f} s  {name}", flush=True)
        try:
            rows += measure(device)
        except Exception as error:  # noqa: BLE001 - the other figures must not be lost with this one
            traceback.print_exc()
            failed[name] = f"{type(error).__name__}: {error}"
        _free(device)
    table.show(Console(width=None if sys.stdout.isatty() else 200), facts, rows, failed)
    if options.json is not None:
        content = table.as_json(facts, rows, failed, quick=False)
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 1 if failed else 0


def _device_facts(device: Backend) -> dict[str, str]:
    """Return what CuPy says of the device; what it does not say is left out."""
    runtime, facts = device.xp.cuda.runtime, {"CuPy": str(device.xp.__version__)}
    try:
        found = runtime.getDeviceProperties(device.xp.cuda.Device().id)
        facts["processors"] = str(found["multiProcessorCount"])
        facts["device memory"] = f"{found['totalGlobalMem'] / 2**30:.0f} GiB"
        facts["compute capability"] = f"{found['major']}.{found['minor']}"
        facts["CUDA"] = f"runtime {runtime.runtimeGetVersion()}, driver {runtime.driverGetVersion()}"
    except Exception as error:  # noqa: BLE001 - facts are for the reader, and figures are worth having without
        facts["device"] = f"cannot be described: {error}"
    return facts


def _run_tests() -> tuple[bool, str]:
    """Return whether the tests on the device pass, and what they say."""
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", "tests/gpu"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TESTS_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return False, f"not done after {TESTS_LIMIT_S} s"
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or ["no output"]
    if done.returncode:
        print(done.stdout[-6_000:], done.stderr[-2_000:], sep="\n", flush=True)
    return done.returncode == 0 and "skipped" not in lines[-1], lines[-1]


def _free(device: Backend) -> None:
    try:
        device.xp.get_default_memory_pool().free_all_blocks()
    except Exception as error:  # noqa: BLE001 - a device that failed may also fail here
        print(f"memory of the device cannot be freed: {error}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
