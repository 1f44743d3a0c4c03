"""Messages survive the wire, and nothing else does."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamptycho import wire
from streamptycho.geometry import Geometry
from streamptycho.messages import Anomaly, DiffractionBatch, ObjectUpdate, ProjectionStart, RawRecord, Reason

GEOMETRY = Geometry(11_000.0, 5.1, 75e-6, (128, 128))


def same(left, right):
    assert type(left) is type(right)
    for field in dataclasses.fields(left):
        a, b = getattr(left, field.name), getattr(right, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            assert a.shape == b.shape
            np.testing.assert_array_equal(a, b)
        else:
            assert a == b, field.name


@settings(max_examples=50, deadline=None)
@given(
    counts=hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.uint32]), st.tuples(st.integers(0, 3), st.just(4), st.just(5))
    )
)
def test_a_batch_of_any_dtype_comes_back_equal_and_read_only(counts):
    n = len(counts)
    batch = DiffractionBatch(
        scan_id="s",
        projection=3,
        index=np.arange(n),
        counts=counts,
        xy_m=np.zeros((n, 2)),
        quality=np.zeros(n, np.uint8),
    )
    back = wire.decode([bytes(part) for part in wire.encode(batch)])
    same(batch, back)
    assert not back.counts.flags.writeable


def test_geometry_enumerations_and_bytes_come_back():
    for message in (
        ProjectionStart(scan_id="s", projection=0, angle_deg=None, n_frames=7, geometry=GEOMETRY),
        Anomaly(source="detector", reason=Reason.TRUNCATED, detail="frame 3"),
        RawRecord(source="detector", kind="data", sequence=1, received_ns=2, parts=(b"", b"abc")),
    ):
        same(message, wire.decode([bytes(part) for part in wire.encode(message)]))


def test_complex_arrays_that_are_not_contiguous_come_back():
    array = np.arange(24).reshape(4, 6)[:, ::2].astype(np.complex64)
    update = ObjectUpdate(
        scan_id="s",
        projection=1,
        angle_deg=1.5,
        object=array,
        probe=array[None],
        coverage=array.real,
        pixel_m=1e-8,
        energy_ev=1e4,
        origin_xy_m=np.zeros(2),
        index=np.arange(3),
        xy_m=np.zeros((3, 2)),
        errors=np.array([0.1], np.float32),
        sweeps=1.0,
    )
    same(update, wire.decode([bytes(part) for part in wire.encode(update)]))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda h: h.update(v=99), "schema"),
        (lambda h: h.update(type="Pickle"), "unknown message type"),
        (lambda h: h["arrays"].update(counts=["<u2", [2, 4, 4]]), "carries"),
        (lambda h: h["arrays"].update(counts=["|O", [1]]), "dtype"),
        (lambda h: h["arrays"].update(counts=["<u2", [-1, 4, 4]]), "shape"),
        (lambda h: h["arrays"].update(counts=["<u2", [1 << 60, 4, 4]]), "carries"),
        (lambda h: h["fields"].update(surprise=1) or h["arrays"].update(other=["<u2", [1]]), "more parts|fit"),
        (lambda h: h["fields"].pop("scan_id"), "fit"),
    ],
)
def test_a_changed_header_is_refused_with_a_reason(change, says):
    batch = DiffractionBatch(
        scan_id="s",
        projection=0,
        index=np.arange(1),
        counts=np.zeros((1, 4, 4), np.uint16),
        xy_m=np.zeros((1, 2)),
        quality=np.zeros(1, np.uint8),
    )
    parts = [bytes(part) for part in wire.encode(batch)]
    header = json.loads(parts[0])
    change(header)
    parts[0] = json.dumps(header).encode()
    with pytest.raises(wire.WireError, match=says):
        wire.decode(parts)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=64), max_size=5))
def test_anything_else_is_refused(parts):
    with pytest.raises(wire.WireError):
        wire.decode(parts)


def test_prefix_is_how_an_encoded_message_begins():
    anomaly = Anomaly(source="detector", reason=Reason.LATE)
    assert bytes(wire.encode(anomaly)[0]).startswith(wire.prefix(Anomaly))
