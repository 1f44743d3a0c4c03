"""How long frames take: counted once each, in the right bin, live and in a replay."""

import numpy as np
import pytest

from streamptycho.config import Config, PairingConfig, PositionsConfig, ReconstructionConfig
from streamptycho.detectors import encoder
from streamptycho.geometry import Geometry
from streamptycho.messages import (
    LATENCY_BOUNDS_S,
    DiffractionBatch,
    ProjectionEnd,
    ProjectionStart,
    RawRecord,
)
from streamptycho.positions.encode_pandabox import CapturedField, PandaEncoder
from streamptycho.stages.ingest import IngestStage
from streamptycho.stages.latency import LatencyHistogram, described, quantile_s
from streamptycho.stages.reconstruct import ReconstructStage

MS = 1_000_000
T0 = 1_700_000_000_000 * MS


def bins(**at):
    """Return a histogram with so many frames in the bin below each bound."""
    counts = [0] * (len(LATENCY_BOUNDS_S) + 1)
    for bound, frames in at.items():
        counts[LATENCY_BOUNDS_S.index(float(bound.removeprefix("s")) / 1000)] = frames
    return counts


def test_bounds_belong_to_the_bin_below_them():
    histogram = LatencyHistogram()
    histogram.add(np.array([T0, T0 + 1, T0 - 1, T0 + 10 * MS, T0 - 10**15]), T0 + MS)
    assert histogram.counts[:2] == [3, 1]
    assert histogram.counts[-1] == 1
    assert sum(histogram.counts) == 5
    histogram.add(T0, T0 + 3 * MS, 40)
    assert histogram.counts[2] == 40
    assert histogram.sum_s == pytest.approx(10**6 + 0.001 + 0.003 + 40 * 0.003, abs=1e-6)


def test_quantiles_lie_within_their_bin():
    assert quantile_s(bins(s1=50, s5=49, s100=1), 0.5) == 0.001
    assert quantile_s(bins(s1=50, s5=50), 0.25) == pytest.approx(0.0005)
    assert quantile_s(bins(s1=50, s5=50), 0.75) == pytest.approx((0.002 * 0.005) ** 0.5)
    assert quantile_s(bins(s1=50, s5=49, s100=1), 0.99) == 0.005
    assert quantile_s(bins(s1=50, s5=49, s100=1), 1.0) == 0.1
    assert quantile_s([0] * 19, 0.5) is None
    assert quantile_s([*[0] * 18, 3], 0.5) is None


def test_a_summary_tells_frames_mean_and_quantiles():
    status = {"latencies": {"a": bins(s1=9, s10=1), "b": bins()}, "latency_sums_s": {"a": 0.02}}
    told = described({"ingest": status, "record": {}})
    assert set(told) == {"a"}
    assert (told["a"]["frames"], told["a"]["mean_s"]) == (10, 0.002)
    assert told["a"]["p50_s"] == pytest.approx(5 / 9 * 1e-3)
    assert told["a"]["p99_s"] == pytest.approx(0.005 * 2**0.9)


def records(n=6):
    """Frames every 10 ms, their rows 30 ms after the last frame."""
    source = encoder("open", shape=(8, 8), dtype="uint16", energy_ev=6200.0, distance_m=1.0, detector_pixel_m=75e-6)
    panda = PandaEncoder([CapturedField("INENC1.VAL"), CapturedField("INENC2.VAL")])
    said = [("detector", 0, tuple(source.start(series=1, n_frames=n, epoch_s=T0 * 1e-9, labels={})[0]))]
    said.append(("positions", 0, (b"OK\n" + panda.header(arm_epoch_s=T0 * 1e-9),)))
    for k in range(n):
        frame = source.image(series=1, index=k, counts=np.ones((8, 8), np.uint16), start_s=k * 0.01, stop_s=k * 0.01)
        said.append(("detector", 10 * k, tuple(frame[0])))
    rows = {"INENC1.VAL.Mean": np.arange(n), "INENC2.VAL.Mean": np.zeros(n)}
    said.append(("positions", 10 * (n - 1) + 30, (panda.rows(rows) + panda.end(n),)))
    said.append(("recorder", 10 * (n - 1) + 31, ()))
    return [
        RawRecord(
            source=source,
            kind="data" if parts else "end",
            sequence=at,
            received_ns=T0 + ms * MS,
            parts=parts,
        )
        for at, (source, ms, parts) in enumerate(said)
    ]


@pytest.mark.parametrize("restamp", [False, True])
def test_ingest_counts_the_way_from_the_socket_to_the_pair(restamp):
    config = Config(positions=PositionsConfig(time=None), pairing=PairingConfig(match="order"))
    config = config.model_copy(update={"detector": config.detector.model_copy(update={"protocol": "open"})})
    stage = IngestStage(config, restamp=restamp)
    late_ns = 10**15 if restamp else 0
    batches = []
    for record in records():
        now_ns = record.received_ns + late_ns
        batches += [m for m in stage.handle(record, now_ns) if isinstance(m, DiffractionBatch)]
    assert stage.status(0).latencies == {"received_to_paired": bins(s50=3, s100=3)}
    assert stage.status(0).latency_sums_s["received_to_paired"] == pytest.approx(0.03 * 6 + 0.01 * 15, abs=1e-6)
    arrived_ns = np.concatenate([b.received_ns for b in batches])
    np.testing.assert_array_equal(arrived_ns, T0 + late_ns + 10 * MS * np.arange(6))
    assert {b.paired_ns for b in batches} == {T0 + late_ns + 80 * MS}


def test_reconstruct_counts_the_way_to_the_picture_and_to_the_final_object():
    ticks = iter(range(10**6))
    stage = ReconstructStage(ReconstructionConfig(sweeps=2, min_sweeps=1, slice_s=50), lambda: next(ticks))
    geometry = Geometry(8000.0, 2.0, 75e-6, (16, 16))
    start = ProjectionStart(scan_id="s", projection=0, angle_deg=0.0, n_frames=None, geometry=geometry)
    list(stage.handle(start, T0))
    rng = np.random.default_rng(1)
    for first, arrived_ms, paired_ms in ((0, 0, 2), (6, 10, 12)):
        batch = DiffractionBatch(
            scan_id="s",
            projection=0,
            index=np.arange(first, first + 6),
            counts=rng.poisson(20, (6, 16, 16)).astype(np.uint16),
            xy_m=rng.uniform(0, 20, (6, 2)) * geometry.object_pixel_m,
            quality=np.zeros(6, np.uint8),
            received_ns=T0 + arrived_ms * MS + np.arange(6),
            paired_ns=T0 + paired_ms * MS,
        )
        list(stage.handle(batch, T0 + paired_ms * MS))
    list(stage.work(T0 + 40 * MS))
    assert stage.status(0).latencies["paired_to_visible"] == bins(s50=12)
    end = ProjectionEnd(
        scan_id="s",
        projection=0,
        angle_deg=0.0,
        reason="complete",
        frames_sent=12,
        frames_received=12,
        frames_paired=12,
    )
    list(stage.handle(end, T0 + 50 * MS))
    while stage.busy:
        list(stage.work(T0 + 205 * MS))
    status = stage.status(0)
    assert status.latencies["received_to_final"] == bins(s200=6, s500=6)
    assert status.latencies["paired_to_visible"] == bins(s50=12)
    assert status.latency_sums_s["received_to_final"] == pytest.approx(12 * 0.2, abs=1e-6)
