"""The pipeline with real processes and sockets: what it measures, and what it does when something dies."""

import json
import os
import signal

import httpx
import pytest
import yaml

from streamptycho.config import load
from streamptycho.recording.projection_file import read_projection
from streamptycho.recording.stream_log import StreamLogReader
from streamptycho.recording.volume_file import read_volume
from streamptycho.runtime.sockets import free_ports
from streamptycho.simulation import Instrument
from tests.system.pipeline import Run, finished_projections, small_config, summary_of, wait_until


def detector_messages(records):
    return sum(record.source == "detector" and record.kind == "data" for record in records)


def recorded_frames(config):
    instrument = Instrument(load(config))
    detector_messages(instrument.events(0.0))
    return instrument.tally.frames


pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


@pytest.mark.parametrize("protocol", ["dectris_stream2", "dectris_stream1"])
def test_every_frame_of_a_simulated_scan_is_reconstructed(tmp_path, protocol):
    out = tmp_path / "run"
    config = small_config(tmp_path, detector={"protocol": protocol})
    code, printed, errors = Run("demo", "--config", config, "--out", out, "--no-monitor", "--json").finish()
    assert code == 0, errors
    summary = summary_of(out)
    assert json.loads(printed.strip().splitlines()[-1]) == summary
    frames = summary["frames"]
    assert frames["sent"] == frames["received"] == frames["paired"] > 0
    assert (frames["dropped"], frames["unexplained"]) == ({}, 0)
    assert [p["projection"] for p in summary["projections"]] == [0, 1, 2, 3]
    assert [p["angle_deg"] for p in summary["projections"]] == pytest.approx([0, 45, 90, 135], abs=1e-6)
    assert all(p["error"] < 0.05 for p in summary["projections"])
    assert all(p["latency_s"] < 60 for p in summary["projections"])
    assert summary["volume"]["projections_used"] == 4
    assert summary["volume"]["correlation_with_truth"] > 0.6
    volume = read_volume(out / "volume.nxs")
    assert volume.data.ndim == 3
    assert list((out / "pictures").glob("*.png"))


def test_faults_are_counted_to_the_frame(tmp_path):
    out = tmp_path / "run"
    faults = {"drop_frames": 0.05, "duplicate_frames": 0.05, "reorder_frames": 0.1, "corrupt_frames": 0.05, "seed": 3}
    config = small_config(tmp_path, faults=faults)
    code, _, errors = Run("demo", "--config", config, "--out", out, "--no-monitor", "--json").finish()
    assert code == 0, errors
    frames = summary_of(out)["frames"]
    assert frames["unexplained"] == 0
    assert frames["dropped"]["missing"] > 0
    assert frames["dropped"]["truncated"] > 0
    assert frames["anomalies"]["duplicate"] > 0
    assert frames["sent"] == frames["paired"] + sum(frames["dropped"].values())


@pytest.mark.parametrize("victim", ["simulate", "record", "ingest", "reconstruct", "tomography"])
def test_a_killed_process_ends_the_run_by_name_and_keeps_what_was_measured(tmp_path, victim):
    out = tmp_path / "run"
    config = small_config(tmp_path, simulation={"projections": 12}, projections={"count": 12})
    run = Run("demo", "--config", config, "--out", out, "--no-monitor", "--json")
    wait_until(lambda: finished_projections(out) >= 2)
    os.kill(run.service_pid(victim), signal.SIGKILL)
    code, printed, errors = run.finish()
    assert code == 3, errors
    name = "simulated instrument" if victim == "simulate" else f"service {victim}"
    assert any(name in failure and "SIGKILL" in failure for failure in summary_of(out)["failures"])
    assert name in printed
    assert "Traceback" not in printed + errors
    assert finished_projections(out) >= 2
    read_projection(sorted((out / "projections").glob("*.nxs"))[0])
    assert read_volume(out / "volume.nxs").projections_used >= 2
    log = StreamLogReader(out / "stream.log")
    recorded = detector_messages(log)
    if victim in ("simulate", "record"):
        assert recorded > 100
        return
    assert log.torn_bytes == 0
    assert recorded == detector_messages(Instrument(load(config)).events(0.0))
    assert f"streamptycho replay {out / 'stream.log'}" in printed
    assert f"{victim} is started again" in printed
    summary = summary_of(out)
    assert read_volume(out / "volume.nxs").projections_used == finished_projections(out) == 12
    assert [item["reconstructed"] for item in summary["projections"]] == [True] * 12
    assert summary["frames"]["paired"] == summary["frames"]["sent"] == recorded_frames(config)


def test_a_service_that_dies_again_and_again_does_not_stop_the_recording(tmp_path):
    out = tmp_path / "run"
    config = small_config(tmp_path, simulation={"projections": 40}, projections={"count": 40})
    run = Run("demo", "--config", config, "--out", out, "--no-monitor", "--json")
    wait_until(lambda: finished_projections(out) >= 1)
    first = run.service_pid("reconstruct")
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: run.service_pid("reconstruct") != first)
    os.kill(run.service_pid("reconstruct"), signal.SIGKILL)
    code, printed, errors = run.finish()
    assert code == 3, errors
    summary = summary_of(out)
    assert [failure.split(" ")[2] for failure in summary["failures"]] == ["reconstruct", "reconstruct"]
    assert "reconstruct is started again" in printed
    assert "not reconstructed any more" in printed
    assert "Traceback" not in printed + errors
    assert detector_messages(StreamLogReader(out / "stream.log")) == detector_messages(
        Instrument(load(config)).events(0.0)
    )
    assert len(summary["projections"]) == 40
    assert summary["frames"]["unexplained"] == 0
    missing = summary["without_result"]
    assert len(missing) == 40 - finished_projections(out) > 0
    rest = tmp_path / "rest"
    code, printed, errors = Run(
        "reconstruct", out / "stream.log", "--projections", f"{missing[-2]}-{missing[-1]}", "--out", rest, "--json"
    ).finish()
    assert code == 0, errors
    assert [item["projection"] for item in summary_of(rest)["projections"]] == missing[-2:]
    assert finished_projections(rest) == 2


def state_of_page(config):
    port = load(config).monitor.port
    try:
        return httpx.get(f"http://127.0.0.1:{port}/api/state", timeout=2.0).json()
    except httpx.HTTPError:
        return None


def test_a_page_that_dies_is_started_again_and_knows_what_was_before(tmp_path):
    out = tmp_path / "run"
    config = small_config(tmp_path, simulation={"projections": 30}, projections={"count": 30})
    run = Run("demo", "--config", config, "--out", out, "--json")
    wait_until(lambda: finished_projections(out) >= 2)
    os.kill(run.service_pid("monitor"), signal.SIGKILL)
    wait_until(lambda: (state := state_of_page(config)) and {0, 1} <= {p["number"] for p in state["projections"]})
    state = state_of_page(config)
    assert [p["state"] for p in state["projections"][:2]] == ["final", "final"]
    assert {card["service"] for card in state["services"]} == {"record", "ingest", "reconstruct", "tomography"}
    code, printed, errors = run.finish()
    assert code == 3, errors
    assert summary_of(out)["failures"] == ["the service monitor was killed by SIGKILL"]
    assert "The page is started again" in printed
    assert finished_projections(out) == 30


def test_ctrl_c_finishes_what_was_measured_however_long_the_volume_takes(tmp_path):
    out = tmp_path / "run"
    config = small_config(
        tmp_path,
        simulation={"projections": 40},
        projections={"count": 40},
        tomography={"final_volume": "tv", "tv_rounds": 1500},
        pipeline={"drain_timeout_s": 3.0},
    )
    run = Run("demo", "--config", config, "--out", out, "--no-monitor", "--json")
    wait_until(lambda: finished_projections(out) >= 2)
    run.process.send_signal(signal.SIGINT)
    code, printed, errors = run.finish()
    summary = summary_of(out)
    assert code == 0, errors
    assert "at work for" in printed
    assert summary["failures"] == []
    assert summary["stopped_by_operator"]
    assert summary["frames"]["unexplained"] == 0
    # The projection that was being measured may be refused for the few frames that it has.
    whole = [projection for projection in summary["projections"] if projection["ended"] == "complete"]
    assert 2 <= len(whole) <= summary["volume"]["projections_used"] <= finished_projections(out) <= len(whole) + 1


def test_positions_that_stop_half_way_leave_what_has_positions(tmp_path):
    out = tmp_path / "run"
    config = small_config(tmp_path, faults={"stop_positions_after_rows": 150})
    code, _, errors = Run("demo", "--config", config, "--out", out, "--no-monitor", "--json").finish()
    assert code == 0, errors
    summary = summary_of(out)
    assert summary["frames"]["unexplained"] == 0
    assert summary["frames"]["paired"] == 150
    assert summary["frames"]["dropped"]["unpaired"] == summary["frames"]["sent"] - 150
    assert summary["volume"]["projections_used"] >= 1


def test_a_scan_without_a_frame_ends_with_an_account_of_it(tmp_path):
    out = tmp_path / "run"
    code, _, errors = Run(
        "demo", "--config", small_config(tmp_path, faults={"drop_frames": 1.0}), "--out", out, "--no-monitor", "--json"
    ).finish()
    assert code == 3, errors
    summary = summary_of(out)
    assert summary["failures"] == ["nothing was reconstructed: none of 4 measured projections could be used"]
    assert "(missing)" in summary["warnings"][0]
    assert summary["frames"]["paired"] == 0
    assert summary["frames"]["dropped"] == {"missing": summary["frames"]["sent"]}
    assert summary["volume"] is None


def test_a_wrong_detector_address_is_named(tmp_path):
    out = tmp_path / "run"
    config = small_config(tmp_path, record={"connect_timeout_s": 2.0})
    code, printed, errors = Run("live", config, "--out", out, "--no-monitor").finish()
    assert code == 3
    assert "no detector answers at tcp://127.0.0.1:" in printed.replace("\n", " ")
    assert "Traceback" not in printed + errors


def test_an_absent_pandabox_is_named(tmp_path):
    out = tmp_path / "run"
    config = small_config(tmp_path, record={"connect_timeout_s": 5.0})
    simulator = Run("simulate", config)
    try:
        elsewhere = tmp_path / "elsewhere.yaml"
        tree = yaml.safe_load(config.read_text())
        tree["positions"]["port"] = free_ports(1)[0]
        elsewhere.write_text(yaml.safe_dump(tree))
        code, printed, errors = Run("live", elsewhere, "--out", out, "--no-monitor").finish()
    finally:
        simulator.process.terminate()
        simulator.finish()
    assert code == 3
    assert "no PandABox answers at 127.0.0.1:" in printed.replace("\n", " ")
    assert "Traceback" not in printed + errors


def test_a_recording_replays_to_the_same_frames(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    config = small_config(tmp_path, faults={"drop_frames": 0.03, "reorder_frames": 0.05})
    assert Run("demo", "--config", config, "--out", first, "--no-monitor", "--json").finish()[0] == 0
    code, _, errors = Run("replay", first / "stream.log", "--out", second, "--no-monitor", "--json").finish()
    assert code == 0, errors
    live, replayed = summary_of(first), summary_of(second)
    assert live["frames"] == replayed["frames"]
    for path in sorted((first / "projections").glob("*.nxs")):
        before, after = read_projection(path), read_projection(second / "projections" / path.name)
        assert sorted(before.index.tolist()) == sorted(after.index.tolist())
        assert sorted(map(tuple, before.xy_m.tolist())) == sorted(map(tuple, after.xy_m.tolist()))
    assert all(p["latency_s"] < 120 for p in replayed["projections"])
