"""Waiting frames in columns behave as a dictionary of frames does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.memory import ReusedMemory
from streamptycho.pairing.waiting import Counts, WaitingFrames


def frames(index):
    counts = np.zeros((len(index), 2, 2), np.uint32)
    counts[:, 0, 0] = index
    return counts


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 80), st.floats(0.05, 0.95))
def test_what_goes_in_comes_out_once_with_what_belongs_to_it(seed, most, share):
    rng = np.random.default_rng(seed)
    waiting, model, now_ns = WaitingFrames(), {}, 0
    unseen = rng.permutation(300).tolist()
    while unseen or model:
        now_ns += 1
        count = int(rng.integers(0, most + 1))
        new, unseen = np.array(unseen[:count], np.int64), unseen[count:]
        if len(new):
            shuffled = np.arange(len(new))[::-1]
            waiting.add(new, new * 1.5, new * 0.5, np.full(len(new), now_ns), frames(new[::-1]), shuffled)
            model.update((int(k), now_ns) for k in new)
        assert len(waiting) == len(model)
        assert waiting.indices().tolist() == list(model)
        if model:
            assert waiting.oldest_ns == next(iter(model.values()))
        asked = np.arange(-3, 310)
        assert waiting.contains(asked).tolist() == [int(k) in model for k in asked]
        assert waiting.has_seen(asked).tolist() == [0 <= k < 300 and int(k) not in unseen for k in asked]
        gone = [k for k in model if rng.random() < share] if unseen else list(model)
        if rng.random() < 0.2:
            waiting.pack()
        if gone:
            index = np.array(gone, np.int64)
            middle_s, half_s = waiting.times_s(index)
            assert (middle_s.tolist(), half_s.tolist()) == ((index * 1.5).tolist(), (index * 0.5).tolist())
            counts, arrived_ns = waiting.take(index)
            assert counts.gather(ReusedMemory())[:, 0, 0].tolist() == gone
            assert arrived_ns.tolist() == [model.pop(k) for k in gone]
    assert not waiting._blocks


def test_a_frame_that_waits_does_not_hold_the_memory_of_its_block():
    waiting = WaitingFrames()
    index = np.arange(1000)
    waiting.add(index, index * 1.0, index * 1.0, index, frames(index), index)
    waiting.take(np.delete(index, 437))
    waiting.pack()
    (left,) = waiting._blocks.values()
    assert len(left) == 1
    assert waiting.take(np.array([437]))[0].gather(ReusedMemory())[0, 0, 0] == 437


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4"])
def test_frames_that_lie_apart_are_copied_in_order(dtype):
    rng = np.random.default_rng(3)
    large = rng.integers(0, 250, (40, 6, 10)).astype(dtype)
    blocks = (large[:20], large[20:, :, ::2].copy(), large[::-2, :, :5], large[5:30, 1:4, :5])
    shaped = tuple(block[:, :3, :5] for block in blocks)
    block = rng.integers(0, 4, 500)
    at = rng.integers(0, np.array([len(piece) for piece in shaped])[block])
    gathered = Counts(shaped, block, at).gather(ReusedMemory())
    assert gathered.dtype == np.dtype(dtype)
    assert np.array_equal(gathered, np.array([shaped[b][a] for b, a in zip(block, at, strict=True)]))


def test_the_last_frames_of_a_block_stay_where_they_lie_until_many_blocks_have_a_few():
    waiting, size, blocks = WaitingFrames(), 100, []
    for k in range(10):
        index = np.arange(k * size, (k + 1) * size)
        blocks.append(frames(index))
        waiting.add(index, index * 1.0, index * 1.0, index, blocks[-1], np.arange(size))
        waiting.take(index[:-3])
        held = sum(any(np.shares_memory(kept, block) for kept in waiting._blocks.values()) for block in blocks)
        assert held == min(k + 1, 4)
    counts = waiting.take(waiting.indices())[0]
    assert counts.gather(ReusedMemory())[:, 0, 0].tolist() == [k * size + i for k in range(10) for i in (97, 98, 99)]
    assert np.shares_memory(counts.some(slice(27, 30)).gather(ReusedMemory()), blocks[-1])


def test_frames_that_lie_one_behind_the_other_are_not_copied():
    block = frames(np.arange(100))
    counts = Counts((block,), np.zeros(10, np.int64), np.arange(20, 30))
    assert np.shares_memory(counts.gather(ReusedMemory()), block)
    both = Counts.joined([counts, Counts((frames(np.arange(5)),), np.zeros(2, np.int64), np.array([4, 1])), counts])
    assert both.gather(ReusedMemory())[:, 0, 0].tolist() == [*range(20, 30), 4, 1, *range(20, 30)]
    assert both.some(np.array([11, 0])).gather(ReusedMemory())[:, 0, 0].tolist() == [1, 20]
    assert len(both.blocks) == 2
