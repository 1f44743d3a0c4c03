"""Real PandABox bytes and hostile ones, cut anywhere."""

from __future__ import annotations

import contextlib
import itertools
import struct
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandablocks.connections import DataConnection
from pandablocks.hdf import FrameProcessor
from pandablocks.responses import FrameData, StartData

from streamptycho.config import AxisConfig, PositionsConfig
from streamptycho.messages import AcquisitionEnd, AcquisitionStart, Anomaly, PositionBlock, Reason
from streamptycho.positions import ColumnMissingError, PositionMessage, decoder
from streamptycho.positions.encode_pandabox import CapturedField, PandaEncoder
from streamptycho.positions.pandabox_framing import MAX_FRAME_BYTES, PandaFraming
from tests.data import shared_data

DUMPS = {"slow_dump.bin": 5, "fast_dump.bin": 58, "raw_dump.bin": 10_000, "raw_dump_no_duration.bin": 10_000}
COUNTERS = PositionsConfig(
    x=AxisConfig(column="COUNTER1.OUT.Mean", scale=1), y=AxisConfig(column="COUNTER2.OUT.Mean", scale=1)
)
FIELDS = [
    CapturedField("INENC1.VAL", scale=0.001, offset=5.0, units="um"),
    CapturedField("INENC2.VAL", scale=-0.002, units="um"),
    CapturedField("INENC3.VAL", capture="Value", scale=0.01, units="deg"),
    CapturedField("PCAP.TS_START", capture="Value", scale=8e-9, units="s"),
    CapturedField("PCAP.GATE_DURATION", capture="Value", scale=8e-9, units="s"),
    CapturedField("PCAP.BITS0", capture="Value"),
]
ENCODERS = PositionsConfig(angle=AxisConfig(column="INENC3.VAL.Value", scale=2.0))


def decode(data: bytes, config: PositionsConfig, chunk: int = 1 << 20) -> list[PositionMessage]:
    panda = decoder(config)
    panda.connected()
    return [m for at in range(0, len(data), chunk) for m in panda.feed(data[at : at + chunk], 7)]


def columns(n: int, first: int = 0) -> dict[str, np.ndarray]:
    k = np.arange(first, first + n, dtype=np.float64)
    return {
        "INENC1.VAL.Mean": 5 + k * 0.001,
        "INENC2.VAL.Mean": 3 - k * 0.002,
        "INENC3.VAL.Value": np.round(k / 10) * 0.01,
        "PCAP.TS_START.Value": k * 0.004,
        "PCAP.GATE_DURATION.Value": np.full(n, 0.002),
        "PCAP.BITS0.Value": k % 5,
    }


def acquisition(n: int, *, scaled: bool = True, missed: int = 0, reason: str = "Ok", parts: int = 3) -> bytes:
    encoder = PandaEncoder(FIELDS, scaled=scaled)
    edges = np.linspace(0, n, parts + 1).astype(int)
    body = b"".join(encoder.rows(columns(b - a, a)) for a, b in itertools.pairwise(edges) if b > a)
    return encoder.header(arm_epoch_s=1_700_000_000.25, missed=missed) + body + encoder.end(n, reason)


def rows(messages: Iterable[PositionMessage]) -> np.ndarray:
    return np.concatenate([m.row for m in messages if isinstance(m, PositionBlock)] or [np.zeros(0, dtype=int)])


def stacked(messages: Iterable[PositionMessage], name: str) -> np.ndarray:
    return np.concatenate([getattr(m, name) for m in messages if isinstance(m, PositionBlock)])


def kinds(messages: Iterable[PositionMessage]) -> list[type]:
    """Return what follows what; how many blocks the rows come in depends on how the bytes came."""
    return [kind for kind, _ in itertools.groupby(type(m) for m in messages)]


@pytest.mark.parametrize("name", sorted(DUMPS))
def test_real_dumps_give_all_rows_at_any_chunk_size(name: str) -> None:
    data = shared_data(f"panda-stream/{name}").read_bytes()
    whole = decode(data, COUNTERS)
    assert isinstance(whole[0], AcquisitionStart)
    assert isinstance(whole[-1], AcquisitionEnd)
    assert (whole[-1].rows, whole[-1].reason, whole[-1].complete) == (DUMPS[name], "Disarmed", True)
    assert whole[0].epoch_s is None
    np.testing.assert_array_equal(rows(whole), np.arange(DUMPS[name]))
    np.testing.assert_allclose(stacked(whole, "xy_m")[:3], [[1, 2], [2, 4], [3, 6]])

    @settings(max_examples=12, deadline=None)
    @given(chunk=st.integers(1, 200_000))
    def cut(chunk: int) -> None:
        again = decode(data, COUNTERS, chunk)
        np.testing.assert_array_equal(stacked(again, "xy_m"), stacked(whole, "xy_m"))
        np.testing.assert_array_equal(stacked(again, "time_s"), stacked(whole, "time_s"))
        assert kinds(again) == kinds(whole)

    cut()


@pytest.mark.parametrize("name", sorted(DUMPS))
def test_scaling_is_that_of_pandablocks(name: str) -> None:
    data = shared_data(f"panda-stream/{name}").read_bytes()
    connection, processor = DataConnection(), FrameProcessor()
    connection.connect("raw" not in name)
    expected = []
    names: list[str] = []
    for item in connection.receive_bytes(data):
        if isinstance(item, StartData):
            names = [f"{f.name}.{f.capture}" for f in item.fields]
            processor.create_processors(item)
        elif isinstance(item, FrameData):
            expected.append(processor.scale_data(item))
    messages = decode(data, COUNTERS)
    for axis, column in enumerate(("COUNTER1.OUT.Mean", "COUNTER2.OUT.Mean")):
        theirs = np.concatenate([frame[names.index(column)] for frame in expected])
        np.testing.assert_allclose(stacked(messages, "xy_m")[:, axis], theirs, rtol=1e-12)


@pytest.mark.parametrize("scaled", [True, False])
def test_encoded_acquisitions_come_back(scaled: bool) -> None:
    data = b"OK\n" + acquisition(40, scaled=scaled, missed=0) + acquisition(7, scaled=scaled, missed=100)
    if not scaled:
        given_ticks = 0.002 / 8e-9
        assert given_ticks == pytest.approx(250_000)
    messages = decode(data, ENCODERS, 11)
    starts = [m for m in messages if isinstance(m, AcquisitionStart)]
    ends = [m for m in messages if isinstance(m, AcquisitionEnd)]
    assert [s.epoch_s for s in starts] == [1_700_000_000.25] * 2
    assert len({s.acquisition for s in starts}) == 2
    assert [s.missed for s in starts] == [0, 100]
    assert [e.rows for e in ends] == [40, 107]
    np.testing.assert_array_equal(rows(messages), [*range(40), *range(100, 107)])
    truth = columns(40)
    xy_m = stacked(messages, "xy_m")[:40]
    np.testing.assert_allclose(xy_m[:, 0], truth["INENC1.VAL.Mean"] * 1e-6, atol=1e-15)
    np.testing.assert_allclose(xy_m[:, 1], truth["INENC2.VAL.Mean"] * 1e-6, atol=1e-15)
    np.testing.assert_allclose(stacked(messages, "angle_deg")[:40], truth["INENC3.VAL.Value"] * 2)
    np.testing.assert_allclose(stacked(messages, "time_s")[:40], truth["PCAP.TS_START.Value"] + 0.001, atol=1e-9)


def test_orientation_and_axis_units_are_applied() -> None:
    config = PositionsConfig(
        x=AxisConfig(column="INENC1.VAL.Mean", scale=-1e-6, offset=1.0),
        y=AxisConfig(column="INENC2.VAL.Mean", scale=1e-6),
        orientation="swap_xy_flip_x",
    )
    xy_m = stacked(decode(b"OK\n" + acquisition(5), config), "xy_m")
    truth = columns(5)
    np.testing.assert_allclose(xy_m[:, 0], -truth["INENC2.VAL.Mean"] * 1e-6)
    np.testing.assert_allclose(xy_m[:, 1], 1.0 - truth["INENC1.VAL.Mean"] * 1e-6)


@pytest.mark.parametrize(("scaled", "kept"), [(True, 30), (False, 20)])
def test_the_last_raw_frame_before_an_overrun_is_discarded(scaled: bool, kept: int) -> None:
    messages = decode(b"OK\n" + acquisition(30, scaled=scaled, reason="Data overrun"), ENCODERS)
    assert len(rows(messages)) == kept
    lost = sum(m.count for m in messages if isinstance(m, Anomaly))
    assert kept + lost == 30
    assert isinstance(messages[-1], AcquisitionEnd)
    assert not messages[-1].complete


def test_a_missing_column_is_an_error_that_lists_the_captured_ones() -> None:
    config = PositionsConfig(x=AxisConfig(column="INENC9.VAL.Mean", scale=1e-6))
    panda = decoder(config)
    with pytest.raises(ColumnMissingError, match=r"'INENC9\.VAL\.Mean'.*INENC1\.VAL\.Mean"):
        list(panda.feed(b"OK\n" + acquisition(3), 0))


def test_a_missing_time_column_is_told_and_leaves_rows_without_time() -> None:
    config = PositionsConfig(time=AxisConfig(column="PCAP.TS_TRIG.Value"))
    messages = decode(b"OK\n" + acquisition(3), config)
    assert any("PCAP.TS_TRIG" in m.detail for m in messages if isinstance(m, Anomaly))
    assert np.isnan(stacked(messages, "time_s")).all()


def test_positions_that_are_not_finite_are_left_out_and_counted() -> None:
    encoder = PandaEncoder(FIELDS)
    table = columns(10)
    table["INENC1.VAL.Mean"][[2, 5]] = [np.nan, np.inf]
    data = b"OK\n" + encoder.header(arm_epoch_s=1.7e9) + encoder.rows(table) + encoder.end(10)
    messages = decode(data, ENCODERS)
    assert rows(messages).tolist() == [0, 1, 3, 4, 6, 7, 8, 9]
    (anomaly,) = [m for m in messages if isinstance(m, Anomaly)]
    assert (anomaly.reason, anomaly.count, anomaly.unit) == (Reason.CORRUPT, 2, "rows")


def test_a_gate_that_never_opened_gives_no_position() -> None:
    encoder = PandaEncoder(FIELDS, scaled=False)
    table = columns(4)
    table["PCAP.GATE_DURATION.Value"][1] = 0.0
    data = b"OK\n" + encoder.header(arm_epoch_s=1.7e9) + encoder.rows(table) + encoder.end(4)
    assert rows(decode(data, ENCODERS)).tolist() == [0, 2, 3]


def test_garbage_in_mid_stream_ends_the_acquisition_and_the_next_one_is_read() -> None:
    good = acquisition(12)
    broken = good[: good.index(b"END ")] + b"\x00\xffnoise<headers>\nmore noise"
    messages = decode(b"OK\n" + broken + b"x" * 5000 + good, ENCODERS, 100)
    ends = [m for m in messages if isinstance(m, AcquisitionEnd)]
    assert not ends[0].complete
    assert (ends[-1].rows, ends[-1].complete) == (12, True)
    assert any(m.reason is Reason.CORRUPT for m in messages if isinstance(m, Anomaly))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.replace(b'type="double"', b'type="object"', 1),
        lambda d: d.replace(b'sample_bytes="', b'sample_bytes="9', 1),
        lambda d: d.replace(b"<fields>", b"<fieldz>", 1),
        lambda d: d.replace(b'missed="0"', b'missed="-4"', 1),
        lambda d: d.replace(b'missed="0"', b'missed="many"', 1),
        lambda d: d.replace(b"<header>\n", b'<header>\n<!DOCTYPE x [<!ENTITY a "b">]>\n', 1),
        lambda d: d.replace(b"BIN ", b"BIN\x00", 1),
        lambda d: d.replace(b"END ", b"ENDE", 1),
        lambda d: d.replace(b"Ok", b"\xff\xff", 1),
        lambda d: d.replace(b"END 9", b"END nine", 1),
    ],
)
def test_each_damage_is_counted_once_and_the_next_acquisition_is_whole(spoil: object) -> None:
    bad = spoil(acquisition(9))  # type: ignore[operator]
    messages = decode(b"OK\n" + bad + acquisition(9), ENCODERS)
    corrupt = [m for m in messages if isinstance(m, Anomaly)]
    assert [m.reason for m in corrupt] == [Reason.CORRUPT]
    assert isinstance(messages[-1], AcquisitionEnd)
    assert (messages[-1].rows, messages[-1].complete) == (9, True)
    last_start = max(at for at, m in enumerate(messages) if isinstance(m, AcquisitionStart))
    assert rows(messages[last_start:]).tolist() == list(range(9))


def test_a_refused_option_is_told() -> None:
    messages = decode(b"ERR Invalid data capture option\n", ENCODERS)
    assert next(m.detail for m in messages if isinstance(m, Anomaly)).count("ERR Invalid") == 1


def test_declared_sizes_are_bounded() -> None:
    header = acquisition(0).split(b"END")[0]
    huge = b"OK\n" + header + b"BIN " + struct.pack("<I", 2**32 - 1) + b"x" * 1000
    messages = decode(huge, ENCODERS)
    assert isinstance(messages[-2], Anomaly)
    assert str(MAX_FRAME_BYTES) in messages[-2].detail
    endless = b"OK\n<header>\n" + b"<x/>\n" * 100_000
    assert [type(m) for m in decode(endless, ENCODERS, 10_000)] == [Anomaly]


def cut_off(rows_before: int, missed: int, total: int, *, scaled: bool = True) -> list[PositionMessage]:
    """Read an acquisition whose connection is lost after some rows; the next one begins at row `missed`."""
    panda = decoder(ENCODERS)
    panda.connected()
    encoder = PandaEncoder(FIELDS, scaled=scaled)
    armed = {"arm_epoch_s": 1_700_000_000.25}
    first = b"OK\n" + encoder.header(**armed) + encoder.rows(columns(rows_before))
    messages = list(panda.feed(first + encoder.rows(columns(3, rows_before))[:50], 0))
    messages += panda.disconnected()
    panda.connected()
    rest = encoder.rows(columns(total - missed, missed))
    again = b"OK\n" + encoder.header(**armed, missed=missed) + rest + encoder.end(total, "Disarmed")
    return [*messages, *panda.feed(again, 0)]


@pytest.mark.parametrize("scaled", [True, False])
def test_rows_go_on_where_the_counter_says_after_a_lost_connection(scaled: bool) -> None:
    messages = cut_off(20, 33, 50, scaled=scaled)
    assert [type(m) for m in messages if isinstance(m, AcquisitionStart | AcquisitionEnd)] == [
        AcquisitionStart,
        AcquisitionEnd,
    ]
    assert rows(messages).tolist() == [*range(20), *range(33, 50)]
    expected = columns(50)["INENC1.VAL.Mean"][rows(messages)] * 1e-6
    np.testing.assert_allclose(stacked(messages, "xy_m")[:, 0], expected, atol=1e-12)
    np.testing.assert_allclose(stacked(messages, "time_s"), rows(messages) * 0.004 + 0.001, atol=1e-9)
    told = {(m.reason, m.unit): m.count for m in messages if isinstance(m, Anomaly)}
    assert told == {(Reason.DISCONNECTED, "messages"): 1, (Reason.MISSING, "rows"): 13}
    (end,) = (m for m in messages if isinstance(m, AcquisitionEnd))
    assert (end.rows, end.complete) == (50, True)


def test_rows_that_are_sent_again_keep_their_numbers() -> None:
    messages = cut_off(20, 15, 50)
    assert rows(messages).tolist() == [*range(20), *range(15, 50)]
    assert [m.reason for m in messages if isinstance(m, Anomaly)] == [Reason.DISCONNECTED]


def test_another_arming_after_a_lost_connection_ends_the_one_before() -> None:
    panda = decoder(ENCODERS)
    panda.connected()
    encoder = PandaEncoder(FIELDS)
    list(panda.feed(b"OK\n" + encoder.header(arm_epoch_s=1.7e9) + encoder.rows(columns(4)), 0))
    list(panda.disconnected())
    panda.connected()
    again = list(panda.feed(b"OK\n" + encoder.header(arm_epoch_s=1.7e9 + 5, missed=2) + encoder.rows(columns(3, 2)), 0))
    assert [type(m) for m in again] == [AcquisitionEnd, AcquisitionStart, PositionBlock]
    assert (again[0].reason, again[0].complete, again[0].rows) == ("disconnected", False, 4)
    assert rows(again).tolist() == [2, 3, 4]


def test_connections_lost_for_good_end_the_acquisition_incomplete() -> None:
    panda = decoder(ENCODERS)
    panda.connected()
    first = list(panda.feed((b"OK\n" + acquisition(9, scaled=False))[:-8], 0))
    lost = list(panda.disconnected())
    assert [m.reason for m in lost if isinstance(m, Anomaly)] == [Reason.DISCONNECTED]
    assert len(rows(first + lost)) == 9
    assert list(panda.disconnected()) == []
    (end,) = panda.flush()
    assert isinstance(end, AcquisitionEnd)
    assert not end.complete
    assert list(panda.flush()) == []


def test_columns_may_come_in_any_order() -> None:
    straight = PandaEncoder(FIELDS)
    turned = PandaEncoder(FIELDS[::-1])
    assert straight.dtype.names != turned.dtype.names
    read = [
        decode(b"OK\n" + e.header(arm_epoch_s=1.7e9) + e.rows(columns(8)) + e.end(8), ENCODERS)
        for e in (straight, turned)
    ]
    for name in ("xy_m", "time_s", "angle_deg"):
        np.testing.assert_array_equal(stacked(read[0], name), stacked(read[1], name))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_bytes_fail_or_confuse_what_follows(data: st.DataObject) -> None:
    good = acquisition(6)
    noise = data.draw(st.binary(max_size=300))
    at = data.draw(st.integers(0, len(good)))
    cut = data.draw(st.integers(0, len(good)))
    stream = b"OK\n" + good[:at] + noise + good[cut:] + b"\n"
    panda = decoder(ENCODERS)
    panda.connected()
    chunk = data.draw(st.integers(1, 400))
    messages: list[PositionMessage] = []
    for i in range(0, len(stream), chunk):
        # A damaged name is a column that is not there: the operator is told, and feeding can go on.
        with contextlib.suppress(ColumnMissingError):
            messages.extend(panda.feed(stream[i : i + chunk], 0))
    messages += panda.flush()
    starts = [m for m in messages if isinstance(m, AcquisitionStart)]
    ends = [m for m in messages if isinstance(m, AcquisitionEnd)]
    assert [s.acquisition for s in starts] == [e.acquisition for e in ends]
    for block in messages:
        if isinstance(block, PositionBlock):
            assert np.isfinite(block.xy_m).all()
    panda.connected()
    clean = list(panda.feed(b"OK\n" + good, 0))
    assert rows(clean).tolist() == list(range(6))


def test_framing_keeps_no_more_than_one_piece() -> None:
    framing = PandaFraming()
    list(framing.feed(b"OK\n"))
    for _ in range(200):
        list(framing.feed(b"\x01" * 65_536))
    assert len(framing._buffer) < 100


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"OK\n<header>\n<data missed=", Reason.TRUNCATED),
        (b"OK", Reason.TRUNCATED),
        (b"OK\n<header>\n" + b"<x>" * 20 + b"</header>\n\n", Reason.CORRUPT),
    ],
)
def test_what_never_became_a_header_is_counted(data: bytes, reason: Reason) -> None:
    panda = decoder(ENCODERS)
    panda.connected()
    told = [*panda.feed(data, 0), *panda.disconnected(), *panda.disconnected()]
    assert [m.reason for m in told if isinstance(m, Anomaly)] == [reason]
    panda.connected()
    assert rows(panda.feed(b"OK\n" + acquisition(6), 0)).tolist() == list(range(6))
