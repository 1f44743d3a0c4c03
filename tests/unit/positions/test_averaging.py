"""Several rows per exposure: their mean, and nothing where one of them is missing."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.messages import AcquisitionEnd, AcquisitionStart, Anomaly, PositionBlock, Reason
from streamptycho.positions.averaging import AveragingDecoder


class Rows:
    """A decoder that takes lists of row numbers for bytes; the position of row k is (k**2, -k)."""

    transport = "tcp"

    def __init__(self, missed=0):
        self.missed = missed

    def request(self):
        return b"please"

    def connected(self):
        pass

    def feed(self, data, received_ns):
        if not data:
            yield AcquisitionStart(acquisition="a", missed=self.missed)
            return
        k = np.array(data, dtype=np.int64)
        xy = np.column_stack([k**2, -k]).astype(float)
        yield PositionBlock(acquisition="a", row=k, time_s=k * 0.1, xy_m=xy, angle_deg=k * 2.0)

    def disconnected(self):
        return iter(())

    def flush(self):
        yield AcquisitionEnd(acquisition="a", rows=100, reason="Ok", complete=True)


def run(blocks, n, missed=0):
    subject = AveragingDecoder(Rows(missed), n)
    return [m for block in [[], *blocks] for m in subject.feed(block, 0)] + list(subject.flush())


@settings(max_examples=100, deadline=None)
@given(n=st.integers(2, 7), count=st.integers(1, 60), data=st.data())
def test_any_blocks_give_the_means_of_what_is_whole(n, count, data):
    gone = data.draw(st.sets(st.integers(0, count - 1), max_size=4))
    kept = [k for k in range(count) if k not in gone]
    edges = sorted({0, len(kept), *data.draw(st.lists(st.integers(0, len(kept)), max_size=6))})
    out = run([kept[a:b] for a, b in itertools.pairwise(edges)], n)
    whole = [j for j in range(count // n) if all(j * n + i in kept for i in range(n))]
    blocks = [m for m in out if isinstance(m, PositionBlock)]
    assert [j for m in blocks for j in m.row.tolist()] == whole
    for block in blocks:
        assert block.row.dtype == np.int64
        for at, j in enumerate(block.row.tolist()):
            k = np.arange(j * n, (j + 1) * n)
            np.testing.assert_allclose(block.xy_m[at], [np.mean(k**2), -np.mean(k)])
            np.testing.assert_allclose([block.time_s[at], block.angle_deg[at]], [k.mean() * 0.1, k.mean() * 2])
    lost = sum(m.count for m in out if isinstance(m, Anomaly) and (m.reason, m.unit) == (Reason.MISSING, "rows"))
    assert lost == len(kept) - n * len(whole)
    assert out[-1].rows == 100 // n


@pytest.mark.parametrize(("missed", "first"), [(0, 0), (9, 3), (10, 4), (11, 4)])
def test_missed_rows_are_missed_frames(missed, first):
    out = run([list(range(missed, 30))], 3, missed)
    assert out[0].missed == first
    (block,) = (m for m in out if isinstance(m, PositionBlock))
    assert block.row[0] == first


def test_what_never_completes_takes_no_room():
    subject = AveragingDecoder(Rows(), 2)
    out = [m for k in range(0, 4000, 2) for m in subject.feed([k], 0)]
    assert len(subject._unfinished) <= 256
    assert sum(m.count for m in out) == 2000 - len(subject._unfinished)
