import pytest

from streamptycho.messages import Reason
from streamptycho.stages.advice import advice


def test_frames_that_the_detector_lost_point_at_the_network():
    said = advice(3, 80, {Reason.MISSING: 58, Reason.UNPAIRED: 2}, "incomplete")
    assert said.startswith("projection 3: 58 of 80 frames are left out (missing)")
    assert "who else pulls from it" in said


@pytest.mark.parametrize("ended", ["the stream ended", "stopped"])
def test_frames_that_were_not_measured_any_more_are_not_laid_at_the_network_s_door(ended):
    said = advice(3, 80, {Reason.MISSING: 58}, ended)
    assert "so it is when a run is stopped" in said
    assert "who else pulls from it" not in said


def test_other_reasons_are_the_same_however_a_projection_ends():
    assert advice(3, 80, {Reason.NO_BEAM: 58}, "stopped") == advice(3, 80, {Reason.NO_BEAM: 58}, "complete")


@pytest.mark.parametrize(("frames", "dropped"), [(80, {}), (80, {Reason.MISSING: 40}), (3, {Reason.MISSING: 3})])
def test_few_frames_left_out_are_not_worth_a_sentence(frames, dropped):
    assert advice(0, frames, dropped, "incomplete") is None
