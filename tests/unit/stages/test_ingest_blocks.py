"""Ingest on blocks of records: shuffled, lost and doubled frames, late rows, and still exactly the truth."""

from __future__ import annotations

import json

import cbor2
import numpy as np
import pytest

from streamptycho.config import parse
from streamptycho.messages import RECORD_KINDS, RECORD_SOURCES, DiffractionBatch, ProjectionEnd, RawBlock, RawRecord
from streamptycho.recording.stream_log import StreamLogReader, StreamLogWriter
from streamptycho.simulation import Instrument
from streamptycho.stages.ingest import IngestStage
from streamptycho.stages.record import LogFeed, RecordStage
from streamptycho.stages.recorder import disk_warning
from streamptycho.stages.runs import runs
from tests.system.pipeline import SMALL_SCAN


def config_of(protocol="dectris_stream2", **faults):
    tree = {
        "detector": {"protocol": protocol, "region": {"size_px": 64}},
        "positions": {"angle": {"column": "INENC3.VAL.Mean"}},
        "projections": {"count": 2},
        "simulation": {**SMALL_SCAN, "projections": 2, "faults": faults},
    }
    return parse(json.dumps(tree))


def block_of(records):
    sizes = [len(part) for record in records for part in record.parts]
    ends = np.cumsum([0, *sizes]).astype(np.int64)
    return RawBlock(
        source=np.array([RECORD_SOURCES.index(r.source) for r in records], np.uint8),
        kind=np.array([RECORD_KINDS.index(r.kind) for r in records], np.uint8),
        sequence=np.array([r.sequence for r in records], np.int64),
        received_ns=np.array([r.received_ns for r in records], np.int64),
        first_part=np.cumsum([0, *(len(r.parts) for r in records)]).astype(np.int64),
        spans=np.stack([ends[:-1], ends[1:]], axis=1),
        data=np.frombuffer(b"".join(part for r in records for part in r.parts), np.uint8),
    )


def in_blocks(records, size):
    return [block_of(records[k : k + size]) for k in range(0, len(records), size)]


def outcome(config, messages):
    stage, paired, ends = IngestStage(config), {}, []
    for message in messages:
        for out in stage.handle(message, 0):
            if isinstance(out, DiffractionBatch):
                for k, index in enumerate(out.index.tolist()):
                    assert (out.projection, index) not in paired
                    paired[out.projection, index] = (tuple(out.xy_m[k]), out.counts[k].tobytes())
            elif isinstance(out, ProjectionEnd):
                ends.append((out.frames_sent, out.frames_received, out.frames_paired, out.dropped))
    assert stage.finished
    return paired, ends, stage.status(0).counters


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("protocol", ["dectris_stream1", "dectris_stream2"])
def test_blocks_of_any_size_give_what_single_records_give(protocol, size):
    config = config_of(protocol, drop_frames=0.03, duplicate_frames=0.03, reorder_frames=0.1)
    records = list(Instrument(config).events(1.7e9))
    assert outcome(config, in_blocks(records, size))[:2] == outcome(config, records)[:2]


def kind_of(record):
    """First entry of a message of the detector: start, image or end; empty for everything else."""
    head = record.parts[0][:40] if record.source == "detector" and record.parts else b""
    return next((kind for kind in ("start", "image", "end") if b"dtype" + cbor2.dumps(kind) in head), "")


def test_the_set_of_pairs_is_exactly_that_of_the_generator():
    """Images up to 60 places late, some lost, some twice, some after the end of their series was announced."""
    config = config_of()
    instrument = Instrument(config)
    records = list(instrument.events(1.7e9))
    places = {kind: [k for k, r in enumerate(records) if kind_of(r) == kind] for kind in ("start", "image")}
    images = places["image"]
    per_projection = instrument.frames_per_projection
    assert len(images) == 2 * per_projection
    rng = np.random.default_rng(3)
    lost = {k for k in images if rng.random() < 0.05}
    twice = {k for k in images if k not in lost and rng.random() < 0.05}
    order = []
    for k, record in enumerate(records[:-1]):
        if k in lost:
            continue
        next_start = min((start for start in places["start"] if start > k), default=len(records))
        late = k + rng.integers(0, 60) if k in images else k
        order.append((min(late, next_start - 0.5), record))
        if k in twice:
            order.append((min(k + rng.integers(0, 60), next_start - 0.5), record))
    shuffled = [record for _, record in sorted(order, key=lambda item: item[0])]
    paired, ends, counters = outcome(config, in_blocks([*shuffled, records[-1]], 50))
    truth = {divmod(number, per_projection) for number, k in enumerate(images) if k not in lost}
    assert set(paired) == truth
    for projection, index in truth:
        assert np.allclose(paired[projection, index][0], instrument.positions_m(projection)[index], atol=1e-12)
    assert sum(sent for sent, *_ in ends) == len(images)
    assert sum(sum(dropped.values()) for *_, dropped in ends) == len(lost) > 0
    assert counters["frames_paired"] == len(truth)


def test_runs_end_where_time_has_to_pass_take_positions_first_and_lose_nothing():
    times = np.concatenate([np.arange(50) * 10, np.arange(50) * 3])
    records = [
        RawRecord(source="detector", kind="data", sequence=k, received_ns=int(t), parts=(b"%d" % k,))
        for k, t in enumerate(times)
    ]
    records[20] = RawRecord(source="positions", kind="data", sequence=20, received_ns=200, parts=(b"rows",))
    records[33] = RawRecord(source="detector", kind="data", sequence=33, received_ns=330, parts=(b"two", b"parts"))
    pieces = list(runs(block_of(records), 100, 100))
    order = [r.sequence for p in pieces for r in (p.records() if isinstance(p, RawBlock) else [p])]
    assert order == [*range(12), 20, *range(12, 20), *range(21, 100)]
    assert [len(p) if isinstance(p, RawBlock) else 0 for p in pieces[:5]] == [12, 1, 10, 10, 0]
    assert [r.parts for r in pieces[1].records()] == [(b"rows",)]
    assert pieces[2].record(8).parts == (b"21",)


def test_a_block_is_replayed_at_the_speed_of_its_records(tmp_path):
    with StreamLogWriter(tmp_path / "a.log", configuration="a: 1") as log:
        log.append_block(
            block_of(
                [
                    RawRecord(source="detector", kind="data", sequence=k, received_ns=k * 10**9 + 5, parts=(b"x",))
                    for k in range(10)
                ]
            )
        )
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    feed = LogFeed(StreamLogReader(tmp_path / "a.log").blocks(), speed=2.0, clock=lambda: now[0], sleep=sleep)
    came = []
    stage = RecordStage()
    while not stage.finished:
        message = feed.get(10.0)
        for out in stage.handle(message, 0):
            if isinstance(out, RawBlock):
                came += [(r.kind, r.sequence, round(now[0], 3)) for r in out.records()]
    assert came == [("configuration", 0, 0.0), *(("data", k, k / 2) for k in range(10))]


def test_the_operator_is_told_before_the_disk_is_full():
    assert disk_warning(500 * 10**9, 260e6, 600.0) == ""
    assert "full in 8 min at 260 MB/s, 125.0 GB" in disk_warning(125 * 10**9, 260e6, 600.0)
    assert "full in 38 s" in disk_warning(10**10, 260e6, 600.0)
    assert "almost full: 0.5 GB" in disk_warning(5 * 10**8, 0.0, 600.0)
