"""What every tomography plugin must do. A third party runs it with its own entry point installed."""

import dataclasses

import numpy as np
import pytest

from streamptycho.config import TomographyConfig
from streamptycho.messages import Anomaly, Reason
from streamptycho.registry import UnknownPluginError
from streamptycho.tomography import AGGREGATORS, aggregator
from tests.unit.tomography.phantom import object_update


@pytest.fixture(params=AGGREGATORS.names())
def new(request):
    return aggregator("scan", TomographyConfig(quantity="delta"), request.param)


@pytest.fixture
def filled(new):
    for k in range(4):
        assert new.add(object_update(k, 45.0 * k)) == []
    return new


def test_nothing_yet(new):
    assert new.projections_used == 0
    assert new.update() is None
    assert new.update(final=True) is None
    assert new.volume().size == 0
    assert new.resolution_m() is None
    assert new.projection_stack().keys.size == 0


@pytest.mark.parametrize("angles_deg", [(12.0,), (12.0, 12.05), (12.0, 192.0, -168.0)])
def test_projections_of_one_angle_are_no_volume(new, angles_deg):
    for k, angle in enumerate(angles_deg):
        assert new.add(object_update(k, angle)) == []
    assert new.update() is None
    assert new.update(final=True) is None
    assert new.volume().shape == (0, 0, 0)
    assert new.projections_used == len(angles_deg)
    assert len(new.projection_stack().phase_rad) == len(angles_deg)
    new.add(object_update(9, 60.0))
    update = new.update(final=True)
    assert update.projections_used == len(angles_deg) + 1
    assert update.final
    assert all(np.isfinite(s).all() for s in (update.slice_z, update.slice_y, update.slice_x))


def test_slices_and_stack_fit_the_volume(filled):
    update, volume, stack = filled.update(), filled.volume(), filled.projection_stack()
    depth, height, width = volume.shape
    assert volume.dtype == np.float32
    assert update.slice_z.shape == (height, width)
    assert update.slice_y.shape == (depth, width)
    assert update.slice_x.shape == (depth, height)
    assert update.scan_id == "scan"
    assert stack.phase_rad.shape == stack.magnitude.shape == (4, depth, width)
    assert stack.shifts_px.shape == (4, 2)
    assert volume.max() > 0


def test_same_number_replaces(filled):
    filled.add(object_update(2, 90.0, strength=1.0))
    assert filled.projections_used == 4


def spoilt(array):
    array = array.copy()
    array[array.shape[0] // 2, array.shape[1] // 2] = np.nan
    return array


GOOD = object_update(9, 10.0)
FAULTS = {
    "no angle": ({"angle_deg": None}, Reason.MISSING),
    "angle not a number": ({"angle_deg": float("nan")}, Reason.CORRUPT),
    "other pixel": ({"pixel_m": 31e-9}, Reason.OUT_OF_RANGE),
    "other energy": ({"energy_ev": 7000.0}, Reason.OUT_OF_RANGE),
    "no pixel": ({"pixel_m": 0.0}, Reason.CORRUPT),
    "origin not finite": ({"origin_xy_m": np.array([np.inf, 0.0])}, Reason.CORRUPT),
    "object not finite": ({"object": spoilt(GOOD.object)}, Reason.CORRUPT),
    "coverage not finite": ({"coverage": spoilt(GOOD.coverage)}, Reason.CORRUPT),
    "not lit": ({"coverage": np.zeros_like(GOOD.coverage)}, Reason.CORRUPT),
    "other scan": ({"scan_id": "yesterday"}, Reason.STRAY),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("projection", [2, 9])
def test_faults_are_said_and_the_volume_stays(filled, name, projection):
    change, reason = FAULTS[name]
    before = filled.volume()
    anomalies = filled.add(dataclasses.replace(object_update(projection, 10.0), **change))
    assert [type(a) for a in anomalies] == [Anomaly]
    assert anomalies[0].reason is reason
    assert anomalies[0].source == "reconstruct"
    assert str(projection) in anomalies[0].detail
    assert filled.projections_used == 4
    np.testing.assert_array_equal(filled.volume(), before)


def test_unknown_name_lists_the_known():
    with pytest.raises(UnknownPluginError, match="incremental_fbp"):
        aggregator("scan", TomographyConfig(), "incremental_fpb")
