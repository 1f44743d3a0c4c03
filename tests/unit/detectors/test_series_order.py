"""Whatever several connections do to the order of a stream, the same series come out, whole and one by one."""

from __future__ import annotations

import functools
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.config import DetectorConfig, PairingConfig, ProjectionsConfig
from streamptycho.detectors import decoder, encoder, series_order
from streamptycho.detectors.series_order import GlimpseError, SeriesOrder
from streamptycho.messages import (
    AcquisitionEnd,
    AcquisitionStart,
    Anomaly,
    DiffractionBatch,
    FrameBlock,
    PositionBlock,
    ProjectionEnd,
    Reason,
    SeriesEnd,
    SeriesStart,
)
from streamptycho.pairing import Pairing

PROTOCOLS = ("dectris_stream1", "dectris_stream2", "open")
SHAPE = (8, 8)
SECOND_NS = 1_000_000_000


@functools.cache
def said(protocol, number, frames):
    """Messages of one series; the counts of a frame name it."""
    source = encoder(protocol, shape=SHAPE, dtype="uint16", energy_ev=6200.0, distance_m=2.0, detector_pixel_m=75e-6)
    start = source.start(series=number, n_frames=frames, epoch_s=1.7e9 + 60 * number, labels={"projection": number})
    images = [
        parts
        for k in range(frames)
        for parts in source.image(
            series=number,
            index=k,
            counts=np.full(SHAPE, 100 * number + k, np.uint16),
            start_s=k * 1e-3,
            stop_s=k * 1e-3 + 9e-4,
        )
    ]
    return [*start, *images, *source.end(series=number)]


def scan(protocol, sizes):
    return [said(protocol, k + 1, frames) for k, frames in enumerate(sizes)]


def over_connections(series, connections, rng, *, in_turn):
    """Share messages out as a detector does and let each connection be behind as it likes."""
    queues = [[] for _ in range(connections)]
    messages = [parts for one in series for parts in one]
    for k, parts in enumerate(messages):
        # A connection that is full is left out.
        queues[k % connections if in_turn or k < connections else rng.randrange(connections)].append(parts)
    queues = [queue for queue in queues if queue]
    came = []
    while queues:
        queue = rng.choice(queues)
        for _ in range(rng.choice([1, 2, 5, 1000])):
            if queue:
                came.append(queue.pop(0))
        queues = [queue for queue in queues if queue]
    return came


def heard_by(target, messages, rng, step_ns=1000):
    """Feed messages one by one and in blocks."""
    heard, at = [], 0
    while at < len(messages):
        count = rng.choice([1, 1, 3, 50])
        some = messages[at : at + count]
        times = np.arange(at, at + len(some)) * step_ns
        at += len(some)
        if all(len(parts) == 1 for parts in some) and rng.random() < 0.7:
            ends = np.cumsum([0, *(len(parts[0]) for parts in some)])
            spans = np.stack([ends[:-1], ends[1:]], axis=1)
            block = np.frombuffer(b"".join(parts[0] for parts in some), np.uint8).copy()
            heard += list(target.feed_block(block, spans, times))
            # What the block lay in is used for something else afterwards.
            block[:] = 0xFF
        else:
            for parts, time_ns in zip(some, times.tolist(), strict=True):
                heard += list(target.feed(parts, time_ns))
    return heard


def make(protocol, receivers=3, **changes):
    return decoder(DetectorConfig(protocol=protocol, receivers=receivers, **changes))


def frames_of(heard):
    return Counter(
        (m.series, int(k), int(c[0, 0]), float(t))
        for m in heard
        if isinstance(m, FrameBlock)
        for k, c, t in zip(m.index, m.counts, m.exposure_start_s, strict=True)
    )


def losses(heard):
    told = Counter()
    for m in heard:
        if isinstance(m, Anomaly):
            told[m.reason, m.unit] += m.count
    return dict(told)


def paired(heard, sizes):
    """Pair by row: acquisition k belongs to series k, in their order."""
    core = Pairing("s", PairingConfig(match="order"), ProjectionsConfig(), reorder_s=1.0)
    out = []
    for k, frames in enumerate(sizes):
        xy_m = np.stack([np.arange(frames) * 1e-6, np.full(frames, k * 1e-3)], axis=1)
        rows = PositionBlock(acquisition=f"a{k}", row=np.arange(frames), time_s=np.arange(frames) * 1e-3, xy_m=xy_m)
        out += core.feed(AcquisitionStart(acquisition=f"a{k}"), 1)
        out += core.feed(rows, 1)
        out += core.feed(AcquisitionEnd(acquisition=f"a{k}", rows=frames, reason="Ok", complete=True), 1)
    for m in heard:
        out += core.feed(m, 1)
    out += core.finish(2, "done")
    pairs = {
        (m.projection, int(i)): (int(c[0, 0]), tuple(xy))
        for m in out
        if isinstance(m, DiffractionBatch)
        for i, c, xy in zip(m.index, m.counts, m.xy_m.tolist(), strict=True)
    }
    ends = [(m.projection, m.frames_sent, m.frames_paired, m.dropped) for m in out if isinstance(m, ProjectionEnd)]
    return pairs, ends


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.sampled_from([1, 2, 5, 25]), min_size=1, max_size=5),
    connections=st.integers(2, 5),
    in_turn=st.booleans(),
)
def test_any_interleaving_gives_what_one_connection_gives(protocol, seed, sizes, connections, in_turn):
    sizes = [sizes[0] + 5, *sizes[1:]]
    rng = random.Random(seed)
    series = scan(protocol, sizes)
    plain = make(protocol, 1)
    straight = [m for one in series for parts in one for m in plain.feed(parts, 1)] + list(plain.flush())
    target = make(protocol)
    heard = heard_by(target, over_connections(series, connections, rng, in_turn=in_turn), rng)
    heard += list(target.flush())
    assert frames_of(heard) == frames_of(straight)
    assert not losses(heard)
    order = [m.series for m in heard if isinstance(m, SeriesStart)]
    assert order == [m.series for m in straight if isinstance(m, SeriesStart)]
    assert sorted(m.series for m in heard if isinstance(m, SeriesEnd)) == sorted(order)
    assert target.held_bytes == 0
    begun = None
    for m in heard:
        begun = m.series if isinstance(m, SeriesStart) else begun
        # A series of which all images came is over, wherever its end is.
        assert m.series == begun or isinstance(m, SeriesEnd)
    pairs, ends = paired(heard, sizes)
    assert (pairs, ends) == paired(straight, sizes)
    assert len(pairs) == sum(sizes)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32), connections=st.integers(2, 4))
def test_what_is_lost_on_the_way_is_missing_and_nothing_else(protocol, seed, connections):
    rng = random.Random(seed)
    sizes = [20, 15, 30]
    series = scan(protocol, sizes)
    gone = {(k, i) for k, n in enumerate(sizes) for i in range(n) if rng.random() < 0.1}
    kept = [
        [parts for i, parts in enumerate(one) if i in (0, len(one) - 1) or (k, i - 1) not in gone]
        for k, one in enumerate(series)
    ]
    target = make(protocol)
    heard = heard_by(target, over_connections(kept, connections, rng, in_turn=True), rng)
    heard += list(target.flush())
    pairs, ends = paired(heard, sizes)
    assert set(pairs) == {(k + 1, i) for k, n in enumerate(sizes) for i in range(n)} - {(k + 1, i) for k, i in gone}
    for k, (projection, sent, count, dropped) in enumerate(ends):
        lost = sum(one == k for one, _ in gone)
        assert (projection, sent, count) == (k + 1, sizes[k], sizes[k] - lost)
        assert dropped == ({"missing": lost} if lost else {})


def feed(target, messages, at_ns):
    return [m for parts in messages for m in target.feed(parts, at_ns)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_images_wait_for_their_start_no_longer_than_they_may(protocol):
    start, *images, end = said(protocol, 1, 5)
    target = make(protocol)
    assert not feed(target, images[:3], 0)
    assert not list(target.pass_time(SECOND_NS))
    assert target.held_bytes > 0
    heard = list(target.pass_time(SECOND_NS + 1))
    assert losses(heard) == {(Reason.STRAY, "frames"): 3}
    assert target.held_bytes == 0
    heard = feed(target, [start, *images[3:], end], SECOND_NS + 2)
    heard += list(target.pass_time(3 * SECOND_NS))
    assert sorted(k for _, k, *_ in frames_of(heard)) == [3, 4]
    assert isinstance(heard[-1], SeriesEnd)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_scan_can_be_joined_where_the_configuration_says_the_scale(protocol):
    target = make(protocol, energy_ev=8000.0, distance_m=3.0, pixel_m=55e-6)
    heard = feed(target, said(protocol, 1, 5)[3:], 0) + list(target.pass_time(2 * SECOND_NS))
    assert sorted(k for _, k, *_ in frames_of(heard)) == [2, 3, 4]
    assert not losses(heard)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_series_that_lost_images_gives_way_to_the_next(protocol):
    first, second = said(protocol, 1, 6), said(protocol, 2, 3)
    target = make(protocol)
    heard = feed(target, [*first[:3], *first[4:], *second], 0)
    assert {m.series for m in heard} == {heard[0].series}
    heard += list(target.pass_time(SECOND_NS + 1))
    assert len(frames_of(heard)) == 5 + 3
    late = feed(target, [first[3]], SECOND_NS + 2)
    assert losses(late) == {(Reason.STRAY, "frames"): 1}
    assert not frames_of(late)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_without_its_first_image_a_series_begins_a_second_later(protocol):
    start, *images, end = said(protocol, 1, 4)
    target = make(protocol)
    heard = feed(target, [start, *images[1:]], 0)
    assert [type(m) for m in heard] == [SeriesStart]
    heard += list(target.pass_time(SECOND_NS + 1))
    assert sorted(k for _, k, *_ in frames_of(heard)) == [1, 2, 3]
    times_ns = {int(t) for m in heard if isinstance(m, FrameBlock) for t in m.received_ns}
    assert times_ns == {0}, "frames that were held keep the time at which they came"
    heard += feed(target, [end], SECOND_NS + 2)
    assert target.held_bytes > 0
    assert not isinstance(heard[-1], SeriesEnd)
    assert [type(m) for m in target.pass_time(3 * SECOND_NS)] == [SeriesEnd]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_held_is_bounded_and_every_frame_still_accounted_for(protocol, monkeypatch):
    monkeypatch.setattr(series_order, "HOLD_BYTES", 20_000)
    first, second = said(protocol, 1, 30), said(protocol, 2, 60)
    target, heard, most = make(protocol), [], 0
    for parts in [*first[:10], *second, *first[10:]]:
        heard += list(target.feed(parts, 0))
        most = max(most, target.held_bytes)
    heard += list(target.flush())
    assert 10_000 < most <= 20_000 + 2000
    told = losses(heard)
    assert told[Reason.OVERFLOW, "messages"] == 1
    assert told[Reason.STRAY, "frames"] == 21
    assert len(frames_of(heard)) == 9 + 60
    _, ends = paired(heard, [30, 60])
    assert ends == [(1, 30, 9, {"missing": 21}), (2, 60, 60, {})]


def test_many_names_of_series_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(series_order, "HOLD_BYTES", 100_000)
    target, heard = make("open"), []
    for k in range(2000):
        heard += target.feed([b'{"type":"end","series":"%d"}' % k], 0)
        assert target.held_bytes <= 100_000
    heard += list(target.flush())
    assert sum(isinstance(m, SeriesEnd) for m in heard) == 2000
    target = make("open")
    for k in range(100):
        list(target.feed([b'{"type":"frames","series":"%d","first":60000000}' % k], 0))
        assert target.held_bytes <= 100_000


def test_a_header_that_comes_again_is_told():
    first = said("dectris_stream2", 1, 3)
    heard = feed(make("dectris_stream2"), [first[0], first[0], *first[1:]], 0)
    assert losses(heard) == {(Reason.DUPLICATE, "messages"): 1}
    assert len(frames_of(heard)) == 3
    assert isinstance(heard[-1], SeriesEnd)


@pytest.mark.parametrize("protocol", ["dectris_stream1", "open"])
def test_a_number_that_is_used_again_later_is_another_series(protocol):
    first = said(protocol, 1, 3)
    target = make(protocol)
    heard = feed(target, first, 0) + feed(target, first, 5 * SECOND_NS)
    names = [m.series for m in heard if isinstance(m, SeriesStart)]
    assert len(set(names)) == 2
    assert Counter(name for name, *_ in frames_of(heard)) == dict.fromkeys(names, 3)


def test_a_decoder_that_cannot_tell_series_apart_is_refused():
    class Deaf:
        def feed(self, parts, received_ns):
            return iter(())

        def connected(self):
            pass

        def flush(self):
            return iter(())

    with pytest.raises(GlimpseError, match=r"detector\.receivers to 1"):
        SeriesOrder(Deaf())


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_damage_never_raises_and_never_outlives_its_time(protocol, data):
    messages = [list(parts) for number in (1, 2) for parts in said(protocol, number, 5)]
    for _ in range(data.draw(st.integers(1, 5))):
        parts = messages[data.draw(st.integers(0, len(messages) - 1))]
        position = data.draw(st.integers(0, max(len(parts) - 1, 0)))
        kind = data.draw(st.sampled_from(["change", "cut", "noise", "drop"]))
        if kind == "noise" or not parts:
            parts.insert(position, data.draw(st.binary(max_size=20)))
        elif kind == "drop":
            del parts[position]
        else:
            part = bytearray(parts[position])
            if kind == "cut":
                part = part[: data.draw(st.integers(0, len(part)))]
            if part:
                part[data.draw(st.integers(0, min(len(part), 300) - 1))] = data.draw(st.integers(0, 255))
            parts[position] = bytes(part)
    rng = random.Random(data.draw(st.integers(0, 2**32)))
    rng.shuffle(messages)
    target = make(protocol)
    heard_by(target, messages, rng)
    list(target.pass_time(5 * SECOND_NS))
    list(target.pass_time(10 * SECOND_NS))
    fresh = said(protocol, 77, 6)
    heard = [m for parts in fresh for m in target.feed(parts, 20 * SECOND_NS)] + list(target.flush())
    start = [m for m in heard if isinstance(m, SeriesStart)][-1]
    assert start.labels == {"projection": 77}
    assert sorted(k for name, k, *_ in frames_of(heard) if name == start.series) == list(range(6))
    assert target.held_bytes == 0


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_many_messages_at_once_are_taken_for_what_each_is(data):
    target = make("dectris_stream2", 1)
    known = [parts[0] for number in (1, 2) for parts in said("dectris_stream2", number, 6)]
    chosen = data.draw(st.lists(st.sampled_from(known), min_size=1, max_size=12))
    messages = []
    for message in chosen:
        if data.draw(st.booleans()):
            message = message[: data.draw(st.integers(0, len(message)))]
        messages.append(message)
    ends = np.cumsum([0, *map(len, messages)])
    block = np.frombuffer(b"".join(messages), np.uint8)
    marks, index = target.glimpse_block(block, np.stack([ends[:-1], ends[1:]], axis=1))
    of_mark = {}
    for message, mark, number in zip(messages, marks.tolist(), index.tolist(), strict=True):
        told = target.glimpse([message])
        if mark:
            assert (told.kind, *told.index) == ("image", number)
            assert of_mark.setdefault(mark, told.series) == told.series
        elif message in known:
            assert told.kind in ("start", "end")
    assert len(set(of_mark.values())) == len(of_mark)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_comes_after_its_series_was_given_up_does_not_delay_the_next(protocol):
    first, second, third = (said(protocol, number, 3) for number in (1, 2, 4))
    target = make(protocol)
    heard = feed(target, [*first, *second], 0)
    heard += feed(target, [first[2]], 5 * SECOND_NS) + list(target.pass_time(7 * SECOND_NS))
    assert losses(heard) == {(Reason.STRAY, "frames"): 1}
    assert not feed(target, third, 8 * SECOND_NS), "number 3 may still come"
    heard = list(target.pass_time(9 * SECOND_NS + 1))
    assert len(frames_of(heard)) == 3
    assert isinstance(heard[-1], SeriesEnd)
