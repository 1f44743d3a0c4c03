"""Stream V1 beyond the contract: real bytes, an independent sender, and parts that come alone or not at all."""

from __future__ import annotations

import json

import cbor2
import numpy as np
import pytest

from streamptycho.config import DetectorConfig, RegionConfig
from streamptycho.detectors import decoder, encoder
from streamptycho.messages import Anomaly, FrameBlock, Reason, SeriesEnd, SeriesStart
from tests.data import shared_data

COUNTS = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30)
CROPPED = COUNTS[:, 5:25]


def make(**changes):
    return decoder(DetectorConfig(protocol="dectris_stream1", **changes))


def run(target, messages):
    heard = [m for parts in messages for m in target.feed(parts, 1)]
    return heard + list(target.flush())


def series(frames=2, number=1, labels=None, **changes):
    source = encoder(
        "dectris_stream1",
        shape=(20, 30),
        dtype="uint16",
        energy_ev=6200.0,
        distance_m=2.0,
        detector_pixel_m=75e-6,
        **changes,
    )
    messages = source.start(series=number, n_frames=frames, epoch_s=1.7e9, labels=labels or {})
    for k in range(frames):
        messages += source.image(series=number, index=k, counts=COUNTS, start_s=k * 1e-3, stop_s=k * 1e-3 + 9e-4)
    return messages + source.end(series=number)


def changed(part, **changes):
    content = {**json.loads(part), **changes}
    return json.dumps({k: v for k, v in content.items() if v is not None}).encode()


def real_series():
    messages = []
    with shared_data("eiger-stream/stream1_eiger2_9m_series.cbors").open("rb") as stream:
        while True:
            try:
                messages.append(cbor2.load(stream))
            except (EOFError, cbor2.CBORDecodeError):
                return messages


@pytest.mark.parametrize("alone", [False, True])
def test_real_series_is_refused_as_truncated_and_nothing_else_is_lost(alone):
    messages = real_series()
    assert len(messages) == 5
    if alone:
        messages = [[part] for parts in messages for part in parts]
    heard = run(make(distance_m=0.5), messages)
    start = heard[0]
    assert isinstance(start, SeriesStart)
    assert (start.series, start.n_frames) == ("6", 3)
    assert start.geometry.energy_ev == 8041.0
    assert start.geometry.shape == (3108, 3108)
    assert start.labels["collect_dict"]["col_id"] == 128579
    losses = [m for m in heard if isinstance(m, Anomaly) and m.unit == "frames"]
    assert [m.reason for m in losses] == [Reason.TRUNCATED] * 3
    assert [m.detail.split(":")[0] for m in losses] == ["frame 0", "frame 1", "frame 2"]
    tables = [m for m in heard if isinstance(m, Anomaly) and m.unit == "messages"]
    assert [m.reason for m in tables] == [Reason.CORRUPT]
    assert "pixel mask" in tables[0].detail
    assert isinstance(heard[-1], SeriesEnd)


def test_distance_zero_in_the_header_leaves_the_geometry_open():
    assert run(make(), real_series())[0].geometry is None


def test_real_blob_in_a_real_series():
    blob = shared_data("eiger-stream/stream1_eiger2_16m_image.blob").read_bytes()
    start, image, *_ = series()
    settings = changed(start[1], x_pixels_in_detector=4148, y_pixels_in_detector=4362)
    form = changed(image[1], shape=[4148, 4362], size=len(blob))
    target = make(region=RegionConfig(size_px=256))
    heard = run(target, [[start[0], settings], [image[0], form, blob, image[3]]])
    assert heard[-1].counts.shape == (1, 256, 256)
    assert heard[-1].counts.dtype == np.uint16


def test_times_count_from_frame_zero_even_when_it_is_late():
    start, first, second, end = series()
    late = [first[0], first[1], first[2], changed(first[3], start_time=103_597_359_252_740, stop_time=None)]
    early = [
        second[0],
        second[1],
        second[2],
        changed(second[3], start_time=103_597_360_252_740, stop_time=103_597_361_152_740),
    ]
    heard = run(make(), [start, early, late, end])
    blocks = [m for m in heard if isinstance(m, FrameBlock)]
    assert [float(b.exposure_start_s[0]) for b in blocks] == pytest.approx([1e-3, 0.0], abs=1e-12)
    assert [float(b.exposure_stop_s[0]) for b in blocks] == pytest.approx([1.9e-3, 1e-3], abs=1e-12)


def test_every_part_alone():
    messages = [[part] for parts in series(labels={"projection": 2}) for part in parts]
    heard = run(make(), messages)
    assert [type(m) for m in heard] == [SeriesStart, FrameBlock, FrameBlock, SeriesEnd]
    assert heard[0].labels == {"projection": 2}
    np.testing.assert_array_equal(heard[1].counts[0], CROPPED)


def test_everything_in_one_message():
    heard = run(make(), [[part for parts in series() for part in parts]])
    assert [type(m) for m in heard] == [SeriesStart, FrameBlock, FrameBlock, SeriesEnd]


@pytest.mark.parametrize("detail", ["basic", "none"])
def test_headers_of_less_detail(detail):
    start, *rest = series()
    head = [changed(start[0], header_detail=detail)] + ([start[1]] if detail == "basic" else [])
    target = make(energy_ev=6200.0, distance_m=2.0, pixel_m=75e-6, region=RegionConfig(size_px=20))
    heard = list(target.feed(head, 1))
    assert isinstance(heard[0], SeriesStart)
    assert heard[0].geometry.shape == (20, 20)
    heard += run(target, rest)
    np.testing.assert_array_equal(heard[1].counts[0], CROPPED)


def test_image_appendix_and_other_names_of_tables():
    start, image, *rest = series()
    start[2] = changed(start[2], htype="flatfield-1.0")
    heard = run(make(), [start, [*image, b"{}"], *rest])
    assert [type(m) for m in heard] == [SeriesStart, FrameBlock, FrameBlock, SeriesEnd]


def test_image_without_times_follows_the_frame_time():
    start, first, second, end = series()
    heard = run(make(), [start, first[:3], second[:3], end])
    blocks = [m for m in heard if isinstance(m, FrameBlock)]
    assert [float(b.exposure_start_s[0]) for b in blocks] == pytest.approx([0, 1e-3])


@pytest.mark.parametrize(
    ("position", "part"),
    [
        (0, b"\x00\xff garbage"),
        (1, b"{not json"),
        (1, b'{"htype":"dimage_d-1.0"}'),
        (1, b'{"htype":"dimage_d-1.0","shape":[30,20],"type":"float32","encoding":"<","size":1200}'),
        (1, b'{"htype":"dimage_d-1.0","shape":[30,20],"type":"uint32","encoding":"bs16-lz4<","size":10}'),
        (1, b'{"htype":"dimage_d-1.0","shape":[100000,100000],"type":"uint16","encoding":"bs16-lz4<"}'),
        (1, b'{"htype":"dimage_d-1.0","shape":[-30,-20],"type":"uint16","encoding":"bs16-lz4<"}'),
        (1, b"[" * 100_000),
        (1, b'{"a":' * 50_000),
        (2, b"short"),
        (2, b""),
    ],
)
def test_one_bad_part_costs_one_frame(position, part):
    start, image, good, end = series()
    image[position] = part
    heard = run(make(), [start, image, good, end])
    assert [type(m) for m in heard] == [SeriesStart, Anomaly, FrameBlock, SeriesEnd]
    assert (heard[1].unit, heard[1].count) == ("frames", 1)
    assert heard[1].reason.loses_frames
    assert heard[2].index[0] == 1


def test_parts_of_an_image_that_never_ended():
    start, first, second, end = series()
    heard = run(make(), [start, first[:2], second, end])
    assert [type(m) for m in heard] == [SeriesStart, Anomaly, FrameBlock, SeriesEnd]
    assert heard[1].reason is Reason.TRUNCATED
    assert "frame 0" in heard[1].detail


def test_new_connection_forgets_the_image_that_was_not_complete():
    start, first, second, end = series()
    target = make()
    heard = run(target, [start, first[:2]][:1])
    list(target.feed(first[:2], 1))
    target.connected()
    heard += run(target, [second, end])
    assert [type(m) for m in heard] == [SeriesStart, Anomaly, FrameBlock, SeriesEnd]
    assert heard[1].reason is Reason.TRUNCATED


def test_settings_that_are_no_json_are_told():
    start, *rest = series()
    start[1] = b"\xff\xfe"
    heard = run(make(), [start, *rest])
    assert isinstance(heard[0], SeriesStart)
    assert heard[0].geometry is None
    assert [m.unit for m in heard if isinstance(m, Anomaly)] == ["messages"]
    assert sum(isinstance(m, FrameBlock) for m in heard) == 2


@pytest.mark.parametrize(
    ("mode", "images", "triggers", "expected"),
    [("ints", 10, 1, 10), ("exts", 10, 3, 30), ("exte", 1, 50, 50), ("inte", 7, 50, 50), ("ints", None, 2, None)],
)
def test_expected_frames_by_trigger_mode(mode, images, triggers, expected):
    start = series()[0]
    start[1] = changed(start[1], trigger_mode=mode, nimages=images, ntrigger=triggers)
    assert run(make(), [start])[0].n_frames == expected


def test_restarted_numbers_are_new_series():
    names = [m.series for m in run(make(), series(1) + series(1)) if isinstance(m, SeriesStart)]
    assert names == ["1", "1#2"]


def test_independent_sender():
    libertem_dectris = pytest.importorskip("libertem_dectris")
    bitshuffle = pytest.importorskip("bitshuffle")
    zmq = pytest.importorskip("zmq")
    sender = libertem_dectris.DectrisSim.new_mocked("tcp://127.0.0.1", 5, 100, True)
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        socket.linger = 0
        socket.connect(sender.get_uri())
        sender.send_headers()
        sender.send_frames(5)
        sender.send_footer()
        target = make(distance_m=0.5)
        heard, blobs = [], []
        while not any(isinstance(m, SeriesEnd) for m in heard):
            assert socket.poll(10_000), "the sender fell silent"
            parts = socket.recv_multipart()
            blobs += [parts[2]] if len(parts) > 2 else []
            heard += target.feed(parts, 1)
    assert not [m for m in heard if isinstance(m, Anomaly) and m.reason is not Reason.SATURATED]
    blocks = [m for m in heard if isinstance(m, FrameBlock)]
    assert [int(b.index[0]) for b in blocks] == [0, 1, 2, 3, 4]
    for block, blob in zip(blocks, blobs, strict=True):
        plain = bitshuffle.decompress_lz4(np.frombuffer(blob, np.uint8, offset=12), (512, 512), np.dtype("uint16"))
        np.testing.assert_array_equal(block.counts[0], np.where(plain > 3825, 65535, plain))


def test_truth_values_are_no_sizes():
    start, image, _ = series(frames=1)
    for position, key in ((4, "shape"), (1, "shape")):
        parts = list(start if position == 4 else image)
        parts[position] = changed(parts[position], **{key: [True, 600]})
        heard = run(make(), [parts, image] if position == 4 else [start, parts])
        assert {m.reason for m in heard if isinstance(m, Anomaly)} == {Reason.CORRUPT}


def test_a_message_of_several_parts_is_counted_after_lone_ones_that_were_lost():
    start, image, _ = series(frames=1)
    target = make()
    list(target.feed(start, 1))
    lone = [m for _ in range(2) for m in target.feed([b"?"], 1)]
    assert [m.reason for m in lone] == [Reason.CORRUPT]
    (loss,) = target.feed([b"?", *image[1:]], 1)
    assert (loss.reason, loss.unit) == (Reason.CORRUPT, "frames")


def test_parts_of_an_image_whose_beginning_is_lost_are_no_parts_of_a_header():
    start, image, _ = series(frames=1)
    said = [[start[0]], [start[1]], [b"?", *image[1:]], image]
    heard = run(make(), said)
    assert [(m.reason, m.unit) for m in heard if isinstance(m, Anomaly)] == [(Reason.CORRUPT, "frames")]
    assert sum(isinstance(m, FrameBlock) for m in heard) == 1
