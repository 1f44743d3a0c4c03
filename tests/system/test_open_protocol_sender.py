"""The sender of docs/open-protocol.md, run as it stands there, against the receiver and the whole pipeline."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from streamptycho.config import Config
from streamptycho.messages import RawBlock, RawRecord
from streamptycho.recording.projection_file import read_projection
from streamptycho.runtime.instrument_client import InstrumentClient
from streamptycho.runtime.pandabox_server import PandaServer
from streamptycho.runtime.sockets import free_ports
from streamptycho.simulation import Instrument
from streamptycho.stages.folder import RunFolder, read_json_lines
from streamptycho.stages.in_process import InProcessPipeline

pytestmark = pytest.mark.system
PAGE = Path(__file__).resolve().parents[2] / "docs" / "open-protocol.md"
LIMIT_S = 40.0


def sender() -> str:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return code


def configuration() -> Config:
    detector, positions = free_ports(2)
    return Config.model_validate(
        {
            "detector": {
                "protocol": "open",
                "endpoint": f"tcp://127.0.0.1:{detector}",
                "energy_ev": 6200,
                "region": {"size_px": 48},
            },
            "positions": {"port": positions, "angle": {"column": "INENC3.VAL.Mean"}},
            "pairing": {"match": "order"},
            "projections": {"count": 1},
            "reconstruction": {
                "sweeps": 15,
                "min_sweeps": 15,
                "probe": {"diameter_m": 0.7e-6, "defocus_m": 2.5e-4},
            },
            "simulation": {
                "distance_m": 1.3,
                "detector_shape": [48, 48],
                "rate_hz": 400,
                "projections": 1,
                "sample": {"size_m": 2.0e-6, "delta": 1.1e-5},
                "beam": {"diameter_m": 0.7e-6, "defocus_m": 2.5e-4, "photons_per_frame": 1e6},
                "trajectory": {"width_m": 2.4e-6, "height_m": 2.0e-6, "step_x_m": 0.25e-6, "step_y_m": 0.25e-6},
            },
        }
    )


def receive(config: Config, start: list[str], panda: PandaServer, positions: list[bytes]) -> list[RawRecord]:
    """Return what a client receives from the sender that is started when it has connected, and from the PandABox."""
    request = b"XML FRAMED SCALED\n"
    client = InstrumentClient(config.detector.endpoint, config.positions.host, config.positions.port, request)
    records: list[RawRecord] = []
    process = None
    until = time.monotonic() + LIMIT_S
    try:
        while time.monotonic() < until:
            for message in client.poll(0.05):
                records += message.records() if isinstance(message, RawBlock) else [message]
            if process is None and panda.clients:
                process = subprocess.Popen(start)
                for data in positions:
                    panda.publish(data)
            ended = any(b'"type": "end"' in part for r in records if r.source == "detector" for part in r.parts)
            if ended and any(b"END " in part for r in records if r.source == "positions" for part in r.parts):
                break
        assert process is not None
        assert process.wait(LIMIT_S) == 0
    finally:
        client.close()
        if process is not None and process.poll() is None:
            process.kill()
    return [*records, RawRecord(source="recorder", kind="end", sequence=0, received_ns=records[-1].received_ns)]


def test_the_page_stays_one_page_and_its_sender_short():
    text = PAGE.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 80
    assert len([line for line in sender().splitlines() if line.strip()]) <= 20


def test_the_sender_of_the_page_feeds_the_whole_pipeline(tmp_path):
    config = configuration()
    instrument = Instrument(config)
    counts = np.concatenate(list(instrument.frames(0)))
    np.save(tmp_path / "frames.npy", counts)
    (tmp_path / "sender.py").write_text(sender())
    command = [sys.executable, str(tmp_path / "sender.py"), config.detector.endpoint, str(tmp_path / "frames.npy")]
    positions = [r.parts[0] for r in instrument.events(time.time()) if r.source == "positions" and r.kind == "data"]
    n = instrument.frames_per_projection
    panda = PandaServer("127.0.0.1", config.positions.port, 0)
    try:
        records = receive(config, command, panda, positions)
    finally:
        panda.close()
    folder = RunFolder(tmp_path / "run")
    InProcessPipeline(config, folder).run(records)
    (end,) = read_json_lines(folder.accounting)
    assert (end["frames_sent"], end["frames_paired"], end["dropped"]) == (n, n, {})
    result = read_projection(folder.projection(0))
    expected = instrument.positions_m(0)
    np.testing.assert_allclose(result.xy_m[np.argsort(result.index)], expected, atol=1e-12)
    assert result.errors[-1] < 0.5 * result.errors[0]
