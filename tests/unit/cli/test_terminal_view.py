"""What the operator reads while a run goes on."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from streamptycho.cli.view import TerminalView
from streamptycho.config import parse
from streamptycho.messages import ProjectionEnd, ServiceStatus
from streamptycho.stages.folder import RunFolder

ABSENT = ServiceStatus(service="record", state="running", text="no detector answers at tcp://127.0.0.1:1")


@pytest.fixture
def written():
    return io.StringIO()


@pytest.fixture
def view(written, tmp_path):
    view = TerminalView(Console(file=written, width=100), monitor=False)
    view.started(parse("scan_id: s\nprojections: {count: 2}\n", "x.yaml"), RunFolder(tmp_path))
    yield view
    view.stop()


def test_a_service_that_is_started_again_goes_on_counting(view):
    for done in (0, 3, 4, 0, 1, 2):
        view.see(ServiceStatus(service="reconstruct", state="running", counters={"projections": done}))
    assert view._progress.tasks[view._tasks["reconstructed"]].completed == 6


def ingest(projections):
    return ServiceStatus(service="ingest", state="running", counters={"projections": projections})


def test_an_absent_instrument_is_said_once_while_projections_are_due(view, written):
    for message in (ingest(1), ABSENT, ABSENT, replace(ABSENT, state="waiting")):
        view.see(message)
    assert written.getvalue().count("Waiting: no detector answers") == 1


def test_an_instrument_that_goes_when_all_is_measured_is_not_missed(view, written):
    for message in (ingest(2), ABSENT):
        view.see(message)
    assert "Waiting" not in written.getvalue()


def test_an_instrument_that_goes_in_the_middle_has_disconnected_and_is_not_searched_for(view, written):
    for message in (replace(ABSENT, text="recording"), ingest(1), ABSENT, ABSENT):
        view.see(message)
    assert "Waiting" not in written.getvalue()
    assert "check" not in written.getvalue()
    assert written.getvalue().count("The detector has disconnected") == 1


def test_a_projection_that_lost_most_of_its_frames_comes_with_a_cause(view, written):
    end = ProjectionEnd(
        scan_id="s",
        projection=1,
        angle_deg=0.0,
        reason="complete",
        frames_sent=20,
        frames_received=20,
        frames_paired=2,
        dropped={"unpaired": 18},
    )
    view.see(end)
    text = " ".join(written.getvalue().split())
    assert "18 of 20 frames are left out (unpaired)" in text
    assert "pairing.clock_offset_s" in text
