"""A failed projection leaves the volume intact, whatever the alignment; good ones of any sample all stay."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage
import tifffile

from streamptycho.config import TomographyConfig
from streamptycho.messages import Reason
from streamptycho.tomography import Aggregator
from streamptycho.tomography.acceptance import diverged
from streamptycho.tomography.back_projector import project
from streamptycho.tomography.frame import Frame
from streamptycho.tomography.phase import projection_phase
from streamptycho.tomography.placed_projection import PlacedProjection
from tests.data import shared_data
from tests.unit.tomography.phantom import Ellipsoid, object_update

COUNT, WRONG = 20, 7
SMALL = (Ellipsoid((0, 0, 0), (16, 12, 18), 0.03), Ellipsoid((6, 3, 4), (4, 4, 5), -0.03))
SHAPE = (72, 68)


def good(number, angle_deg=None, **changes):
    fields = {"noise_rad": 0.03, "sample": SMALL, "shape": SHAPE, **changes}
    return object_update(number, 9.0 * number if angle_deg is None else angle_deg, **fields)


def phases_of_chance(update, amplitude_rad, smooth_px=0.0):
    chance = np.random.default_rng(3).standard_normal(update.object.shape)
    if smooth_px:
        chance = scipy.ndimage.gaussian_filter(chance, smooth_px)
        chance /= chance.std()
    return replace(update, object=np.exp(1j * amplitude_rad * chance).astype(np.complex64))


def noisy(update):
    chance = np.random.default_rng(4).standard_normal(update.object.shape)
    return replace(update, object=(update.object * np.exp(0.6j * chance)).astype(np.complex64))


FAILED = {
    "vortices": lambda: phases_of_chance(good(WRONG), 3.0),
    "mass in its rows": lambda: phases_of_chance(good(WRONG), 2.0, smooth_px=6.0),
    "100 % off": lambda: good(WRONG, sample=()),
    "noise of": lambda: noisy(good(WRONG)),
    "error is": lambda: good(WRONG, errors=np.array([0.9], np.float32)),
    "has not converged": lambda: good(WRONG, errors=np.array([0.9], np.float32)),
}


@pytest.fixture(scope="module", params=["none", "mass", "joint"])
def without_it(request):
    def made():
        result = Aggregator("scan", TomographyConfig(quantity="delta", align=request.param))
        for number in range(COUNT):
            assert number == WRONG or result.add(good(number)) == []
        return result

    return made


@pytest.mark.parametrize("why", FAILED)
def test_a_failed_projection_leaves_the_volume_as_it_was_and_its_successor_is_taken(without_it, why):
    result = without_it()
    before = result.volume()
    (anomaly,) = result.add(FAILED[why]())
    assert anomaly.reason is Reason.CORRUPT
    assert anomaly.detail.startswith(f"projection {WRONG} is not in the volume: ")
    assert why in anomaly.detail
    assert result.projections_used == COUNT - 1
    np.testing.assert_allclose(result.volume(), before, atol=1e-6 * before.max())
    assert result.update().figures["left_out_projections"] == 1
    assert result.add(good(WRONG)) == []
    assert result.projections_used == COUNT
    assert result.update().figures["left_out_projections"] == 0


def test_what_diverged_does_not_replace_what_was_good(without_it):
    result = without_it()
    assert result.add(good(WRONG)) == []
    before = result.volume()
    assert len(result.add(FAILED["vortices"]())) == 1
    np.testing.assert_array_equal(result.volume(), before)
    assert result.projections_used == COUNT
    assert result.update().figures["left_out_projections"] == 0


def test_one_that_failed_before_there_was_anything_to_compare_with_is_found_later():
    result = Aggregator("scan", TomographyConfig(quantity="delta"))
    assert result.add(good(0, sample=())) == []
    said = [anomaly for number in range(1, COUNT) for anomaly in result.add(good(number))]
    assert [anomaly.detail[:12] for anomaly in said] == ["projection 0"]
    update = result.update(final=True)
    assert (update.projections_used, result.left_out()) == (COUNT - 1, [])


def test_fewer_photons_are_no_fault():
    result = Aggregator("scan", TomographyConfig(quantity="delta"))
    for number in range(COUNT):
        error = 0.9 if number == WRONG else 0.1
        assert result.add(good(number, errors=np.array([error], np.float32), noise_floor=0.9 * error)) == []


def test_mass_says_nothing_of_what_is_larger_than_the_view():
    """A wide plate, of which a part is seen from the front and all from its edge."""
    side, seen = 96, 40
    y, x, z = np.ogrid[:side, :side, :side]
    plate = (np.abs(y - side // 2) < 3) & (np.abs(x - side // 2) < 40) & (np.abs(z - side // 2) < 14)
    angles_deg = np.arange(45) * 4.0
    mass = project(0.02 * plate.astype(np.float32), angles_deg).transpose(0, 2, 1)
    middle = slice(side // 2 - seen // 2, side // 2 + seen // 2)
    result = Aggregator("scan", TomographyConfig(quantity="delta", align="none"))
    for number, angle in enumerate(angles_deg):
        image = np.exp(-1j * mass[number][:, middle]).astype(np.complex64)
        changes = {"object": image, "coverage": np.ones(image.shape, np.float32)}
        update = object_update(number, angle, shape=image.shape, **changes)
        assert result.add(update) == []
    assert result.update(final=True).projections_used == 45


def test_no_measured_projection_is_set_aside():
    folder = shared_data("tomography-savu")
    angles_deg = np.loadtxt(folder / "angles.txt")[10:-10]
    flat, dark = (tifffile.imread(folder / f"{name}_00001.tiff").astype(np.float64) for name in ("flat", "dark"))
    result = Aggregator("scan", TomographyConfig(quantity="delta", align="mass"))
    for number, path in list(enumerate(sorted((folder / "tiffs").glob("*.tiff"))))[::3]:
        transmission = (tifffile.imread(path) - dark) / np.maximum(flat - dark, 1)
        image = np.exp(1j * np.log(np.clip(transmission, 1e-3, None))).astype(np.complex64)
        changes = {"object": image, "coverage": np.ones(image.shape, np.float32), "origin_xy_m": np.zeros(2)}
        update = object_update(number, angles_deg[number], shape=image.shape, pixel_m=1e-6, **changes)
        assert result.add(update) == []
    assert result.projections_used == 31


def test_thick_matter_with_steep_edges_has_not_diverged():
    update = object_update(0, 30.0, strength=30.0, noise_rad=0.05)
    phase = projection_phase(update.object, update.coverage)
    assert phase.residues > 20
    assert diverged(phase) is None


def test_turns_that_are_put_right_put_mass_and_middle_right_too():
    rows, columns = np.ogrid[:64, :64]
    disc = 2.0 * np.clip(14 - np.hypot(columns - 32, rows - 32), 0, 1)
    phase = projection_phase(np.exp(-1j * disc).astype(np.complex64), np.ones((64, 64), np.float32))
    wrong = phase.phase_rad.copy()
    wrong[22:30, 20:30] -= 2 * np.pi
    origin = np.array([-32 * 5e-8] * 2)
    right = PlacedProjection.of(phase, 0.0, origin, 5e-8)
    item = PlacedProjection.of(replace(phase, phase_rad=wrong), 0.0, origin, 5e-8)
    assert abs(item.center_px - right.center_px) > 1
    frame = Frame.around(item.extent, 5e-8, None, None, None)
    assert item.turned_like(-right.placed_phase(frame), frame) == 80
    assert item.center_px == pytest.approx(right.center_px, abs=1e-4)
    np.testing.assert_allclose(item.profile, right.profile, atol=1e-3)
    assert item.edges_px == right.edges_px
    assert item.absorbed == pytest.approx(right.absorbed, abs=1e-4)
