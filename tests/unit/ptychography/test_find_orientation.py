import numpy as np
import pytest

from streamptycho.config import ORIENTATIONS
from streamptycho.positions.orientation import orient
from streamptycho.ptychography import EngineError
from streamptycho.ptychography.orientation import TWIN, find_orientation


def inverse(name):
    points = np.array([[1.0, 0.0], [0.0, 1.0]])
    return next(other for other in ORIENTATIONS if np.array_equal(orient(orient(points, other), name), points))


@pytest.mark.parametrize("name", ["identity", "flip_x", "swap_xy_flip_y"])
def test_the_start_probe_decides(measurement, name):
    m = measurement
    stage = orient(m.xy_m, inverse(name))
    result = find_orientation(m.counts, stage, m.geometry, probe=m.probe, sweeps=6)
    assert result.best == name
    assert result.twin == TWIN[name]
    assert result.twin_decided_by == "probe"
    assert set(result.errors) == set(ORIENTATIONS)
    assert min(error for other, error in result.errors.items() if other != name) > 1.5 * result.errors[name]


@pytest.mark.parametrize("name", ["flip_xy", "swap_xy"])
def test_without_a_probe_the_sign_of_the_phase_decides(measurement, name):
    m = measurement
    stage = orient(m.xy_m, inverse(name))
    result = find_orientation(m.counts, stage, m.geometry, sweeps=40)
    assert result.best == name
    assert result.twin_decided_by == "absorption"


def test_an_undecidable_twin_is_said_to_be_so(measure):
    m = measure(side=2)
    flat = np.broadcast_to(m.counts[:1], m.counts.shape).copy()
    result = find_orientation(flat, m.xy_m, m.geometry, sweeps=1)
    assert result.twin_decided_by in (None, "absorption")
    assert result.twin == TWIN[result.best]


def test_twins_are_half_turns():
    points = np.random.default_rng(0).normal(size=(4, 2))
    for name, twin in TWIN.items():
        np.testing.assert_array_equal(orient(points, name), -orient(points, twin))


def test_nothing_to_orient_is_explained(measurement):
    m = measurement
    with pytest.raises(EngineError):
        find_orientation(m.counts[:0], m.xy_m[:0], m.geometry)
    with pytest.raises(EngineError, match="finite"):
        find_orientation(m.counts, np.full_like(m.xy_m, np.nan), m.geometry)
