"""What `check` says of a configuration."""

import pytest

from streamptycho.cli.check import check_configuration
from streamptycho.config import load, parse
from streamptycho.geometry import Geometry
from streamptycho.messages import ProjectionStart
from streamptycho.ptychography.epie import EpieEngine
from tests.unit.test_configs import CONFIGS

CONE = """
detector: {energy_ev: 17000, distance_m: 0.5, pixel_m: 1.0e-6, region: {size_px: 512}}
reconstruction: {propagator: near_field, source_distance_m: 0.05}
"""


def said(config, capsys):
    assert check_configuration(config, connect=False) == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("text", "pixel", "window"),
    [
        (CONE, "object pixel 90.91 nm", "window 46.545 um (512 px)"),
        (CONE.replace("near_field, source_distance_m: 0.05", "near_field"), "1000.00 nm", "512.000 um (512 px)"),
        (CONE.replace("near_field, source_distance_m: 0.05", "far_field, upsampling: 2"), "71.22 nm", "(1024 px)"),
    ],
)
def test_sizes_are_those_of_the_engine(text, pixel, window, capsys):
    config = parse(text)
    text = said(config, capsys)
    assert pixel in text
    assert window in text
    engine = EpieEngine(config.reconstruction)
    geometry = Geometry(17000, 0.5, 1e-6, (512, 512))
    engine.begin(ProjectionStart(scan_id="s", projection=0, angle_deg=None, n_frames=None, geometry=geometry))
    assert f"{engine._pixel_m * 1e9:.2f} nm" in text


@pytest.mark.parametrize("name", ["i13-1_eiger_3khz", "i13-1_selun_110khz"])
def test_a_device_that_is_not_here_comes_last(name, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    text = said(load(CONFIGS / f"{name}.yaml"), capsys)
    assert text.index("object pixel") < text.index("not on this machine: reconstruction.device")
    assert "streamptycho[gpu]" in text


def test_a_missing_tomopy_is_a_warning(capsys, monkeypatch):
    monkeypatch.setattr("streamptycho.cli.check.tomopy_available", lambda: False)
    text = said(parse("tomography: {final_volume: gridrec}"), capsys)
    assert "not on this machine: tomography.final_volume" in text
