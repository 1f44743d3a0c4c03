"""A measured Siemens star through the live pipeline: its counts as detector bytes, its positions as PandABox bytes."""

import re

import pytest

from streamptycho.recording.projection_file import read_projection
from tests.data import shared_data
from tests.system.pipeline import Run, summary_of

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def test_the_star_is_sharp_after_the_work_of_ten_sweeps(tmp_path):
    source = shared_data("siemens-star-aps/siemens-star-small.npz.bz2")
    log, out = tmp_path / "star.log", tmp_path / "run"
    code, _, errors = Run("import", source, log, "--orientation", "auto").finish(200)
    assert code == 0, errors
    assert re.search(r"identity +error 0\.01\d+ +<- chosen", errors)
    wrong = [float(error) for name, error in re.findall(r"(\w+) +error (0\.\d+)", errors) if name != "identity"]
    assert len(wrong) == 7
    assert min(wrong) > 0.03
    code, _, errors = Run("replay", log, "--out", out, "--no-monitor", "--json").finish(200)
    assert code == 0, errors
    frames = summary_of(out)["frames"]
    assert frames["sent"] == frames["paired"] == 516
    star = read_projection(out / "projections" / "projection_00000.nxs")
    assert len(star.errors) >= 10
    assert star.errors[9] <= 0.017
