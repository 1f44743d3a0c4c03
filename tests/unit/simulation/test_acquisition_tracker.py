import itertools
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.runtime.pandabox_server import AcquisitionTracker

HEADER = b'<header>\n<data missed="0" sample_bytes="12" />\n</header>\n\n'


def _rows(count):
    return b"BIN " + struct.pack("<I", 8 + 12 * count) + bytes(12 * count)


@settings(deadline=None, max_examples=100)
@given(blocks=st.lists(st.integers(0, 9), max_size=6), cuts=st.lists(st.integers(0, 400), max_size=20))
def test_rows_are_counted_however_the_bytes_are_cut(blocks, cuts):
    data = b"OK\n" + HEADER + b"".join(map(_rows, blocks)) + b"END 9 Disarmed\n" + HEADER + _rows(3)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    tracker = AcquisitionTracker()
    for begin, end in itertools.pairwise(edges):
        tracker.feed(data[begin:end])
    assert tracker.aligned
    assert tracker.header == HEADER
    assert tracker.rows == 3
    assert tracker.total_rows == sum(blocks) + 3


@settings(deadline=None, max_examples=100)
@given(st.lists(st.binary(max_size=60), max_size=5))
def test_no_bytes_are_held_for_ever_or_make_it_fail(chunks):
    tracker = AcquisitionTracker()
    tracker.feed(HEADER + _rows(1))
    for chunk in chunks:
        tracker.feed(chunk)
    assert tracker.total_rows >= 1


def test_garbage_is_skipped_to_the_next_header():
    tracker = AcquisitionTracker()
    tracker.feed(HEADER + _rows(4) + b"garbage")
    assert tracker.header is None
    tracker.feed(b"more garbage" + HEADER + _rows(2))
    assert tracker.aligned
    assert tracker.rows == 2
    assert tracker.total_rows == 6


def test_sizes_on_the_wire_are_bounded():
    tracker = AcquisitionTracker()
    tracker.feed(HEADER + b"BIN " + struct.pack("<I", 2**32 - 1) + b"rows")
    assert tracker.aligned
    assert tracker.header is None
