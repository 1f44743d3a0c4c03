"""The stated resolution is never better than the angles allow, live as at the end."""

import numpy as np
import pytest

from streamptycho.config import TomographyConfig
from streamptycho.tomography import Aggregator
from streamptycho.tomography.volume_resolution import angles_are_complete, resolution_text
from tests.unit.tomography.phantom import PIXEL_M, SAMPLE, object_update

COUNT = 36
STEP_DEG = 180.0 / COUNT
# The widest of the sample's outlines.
WIDTH_M = 60 * PIXEL_M


def scan(wanted_m=None, count=COUNT, **changes):
    result = Aggregator("scan", TomographyConfig(quantity="delta", wanted_resolution_m=wanted_m))
    updates = []
    for k in range(count):
        fields = {"noise_rad": 0.02, "shape": (96, 92), **changes}
        assert result.add(object_update(k, 180.0 / COUNT * k, **fields)) == []
        updates.append(result.update())
    return result, updates


@pytest.fixture(scope="module")
def finished():
    result, updates = scan(wanted_m=100e-9)
    return updates, result.update(final=True)


@pytest.fixture(scope="module")
def growing(finished):
    return finished[0]


def test_no_good_end_is_seen_while_angles_are_missing(growing):
    for update in growing[7:-1]:
        assert update.figures["wanted_resolution_reached"] == 0
        open_rad = np.radians(update.figures["largest_gap_deg"])
        assert update.resolution_m >= 0.7 * min(0.5 * WIDTH_M * open_rad, WIDTH_M)
    for update in growing[1 : COUNT - 3]:
        assert update.figures["angular_range_complete"] == 0


def test_the_end_is_reached_with_the_last_angle(growing):
    last = growing[-1]
    assert last.figures["angular_range_complete"] == 1
    assert last.figures["resolution_angular_sampling_m"] == pytest.approx(0.5 * WIDTH_M * np.radians(STEP_DEG), rel=0.2)
    assert last.resolution_m < 0.1 * growing[11].resolution_m
    assert last.resolution_m == max(
        last.figures["resolution_half_bit_m"], last.figures["resolution_angular_sampling_m"]
    )


def test_projections_are_told_beside():
    _, updates = scan(count=9, resolution_m=9e-6)
    assert updates[-1].figures["resolution_of_projections_m"] == 9e-6
    assert updates[-1].resolution_m < 9e-6


def test_live_and_final_agree(finished):
    updates, final = finished
    assert updates[-1].resolution_m == pytest.approx(final.resolution_m, rel=0.1)


def test_reached_is_measured_again_before_it_is_said_again():
    result, updates = scan(wanted_m=1e-6, count=COUNT)
    assert updates[-1].figures["wanted_resolution_reached"] == 1
    for k in range(0, COUNT, 2):
        result.add(object_update(k, STEP_DEG * k, noise_rad=0.3, shape=(96, 92), sample=SAMPLE[2:3]))
    update = result.update()
    assert update.figures["left_out_projections"] == 0
    assert update.figures["wanted_resolution_reached"] == 0


def test_a_stretched_range_is_complete_only_without_a_wedge():
    assert angles_are_complete(np.arange(20) * 9.0)
    assert angles_are_complete(np.concatenate([np.arange(20) * 9.0, [4.5]]))
    assert not angles_are_complete(np.arange(14) * 10.0)
    assert not angles_are_complete(np.array([3.0]))
    assert not angles_are_complete(np.zeros(0))


def test_the_curve_comes_with_its_thresholds(growing):
    assert growing[3].fsc == {}
    curve = growing[-1].fsc
    assert set(curve) == {"frequency_per_m", "correlation", "half_bit", "one_seventh", "one_quarter"}
    assert len({len(values) for values in curve.values()}) == 1
    assert curve["frequency_per_m"][-1] == pytest.approx(0.5 / PIXEL_M, rel=0.02)
    assert curve["correlation"][2] > 0.95
    assert max(np.abs(curve["correlation"])) <= 1.0


def test_projections_that_show_nothing_have_no_resolution():
    _, updates = scan(count=10, sample=())
    assert updates[-1].resolution_m is None
    assert resolution_text(updates[-1]) == ""


def test_operator_is_told_what_limits(growing):
    early, late = resolution_text(growing[11]), resolution_text(growing[-1])
    assert "limited by 125° that are not measured yet (its halves agree to" in early
    assert "are not reached yet" in early
    assert "not measured yet" not in late
    assert "limited by" in late
