"""Disordered frames and broken positions through the real ingest: exactly the pairs and the losses that there are."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import ingest_faults
from benchmarks.frames import selun_series
from benchmarks.ingest import configured
from benchmarks.row import WrongResult
from streamptycho.messages import RawBlock, RawRecord
from streamptycho.stages.ingest import IngestStage

FRAMES = 4000


@functools.cache
def series():
    return selun_series(FRAMES)


def records(images, plan):
    """Yield what a recorder would, one record after the other."""
    due = iter([*plan, None])
    item = next(due)
    number = 0

    def record(source, kind, data=None):
        nonlocal number
        number += 1
        parts = () if data is None else (data,)
        return RawRecord(source=source, kind=kind, sequence=number, received_ns=number * 1000, parts=parts)

    for taken, image in enumerate([series().start, *images, series().end]):
        while item is not None and item.after <= taken:
            yield record("positions", item.kind, item.data if item.kind == "data" else None)
            item = next(due)
        yield record("detector", "data", image[0])
    while item is not None:
        yield record("positions", item.kind, item.data if item.kind == "data" else None)
        item = next(due)
    yield record("recorder", "end")


def in_blocks(single, random):
    """Put records together as they come from a log: any number at once."""
    held = []
    for one in single:
        held.append(one)
        if one.kind != "data" or random.random() < 0.01:
            yield from _block(held)
            held = []
    yield from _block(held)


def _block(held):
    if not held:
        return
    if any(one.kind != "data" for one in held):
        yield from held
        return
    ends = np.cumsum([0, *(len(one.parts[0]) for one in held)])
    yield RawBlock(
        source=np.array([one.source == "positions" for one in held], np.uint8),
        kind=np.zeros(len(held), np.uint8),
        sequence=np.array([one.sequence for one in held]),
        received_ns=np.array([one.received_ns for one in held]),
        first_part=np.arange(len(held) + 1),
        spans=np.stack([ends[:-1], ends[1:]], axis=1),
        data=np.frombuffer(b"".join(one.parts[0] for one in held), np.uint8),
    )


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 10**6), lag=st.sampled_from([0, 1, 300, 1500, 20_000]), within=st.sampled_from([0, 5, 300]))
def test_pairs_and_losses_are_those_of_the_generator(seed, lag, within):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest_faults, "LAG", lag)
        patch.setattr(ingest_faults, "SHUFFLED_WITHIN", within)
        images, plan, truth = ingest_faults.faulty(series(), seed)
    stage = IngestStage(configured(series(), None))
    random = np.random.default_rng(seed)
    made = (out for message in in_blocks(records(images, plan), random) for out in stage.handle(message, 10**12))
    ingest_faults.verify(made, truth)


@pytest.mark.parametrize("changed", ["a frame less", "another position", "another reason"])
def test_what_differs_from_the_truth_is_found(changed):
    images, plan, truth = ingest_faults.faulty(series(), 1)
    if changed == "a frame less":
        truth.paired[np.flatnonzero(truth.paired)[0]] = False
    elif changed == "another position":
        truth.xy_m[np.flatnonzero(truth.paired)[5]] += 1e-9
    else:
        truth.dropped["missing"] += 1
    stage = IngestStage(configured(series(), None))
    made = (out for message in records(images, plan) for out in stage.handle(message, 10**12))
    with pytest.raises(WrongResult):
        ingest_faults.verify(made, truth)
