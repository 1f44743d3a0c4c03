"""Counts across restarts: whoever reads the log again from its start counts the same."""

import json
from collections import Counter

import pytest

from streamptycho.config import parse
from streamptycho.messages import ProjectionEnd
from streamptycho.simulation import Instrument
from streamptycho.stages.folder import RunFolder
from streamptycho.stages.folder_writers import accounting_writer
from streamptycho.stages.ingest import IngestStage
from streamptycho.stages.pipeline import RunResult
from streamptycho.stages.summary import summarise
from tests.system.pipeline import SMALL_SCAN

FAULTS = {"drop_frames": 0.02, "duplicate_frames": 0.02, "reorder_frames": 0.05, "corrupt_frames": 0.02, "seed": 3}


def beamline():
    simulation = {**SMALL_SCAN, "detector_shape": [32, 32], "projections": 3, "faults": FAULTS}
    tree = {
        "detector": {"region": {"size_px": 32}},
        "positions": {"angle": {"column": "INENC3.VAL.Mean"}},
        "projections": {"count": 3},
        "simulation": simulation,
    }
    return parse(json.dumps(tree))


def ingest(config, records, folder):
    stage, write = IngestStage(config), accounting_writer(folder)
    for record in records:
        for message in stage.handle(record, record.received_ns):
            if isinstance(message, ProjectionEnd):
                write(message)
    return stage


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
def test_an_ingest_that_starts_again_counts_no_frame_twice(tmp_path, part):
    config, folder = beamline(), RunFolder(tmp_path)
    folder.create()
    instrument = Instrument(config)
    records = list(instrument.events(1.7e9))
    ingest(config, records[: int(part * len(records))], folder)
    ingest(config, records, folder)
    frames = summarise(folder, RunResult(duration_s=1.0), None)["frames"]
    truth = instrument.tally
    assert frames["sent"] == truth.frames
    assert Counter(frames["dropped"]) == {"missing": len(truth.dropped), "truncated": len(truth.corrupted)}
    assert frames["paired"] == truth.frames - len(truth.dropped) - len(truth.corrupted)
    assert frames["unexplained"] == 0
