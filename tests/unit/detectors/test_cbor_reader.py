"""The CBOR reader against cbor2 as the writer, and against bytes that are none."""

from __future__ import annotations

import contextlib
import math

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.detectors import cbor
from streamptycho.detectors.cbor import CborError, CutCborError, Tag, loads

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def plain(item):
    if isinstance(item, memoryview):
        return bytes(item)
    if isinstance(item, list):
        return [plain(i) for i in item]
    if isinstance(item, dict):
        return {k: plain(v) for k, v in item.items()}
    return item


@settings(max_examples=150, deadline=None)
@given(PLAIN)
def test_reads_what_cbor2_writes(item):
    assert plain(loads(cbor2.dumps(item))) == item


@settings(max_examples=100, deadline=None)
@given(PLAIN, st.data())
def test_every_cut_is_told_as_a_cut(item, data):
    packed = cbor2.dumps(item)
    cut = data.draw(st.integers(0, len(packed) - 1))
    with pytest.raises(CutCborError):
        loads(packed[:cut])


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=80))
def test_random_bytes_give_an_item_or_an_error(noise):
    with contextlib.suppress(CborError):
        loads(noise)


@pytest.mark.parametrize(
    ("packed", "expected"),
    [
        ("5f42010243030405ff", bytes([1, 2, 3, 4, 5])),
        ("7f657374726561646d696e67ff", "streaming"),
        ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]),
        ("bf61610161629f0203ffff", {"a": 1, "b": [2, 3]}),
        ("f93c00", 1.0),
        ("fa47c35000", 100000.0),
        ("f7", None),
    ],
)
def test_forms_of_the_standard(packed, expected):
    assert plain(loads(bytes.fromhex(packed))) == expected


def test_not_a_number_is_read():
    assert math.isnan(loads(bytes.fromhex("f97e00")))


def test_tags_are_kept_and_not_interpreted():
    assert loads(cbor2.dumps(cbor2.CBORTag(35, "(a+)+$"))) == Tag(35, "(a+)+$")


def test_payloads_are_views_of_the_message():
    packed = cbor2.dumps({"data": bytes(1000)})
    assert loads(packed)["data"].obj is packed


def test_cut_message_gives_what_came_whole():
    packed = cbor2.dumps(cbor2.CBORTag(55799, {"type": "image", "image_id": 7, "data": {"a": bytes(100)}}))
    with pytest.raises(CutCborError) as caught:
        loads(packed[:-1])
    assert caught.value.entries == {"type": "image", "image_id": 7}


@pytest.mark.parametrize("head", ["81", "a100", "c6", "d9d9f7", "9f"])
def test_depth_is_bounded(head):
    with pytest.raises(CborError):
        loads(bytes.fromhex(head) * 100_000 + b"\x00")


def test_number_of_items_is_bounded():
    with pytest.raises(CborError, match="items"):
        loads(cbor2.dumps([0] * (cbor.MAX_ITEMS + 1)))


@pytest.mark.parametrize("packed", ["5bffffffffffffffff", "9bffffffffffffffff", "bbffffffffffffffff", "7a7fffffff"])
def test_huge_declared_lengths_allocate_nothing(packed):
    with pytest.raises(CutCborError):
        loads(bytes.fromhex(packed))


@pytest.mark.parametrize("packed", ["1c", "fc", "f8ff", "ff", "a1f600", "a18001", "5f01ff", "61ff", "1f"])
def test_what_the_standard_forbids_is_refused(packed):
    with pytest.raises(CborError):
        loads(bytes.fromhex(packed))
