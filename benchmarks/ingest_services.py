"""The services record and ingest as processes of their own, at the rate of a detector: what a beamline runs."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.clock import spread
from benchmarks.frames import Series, eiger_series, selun_series
from benchmarks.ingest import configured
from benchmarks.push import LISTENING, kept
from benchmarks.row import Effort, NotMeasurable, Row, WrongResult
from streamptycho.config import Config, dump
from streamptycho.messages import DiffractionBatch
from streamptycho.runtime.sockets import PullSource, free_ports

ROOT = Path(__file__).resolve().parents[1]
SERVICES = ("record", "ingest")
QUEUE = 16
LOADED_S = 4.0
SILENT_S = 15.0
BEHIND_S = 0.3


@dataclass(frozen=True, slots=True)
class Scan:
    """What one series cost: processor seconds of each service, and how long after the last frame it was paired."""

    processor_s: dict[str, float]
    behind_s: float


def eiger_services(effort: Effort) -> Iterator[Row]:
    yield _held(eiger_series(6000 if effort.quick else 18_000), 128, 3000.0, effort, "512x1028 u16, 128x128 region")


def selun_services(effort: Effort) -> Iterator[Row]:
    yield _held(selun_series(220_000 if effort.quick else 660_000), None, 110e3, effort, "96x96 u8")


def _held(series: Series, side: int | None, rate_hz: float, effort: Effort, what: str) -> Row:
    name = f"services record and ingest, {what}, paced at {rate_hz / 1e3:.0f} kHz"
    beam_s = len(series.images) / rate_hz
    lent, sent = [], []
    for _ in range(1 if effort.quick else 3):
        for scans, shared_memory in ((lent, True), (sent, False)):
            with _running(series, configured(series, side), shared_memory) as running:
                scans.append(running.scan(rate_hz, name))
    ours, theirs = ([sum(scan.processor_s.values()) / beam_s for scan in scans] for scans in (lent, sent))
    each = ", ".join(
        f"{service} {statistics.median(scan.processor_s[service] for scan in lent) / beam_s:.2f}"
        for service in SERVICES
    )
    late, late_sent = (statistics.median(scan.behind_s for scan in scans) for scans in (lent, sent))
    held = sum(scan.behind_s < BEHIND_S for scan in lent)
    return Row(
        name=name,
        figure=statistics.median(ours),
        unit="cores",
        better="less",
        spread=spread(ours),
        rounds=len(ours),
        reference="the same with pipeline.shared_memory: false",
        reference_figure=statistics.median(theirs),
        ratio=statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
        meaning=f"processor seconds per second of beam ({each}), recorded, paired and handed to the next service; "
        f"held in {held} of {len(lent)} scans of {beam_s:.0f} s, last frame paired {late:.2f} s late "
        f"({late_sent:.2f} without shared memory); 0 lost",
        details={"lost": 0.0, "held_runs": float(held), "best_figure": min(ours), "behind_s": late},
    )


class _Running:
    """Both services, a detector and a PandABox, connected to each other."""

    def __init__(
        self,
        series: Series,
        sender: subprocess.Popen[bytes],
        services: dict[str, subprocess.Popen[bytes]],
        positions: socket.socket,
        paired: PullSource,
    ) -> None:
        self._series, self._sender, self._services = series, sender, services
        self._positions, self._paired = positions, paired

    def scan(self, rate_hz: float, name: str) -> Scan:
        """Send all frames and positions at a rate and take what is paired.

        Raises
        ------
        WrongResult
            If not every frame comes out once.
        """
        assert self._sender.stdin is not None
        frames, got = len(self._series.images), 0
        before = {service: _processor_s(process.pid) for service, process in self._services.items()}
        rows = threading.Thread(target=self._send_rows, args=(rate_hz,), daemon=True)
        rows.start()
        self._sender.stdin.write(b"%r\n" % rate_hz)
        self._sender.stdin.flush()
        began = newest = time.perf_counter()
        while got < frames and time.perf_counter() - newest < SILENT_S:
            message = self._paired.get(0.2)
            if isinstance(message, DiffractionBatch):
                got += len(message.index)
                newest = time.perf_counter()
        after = {service: _processor_s(process.pid) for service, process in self._services.items()}
        rows.join(SILENT_S)
        if got != frames:
            raise WrongResult(f"{name}: {got} of {frames} frames came out")
        costs = {service: after[service] - before[service] for service in self._services}
        return Scan(costs, newest - began - frames / rate_hz)

    def _send_rows(self, rate_hz: float) -> None:
        began = time.perf_counter()
        for frames, rows in zip(self._series.frames_before, self._series.rows, strict=True):
            time.sleep(max(0.0, frames / rate_hz - (time.perf_counter() - began)))
            self._positions.sendall(rows)


@contextmanager
def _running(series: Series, config: Config, shared_memory: bool) -> Iterator[_Running]:
    if not Path("/proc/self/stat").exists():
        raise NotMeasurable("processor time of other processes is read from /proc")
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        listener = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.settimeout(60)
        detector, *ports = free_ports(5)
        config = _connected(config, detector, listener.getsockname()[1], ports, shared_memory)
        (folder / "beamline.yaml").write_text(dump(config))
        messages = kept([series.start, *series.images, series.end], folder / "series.npz")
        os.sync()
        command = [sys.executable, "-m", "benchmarks.push", str(messages), f"{LISTENING}127.0.0.1:{detector}"]
        sender = opened.enter_context(_process(command, stdin=subprocess.PIPE))
        _wait_for(detector)
        services = {
            service: opened.enter_context(
                _process(
                    [
                        *(sys.executable, str(ROOT / "services" / f"{service}.py")),
                        *("--config", str(folder / "beamline.yaml"), "--out", str(folder / "out")),
                    ]
                )
            )
            for service in SERVICES
        }
        positions = opened.enter_context(listener.accept()[0])
        positions.settimeout(60)
        positions.recv(4096)
        positions.sendall(series.rows_header)
        paired = PullSource(f"tcp://127.0.0.1:{config.pipeline.ingest.port}", QUEUE, keeps=True)
        opened.callback(paired.close)
        time.sleep(LOADED_S)
        yield _Running(series, sender, services, positions, paired)


def _connected(config: Config, detector: int, positions: int, ports: list[int], shared_memory: bool) -> Config:
    tree = config.model_dump(mode="json")
    tree["detector"]["endpoint"] = f"tcp://127.0.0.1:{detector}"
    tree["positions"] |= {"host": "127.0.0.1", "port": positions}
    tree["projections"]["count"] = None
    tree["simulation"] = None
    tree["pipeline"]["shared_memory"] = shared_memory
    for k, service in enumerate(SERVICES):
        tree["pipeline"][service] |= {"port": ports[2 * k], "status_port": ports[2 * k + 1]}
    return Config.model_validate(tree)


@contextmanager
def _process(command: list[str], stdin: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, stdin=stdin, stdout=subprocess.DEVNULL, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


def _wait_for(port: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise WrongResult("the sending process does not listen")


def _processor_s(process: int) -> float:
    """Return the processor time of a process, of all its threads."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
