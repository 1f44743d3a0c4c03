from pathlib import Path

import pytest

from streamptycho.config import dump, load, parse
from streamptycho.simulation import Instrument, reconstructed_pixel_m

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FILES = sorted(CONFIGS.glob("*.yaml"))
PUBLISHED_PIXEL_M = {"csaxs_pxct_2010": 65e-9, "i13-1_eiger_3khz": 60e-9, "i13-1_selun_110khz": 88e-9}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_shipped_configuration_is_valid_and_round_trips(file):
    config = load(file)
    assert parse(dump(config)) == config


@pytest.mark.parametrize("file", [f for f in FILES if load(f).simulation], ids=lambda file: file.stem)
def test_every_simulation_can_run(file):
    config = load(file)
    instrument = Instrument(config)
    frames = next(instrument.frames(0))
    photons = config.simulation.beam.photons_per_frame
    angle_deg, wavelength_m = instrument.projection(0).angle_deg, instrument.window.wavelength_m
    darkest = float((abs(instrument.sample.transmission(angle_deg, wavelength_m)) ** 2).min())
    assert 0.8 * darkest * photons < frames.astype(float).sum(axis=(1, 2)).mean() < 1.2 * photons
    assert config.projections.count == config.simulation.projections
    if config.projections.angle_step_deg is not None:
        assert instrument.angles_deg[1] - instrument.angles_deg[0] == pytest.approx(
            config.projections.angle_step_deg, rel=1e-3
        )
    next(iter(instrument.events()))


@pytest.mark.parametrize("name", PUBLISHED_PIXEL_M)
def test_papers_pixels_are_reached(name):
    config = load(CONFIGS / f"{name}.yaml")
    assert reconstructed_pixel_m(config) == pytest.approx(PUBLISHED_PIXEL_M[name], rel=0.02)
    assert config.detector.energy_ev == config.simulation.energy_ev
    assert config.detector.distance_m == config.simulation.distance_m
    assert config.detector.pixel_m == config.simulation.detector_pixel_m


def test_the_demonstration_fits_two_minutes():
    config = load(CONFIGS / "demo.yaml")
    instrument = Instrument(config)
    last = instrument.projection(config.simulation.projections - 1)
    assert config.simulation.projections >= 31
    assert last.begin_s + last.trajectory.duration_s < 60
    beam, step = config.simulation.beam.diameter_m, config.simulation.trajectory.step_x_m
    assert 0.65 < 1 - step / beam < 0.9
    assert all("127.0.0.1" in text for text in (config.detector.endpoint, config.positions.host))
