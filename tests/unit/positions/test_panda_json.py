"""A PandABox as JSON over ZeroMQ: real messages of MAX IV, the other dialect, and hostile ones."""

from __future__ import annotations

import io
import json

import cbor2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.config import AxisConfig, PositionsConfig
from streamptycho.messages import AcquisitionEnd, AcquisitionStart, Anomaly, PositionBlock, Reason
from streamptycho.positions import ColumnMissingError, decoder
from tests.data import shared_data

MEASURED = PositionsConfig(
    protocol="panda_json", x=AxisConfig(column="energy"), y=AxisConfig(column="INENC3.VAL.Mean"), time=None
)
XY = PositionsConfig(protocol="panda_json", x=AxisConfig(column="x"), y=AxisConfig(column="y"), time=None)


def measured() -> list[bytes]:
    file = io.BytesIO(shared_data("panda-stream/pcap-zmq.cbors").read_bytes())
    messages = []
    while file.tell() < len(file.getbuffer()):
        messages += cbor2.load(file)
    return messages


def heard(config, messages):
    source = decoder(config)
    return [m for message in messages for m in source.feed(message, 7)]


def rows(messages):
    return np.concatenate([m.row for m in messages if isinstance(m, PositionBlock)] or [np.zeros(0, int)]).tolist()


def data(first, count, **changes):
    columns = {"x": [float(k) for k in range(first, first + count)], "y": [0] * count}
    return json.dumps({"message_type": "data", "frame_number": first, **columns, **changes}).encode()


def test_measured_messages_give_every_row():
    said = heard(MEASURED, measured())
    start, end = said[0], said[-1]
    assert isinstance(start, AcquisitionStart)
    assert start.acquisition == "2024-10-07T08:49:10.627Z"
    assert start.epoch_s == 1728290950.627
    assert rows(said) == list(range(1500))
    energy = np.concatenate([m.xy_m[:, 0] for m in said if isinstance(m, PositionBlock)])
    assert (energy[0], energy[-1]) == (8879.101048716273, 9178.90056771702)
    assert (end.rows, end.complete) == (1500, True)
    assert not [m for m in said if isinstance(m, Anomaly)]


def test_dropped_messages_are_counted_and_the_rest_keeps_its_numbers():
    messages = measured()
    lost = json.loads(messages[40])
    said = heard(MEASURED, messages[:40] + messages[41:])
    first, count = lost["frame_number"], len(lost["energy"])
    assert rows(said) == [k for k in range(1500) if not first <= k < first + count]
    (anomaly,) = (m for m in said if isinstance(m, Anomaly))
    assert (anomaly.reason, anomaly.unit, anomaly.count) == (Reason.MISSING, "rows", count)


def test_joining_in_the_middle_begins_at_the_first_row_that_comes():
    said = heard(MEASURED, measured()[30:])
    assert isinstance(said[0], AcquisitionStart)
    assert said[0].missed == rows(said)[0] > 0
    assert said[0].epoch_s is None
    assert isinstance(said[-1], AcquisitionEnd)
    assert not [m for m in said if isinstance(m, Anomaly)]


def test_a_column_that_is_not_there_lists_the_captured_ones():
    with pytest.raises(ColumnMissingError, match=r"INENC1.VAL.Mean.*energy, INENC3"):
        heard(PositionsConfig(protocol="panda_json"), measured()[:2])


def test_an_acquisition_without_rows_is_announced():
    said = heard(XY, [b'{"msg_type": "start", "arm_time": "2026-01-01T00:00:00Z"}', b'{"msg_type": "stop"}'])
    assert [type(m) for m in said] == [AcquisitionStart, AcquisitionEnd]


@pytest.mark.parametrize(
    ("message", "reason", "unit", "count"),
    [
        (b"\xff\xfe", Reason.CORRUPT, "messages", 1),
        (b"[" * 100_000, Reason.CORRUPT, "messages", 1),
        (b'{"message_type": "series"}', Reason.CORRUPT, "messages", 1),
        (b'{"message_type": "data", "frame_number": 3}', Reason.CORRUPT, "messages", 1),
        (data(3, 2, frame_number=-1), Reason.CORRUPT, "messages", 1),
        (data(3, 2, frame_number=2**70), Reason.CORRUPT, "messages", 1),
        (data(3, 2, frame_number=3.0), Reason.CORRUPT, "messages", 1),
        (data(3, 2, x=[1.0]), Reason.CORRUPT, "messages", 1),
        (data(3, 2, x=["1", "2"]), Reason.CORRUPT, "messages", 1),
        (data(3, 2, x=[[1], [2]]), Reason.CORRUPT, "messages", 1),
        (data(3, 2, x=[10**400, 0]), Reason.CORRUPT, "messages", 1),
        (data(3, 2, x=[float("nan"), 1.0]), Reason.CORRUPT, "rows", 1),
        (data(3, 2, x=[None, float("inf")]), Reason.CORRUPT, "rows", 2),
        (data(3, 2, x="gone"), Reason.CORRUPT, "rows", 2),
        (b'{"message_type": "data", "datasets": {"x": {"data": [1]}}}', Reason.CORRUPT, "messages", 1),
    ],
)
def test_what_cannot_be_used_is_counted_and_the_next_message_is_read(message, reason, unit, count):
    said = heard(XY, [data(0, 3), message, data(5, 2)])
    told = [(m.reason, m.unit, m.count) for m in said if isinstance(m, Anomaly)]
    assert (reason, unit, count) in told
    assert rows(said)[:3] == [0, 1, 2]
    assert rows(said)[-2:] == [5, 6]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        [
                            "message_type",
                            "msg_type",
                            "data",
                            "datasets",
                            "frame_number",
                            "x",
                            "y",
                            "starting_sample_number",
                        ]
                    ),
                    inner | st.just("data"),
                    max_size=5,
                )
            ),
            max_leaves=12,
        ),
        max_size=4,
    )
)
def test_no_json_fails(items):
    source = decoder(XY)
    for item in items:
        try:
            list(source.feed(json.dumps(item).encode(), 0))
        except ColumnMissingError:
            continue
    assert rows(source.feed(data(9, 2), 0)) == [9, 10]


def test_an_end_of_nothing_is_counted_and_an_empty_acquisition_announced():
    (stray,) = heard(XY, [b'{"message_type": "series-end"}'])
    assert (stray.reason, stray.unit) == (Reason.STRAY, "messages")
    twice = heard(XY, [b'{"message_type": "series-start", "arm_time": "a"}'] * 2)
    assert [type(m) for m in twice] == [AcquisitionStart, AcquisitionEnd]
    assert not twice[-1].complete
