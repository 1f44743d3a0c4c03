"""What a collector of metrics reads, read back by the parser of Prometheus' own client."""

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.config import MonitorConfig
from streamptycho.messages import LATENCY_BOUNDS_S, ObjectUpdate, ProjectionEnd, ServiceStatus
from streamptycho.monitor import MonitorServer, Store
from streamptycho.monitor.metrics import as_text

parser = pytest.importorskip("prometheus_client.parser")

BINS = len(LATENCY_BOUNDS_S) + 1
STATUS = ServiceStatus(
    service="ingest",
    state="running",
    counters={"frames_received": 12_000, "frames_paired": 11_990},
    dropped={"out of range": 7, "corrupt": 3},
    anomalies={"saturated": 41},
    rates={"frames_per_s": 2874.5},
    queue=17,
    lag_s=0.25,
    latencies={"received_to_paired": [5, 3, *[0] * (BINS - 3), 2]},
    latency_sums_s={"received_to_paired": 1300.5},
)


def read(text):
    """Return samples by name and labels. The parser refuses what Prometheus would refuse."""
    found = {}
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found
            found[key] = sample.value
    return found


def metrics_of(*messages, **settings_of_store):
    store = Store(clock_ns=lambda: 10**18, **settings_of_store)
    for message in messages:
        store.handle(message)
    return read(as_text(store.snapshot()))


def test_counts_rates_and_states_of_services():
    got = metrics_of(STATUS)

    def value(name, **labels):
        return got[f"streamptycho_{name}", tuple(sorted({"service": "ingest", **labels}.items()))]

    assert value("events_total", event="frames_received") == 12_000
    assert value("frames_dropped_total", reason="out of range") == 7
    assert value("anomalies_total", reason="saturated") == 41
    assert value("rate", rate="frames_per_s") == 2874.5
    assert (value("queue"), value("lag_seconds"), value("service_stale")) == (17, 0.25, 0)
    assert (value("service_state", state="running"), value("service_state", state="failed")) == (1, 0)


def test_histograms_are_cumulative_and_end_with_all_frames():
    got = metrics_of(STATUS)
    way = {"service": "ingest", "way": "received_to_paired"}

    def bucket(le):
        return got["streamptycho_latency_seconds_bucket", tuple(sorted({**way, "le": le}.items()))]

    assert [bucket("0.001"), bucket("0.002"), bucket("500.0"), bucket("+Inf")] == [5, 8, 8, 10]
    assert got["streamptycho_latency_seconds_count", tuple(sorted(way.items()))] == 10
    assert got["streamptycho_latency_seconds_sum", tuple(sorted(way.items()))] == 1300.5
    assert sum(name.endswith("_bucket") for name, _ in got) == BINS


def test_projections_and_their_quality():
    update = ObjectUpdate(
        scan_id="s",
        projection=3,
        angle_deg=1.0,
        object=np.ones((8, 8), np.complex64),
        probe=np.ones((1, 4, 4), np.complex64),
        coverage=np.ones((8, 8), np.float32),
        pixel_m=1e-8,
        energy_ev=6200.0,
        origin_xy_m=np.zeros(2),
        index=np.arange(4),
        xy_m=np.zeros((4, 2)),
        errors=np.array([0.5, 0.125], np.float32),
        sweeps=2.0,
        resolution_m=3e-8,
        last_frame_ns=10**18 - 10**9,
        dropped={"late": 2},
        final=True,
    )
    end = ProjectionEnd(
        scan_id="s", projection=4, angle_deg=2.0, reason="complete", frames_sent=9, frames_received=9, frames_paired=9
    )
    got = metrics_of(update, end, expected_projections=31)
    assert got["streamptycho_projections", (("state", "final"),)] == 1
    assert got["streamptycho_projections", (("state", "measured"),)] == 1
    assert got["streamptycho_projections_expected", ()] == 31
    assert got["streamptycho_reconstruction_error", ()] == 0.125
    assert got["streamptycho_projection_resolution_metres", ()] == 3e-8
    assert got["streamptycho_projection_frames_lost", ()] == 2


def test_nothing_known_is_still_metrics():
    got = metrics_of()
    assert got["streamptycho_projections", (("state", "final"),)] == 0
    assert ("streamptycho_last_message_age_seconds", ()) not in got


@pytest.mark.parametrize("counts", [[1] * (BINS - 1), [-1] * BINS, [0.5] * BINS, "1" * BINS, None, [True] * BINS])
def test_histograms_that_are_none_are_left_out(counts):
    status = ServiceStatus(service="x", state="running", latencies={"way": counts}, latency_sums_s={"way": "1"})
    assert not [name for name, _ in metrics_of(status) if "latency" in name]


@settings(max_examples=60, deadline=None)
@given(
    st.text(max_size=20),
    st.dictionaries(st.text(max_size=90), st.integers() | st.floats() | st.text(max_size=3), max_size=4),
)
def test_whatever_services_say_can_be_read(name, values):
    status = ServiceStatus(service=name, state="running", counters=values, dropped=values, rates=values)
    assert metrics_of(status, STATUS)


def test_the_page_serves_them():
    store = Store()
    store.handle(STATUS)
    server = MonitorServer(store, MonitorConfig(port=0))
    try:
        answer = httpx.get(server.start() + "metrics")
    finally:
        server.stop()
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert read(answer.text)["streamptycho_queue", (("service", "ingest"),)] == 17
