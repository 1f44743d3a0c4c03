"""Steps shrink with visits, so that what is there at any moment is as free of noise as the end result."""

import numpy as np
import pytest

from streamptycho.config import ReconstructionConfig
from streamptycho.ptychography.steps import StepLaw

NUMBERS = np.arange(1, 61)


def steps(sweeps=0.0, mean_visits=0.0, growing=True, **config):
    return StepLaw(ReconstructionConfig(sweeps=60, **config)).steps(NUMBERS, sweeps, mean_visits, growing=growing)


def test_what_is_new_moves_by_the_whole_step():
    on_object, on_probe = steps(object_step=0.9, probe_step=0.5, probe_delay_sweeps=0)
    assert on_object[:20] == pytest.approx(0.9)
    assert on_probe == pytest.approx(0.5)


def test_in_a_growing_scan_the_object_step_shrinks_with_the_visits_of_the_frame():
    on_object, _ = steps(object_step=0.9)
    assert (np.diff(on_object) <= 0).all()
    assert on_object[39] == pytest.approx(0.9 / 4)
    assert on_object[59] == pytest.approx(0.1)
    many, _ = StepLaw(ReconstructionConfig(object_step=0.9)).steps(np.array([10_000]), 0.0, 0.0, growing=True)
    assert many[0] == pytest.approx(0.09)
    assert steps(growing=False, object_step=0.9)[0] == pytest.approx(0.9)


def test_the_probe_step_shrinks_with_the_visits_of_all_frames():
    _, early = steps(mean_visits=5.0, probe_step=0.5)
    _, late = steps(mean_visits=40.0, probe_step=0.5)
    assert late[-1] == pytest.approx(early[-1] / 4)
    assert (steps(mean_visits=40.0, growing=False, probe_step=0.5)[1][-1]) == pytest.approx(0.5)


def test_first_visits_leave_the_probe_alone():
    _, on_probe = steps(probe_delay_sweeps=3)
    assert (on_probe[:3] == 0).all()
    assert (on_probe[3:] > 0).all()


def test_the_last_sweeps_go_towards_nothing():
    law = StepLaw(ReconstructionConfig(sweeps=60, refine_sweeps=6, object_step=0.9))
    assert not law.refines(54.0)
    assert law.refines(54.5)
    one = np.array([1])
    shares = [law.steps(one, sweeps, 0.0, growing=False)[0][0] / 0.9 for sweeps in (54, 57, 59.9, 80)]
    assert shares == pytest.approx([1.0, 0.5, 0.02, 0.02])
    assert not StepLaw(ReconstructionConfig(sweeps=60, refine_sweeps=0)).refines(60.0)
