"""The page shows what services left behind, whether or not it was there when they said it."""

import dataclasses

import numpy as np
import pytest

from streamptycho.messages import ObjectUpdate, PathPreview, ProjectionEnd, ServiceStatus
from streamptycho.monitor import Store
from streamptycho.recording.projection_file import write_projection
from streamptycho.recording.provenance import Provenance
from streamptycho.runtime.memory import MemoryQueue
from streamptycho.stages.folder import RunFolder
from streamptycho.stages.page_feed import PageFeed

NAMES = ("record", "ingest", "reconstruct", "tomography")


def update(projection):
    return ObjectUpdate(
        scan_id="s",
        projection=projection,
        angle_deg=float(projection),
        object=np.ones((24, 24), np.complex64),
        probe=np.ones((1, 8, 8), np.complex64),
        coverage=np.ones((24, 24), np.float32),
        pixel_m=1e-8,
        energy_ev=6200.0,
        origin_xy_m=np.zeros(2),
        index=np.arange(3),
        xy_m=np.array([[0.0, 0.0], [1e-7, 0.0], [1e-7, 1e-7]]),
        errors=np.array([0.1], np.float32),
        sweeps=1.0,
        final=True,
    )


def ended(projection):
    return ProjectionEnd(
        scan_id="s",
        projection=projection,
        angle_deg=float(projection),
        reason="complete",
        frames_sent=3,
        frames_received=3,
        frames_paired=3,
    )


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    return folder


@pytest.fixture
def source():
    return MemoryQueue()


@pytest.fixture
def store():
    return Store()


def test_services_that_ended_before_the_page_was_there_have_their_cards(folder, source, store):
    for name in (*NAMES, "simulate"):
        folder.write_status(ServiceStatus(service=name, state="finished", text=f"{name} is done"))
    PageFeed(source, folder, NAMES, store.handle).step(0)
    cards = {card["service"]: card["text"] for card in store.snapshot()["services"]}
    assert cards == {name: f"{name} is done" for name in NAMES}


def test_what_a_service_says_is_not_overruled_by_its_older_file(folder, source, store):
    folder.write_status(ServiceStatus(service="record", state="running", text="old", counters={"records": 1}))
    feed = PageFeed(source, folder, NAMES, store.handle, clock=lambda: 100.0)
    source.put(ServiceStatus(service="record", state="running", text="new", counters={"records": 2}), 0)
    feed.step(0)
    assert store.snapshot()["services"][0]["text"] == "new"


def test_what_waits_when_the_run_ends_is_shown(folder, source, store):
    feed = PageFeed(source, folder, NAMES, store.handle)
    feed.begin()
    path = PathPreview(scan_id="s", projection=0, xy_m=np.zeros((3, 2), np.float32), quality=np.zeros(3, np.uint8))
    for message in (path, update(0), *(ServiceStatus(service=name, state="running") for name in NAMES)):
        source.put(message, 0)
    for name in NAMES:
        folder.write_status(ServiceStatus(service=name, state="finished"))
    feed.finish()
    state = store.snapshot()
    assert {card["service"]: card["state"] for card in state["services"]} == dict.fromkeys(NAMES, "finished")
    assert {"path", "phase", "probe"} <= set(state["pictures"])


def test_a_page_that_is_started_again_shows_what_was_reconstructed_so_far(folder, source, store):
    for number in range(3):
        folder.append_accounting(ended(number))
    for number in range(2):
        write_projection(folder.projection(number), update(number), Provenance(configuration=""))
    feed = PageFeed(source, folder, NAMES, store.handle)
    feed.begin()
    state = store.snapshot()
    assert [row["state"] for row in state["projections"]] == ["final", "final", "measured"]
    assert store.picture("phase") is not None
    before = store.version
    feed.finish()
    assert store.version == before


def test_the_path_is_that_of_the_reconstruction_where_none_was_seen(store):
    store.handle(update(0))
    plot = store.picture("path")
    assert plot is not None
    assert len(plot.xy_m) == 3


def test_positions_that_are_none_do_not_make_a_path(store):
    for xy in (np.zeros(3), np.zeros((3, 4)), np.float64(1.0) * np.ones(())):
        store.handle(dataclasses.replace(update(0), xy_m=xy))
    assert store.picture("path") is None
