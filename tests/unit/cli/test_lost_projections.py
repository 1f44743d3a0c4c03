"""Projections without a result are named, with the command that makes them from the log."""

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from streamptycho.cli.files import numbers_in
from streamptycho.cli.table import closing_table, ranges
from streamptycho.config import ConfigError
from streamptycho.stages.folder import RunFolder, append_json
from streamptycho.stages.pipeline import RunResult
from streamptycho.stages.summary import summarise


@settings(deadline=None)
@given(st.sets(st.integers(0, 40), min_size=1))
def test_a_list_of_numbers_is_read_as_it_is_written(numbers):
    assert numbers_in(ranges(sorted(numbers))) == numbers


@pytest.mark.parametrize("text", ["", "a", "3-", "-3", "7-3", "1,,2", "1.5", "99999999"])
def test_what_is_no_list_of_numbers_is_said(text):
    with pytest.raises(ConfigError, match="like 3,7-9"):
        numbers_in(text)


def printed(folder, result):
    console = Console(file=io.StringIO(), width=200)
    console.print(closing_table(summarise(folder, result, None), Path("/data/stream.log")))
    return console.file.getvalue()


def test_projections_that_were_lost_are_named_with_the_command_that_makes_them(tmp_path):
    folder = RunFolder(tmp_path)
    folder.create()
    for number in range(6):
        end = {"projection": number, "angle_deg": 0.0, "reason": "complete", "frames_sent": 9, "frames_received": 9}
        append_json(folder.accounting, {**end, "frames_paired": 9, "dropped": {}, "last_frame_ns": 0})
    for number in (0, 4):
        append_json(folder.reconstructed, {"projection": number, "error": 0.1, "frames": 9, "sweeps": 3.0})
    said = printed(folder, RunResult(failures=["the service reconstruct was killed by SIGKILL"], duration_s=1.0))
    assert "1-3,5" in said
    assert "streamptycho reconstruct /data/stream.log --projections 1-3,5" in said
    assert "--projections" not in printed(folder, RunResult(duration_s=1.0))
