import itertools
import json
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.geometry import Geometry
from streamptycho.messages import (
    Anomaly,
    FramePreview,
    ObjectUpdate,
    PathPreview,
    ProjectionEnd,
    ProjectionStart,
    Reason,
    ScanEnd,
    SeriesEnd,
    ServiceStatus,
    VolumeUpdate,
)
from streamptycho.monitor import tables
from streamptycho.monitor.store import PICTURE_NAMES, Store
from streamptycho.monitor.wording import explain_reason

GEOMETRY = Geometry(energy_ev=6200.0, distance_m=2.0, detector_pixel_m=75e-6, shape=(16, 16))
SECOND = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now_ns = 1_700_000_000 * SECOND

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Store:
    return Store(expected_projections=31, clock_ns=clock)


def update(projection: int = 11, scan_id: str = "s", **changes: object) -> ObjectUpdate:
    values: dict[str, object] = {
        "scan_id": scan_id,
        "projection": projection,
        "angle_deg": 63.9,
        "object": np.ones((16, 16), np.complex64),
        "probe": np.ones((1, 8, 8), np.complex64),
        "coverage": np.ones((16, 16), np.float32),
        "pixel_m": 2e-8,
        "energy_ev": 6200.0,
        "origin_xy_m": np.zeros(2),
        "index": np.arange(182),
        "xy_m": np.zeros((182, 2)),
        "errors": np.array([0.3, 0.031], np.float32),
        "sweeps": 2.0,
    }
    return ObjectUpdate(**{**values, **changes})


def start(projection: int = 11, n_frames: int | None = 252, scan_id: str = "s") -> ProjectionStart:
    return ProjectionStart(scan_id=scan_id, projection=projection, angle_deg=63.9, n_frames=n_frames, geometry=GEOMETRY)


def volume(scan_id: str = "s", used: int = 3) -> VolumeUpdate:
    flat = np.ones((4, 4), np.float32)
    return VolumeUpdate(
        scan_id=scan_id, slice_z=flat, slice_y=flat, slice_x=flat, voxel_m=1e-8, quantity="delta", projections_used=used
    )


def test_nothing_is_known_before_the_first_message(store: Store) -> None:
    state = store.snapshot()
    assert (state["mood"], state["headline"]) == ("waiting", "Waiting for the pipeline")
    assert state["current"] is None
    assert state["age_s"] is None
    assert state["pictures"] == {}
    assert all(store.picture(name) is None for name in PICTURE_NAMES)


def test_headline_says_what_happens_now(store: Store) -> None:
    store.handle(start())
    store.handle(update())
    store.handle(volume(used=11))
    state = store.snapshot()
    assert state["headline"] == "Projection 11 at 63.9°: 182 of 252 frames, error 0.031"
    assert state["second_line"] == "0 of 31 reconstructed · Tomogram of 11 projections"


def test_headline_claims_nothing_unknown() -> None:
    store = Store()
    store.handle(update(angle_deg=None, errors=np.empty(0, np.float32)))
    assert store.snapshot()["headline"] == "Projection 11: 182 frames"


def test_measuring_may_be_ahead_of_reconstructing(store: Store) -> None:
    store.handle(update(11))
    store.handle(start(12))
    store.handle(PathPreview(scan_id="s", projection=12, xy_m=np.zeros((48, 2)), quality=np.zeros(48, np.uint8)))
    assert "Now measuring: Projection 12 at 63.9°: 48 of 252 frames" in store.snapshot()["second_line"]


def test_what_is_only_measured_is_not_shown_as_reconstructed(store: Store) -> None:
    store.handle(start(12))
    state = store.snapshot()
    assert state["headline"].startswith("Now measuring: Projection 12")
    assert "first reconstruction" in state["second_line"]
    store.handle(update(11))
    assert store.snapshot()["headline"].startswith("Projection 11")


def test_the_path_tells_at_the_end_how_much_of_it_was_shown(store: Store) -> None:
    store.handle(PathPreview(scan_id="s", projection=4, xy_m=np.zeros((48, 2)), quality=np.zeros(48, np.uint8)))
    end = {"angle_deg": 0.0, "reason": "complete", "frames_sent": 252, "frames_received": 252, "frames_paired": 252}
    store.handle(ProjectionEnd(scan_id="s", projection=3, **end))
    assert store.picture("path").label == "No. 4"
    store.handle(ProjectionEnd(scan_id="s", projection=4, **end))
    assert store.picture("path").label == "No. 4, first 48 of 252"


def test_silence_is_told_and_ages_grow(store: Store, clock: Clock) -> None:
    store.handle(update())
    store.handle(ServiceStatus(service="ingest", state="running"))
    clock.now_ns += 8 * SECOND
    state = store.snapshot()
    assert state["mood"] == "stale"
    assert state["headline"] == "Nothing has arrived for 8 s"
    assert state["pictures"]["phase"]["age_s"] == 8.0
    assert state["services"][0]["stale"]


def test_failed_service_is_named_first(store: Store) -> None:
    store.handle(update())
    store.handle(ServiceStatus(service="reconstruct", state="failed", text="no GPU"))
    state = store.snapshot()
    assert (state["mood"], state["headline"]) == ("failed", "reconstruct failed: no GPU")


def test_finished_scan_is_not_stale(store: Store, clock: Clock) -> None:
    store.handle(update(final=True))
    store.handle(ScanEnd(scan_id="s", reason="all measured", projections=12))
    store.handle(ServiceStatus(service="ingest", state="finished"))
    clock.now_ns += 60 * SECOND
    state = store.snapshot()
    assert state["headline"] == "Scan finished: 12 projections, all measured"
    assert not state["services"][0]["stale"]


def test_a_scan_is_not_finished_while_a_service_is_at_work(store: Store) -> None:
    store.handle(update())
    store.handle(ScanEnd(scan_id="s", reason="complete", projections=12))
    store.handle(ServiceStatus(service="reconstruct", state="running"))
    state = store.snapshot()
    assert (state["mood"], state["headline"]) == ("running", "All measured: 12 projections, complete")
    assert "still at work: reconstruct" in state["second_line"]
    store.handle(ServiceStatus(service="reconstruct", state="finished"))
    assert store.snapshot()["headline"] == "Scan finished: 12 projections, complete"


def test_a_run_that_is_over_says_where_its_results_are(store: Store, clock: Clock) -> None:
    store.handle(update(final=True))
    store.handle(volume(used=1))
    store.handle(ScanEnd(scan_id="s", reason="complete", projections=1))
    store.handle(ServiceStatus(service="reconstruct", state="finished"))
    before = store.version
    store.close("/data/2026/run-7")
    clock.now_ns += 60 * SECOND
    state = store.snapshot()
    assert store.version > before
    assert (state["mood"], state["over"]) == ("over", True)
    assert state["headline"] == "The run is over: results in run-7"
    assert state["second_line"] == (
        "/data/2026/run-7 · 1 projection, complete · 1 of 31 reconstructed · Tomogram of 1 projection"
    )


def test_a_run_that_is_over_and_failed_or_was_stopped_does_not_look_finished(store: Store, clock: Clock) -> None:
    store.handle(ServiceStatus(service="reconstruct", state="running"))
    store.close("/data/run-7")
    clock.now_ns += 60 * SECOND
    state = store.snapshot()
    assert state["headline"] == "The run was stopped: results in run-7"
    assert not state["services"][0]["stale"]
    store.handle(ServiceStatus(service="reconstruct", state="failed", text="no GPU"))
    store.close("/data/run-7")
    state = store.snapshot()
    assert (state["mood"], state["headline"], state["over"]) == ("failed", "reconstruct failed: no GPU", True)
    assert state["second_line"].startswith("The run is over · results in /data/run-7")


def test_a_message_after_the_end_begins_anew(store: Store) -> None:
    store.close()
    assert store.snapshot()["headline"] == "The run is over"
    store.handle(update())
    state = store.snapshot()
    assert (state["mood"], state["over"], state["results"]) == ("running", False, None)


def test_services_stand_in_the_order_of_the_data(store: Store) -> None:
    for name in ("zebra", "tomography", "ingest", "reconstruct", "record"):
        store.handle(ServiceStatus(service=name, state="running"))
    names = [card["service"] for card in store.snapshot()["services"]]
    assert names == ["record", "ingest", "reconstruct", "tomography", "zebra"]


def test_one_spelling_of_units(store: Store) -> None:
    store.handle(ServiceStatus(service="x", state="running", text="noise 0.02 1/angstrom^3, 1.8 g/cm^3, (1/2 bit)"))
    assert store.snapshot()["services"][0]["text"] == "noise 0.02 e/Å³, 1.8 g/cm³, (½ bit)"


def test_projection_row_collects_what_is_known(store: Store, clock: Clock) -> None:
    store.handle(start())
    store.handle(
        ProjectionEnd(
            scan_id="s",
            projection=11,
            angle_deg=63.9,
            reason="series over",
            frames_sent=252,
            frames_received=251,
            frames_paired=250,
            dropped={"missing": 1, "unpaired": 1},
        )
    )
    store.handle(
        update(
            final=True,
            resolution_m=6e-8,
            last_frame_ns=clock.now_ns - 3 * SECOND,
            dropped={"missing": 1, "unpaired": 1},
        )
    )
    store.handle(update(errors=np.array([9.0], np.float32)))
    (row,) = store.snapshot()["projections"]
    assert row["state"] == "final"
    assert row["lost"] == 2
    assert row["latency_s"] == 3.0
    assert row["resolution_m"] == 6e-8
    assert row["error"] == pytest.approx(0.031)


def test_impossible_latency_is_unknown(store: Store, clock: Clock) -> None:
    store.handle(update(0, final=True, last_frame_ns=clock.now_ns + SECOND))
    store.handle(update(1, final=True, last_frame_ns=5))
    assert [row["latency_s"] for row in store.snapshot()["projections"]] == [None, None]


def test_new_scan_starts_afresh_and_late_news_of_the_old_do_not_turn_back(store: Store) -> None:
    store.handle(update(5, "old", final=True))
    store.handle(start(0, scan_id="new"))
    store.handle(update(5, "old", final=True))
    state = store.snapshot()
    assert state["scan_id"] == "new"
    assert [row["number"] for row in state["projections"]] == [0]
    assert state["current"] is None
    assert state["errors"] == {"current": None, "previous": []}


def test_losses_are_sorted_and_explained(store: Store) -> None:
    store.handle(
        ServiceStatus(
            service="ingest",
            state="running",
            dropped={"missing": 3, "late": 7, "gremlins": 1, "corrupt": 0},
            anomalies={"reordered": 20},
        )
    )
    losses = store.snapshot()["losses"]
    assert [(row["reason"], row["harmful"]) for row in losses] == [
        ("late", True),
        ("missing", True),
        ("gremlins", True),
        ("reordered", False),
    ]
    assert losses[2]["explanation"] == "—"


def test_every_reason_has_an_explanation() -> None:
    assert all(len(explain_reason(reason)) > 10 for reason in Reason)


def test_rates_are_remembered_once_a_second_and_bounded(store: Store, clock: Clock) -> None:
    for _ in range(4 * 300):
        clock.now_ns += SECOND // 4
        store.handle(ServiceStatus(service="ingest", state="running", rates={"frames_per_s": 100.0}))
    points = store.snapshot()["rates"]["ingest: frames_per_s"]
    assert len(points) == tables.MAX_RATE_POINTS
    assert min(b[0] - a[0] for a, b in itertools.pairwise(points)) >= 0.9


def test_memory_is_bounded_whatever_comes(store: Store) -> None:
    for k in range(tables.MAX_PROJECTIONS + 50):
        store.handle(start(k))
    for k in range(100):
        store.handle(ServiceStatus(service=f"service {k}", state="running", rates={f"r{k}": 1.0}))
    for k in range(20):
        store.handle(update(k, errors=np.linspace(1, 0.1, 5000).astype(np.float32)))
    state = store.snapshot()
    assert len(state["projections"]) == tables.MAX_PROJECTIONS
    assert len(state["services"]) == tables.MAX_SERVICES
    assert len(state["rates"]) <= tables.MAX_RATE_SERIES
    assert len(state["errors"]["previous"]) == tables.MAX_OLD_CURVES
    points = state["errors"]["current"]["points"]
    assert len(points) <= tables.MAX_CURVE_POINTS + 1
    assert points[-1] == [5000, pytest.approx(0.1)]


def test_picture_is_drawn_once_per_version(store: Store) -> None:
    store.handle(update())
    first = store.picture("phase")
    assert store.picture("phase") is first
    store.handle(update())
    second = store.picture("phase")
    assert second is not first
    assert second.version == first.version + 1 == store.versions()["phase"]


@pytest.mark.parametrize(
    "bad",
    [
        FramePreview(series="1", index=0, counts=np.zeros(5, np.uint16)),
        FramePreview(series="1", index=0, counts=np.zeros((0, 5), np.uint16)),
        FramePreview(series="1", index="x", counts=np.zeros((5, 5), np.uint16)),
        PathPreview(scan_id="s", projection=0, xy_m=np.zeros((3, 3)), quality=np.zeros(3, np.uint8)),
        PathPreview(scan_id="s", projection=0, xy_m=np.zeros((3, 2)), quality=np.zeros(4, np.uint8)),
        update(coverage=np.ones((3, 3), np.float32)),
        update(probe=np.ones((8, 8), np.complex64)),
        update(object=np.ones((16, 16), np.float32)),
        update(sweeps="many"),
        update(projection="first"),
        update(scan_id=7),
    ],
)
def test_unfit_message_is_a_complaint_not_a_crash(store: Store, bad: object) -> None:
    store.handle(bad)
    store.handle(bad)
    (complaint,) = store.snapshot()["complaints"]
    assert complaint["count"] == 2
    assert complaint["text"].startswith(type(bad).__name__)
    assert store.versions() == {}


def test_not_finite_everywhere_still_gives_json_and_pictures(store: Store) -> None:
    bad = np.full((16, 16), np.nan + 1j * np.inf, np.complex64)
    nan = np.full((4, 4), np.nan, np.float32)
    store.handle(
        update(
            object=bad,
            probe=bad[None],
            errors=np.array([np.nan, np.inf], np.float32),
            sweeps=float("nan"),
            angle_deg=float("nan"),
            pixel_m=float("nan"),
        )
    )
    store.handle(
        VolumeUpdate(
            scan_id="s", slice_z=nan, slice_y=nan, slice_x=nan, voxel_m=float("inf"), quantity="q", projections_used=1
        )
    )
    store.handle(PathPreview(scan_id="s", projection=0, xy_m=np.full((3, 2), np.nan), quality=np.zeros(3, np.uint8)))
    store.handle(
        ServiceStatus(
            service="x", state="running", lag_s=float("nan"), rates={"r": float("inf")}, dropped={"m": float("nan")}
        )
    )
    json.dumps(store.snapshot(), allow_nan=False)
    assert store.picture("phase") is None
    for name in ("probe", "slice_z", "path"):
        json.dumps(store.picture(name).header(), allow_nan=False)
    assert store.snapshot()["complaints"] == []


@settings(deadline=None, max_examples=50)
@given(
    st.text(max_size=400),
    st.dictionaries(
        st.text(max_size=100),
        st.one_of(st.none(), st.text(max_size=5), st.floats(), st.integers(), st.lists(st.integers(), max_size=2)),
        max_size=8,
    ),
)
def test_any_status_from_the_wire_is_shown_as_json(words: str, mapping: dict) -> None:
    store = Store()
    store.handle(
        ServiceStatus(
            service=words, state=words, text=words, counters=mapping, dropped=mapping, rates=mapping, anomalies=mapping
        )
    )
    card = json.loads(json.dumps(store.snapshot(), allow_nan=False))["services"][0]
    assert len(card["text"]) <= 300
    assert card["text"].isprintable()


def test_other_messages_only_count_as_a_sign_of_life(store: Store) -> None:
    store.handle(SeriesEnd(series="1"))
    assert store.snapshot()["age_s"] == 0.0


def test_threads_can_feed_and_read_at_once() -> None:
    store = Store()
    stop = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not stop.is_set():
                json.dumps(store.snapshot(), allow_nan=False)
                for name in PICTURE_NAMES:
                    store.picture(name)
        except BaseException as error:
            failures.append(error)
            raise

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for k in range(150):
        store.handle(start(k))
        store.handle(update(k))
        store.handle(ServiceStatus(service=f"s{k % 5}", state="running", rates={f"r{k % 7}": 1.0}))
    stop.set()
    for reader in readers:
        reader.join(20)
        assert not reader.is_alive()
    assert not failures
    assert store.version == 450


def test_what_is_wrong_with_a_projection_is_on_the_page_until_the_next_scan(store: Store) -> None:
    for number in range(3):
        store.handle(start(number))
        detail = f"projection {number}: 233 of 234 frames are left out: check positions.x.scale"
        store.handle(Anomaly(source="reconstruct", reason=Reason.OUT_OF_RANGE, count=233, detail=detail))
    assert store.snapshot()["complaints"] == [{"text": detail, "count": 1}]
    store.handle(start(0, scan_id="another"))
    assert store.snapshot()["complaints"] == []


def test_the_ring_correlation_is_that_of_the_last_finished_projection(store: Store) -> None:
    curve = {
        "frequency_per_m": [1e6, 2e6, 3e6],
        "correlation": [1.0, 0.6, 0.1],
        "half_bit": [0.9, 0.5, 0.4],
        "one_seventh": [1 / 7] * 3,
    }
    store.handle(update(3, frc=curve, resolution_m=2e-7, final=True))
    store.handle(update(4))
    ring = store.snapshot()["ring"]
    assert (ring["number"], ring["resolution_m"]) == (3, 2e-7)
    assert ring["curve"]["correlation"] == [1.0, 0.6, 0.1]
    for bad in ({}, {**curve, "half_bit": [0.9]}, {"correlation": "no"}):
        store.handle(update(5, frc=bad, final=True))
        assert store.snapshot()["ring"]["number"] == 3
