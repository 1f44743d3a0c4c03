from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.config import FaultsConfig
from streamptycho.simulation.faults import ImageEvent, Tally, disturb_images, positions_stopped, row_pieces

share = st.floats(0, 0.25)


def _images(count):
    return [ImageEvent(0.1 * k, (0, k), (b"head", bytes([k % 256]) * 20)) for k in range(count)]


def _run(config, count, seed=0):
    tally = Tally()
    return list(disturb_images(_images(count), config, np.random.default_rng(seed), tally)), tally


def test_without_faults_everything_passes_untouched():
    out, tally = _run(FaultsConfig(), 50)
    assert out == _images(50)
    assert tally.counts() == {**dict.fromkeys(tally.counts(), 0), "frames": 50}


@settings(deadline=None, max_examples=60)
@given(drop=share, duplicate=share, reorder=share, corrupt=share, count=st.integers(0, 120), seed=st.integers(0, 99))
def test_the_tally_is_the_truth(drop, duplicate, reorder, corrupt, count, seed):
    config = FaultsConfig(drop_frames=drop, duplicate_frames=duplicate, reorder_frames=reorder, corrupt_frames=corrupt)
    out, tally = _run(config, count, seed)
    sent = Counter(image.frame for image in out)
    frames = [(0, k) for k in range(count)]
    assert tally.frames == count
    assert {f for f in frames if sent[f] == 0} == set(tally.dropped)
    assert {f for f in frames if sent[f] == 2} == set(tally.duplicated)
    assert max(sent.values(), default=1) <= 2
    whole = len(_images(1)[0].parts[1])
    assert {i.frame for i in out if len(i.parts[1]) < whole} == set(tally.corrupted)
    highest, late = -1, set()
    for image in out:
        if image.frame[1] < highest:
            late.add(image.frame)
        highest = max(highest, image.frame[1])
    assert late == set(tally.reordered)
    assert [i.due_s for i in out] == sorted(i.due_s for i in out)


def test_shares_are_met():
    config = FaultsConfig(drop_frames=0.1, duplicate_frames=0.2, reorder_frames=0.05, corrupt_frames=0.15)
    _, tally = _run(config, 20000)
    found = tally.counts()
    assert found["dropped"] == pytest.approx(2000, rel=0.1)
    assert found["duplicated"] == pytest.approx(4000, rel=0.1)
    assert found["reordered"] == pytest.approx(1000, rel=0.15)
    assert found["corrupted"] == pytest.approx(3000, rel=0.1)


@settings(deadline=None, max_examples=80)
@given(
    chunks=st.lists(st.integers(1, 20), max_size=12),
    stop=st.none() | st.integers(0, 150),
    cut=st.none() | st.integers(0, 150),
)
def test_rows_stop_and_connections_break_at_the_configured_row(chunks, stop, cut):
    config = FaultsConfig(stop_positions_after_rows=stop, disconnect_positions_after_rows=cut)
    sent, before_cut, cuts, offered = [], None, 0, 0
    for chunk in chunks:
        for piece in row_pieces(config, offered, chunk):
            if piece.kind == "disconnect":
                cuts, before_cut = cuts + 1, len(sent)
            else:
                sent += range(offered + piece.begin, offered + piece.end)
        offered += chunk
    expected = offered if stop is None else min(offered, stop)
    assert sent == list(range(expected))
    assert positions_stopped(config, offered) == (stop is not None and offered >= stop)
    if cut is not None and 0 < cut <= expected:
        assert (cuts, before_cut) == (1, cut)
    elif cut != 0 or not chunks:
        assert cuts == 0


def test_the_same_seed_gives_the_same_faults():
    config = FaultsConfig(drop_frames=0.2, reorder_frames=0.2)
    assert _run(config, 100, 5) == _run(config, 100, 5)
    assert _run(config, 100, 5)[1] != _run(config, 100, 6)[1]
