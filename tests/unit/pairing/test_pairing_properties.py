"""Whatever the streams do to each other, the same frames get the same positions and every frame is accounted for."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.config import PairingConfig, ProjectionsConfig
from streamptycho.messages import Message, SeriesEnd
from tests.unit.pairing.pairing_scenario import (
    EPOCH_S,
    acquisition_end,
    acquisition_start,
    chunked,
    frame_block,
    mark,
    merge,
    row_block,
    run,
    series_start,
    xy_of,
)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), method=st.sampled_from(["auto", "time", "order"]), batch=st.integers(1, 9))
def test_any_interleaving_gives_the_truth(seed: int, method: str, batch: int) -> None:
    rng = random.Random(seed)
    detector: list[Message] = []
    positions: list[Message] = []
    expected = {}
    sizes = [rng.choice([0, 1, 2, 5, 12, 30]) for _ in range(rng.randint(1, 5))]
    drops = {}
    armed = {k: method == "order" or rng.random() > 0.25 for k in range(len(sizes))}
    if not any(armed.values()) or method == "auto":
        armed = dict.fromkeys(armed, True)
    for k, n in enumerate(sizes):
        epoch_s = EPOCH_S + 10.0 * k
        sent = [i for i in range(n) if rng.random() > 0.15]
        rows = [i for i in range(n) if rng.random() > 0.1] if armed[k] else []
        drops[k] = (n - len(sent), len([i for i in sent if i not in rows]))
        expected.update({(k, i): (mark(k, i), xy_of(k, i)) for i in sent if i in rows})
        wire = sent + rng.choices(sent, k=3) if sent else []
        rng.shuffle(wire)
        announced = n if rng.random() > 0.2 or n - 1 not in sent else None
        detector.append(series_start(k, announced, epoch_s=epoch_s))
        blocks: list[Message] = [frame_block(k, c) for c in chunked(wire, rng)]
        if rng.random() > 0.2:
            blocks.insert(rng.randint(0, len(blocks)), SeriesEnd(series=f"s{k}"))
        detector += blocks
        if armed[k]:
            rows += rng.choices(rows, k=2) if rows else []
            rng.shuffle(rows)
            positions.append(acquisition_start(k, epoch_s=epoch_s + rng.uniform(-1.0, 1.0)))
            positions += [row_block(k, c) for c in chunked(rows, rng)]
            positions.append(acquisition_end(k))
    config = PairingConfig(match=method, batch_frames=batch)
    outcome, core = run(merge(detector, positions, rng), config, tick_every=rng.choice([0, 3]))
    assert {key: value[:2] for key, value in outcome.frames.items()} == expected
    assert [e.projection for e in outcome.ends] == list(range(len(sizes)))
    for k, (missing, unpaired) in drops.items():
        assert outcome.ends[k].dropped.get("missing", 0) == missing
        assert outcome.ends[k].dropped.get("unpaired", 0) == unpaired
        assert outcome.ends[k].frames_sent == sizes[k]
    assert outcome.scan_end is not None
    assert max(outcome.batch_sizes, default=0) <= batch
    assert core.counters()["frames_paired"] == len(expected)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), frames=st.integers(1, 12))
def test_cutting_by_count_survives_any_order(seed: int, frames: int) -> None:
    rng = random.Random(seed)
    n = rng.randint(1, 60)
    sent = [i for i in range(n) if rng.random() > 0.1]
    wire = list(sent)
    rng.shuffle(wire)
    detector = [series_start(0, n), *(frame_block(0, c) for c in chunked(wire, rng)), SeriesEnd(series="s0")]
    rows = [row_block(0, c) for c in chunked(list(range(n)), rng)]
    positions = [acquisition_start(0), *rows, acquisition_end(0)]
    cut = ProjectionsConfig(cut_by="count", frames=frames)
    outcome, _ = run(merge(detector, positions, rng), None, cut)
    assert {key: value[:2] for key, value in outcome.frames.items()} == {
        (i // frames, i % frames): (mark(0, i), xy_of(0, i)) for i in sent
    }
    assert sum(e.frames_sent for e in outcome.ends) == n
    assert [e.projection for e in outcome.ends] == list(range(-(-n // frames)))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_one_acquisition_serves_many_series_by_row(seed: int) -> None:
    rng = random.Random(seed)
    sizes = [rng.randint(0, 20) for _ in range(rng.randint(1, 5))]
    detector: list[Message] = []
    expected = {}
    base = 0
    rows: list[Message] = []
    for k, n in enumerate(sizes):
        sent = [i for i in range(n) if rng.random() > 0.1]
        expected.update({(k, i): (mark(k, i), xy_of(0, base + i)) for i in sent})
        detector.append(series_start(k, n))
        detector += [frame_block(k, c) for c in chunked(sent, rng)]
        detector.append(SeriesEnd(series=f"s{k}"))
        base += n
    rows = [row_block(0, c) for c in chunked(list(range(base)), rng)]
    positions = [acquisition_start(0), *rows, acquisition_end(0)]
    outcome, _ = run(merge(detector, positions, rng), PairingConfig(one_acquisition=True))
    assert {key: value[:2] for key, value in outcome.frames.items()} == expected


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_cutting_by_angle_survives_any_order(seed: int) -> None:
    rng = random.Random(seed)
    angles = [0.0] * 9 + [1.0] * 4 + [2.0] * 7 + [-30.0] * 5
    n = len(angles)
    wire = list(range(n))
    rng.shuffle(wire)
    detector = [series_start(0, n), *(frame_block(0, c) for c in chunked(wire, rng)), SeriesEnd(series="s0")]
    rows = [row_block(0, [i], angle_deg=angles[i]) for i in range(n)]
    positions = [acquisition_start(0), *rows, acquisition_end(0)]
    cut = ProjectionsConfig(cut_by="angle", min_angle_step_deg=0.5)
    outcome, _ = run(merge(detector, positions, rng), None, cut)
    assert [e.angle_deg for e in outcome.ends] == [0.0, 1.0, 2.0, -30.0]
    assert [e.frames_paired for e in outcome.ends] == [9, 4, 7, 5]
    firsts = [0, 9, 13, 20]
    expected = {(p, i): mark(0, f + i) for p, f in enumerate(firsts) for i in range([9, 4, 7, 5][p])}
    assert {key: value[0] for key, value in outcome.frames.items()} == expected


@pytest.mark.parametrize("by", ["row", "time"])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_both_ways_of_pairing_agree_and_ignore_interleaving(by: str, seed: int) -> None:
    rng = random.Random(seed)
    detector: list[Message] = []
    positions: list[Message] = []
    for k in range(3):
        detector += [series_start(k, 25, epoch_s=EPOCH_S + 5.0 * k)]
        detector += [frame_block(k, c) for c in chunked(list(range(25)), rng)] + [SeriesEnd(series=f"s{k}")]
        positions += [acquisition_start(k, epoch_s=EPOCH_S + 5.0 * k)]
        positions += [row_block(k, c) for c in chunked(list(range(25)), rng)] + [acquisition_end(k)]
    outcome, _ = run(merge(detector, positions, rng), PairingConfig(by=by))
    assert len(outcome.frames) == 75
    for (k, i), (_, xy, quality) in outcome.frames.items():
        assert xy == pytest.approx(xy_of(k, i), abs=1e-12)
        assert quality == 0
