"""A round bend of the air is the probe's; anything else may be matter and stays."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage

from streamptycho.config import TomographyConfig
from streamptycho.stages.tomography import TomographyStage
from streamptycho.tomography import Aggregator
from streamptycho.tomography.air import fit_air
from streamptycho.tomography.air_level import air_is_off, air_text
from streamptycho.tomography.bent_air import bend_of_air
from tests.unit.tomography.phantom import object_update

SIDE = 96
INSIDE = np.ones((SIDE, SIDE), bool)
ROWS, COLUMNS = (axis / (SIDE / 2) - 1 for axis in np.ogrid[:SIDE, :SIDE])


def view(along, across, matter=-1.0, noise=0.01):
    disc = matter * (np.hypot(ROWS, COLUMNS) < 0.45)
    return disc + along * ROWS**2 + across * COLUMNS**2 + noise * np.random.default_rng(0).standard_normal((SIDE, SIDE))


def bend_of(phase):
    fit = fit_air(phase, INSIDE)
    rows, columns = np.indices(phase.shape)
    plane = fit.offset_rad + fit.ramp_rad_per_px[0] * rows + fit.ramp_rad_per_px[1] * columns
    return phase - plane, bend_of_air(phase - plane, INSIDE, fit)


@pytest.mark.parametrize("curvature", [-0.06, -0.16])
def test_a_round_rise_is_taken_off_the_air_and_the_matter(curvature):
    level, bend = bend_of(view(curvature, curvature))
    flat = level - bend
    air = np.hypot(ROWS, COLUMNS) > 0.6
    matter = np.hypot(ROWS, COLUMNS) < 0.35
    assert np.ptp(bend) == pytest.approx(2 * abs(curvature), rel=0.1)
    assert abs(flat[air].mean()) < 0.005
    assert flat[matter].mean() == pytest.approx(-1.0, abs=0.01)
    assert abs(level[matter].mean() + 1.0) > 0.3 * abs(curvature)


@pytest.mark.parametrize(
    ("along", "across"), [(0.1, 0.1), (0.0, -0.1), (-0.1, 0.0), (-0.16, -0.08), (0.0, 0.0), (-0.1, 0.1)]
)
def test_what_is_not_round_or_sinks_towards_the_middle_stays(along, across):
    assert bend_of(view(along, across))[1] is None


def test_little_air_says_nothing_of_all_else():
    phase = view(-0.05, -0.05, matter=0.0)
    grains = scipy.ndimage.gaussian_filter(np.random.default_rng(1).standard_normal((SIDE, SIDE)), 3)
    phase[:, 12:] -= 1.0 + 4.0 * np.abs(grains)[:, 12:]
    assert bend_of(phase)[1] is None


def aggregated(bend, count=12):
    result = Aggregator("scan", TomographyConfig(quantity="delta", align="none"))
    y, x = np.ogrid[:96, :96]
    round_one = ((y - 48) ** 2 + (x - 48) ** 2) / 48**2
    for k in range(count):
        update = object_update(k, 180.0 / count * k, noise_rad=0.01, strength=4.0, shape=(96, 96))
        changed = (update.object * np.exp(-1j * bend * round_one)).astype(np.complex64)
        assert result.add(replace(update, object=changed)) == []
    return result.update()


def test_the_tomogram_is_that_of_an_unbent_view():
    straight, bent = aggregated(0.0), aggregated(0.12)
    density = [update.figures["matter_delta"] for update in (straight, bent)]
    assert density[1] == pytest.approx(density[0], rel=0.005)
    assert abs(bent.figures["air_mean_delta"]) < 0.01 * density[0]


def test_air_that_is_not_empty_is_said():
    update = aggregated(0.0)
    assert not air_is_off(update)
    assert "WARNING" not in air_text(update)
    noise = update.figures["air_noise_delta"]
    off = replace(update, figures={**update.figures, "air_mean_delta": -1.5 * noise})
    assert air_is_off(off)
    assert f"WARNING: its mean is {-1.5 * noise:.2g}, not 0" in air_text(off)
    assert air_text(replace(update, figures={})) == ""
    stage = TomographyStage("scan", TomographyConfig(quantity="delta"))
    for k in range(3):
        list(stage.handle(object_update(k, 60.0 * k), 0))
    assert ", noise of the air " in stage.status(0).text
