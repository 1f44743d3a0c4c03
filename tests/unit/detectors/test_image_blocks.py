"""Blocks of Stream V2 messages give what the messages one by one give, whatever they are."""

from __future__ import annotations

import cbor2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.config import DetectorConfig, RegionConfig
from streamptycho.detectors import BlockDecoder, decoder, encoder, image_blocks
from streamptycho.detectors.image_layout import learn
from streamptycho.messages import Anomaly, FrameBlock
from tests.data import shared_data

SHAPE = (40, 72)
ENERGY = {"energy_ev": 6200.0, "distance_m": 2.0, "detector_pixel_m": 75e-6}
REGIONS = [{}, {"size_px": 16, "center_px": "middle"}, {"size_px": 60, "center_px": (3.0, 70.0), "binning": 2}]


def make(**region):
    return decoder(DetectorConfig(protocol="dectris_stream2", region=RegionConfig(**region)))


def series(dtype="uint16", compression="bslz4", n=12, number=3, seed=0):
    rng = np.random.default_rng(seed)
    top = np.iinfo(dtype).max
    mask = rng.random(SHAPE) < 0.01
    target = encoder(
        "dectris_stream2", shape=SHAPE, dtype=dtype, compression=compression, mask=mask, saturation=50, **ENERGY
    )
    (start,) = target.start(series=number, n_frames=n, epoch_s=1.7e9, labels={})[0]
    images = []
    for k in range(n):
        counts = np.minimum(rng.poisson(rng.choice([0.05, 3.0, 48.0]), SHAPE), top).astype(dtype)
        (parts,) = target.image(series=number, index=k, counts=counts, start_s=k * 1e-3, stop_s=k * 1e-3 + 9e-4)
        images += parts
    (end,) = target.end(series=number)[0]
    return start, images, end


def block_of(messages):
    ends = np.cumsum([0, *map(len, messages)])
    spans = np.stack([ends[:-1], ends[1:]], axis=1).astype(np.int64)
    return np.frombuffer(b"".join(messages), np.uint8), spans, np.arange(len(messages)) * 300_000_000


def told(messages):
    """Everything that the messages say, frames one by one."""
    heard = []
    for message in messages:
        if isinstance(message, FrameBlock):
            columns = (message.index, message.exposure_start_s, message.exposure_stop_s)
            assert len(message.counts) == len(message.index)
            for k, of_one in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
                heard.append(("frame", message.series, *of_one, message.counts.dtype, message.counts[k].tobytes()))
        elif isinstance(message, Anomaly):
            heard.append((message.reason, message.count, message.unit, message.series, message.detail))
        else:
            heard.append((type(message).__name__, message.series))
    return heard


def saturation_aside(heard):
    """Frames of a block come before what is said of their saturated pixels."""
    saturated = [item for item in heard if item[0] == "saturated"]
    return [item for item in heard if item[0] != "saturated"], saturated


def both_ways(messages, region):
    data, spans, received_ns = block_of(messages)
    one_by_one, together = make(**region), make(**region)
    expected = [m for k, part in enumerate(messages) for m in one_by_one.feed([part], int(received_ns[k]))]
    got = list(together.feed_block(data, spans, received_ns))
    expected, got = expected + list(one_by_one.flush()), got + list(together.flush())
    return expected, got


def check(messages, region):
    expected, got = both_ways(messages, region)
    assert saturation_aside(told(got)) == saturation_aside(told(expected))
    return got


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("compression", ["bslz4", "lz4", "none"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_a_series_gives_the_same_frames_in_few_blocks(dtype, compression, region):
    start, images, end = series(dtype, compression)
    got = check([start, *images, end], region)
    sizes = [len(m.index) for m in got if isinstance(m, FrameBlock)]
    assert sum(sizes) == 12
    assert len(sizes) <= 3 + (len(region) == 0) * 8


def test_the_real_image_is_read_by_the_compiled_reader():
    image = shared_data("eiger-stream/stream2_eiger2_16m_image.cbor").read_bytes()
    message = cbor2.loads(image)
    layout = learn(image, _plain(image), next(iter(message["data"])))
    assert layout is not None
    assert (layout.shape, layout.dtype, layout.encoding) == ((4362, 4148), np.dtype("u2"), "bslz4")
    data, spans, _ = block_of([image, image])
    scanned = layout.scan(data, spans)
    assert scanned.index.tolist() == [0, 0]
    assert scanned.times_s[1].tolist() == [215873 / 50_000_000, 0.0, 215873 / 50_000_000]
    assert data[slice(*scanned.payload[1])].tobytes() == _plain(image)["data"]["threshold_1"].value[1].value.value[2]


def _plain(image):
    from streamptycho.detectors import cbor

    return cbor.loads(image).value


def reordered_entries(image):
    message = dict(cbor2.loads(image))
    return cbor2.dumps(cbor2.CBORTag(55799, dict(reversed(message.items()))))


def changed(image, **entries):
    message = dict(cbor2.loads(image)) | entries
    return cbor2.dumps(cbor2.CBORTag(55799, {key: value for key, value in message.items() if value is not None}))


UNUSUAL = {
    "other order": reordered_entries,
    "no start": lambda image: changed(image, start_time=None),
    "no stop": lambda image: changed(image, stop_time=None),
    "no times": lambda image: changed(image, start_time=None, stop_time=None, real_time=None),
    "time by zero": lambda image: changed(image, start_time=[1, 0]),
    "huge time": lambda image: changed(image, start_time=[2**60 + 1, 3]),
    "negative time": lambda image: changed(image, start_time=[-5, 50_000_000]),
    "time as float": lambda image: changed(image, start_time=0.25),
    "negative index": lambda image: changed(image, image_id=-1),
    "huge index": lambda image: changed(image, image_id=2**62),
    "no index": lambda image: changed(image, image_id=None),
    "another series": lambda image: changed(image, series_id=77),
    "another date": lambda image: changed(image, series_date=cbor2.CBORTag(0, "2023-11-14T22:13:21+00:00")),
    "no date": lambda image: changed(image, series_date=None),
    "labels": lambda image: changed(image, user_data={"a": [1, {"b": "\u00e9"}]}),
    "deep": lambda image: changed(image, user_data=[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]),
    "unknown entry": lambda image: changed(image, extra=[1, 2.5, None, b"x", "text"]),
    "no data": lambda image: changed(image, data={}),
    "data twice": lambda image: image[:3] + bytes([image[3] + 1]) + image[4:] + b"\x64data\xa0",
    "bytes behind": lambda image: image + b"\x00",
    "cut": lambda image: image[:-3],
    "not an image": lambda image: cbor2.dumps({"type": "image", 5: 6}),
    "key that is no text": lambda image: image[:3] + bytes([image[3] + 1]) + image[4:] + b"\x80\x01",
    "nothing": lambda image: b"",
    "payload cut": lambda image: image[: image.rindex(b"\x00\x00 \x00") + 9],
}


@pytest.mark.parametrize("name", UNUSUAL)
@pytest.mark.parametrize("first", [False, True])
def test_an_unusual_message_among_others_is_treated_the_same(name, first):
    start, images, end = series()
    strange = UNUSUAL[name](images[0] if first else images[6])
    images[0 if first else 6] = strange
    check([start, *images, strange, *images[2:4], end], REGIONS[1])


def test_the_layout_may_change_within_a_series_and_from_series_to_series():
    first = series("uint8")
    second = series("uint16", "lz4", number=4)
    middle = series("uint16")[1]
    check([first[0], *first[1][:4], *middle[4:8], *first[1][8:], *second[1][:2], second[0], *second[1], second[2]], {})


def test_channels_are_chosen_as_one_by_one():
    start, images, _ = series(compression="none")
    plain = dict(cbor2.loads(start)) | {"channels": ["low", "threshold_1"]}
    other = np.full(SHAPE, 7, np.uint16)
    array = cbor2.CBORTag(40, [list(SHAPE), cbor2.CBORTag(69, other.tobytes())])
    two = [changed(image, data={**cbor2.loads(image)["data"], "low": array}) for image in images[4:8]]
    swapped = [changed(image, data={"low": array, **cbor2.loads(image)["data"]}) for image in images[8:]]
    messages = [cbor2.dumps(plain), *images[:4], *two, *swapped]
    got = check(messages, REGIONS[1])
    frames = np.concatenate([m.counts for m in got if isinstance(m, FrameBlock)])
    assert (frames[4:] == 7).any(axis=(1, 2)).all()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_bytes_anywhere_give_the_same_as_one_by_one(data):
    start, images, end = series(seed=data.draw(st.integers(0, 3)))
    messages = [start, *images, end]
    for _ in range(data.draw(st.integers(1, 6))):
        k = data.draw(st.integers(1, len(messages) - 1))
        message = bytearray(messages[k])
        for _ in range(data.draw(st.integers(1, 3))):
            if message:
                header = data.draw(st.booleans())
                at = data.draw(st.integers(0, min(len(message), 330 if header else 10**6) - 1))
                message[at] = data.draw(st.integers(0, 255))
        if data.draw(st.booleans()):
            message = message[: data.draw(st.integers(0, len(message)))]
        messages[k] = bytes(message)
    order = data.draw(st.permutations(range(1, len(messages))))
    check([messages[0], *(messages[k] for k in order)], data.draw(st.sampled_from(REGIONS)))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=80), max_size=12))
def test_any_bytes_are_survived(messages):
    start, images, _ = series(n=3)
    check([start, *images, *messages, images[0]], {})


def test_a_region_off_the_detector_and_no_header_are_told_the_same():
    start, images, end = series()
    check([start, *images, end], {"size_px": 8, "center_px": (5000.0, 5000.0)})
    check([*images, end], {})


def test_the_decoder_of_stream_2_takes_blocks():
    assert isinstance(make(), BlockDecoder)


@pytest.mark.parametrize(
    "region",
    [*REGIONS, {"size_px": 40, "center_px": (2.0, 30.0)}, {"size_px": 60, "center_px": (39.0, 4.0), "binning": 4}],
)
@pytest.mark.parametrize("compression", ["bslz4", "lz4", "none"])
@pytest.mark.parametrize("threads", [2, 3, 64])
def test_several_threads_give_what_one_gives(threads, compression, region, monkeypatch):
    monkeypatch.setattr(image_blocks, "SHARED_FROM_BYTES", 1)
    start, images, end = series("uint16", compression)
    images[7] = images[7][:-900] + bytes(900) if compression == "none" else damaged_inside(images[7])
    one = decoder(DetectorConfig(region=RegionConfig(**region), decode_threads=1))
    many = decoder(DetectorConfig(region=RegionConfig(**region), decode_threads=threads))
    data, spans, received_ns = block_of([start, *images, end])
    assert told(many.feed_block(data, spans, received_ns)) == told(one.feed_block(data, spans, received_ns))
    shared = many._cutter._rooms
    assert 1 < len(shared) <= threads
    assert sum(len(room) for room in shared) == len(one._cutter._rooms[0])


def damaged_inside(image):
    """Spoil the last quarter of a payload: only the rows at the end of the frame are in it."""
    part = bytearray(image)
    for at in range(3 * len(part) // 4, len(part) - 60):
        part[at] ^= 0x5A
    return bytes(part)


def test_bands_of_a_real_frame_decoded_by_threads(monkeypatch):
    messages = [
        shared_data(f"eiger-stream/stream2_eiger2_16m_{k}.cbor").read_bytes() for k in ("start", "image", "image")
    ]
    heard = {}
    for threads in (1, 3):
        target = decoder(DetectorConfig(region=RegionConfig(size_px=4100), decode_threads=threads))
        data, spans, received_ns = block_of(messages)
        blocks = [m for m in target.feed_block(data, spans, received_ns) if isinstance(m, FrameBlock)]
        heard[threads] = np.concatenate([block.counts for block in blocks])
        assert len(target._cutter._rooms) == threads
    assert heard[1].shape == (2, 4100, 4100)
    np.testing.assert_array_equal(heard[3], heard[1])
