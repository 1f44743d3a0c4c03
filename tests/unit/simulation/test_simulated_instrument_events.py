import re

import cbor2
import numpy as np
import pytest
from pandablocks.connections import DataConnection
from pandablocks.responses import EndData, EndReason, FrameData, StartData

from streamptycho.config import ORIENTATIONS, Config
from streamptycho.messages import PositionBlock
from streamptycho.positions import decoder
from streamptycho.registry import UnknownPluginError
from streamptycho.simulation import Instrument, SimulationError

dectris = pytest.importorskip("dectris.compression")

EPOCH_S = 1_700_000_000.0


def _messages(records):
    """Decode Stream V2 with cbor2 and DECTRIS' own decompressor only."""
    out = []
    for record in records:
        if record.source == "detector":
            (body,) = record.parts
            assert body.startswith(b"\xd9\xd9\xf7")
            message = cbor2.loads(body)
            out.append(dict(getattr(message, "value", message)))
    return out


def _counts(image, dtype):
    (array,) = image["data"].values()
    dims, typed = array.value
    algorithm, itemsize, payload = typed.value.value
    raw = dectris.decompress(bytes(payload), algorithm, elem_size=itemsize)
    return np.frombuffer(raw, dtype).reshape(dims)


def _panda(records, scaled=True):
    connection = DataConnection()
    connection.connect(scaled)
    data = b"OK\n" + b"".join(r.parts[0] for r in records if r.source == "positions" and r.kind == "data")
    return [item for k in range(0, len(data), 97) for item in connection.receive_bytes(data[k : k + 97])]


def _positions(config, records):
    reader = decoder(config.positions)
    reader.connected()
    out = list(reader.feed(b"OK\n", 0))
    for record in records:
        if record.source == "positions" and record.kind == "data":
            out += reader.feed(record.parts[0], record.received_ns)
    return out


def test_third_party_decoders_read_every_frame(small):
    config = small(dead_pixels=0.01)
    instrument = Instrument(config)
    messages = _messages(instrument.events(EPOCH_S))
    n = instrument.frames_per_projection
    kinds = [m["type"] for m in messages]
    assert kinds == (["start"] + ["image"] * n + ["end"]) * 2
    starts = [m for m in messages if m["type"] == "start"]
    assert [m["number_of_images"] for m in starts] == [n, n]
    assert starts[0]["user_data"] == {"scan_id": "scan", "projection": 0, "angle_deg": 0.0}
    assert starts[1]["user_data"] == {"scan_id": "scan", "projection": 1, "angle_deg": 90.0}
    images = [m for m in messages if m["type"] == "image"]
    assert [m["image_id"] for m in images] == [*range(n), *range(n)]
    for number in range(2):
        sent = np.concatenate(list(instrument.frames(number)))
        read = np.stack([_counts(m, "<u2") for m in images[number * n : (number + 1) * n]])
        assert np.array_equal(sent, read)
    begin, unit = images[1]["start_time"]
    assert begin / unit == pytest.approx(1e-3, abs=1e-7)


@pytest.mark.parametrize("scaled", [True, False])
def test_the_client_of_pandablocks_reads_every_row(small, scaled):
    config = small(positions__scaled=scaled)
    instrument = Instrument(config)
    items = _panda(list(instrument.events(EPOCH_S)), scaled)
    n = instrument.frames_per_projection
    assert [i.samples for i in items if isinstance(i, EndData)] == [n, n]
    assert all(i.reason is EndReason.DISARMED for i in items if isinstance(i, EndData))
    starts = [i for i in items if isinstance(i, StartData)]
    assert {f"{f.name}.{f.capture}" for f in starts[0].fields} >= {"INENC1.VAL.Mean", "PCAP.TS_START.Value"}
    assert starts[0].process == ("Scaled" if scaled else "Raw")
    rows = np.concatenate([i.data for i in items if isinstance(i, FrameData)])
    assert len(rows) == 2 * n
    if scaled:
        xy_um = np.stack([rows["INENC1.VAL.Mean"], rows["INENC2.VAL.Mean"]], axis=-1)[:n]
        assert np.allclose(xy_um, instrument.positions_m(0) * 1e6, atol=1e-9)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("scaled", [True, False])
def test_the_configured_axes_give_the_truth_back(small, orientation, scaled):
    config = small(
        positions__orientation=orientation,
        positions__scaled=scaled,
        positions__x={"column": "INENC1.VAL.Mean", "scale": -1e-6, "offset": 3e-6},
        positions__y={"column": "INENC2.VAL.Mean", "scale": 1e-9},
    )
    instrument = Instrument(config)
    blocks = [m for m in _positions(config, instrument.events(EPOCH_S)) if isinstance(m, PositionBlock)]
    n = instrument.frames_per_projection
    xy_m = np.concatenate([b.xy_m for b in blocks])
    assert np.allclose(xy_m[:n], instrument.positions_m(0), atol=2e-10)
    assert np.allclose(xy_m[n:], instrument.positions_m(1), atol=2e-10)
    angles = np.concatenate([b.angle_deg for b in blocks])
    assert np.allclose(angles, np.repeat([0.0, 90.0], n), atol=1e-5)
    trajectory = instrument.projection(0).trajectory
    time_s = np.concatenate([b.time_s for b in blocks])[:n]
    centre_s = (trajectory.start_s + trajectory.stop_s) / 2
    assert np.allclose(time_s - time_s[0], centre_s - centre_s[0], atol=2e-8)


def test_both_clocks_are_one(small):
    config = small()
    instrument = Instrument(config)
    records = list(instrument.events(EPOCH_S))
    (start, image) = _messages(r for r in records if r.source == "detector")[:2]
    messages = _positions(config, records)
    block = next(m for m in messages if isinstance(m, PositionBlock))
    centre_s = (image["start_time"][0] + image["stop_time"][0]) / image["stop_time"][1] / 2
    series_s = image["series_date"].timestamp()
    assert messages[0].epoch_s + block.time_s[0] == pytest.approx(series_s + centre_s, abs=1e-5)
    assert start["arm_date"] == image["series_date"]


@pytest.mark.parametrize("column", ["Mean", "Value"])
@pytest.mark.parametrize("rate_hz", [137.0, 3000.0])
def test_rows_may_be_slower_or_faster_than_frames(small, column, rate_hz):
    config = small(
        position_rate_hz=rate_hz,
        trajectory__jitter_m=0.0,
        positions__x={"column": f"INENC1.VAL.{column}", "scale": 1e-6},
        positions__y={"column": f"INENC2.VAL.{column}", "scale": 1e-6},
    )
    instrument = Instrument(config)
    blocks = [m for m in _positions(config, instrument.events(EPOCH_S)) if isinstance(m, PositionBlock)]
    first = [b for b in blocks if b.acquisition == blocks[0].acquisition]
    time_s, xy_m = np.concatenate([b.time_s for b in first]), np.concatenate([b.xy_m for b in first])
    assert np.allclose(np.diff(time_s), 1 / rate_hz)
    trajectory = instrument.projection(0).trajectory
    centre_s = (trajectory.start_s + trajectory.stop_s) / 2 + 0.02
    assert time_s[0] < centre_s[0]
    assert time_s[-1] > centre_s[-1]
    if rate_hz > 1000:
        x_m = np.interp(centre_s, time_s, xy_m[:, 0])
        assert np.abs(x_m - instrument.positions_m(0)[:, 0]).max() < 0.05 * 0.2e-6


def test_records_are_in_order_of_time_and_numbered(small):
    records = list(Instrument(small(faults__late_positions_s=0.15)).events(EPOCH_S))
    times = [r.received_ns for r in records]
    assert times == sorted(times)
    assert [r.sequence for r in records] == list(range(len(records)))
    assert records[-1].kind == "end"
    first_rows = next(r for r in records if r.source == "positions")
    assert first_rows.received_ns * 1e-9 - EPOCH_S == pytest.approx(0.15, abs=1e-3)


def test_one_series_for_the_whole_scan(small):
    config = small(projections__cut_by="angle")
    instrument = Instrument(config)
    records = list(instrument.events(EPOCH_S))
    messages, n = _messages(records), instrument.frames_per_projection
    assert [m["type"] for m in messages] == ["start", *["image"] * (2 * n), "end"]
    assert [m["image_id"] for m in messages[1:-1]] == list(range(2 * n))
    assert messages[0]["number_of_images"] == 2 * n
    assert [i.samples for i in _panda(records) if isinstance(i, EndData)] == [2 * n]


def test_stream1_messages_have_their_parts(small):
    instrument = Instrument(small(detector__protocol="dectris_stream1"))
    records = [r for r in instrument.events(EPOCH_S) if r.source == "detector"]
    htypes = [re.search(rb'"htype":"([a-z_]+)', r.parts[0])[1].decode() for r in records]
    n = instrument.frames_per_projection
    assert htypes == (["dheader", *["dimage"] * n, "dseries_end"]) * 2


@pytest.mark.parametrize("protocol", ["dectris_stream1", "dectris_stream2"])
def test_a_basic_header_leaves_the_tables_out(small, protocol):
    def first(detail):
        instrument = Instrument(small(detector__protocol=protocol, header_detail=detail))
        return next(r.parts for r in instrument.events(EPOCH_S) if r.source == "detector")

    full, basic = first("all"), first("basic")
    if protocol == "dectris_stream1":
        assert (len(full), len(basic)) == (9, 3)
        assert b'"header_detail":"basic"' in basic[0]
        assert basic[1:] == (full[1], full[8])
    else:
        said = [dict(getattr(m := cbor2.loads(parts[0]), "value", m)) for parts in (full, basic)]
        assert set(said[0]) - set(said[1]) == {"countrate_correction_lookup_table", "flatfield", "pixel_mask"}
        assert next(iter(said[1])) == "type"
        assert all(said[0][key] == value for key, value in said[1].items())


@pytest.mark.parametrize("protocol", ["dectris_stream1", "dectris_stream2"])
def test_a_control_system_may_write_nothing_into_the_header(small, protocol):
    instrument = Instrument(small(detector__protocol=protocol, labels=False))
    parts = next(r.parts for r in instrument.events(EPOCH_S) if r.source == "detector")
    assert b"angle_deg" not in b"".join(parts)
    assert len(parts) == (8 if protocol == "dectris_stream1" else 1)


def test_faults_are_accounted_for(small):
    faults = {"drop_frames": 0.1, "duplicate_frames": 0.1, "reorder_frames": 0.1, "corrupt_frames": 0.1, "seed": 4}
    instrument = Instrument(small(faults=faults))
    records = list(instrument.events(EPOCH_S))
    readable, broken = [], 0
    for record in records:
        if record.source == "detector":
            try:
                readable += _messages([record])
            except cbor2.CBORDecodeError:
                broken += 1
    tally = instrument.tally.counts()
    images = [m for m in readable if m["type"] == "image"]
    assert min(tally[k] for k in ("dropped", "duplicated", "reordered", "corrupted")) > 0
    assert broken == tally["corrupted"]
    assert len(images) == tally["frames"] - tally["dropped"] - tally["corrupted"] + tally["duplicated"]
    distinct = {(m["series_id"], m["image_id"]) for m in images}
    assert len(distinct) == tally["frames"] - tally["dropped"] - tally["corrupted"]


def test_positions_stop_half_way_without_a_word(small):
    instrument = Instrument(small(faults__stop_positions_after_rows=60))
    items = _panda(list(instrument.events(EPOCH_S)))
    n = instrument.frames_per_projection
    assert sum(len(i.data) for i in items if isinstance(i, FrameData)) == 60
    assert len([i for i in items if isinstance(i, EndData)]) == 60 // n
    assert instrument.tally.counts()["rows_withheld"] == 2 * n - 60
    assert instrument.tally.counts()["rows"] == 2 * n


def test_a_lost_connection_is_an_event(small):
    instrument = Instrument(small(faults__disconnect_positions_after_rows=20))
    before = 0
    for record in instrument.events(EPOCH_S):
        if record.source == "positions":
            if record.kind == "disconnected":
                break
            before += record.parts[0].count(b"BIN ")
    assert before > 0
    assert instrument.tally.disconnections == 1


def test_the_same_configuration_gives_the_same_bytes(small):
    first, again = ([r.parts for r in Instrument(small()).events(EPOCH_S)] for _ in range(2))
    assert first == again


def test_what_cannot_be_simulated_says_so(small):
    with pytest.raises(SimulationError, match="no section 'simulation'"):
        Instrument(Config())
    with pytest.raises(SimulationError, match="a column of its own"):
        Instrument(small(positions__y={"column": "INENC1.VAL.Mean", "scale": 1e-6}))
    with pytest.raises(SimulationError, match=r"NAME\.CAPTURE"):
        Instrument(small(positions__y={"column": "Y", "scale": 1e-6}))
    with pytest.raises(UnknownPluginError):
        Instrument(small(detector__protocol="dectris_stream9"))
