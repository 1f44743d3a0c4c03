"""The whole pipeline in one process, on the bytes of a simulated instrument."""

import json

import numpy as np
import pytest

from streamptycho.config import parse
from streamptycho.recording.projection_file import read_projection
from streamptycho.recording.volume_file import read_volume
from streamptycho.simulation import Instrument, truth
from streamptycho.stages.folder import RunFolder, read_json_lines
from streamptycho.stages.in_process import InProcessPipeline
from streamptycho.stages.pipeline import RunResult
from streamptycho.stages.summary import summarise
from streamptycho.stages.truth import correlation_with_truth
from tests.system.pipeline import SMALL_SCAN


def small(**sections):
    tree = {
        "detector": {"region": {"size_px": 64}},
        "positions": {"angle": {"column": "INENC3.VAL.Mean"}},
        "projections": {"count": 3},
        "reconstruction": {"sweeps": 8, "min_sweeps": 8, "probe": {"diameter_m": 1.1e-6, "defocus_m": 5.0e-4}},
        "simulation": {**SMALL_SCAN, "projections": 3},
    }
    for name, section in sections.items():
        tree[name] = {**tree.get(name, {}), **section}
    return parse(json.dumps(tree))


def run(config, folder=None):
    seen = []
    pipeline = InProcessPipeline(config, folder, seen.append)
    pipeline.run(Instrument(config).events(1.7e9))
    return pipeline, seen


def test_every_frame_is_paired_with_its_own_position_and_leaves_files(tmp_path):
    config, folder = small(), RunFolder(tmp_path / "run")
    pipeline, _ = run(config, folder)
    assert pipeline.tomography.finished
    instrument = Instrument(config)
    for number in range(3):
        update = read_projection(folder.projection(number))
        expected = instrument.positions_m(number)
        np.testing.assert_allclose(update.xy_m[np.argsort(update.index)], expected, atol=1e-12)
        assert update.angle_deg == pytest.approx(60.0 * number)
    summary = summarise(folder, RunResult(duration_s=1.0), None)
    assert summary["frames"]["sent"] == summary["frames"]["paired"] == 3 * instrument.frames_per_projection
    assert summary["frames"]["unexplained"] == 0
    assert read_volume(folder.volume).projections_used == 3
    assert len(read_json_lines(folder.accounting)) == 3


@pytest.mark.parametrize(
    "sections",
    [
        {"pairing": {"by": "time"}, "simulation": {**SMALL_SCAN, "projections": 3, "position_rate_hz": 2000.0}},
        {"pairing": {"by": "time"}, "simulation": {**SMALL_SCAN, "projections": 3, "position_rate_hz": 100.0}},
        {
            "pairing": {"by": "time", "interpolation": "average"},
            "simulation": {**SMALL_SCAN, "projections": 3, "position_rate_hz": 4000.0},
        },
        {"detector": {"protocol": "dectris_stream1", "region": {"size_px": 64}}},
        {"detector": {"protocol": "open", "region": {"size_px": 64}}},
        {"projections": {"count": 3, "cut_by": "count", "frames": 80}},
        {"projections": {"count": 3, "cut_by": "angle", "min_angle_step_deg": 5.0}},
    ],
    ids=[
        "faster positions",
        "slower positions",
        "positions averaged",
        "stream 1",
        "open",
        "cut by count",
        "cut by angle",
    ],
)
def test_other_ways_to_pair_and_cut_account_for_every_frame(sections, tmp_path):
    config, folder = small(**sections), RunFolder(tmp_path / "run")
    run(config, folder)
    frames = summarise(folder, RunResult(duration_s=1.0), None)["frames"]
    assert frames["sent"] == 3 * Instrument(config).frames_per_projection
    assert frames["unexplained"] == 0
    assert frames["paired"] >= 0.97 * frames["sent"]
    assert all(line["error"] < 0.08 for line in read_json_lines(folder.reconstructed))


def test_the_tomogram_resembles_the_truth():
    simulation = {**SMALL_SCAN, "projections": 16, "detector_shape": [64, 64]}
    config = small(simulation=simulation, projections={"count": 16})
    pipeline, _ = run(config)
    assert correlation_with_truth(pipeline.tomography.aggregator.volume(), truth(config)[0]) > 0.85
