"""Stream V2 beyond the contract: real bytes, and what senders do that the manual does not say."""

from __future__ import annotations

import cbor2
import numpy as np
import pytest

from streamptycho.config import DetectorConfig, RegionConfig
from streamptycho.detectors import decoder, encoder
from streamptycho.messages import Anomaly, FrameBlock, Reason, SeriesEnd, SeriesStart
from tests.data import shared_data

ENERGY = {"energy_ev": 6200.0, "distance_m": 2.0, "detector_pixel_m": 75e-6}


def read(name):
    return [shared_data(f"eiger-stream/stream2_eiger2_16m_{name}.cbor").read_bytes()]


def make(**changes):
    return decoder(DetectorConfig(protocol="dectris_stream2", **changes))


def run(target, messages):
    heard = [m for message in messages for m in target.feed([message], 1)]
    return heard + list(target.flush())


def start_map(**changes):
    (parts,) = encoder("dectris_stream2", shape=(16, 16), dtype="uint16", **ENERGY).start(
        series=3, n_frames=2, epoch_s=1.7e9, labels={}
    )
    message = dict(cbor2.loads(parts[0]))
    message.update(changes)
    return {k: v for k, v in message.items() if v is not None}


def image_map(data, **changes):
    message = {
        "type": "image",
        "series_id": 3,
        "series_unique_id": start_map()["series_unique_id"],
        "image_id": 0,
        "real_time": [45000, 50_000_000],
        "series_date": cbor2.CBORTag(0, "2023-11-14T22:13:20+00:00"),
        "start_time": [0, 50_000_000],
        "stop_time": [45000, 50_000_000],
        "data": data,
    }
    message.update(changes)
    return {k: v for k, v in message.items() if v is not None}


def array(tag, counts, layout=40, order="C"):
    typed = cbor2.CBORTag(tag, counts.tobytes(order=order))
    return cbor2.CBORTag(layout, [list(counts.shape), typed])


COUNTS = np.arange(256, dtype=np.uint16).reshape(16, 16)


def described(message):
    return cbor2.dumps(cbor2.CBORTag(55799, message))


def test_real_series():
    target = make(region=RegionConfig(size_px=4362))
    heard = [m for name in ("start", "image", "end") for m in target.feed(read(name), 1)]
    start, mask, block, end = heard
    assert isinstance(start, SeriesStart)
    assert start.n_frames == 1
    assert start.geometry.energy_ev == pytest.approx(13500.2998)
    assert start.geometry.distance_m == pytest.approx(0.2371592)
    assert start.geometry.detector_pixel_m == 75e-6
    assert isinstance(mask, Anomaly)
    assert (mask.unit, mask.reason) == ("messages", Reason.CORRUPT)
    assert isinstance(block, FrameBlock)
    assert block.counts.shape == (1, 4362, 4362)
    on_detector = block.counts[0, :, 2181 - 2074 : 2181 + 2074]
    assert (on_detector == 65535).sum() == 1_253_075
    assert on_detector[on_detector < 65535].max() == 6504
    off_detector = np.delete(block.counts[0], np.s_[2181 - 2074 : 2181 + 2074], axis=1)
    assert (off_detector == 65535).all()
    exposure_s = block.exposure_stop_s - block.exposure_start_s
    assert exposure_s == pytest.approx(215873 / 50e6)
    absolute_s = start.epoch_s + block.exposure_start_s[0]
    assert absolute_s == pytest.approx(1696348069.434, abs=1e-3)
    assert isinstance(end, SeriesEnd)
    assert end.series == start.series


def test_real_image_around_the_beam_centre_of_the_header():
    target = make(region=RegionConfig(size_px=512, center_px="header", binning=2))
    heard = [m for name in ("start", "image") for m in target.feed(read(name), 1)]
    assert heard[0].geometry.shape == (256, 256)
    assert heard[-1].counts.shape == (1, 256, 256)
    assert heard[-1].counts.dtype == np.uint32


@pytest.mark.parametrize(("tag", "dtype"), [(64, "u1"), (68, "u1"), (65, ">u2"), (69, "<u2"), (66, ">u4"), (70, "<u4")])
def test_typed_arrays_of_either_byte_order(tag, dtype):
    image = image_map({"threshold_1": array(tag, COUNTS.astype(dtype))})
    block = run(make(), [described(start_map(pixel_mask=None)), described(image)])[-1]
    assert block.counts.dtype.isnative
    np.testing.assert_array_equal(block.counts[0], COUNTS.astype(dtype))


def test_column_major_arrays():
    image = image_map({"threshold_1": array(69, COUNTS, 1040, "F")})
    for size in (None, 8):
        block = run(make(region=RegionConfig(size_px=size)), [described(start_map()), described(image)])[-1]
        expected = COUNTS if size is None else COUNTS[4:12, 4:12]
        np.testing.assert_array_equal(block.counts[0], expected)


def test_messages_without_the_self_described_tag():
    image = image_map({"threshold_1": array(69, COUNTS)})
    heard = run(make(), [cbor2.dumps(start_map()), cbor2.dumps(image)])
    assert isinstance(heard[-1], FrameBlock)


def test_channel_is_chosen_by_configuration_else_the_first_of_the_header():
    data = {"difference": array(69, COUNTS), "threshold_1": array(69, COUNTS + 1), "threshold_2": array(69, COUNTS + 2)}
    start = described(start_map(channels=["threshold_2", "difference"], pixel_mask=None))
    for channel, offset in ((None, 2), ("threshold_1", 1), ("difference", 0)):
        block = run(make(channel=channel), [start, described(image_map(data))])[-1]
        np.testing.assert_array_equal(block.counts[0], COUNTS + offset)


def test_unknown_channel_is_counted_and_named():
    image = described(image_map({"threshold_1": array(69, COUNTS)}))
    heard = run(make(channel="threshold_9"), [described(start_map()), image])
    told = [m for m in heard if isinstance(m, Anomaly)]
    assert [(m.reason, m.unit) for m in told] == [(Reason.MISSING, "messages"), (Reason.MISSING, "frames")]
    assert "threshold_9" in told[1].detail
    assert "threshold_1" in told[1].detail


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"threshold_1": b"1234"},
        {"threshold_1": cbor2.CBORTag(40, [[16], cbor2.CBORTag(69, bytes(32))])},
        {"threshold_1": cbor2.CBORTag(40, [[2**40, 2**40], cbor2.CBORTag(69, bytes(32))])},
        {"threshold_1": cbor2.CBORTag(40, [[16, 16], cbor2.CBORTag(85, bytes(1024))])},
        {"threshold_1": cbor2.CBORTag(40, [[16, 16], cbor2.CBORTag(69, bytes(100))])},
        {"threshold_1": cbor2.CBORTag(40, [[16, 16], cbor2.CBORTag(69, bytes(600))])},
        {"threshold_1": cbor2.CBORTag(40, [[16, 16], cbor2.CBORTag(69, cbor2.CBORTag(56500, ["trpx", 2, b""]))])},
        {"threshold_1": cbor2.CBORTag(40, [[16, 16], cbor2.CBORTag(69, cbor2.CBORTag(56500, ["bslz4", 4, b""]))])},
        {"threshold_1": cbor2.CBORTag(40, [[16, 16], cbor2.CBORTag(69, cbor2.CBORTag(56500, ["bslz4"]))])},
        {"threshold_1": cbor2.CBORTag(40, [[8, 8], cbor2.CBORTag(69, bytes(128))])},
    ],
)
def test_images_that_cannot_be_used_are_counted_by_their_number(data):
    good = described(image_map({"threshold_1": array(69, COUNTS)}, image_id=1))
    heard = run(make(), [described(start_map()), described(image_map(data)), good])
    start, loss, block = heard
    assert isinstance(start, SeriesStart)
    assert isinstance(loss, Anomaly)
    assert loss.unit == "frames"
    assert loss.reason.loses_frames
    assert "frame 0" in loss.detail
    np.testing.assert_array_equal(block.counts[0], COUNTS)


def test_labels_as_text_of_json_and_of_anything():
    for said, expected in (
        ({"a": 1, "b": [1, {"c": None}]}, {"a": 1, "b": [1, {"c": None}]}),
        ('{"projection": 3}', {"projection": 3}),
        ("plain text", {"user_data": "plain text"}),
        (17, {"user_data": 17}),
        ("", {}),
        ({"blob": b"xx", 5: 2**70, "nan": float("nan")}, {"blob": None, "5": None, "nan": None}),
    ):
        (start,) = run(make(), [described(start_map(user_data=said, pixel_mask=None))])
        assert start.labels == expected


def test_labels_are_bounded():
    for said in ([["x" * 5000] * 50] * 20, {"k" * 50_000: "v" * 200_000}, [[1] * 1000] * 50):
        (start,) = run(make(), [described(start_map(user_data=said, pixel_mask=None))])
        assert 1000 < len(repr(start.labels)) < 200_000


@pytest.mark.parametrize(
    "changes",
    [
        {"incident_energy": 0.0, "incident_wavelength": 0.0},
        {"incident_energy": None, "incident_wavelength": 1e-320},
        {"detector_translation": [0.0, 0.0, 0.0]},
        {"detector_translation": "far"},
        {"pixel_size_y": 50e-6},
        {"pixel_size_x": float("nan")},
        {"image_size_x": None},
    ],
)
def test_incomplete_geometry_is_none(changes):
    (start,) = run(make(), [described(start_map(pixel_mask=None, **changes))])
    assert start.geometry is None


def test_energy_from_wavelength_and_sign_of_the_distance():
    message = start_map(incident_energy=None, incident_wavelength=2.0, pixel_mask=None)
    (start,) = run(make(), [described(message)])
    assert start.geometry.energy_ev == pytest.approx(6199.2, abs=0.1)
    assert start.geometry.distance_m == 2.0


def test_series_date_after_arming_shifts_the_exposures():
    image = image_map({"threshold_1": array(69, COUNTS)}, series_date="2023-11-14T22:13:22.500+00:00")
    start, block = run(make(), [described(start_map()), described(image)])
    assert start.epoch_s == 1.7e9
    assert block.exposure_start_s[0] == pytest.approx(2.5)


def test_without_times_exposures_follow_the_frame_time():
    image = image_map(
        {"threshold_1": array(69, COUNTS)}, image_id=5, start_time=None, stop_time=[1, 0], real_time="soon"
    )
    _, block = run(make(), [described(start_map(frame_time=0.01, count_time=0.004)), described(image)])
    assert block.exposure_start_s[0] == pytest.approx(0.05)
    assert block.exposure_stop_s[0] == pytest.approx(0.054)


def test_same_header_again_is_a_duplicate_and_changes_nothing():
    image = described(image_map({"threshold_1": array(69, COUNTS)}))
    heard = run(make(), [described(start_map()), described(start_map()), image])
    assert [type(m) for m in heard] == [SeriesStart, Anomaly, FrameBlock]
    assert heard[1].reason is Reason.DUPLICATE


def test_headers_without_a_unique_id_get_names_of_their_own():
    start = described(start_map(series_unique_id=None))
    names = [m.series for m in run(make(), [start, start]) if isinstance(m, SeriesStart)]
    assert names == ["3", "3#2"]


def test_masked_pixels_without_a_mask_are_not_called_saturated():
    counts = COUNTS.copy()
    counts[0, 0] = 65535
    image = image_map({"threshold_1": array(69, counts)})
    heard = run(make(), [described(start_map(pixel_mask=None, saturation_value=1000)), described(image)])
    assert [type(m) for m in heard] == [SeriesStart, FrameBlock]
    heard = run(make(), [described(start_map(saturation_value=1000)), described(image)])
    assert [type(m) for m in heard] == [SeriesStart, FrameBlock, Anomaly]


def test_deep_and_huge_messages_are_refused():
    for noise in (b"\x81" * 100_000, b"\xd9\xd9\xf7" * 1000, b"\x9b" + b"\xff" * 8, b"\xa1" * 5000):
        (loss,) = run(make(), [noise])
        assert loss.unit == "messages"
        assert loss.reason in (Reason.CORRUPT, Reason.TRUNCATED)
