"""A run of one angle: its projection is there, no file pretends to be a volume, and the operator is told."""

import json

import h5py
import pytest
from rich.console import Console

from streamptycho.cli.check import require_usable
from streamptycho.cli.runs import close_run
from streamptycho.cli.table import closing_table
from streamptycho.config import parse
from streamptycho.simulation import Instrument
from streamptycho.stages.folder import RunFolder
from streamptycho.stages.in_process import InProcessPipeline
from streamptycho.stages.pipeline import RunResult
from streamptycho.tomography import TomopyMissingError, tomopy_available
from tests.system.pipeline import SMALL_SCAN


def closed(count, folder):
    tree = {
        "detector": {"region": {"size_px": 64}},
        "positions": {"angle": {"column": "INENC3.VAL.Mean"}},
        "projections": {"count": count},
        "reconstruction": {"sweeps": 6, "min_sweeps": 6, "probe": {"diameter_m": 1.1e-6, "defocus_m": 5.0e-4}},
        "simulation": {**SMALL_SCAN, "projections": count},
    }
    config = parse(json.dumps(tree))
    InProcessPipeline(config, folder).run(Instrument(config).events(1.7e9))
    summary = close_run(config, folder, RunResult(duration_s=1.0), simulate=False)
    console = Console(width=150)
    with console.capture() as shown:
        console.print(closing_table(summary, folder.log))
    return summary, shown.get()


def test_one_projection_is_no_volume_and_the_table_says_why(tmp_path):
    folder = RunFolder(tmp_path / "run")
    summary, table = closed(1, folder)
    assert folder.projection(0).exists()
    assert not folder.volume.exists()
    with h5py.File(folder.nxtomo) as file:
        assert len(file["entry1/data/data"]) == 1
    assert summary["volume"] is None
    assert "none: 1 projection at one angle: a volume takes at least two" in table
    assert summary["no_volume_because"] in table


def test_a_volume_needs_no_excuse_and_the_table_tells_its_density(tmp_path):
    summary, table = closed(2, RunFolder(tmp_path / "run"))
    assert summary["no_volume_because"] is None
    assert summary["volume"]["shape"][1] == summary["volume"]["shape"][2] > summary["volume"]["shape"][0] > 30
    assert "a volume takes" not in table
    assert "electrons/A^3" in table


@pytest.mark.skipif(tomopy_available(), reason="tomopy is here")
def test_a_volume_that_cannot_be_made_is_known_before_the_scan():
    with pytest.raises(TomopyMissingError, match="final_volume: fbp"):
        require_usable(parse(json.dumps({"tomography": {"final_volume": "gridrec"}})))
