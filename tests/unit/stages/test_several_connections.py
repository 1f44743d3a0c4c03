"""A scan over several connections, of which one may be far behind: the same pairs as over one connection."""

from __future__ import annotations

import functools
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.config import Config
from streamptycho.messages import DiffractionBatch, ProjectionEnd, RawRecord
from streamptycho.simulation import Instrument
from streamptycho.stages.ingest import IngestStage
from tests.unit.stages.test_ingest_blocks import config_of, in_blocks, outcome

STEP_NS = 100_000


def with_receivers(config: Config, receivers: int) -> Config:
    return config.model_copy(update={"detector": config.detector.model_copy(update={"receivers": receivers})})


@functools.cache
def scan(protocol: str, dropped: float):
    config = config_of(protocol, drop_frames=dropped)
    records = list(Instrument(config).events(1.7e9))
    return config, records, outcome(config, records)[:2]


def apart(records: list[RawRecord], connections: int, rng: random.Random) -> list[RawRecord]:
    """Return records in an order in which they may come over several connections, with times that follow it."""
    *before, end = records
    queues: list[list[RawRecord]] = [[r for r in before if r.source == "positions"], *([] for _ in range(connections))]
    for k, record in enumerate(r for r in before if r.source == "detector" and r.kind == "data"):
        queues[1 + k % connections].append(record)
    came: list[RawRecord] = []
    queues = [queue for queue in queues if queue]
    while queues:
        queue = rng.choice(queues)
        count = rng.choice([1, 10, 200])
        came += queue[:count]
        del queue[:count]
        queues = [queue for queue in queues if queue]
    return [replace(r, received_ns=k * STEP_NS) for k, r in enumerate([*came, end])]


@pytest.mark.parametrize("dropped", [0.0, 0.05])
@pytest.mark.parametrize("protocol", ["dectris_stream1", "dectris_stream2", "open"])
@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 2**32), connections=st.integers(2, 4), size=st.sampled_from([1, 30, 1000]))
def test_pairs_and_losses_are_those_of_one_connection(protocol, dropped, seed, connections, size):
    config, records, expected = scan(protocol, dropped)
    came = apart(records, connections, random.Random(seed))
    assert outcome(with_receivers(config, connections), in_blocks(came, size))[:2] == expected


def test_frames_that_are_missing_are_given_up_while_nothing_comes():
    config, records, _ = scan("dectris_stream2", 0.05)
    stage, ends = IngestStage(with_receivers(config, 2)), []
    came = apart(records[:-1], 2, random.Random(1))
    for message in in_blocks(came, 100):
        ends += [out for out in stage.handle(message, came[-1].received_ns) if isinstance(out, ProjectionEnd)]
    assert not ends
    now_ns = came[-1].received_ns
    batches = 0
    for _ in range(200):
        now_ns += 50_000_000
        for out in stage.work(now_ns):
            ends += [out] if isinstance(out, ProjectionEnd) else []
            batches += isinstance(out, DiffractionBatch)
    assert batches > 0, "the second series was held until the first was given up"
    assert [end.projection for end in ends] == [0, 1]
    assert all(
        end.dropped["missing"] > 0 and end.frames_sent == sum(end.dropped.values()) + end.frames_paired for end in ends
    )
