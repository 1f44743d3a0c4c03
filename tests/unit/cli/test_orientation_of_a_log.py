"""The orientation of the positions, found from a recording of the beamline."""

import json

import pytest
from rich.console import Console

from streamptycho.cli.files import import_to_log
from streamptycho.cli.orientation import OrientationNotFoundError, first_projection, orientation_of_log
from streamptycho.config import ConfigError, dump, parse
from streamptycho.recording.stream_log import StreamLogReader, StreamLogWriter
from streamptycho.simulation import Instrument
from tests.system.pipeline import SMALL_SCAN


def beamline(**positions):
    tree = {
        "detector": {"region": {"size_px": 64}},
        "positions": positions,
        "projections": {"count": 2},
        "reconstruction": {"probe": {"diameter_m": 1.1e-6, "defocus_m": 5.0e-4}},
        "simulation": {**SMALL_SCAN, "projections": 2},
    }
    return parse(json.dumps(tree))


def recorded(path, config):
    with StreamLogWriter(path, configuration=dump(config)) as log:
        for record in Instrument(config).events(1.7e9):
            log.append(record)
    return path


def test_a_reversed_axis_is_found_and_named_for_the_configuration(tmp_path, capsys):
    log = recorded(tmp_path / "s.log", beamline())
    reversed_x = beamline(x={"column": "INENC1.VAL.Mean", "scale": -1e-6}, orientation="swap_xy")
    with StreamLogReader(log) as reader:
        assert orientation_of_log(reader, reversed_x, Console()) == "flip_x"
    assert "for the configuration: positions.orientation: flip_x" in capsys.readouterr().out


def test_one_projection_is_read_in_the_axes_of_the_stage(tmp_path):
    config = beamline(orientation="flip_y")
    with StreamLogReader(recorded(tmp_path / "s.log", config)) as reader:
        counts, xy_m, geometry = first_projection(reader.blocks(), config)
        plain = first_projection(reader.blocks(), beamline())[1]
    assert len(counts) == len(xy_m) == Instrument(config).frames_per_projection
    assert geometry.shape == (64, 64)
    assert (xy_m == plain).all()


def test_a_recording_without_positions_is_refused(tmp_path):
    config = beamline()
    records = [record for record in Instrument(config).events(1.7e9) if record.source == "detector"]
    with pytest.raises(OrientationNotFoundError, match="no frame of this recording has a position"):
        first_projection(records, config)


def test_a_log_is_not_imported_again(tmp_path):
    log = recorded(tmp_path / "s.log", beamline())
    with pytest.raises(ConfigError, match=r"is a stream log already.*--orientation auto"):
        import_to_log(log, tmp_path / "t.log", "auto", "dectris_stream2", None, {}, 1000.0)
