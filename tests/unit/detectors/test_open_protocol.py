"""The open protocol beyond the contract: several frames per message, and what senders leave out or get wrong."""

import json

import numpy as np
import pytest

from streamptycho.config import DetectorConfig
from streamptycho.detectors import decoder
from streamptycho.detectors.encode_open import OpenEncoder
from streamptycho.messages import Anomaly, FrameBlock, Reason, SeriesStart

COUNTS = np.random.default_rng(3).poisson(5, (7, 12, 16)).astype(np.uint16)
SCALE = {"energy_ev": 6200.0, "distance_m": 2.0, "pixel_m": 75e-6}


def make(**changes):
    return decoder(DetectorConfig(protocol="open", **changes))


def hear(messages, target=None):
    target = target or make()
    return [m for parts in messages for m in target.feed(parts, 1)] + list(target.flush())


def start(**changes):
    said = {"type": "start", "version": 1, "series": "a", "shape": [12, 16], "dtype": "uint16", **SCALE, **changes}
    return [json.dumps(said).encode()]


def frames(first=0, counts=COUNTS, **changes):
    said = {"type": "frames", "series": "a", "first": first, "count": len(counts), **changes}
    return [json.dumps({k: v for k, v in said.items() if v is not None}).encode(), counts.tobytes()]


def losses(heard):
    return [(m.reason, m.unit, m.count) for m in heard if isinstance(m, Anomaly)]


def pixels(heard):
    return {
        int(k): counts for m in heard if isinstance(m, FrameBlock) for k, counts in zip(m.index, m.counts, strict=True)
    }


@pytest.mark.parametrize("compression", ["none", "lz4", "bslz4"])
def test_several_frames_in_a_message_leave_in_one_block(compression):
    scale = {"energy_ev": 6200.0, "distance_m": 2.0, "detector_pixel_m": 75e-6}
    source = OpenEncoder(shape=(12, 16), dtype="uint16", compression=compression, **scale)
    times = [0.01 * k for k in range(7)]
    said = source.images(series=1, first=5, counts=COUNTS, start_s=times, stop_s=[t + 0.002 for t in times])
    heard = hear([*source.start(series=1, n_frames=12, epoch_s=1.7e9, labels={}), *said])
    (block,) = (m for m in heard if isinstance(m, FrameBlock))
    assert block.index.tolist() == list(range(5, 12))
    np.testing.assert_array_equal(block.counts, COUNTS[:, :, 2:14])
    np.testing.assert_allclose(block.exposure_start_s, times)
    np.testing.assert_allclose(block.exposure_stop_s - block.exposure_start_s, 0.002)
    assert not losses(heard)


def test_frames_take_what_they_leave_out_from_the_start():
    heard = hear([start(period_s=0.5, exposure_s=0.25), frames(4, COUNTS[:2])])
    (block,) = (m for m in heard if isinstance(m, FrameBlock))
    np.testing.assert_array_equal(block.exposure_start_s, [2.0, 2.5])
    np.testing.assert_array_equal(block.exposure_stop_s, [2.25, 2.75])


def test_numbers_of_frames_may_be_listed_and_buffers_be_apart():
    header, _ = frames(None, COUNTS[:3], index=[8, 2, 5])
    heard = hear([start(), [header, *(c.tobytes() for c in COUNTS[:3])]])
    assert list(pixels(heard)) == [8, 2, 5]
    np.testing.assert_array_equal(pixels(heard)[2], COUNTS[1][:, 2:14])


def test_a_cut_buffer_gives_its_whole_frames_and_counts_the_others():
    header, buffer = frames()
    heard = hear([start(), [header, buffer[: 12 * 16 * 2 * 4 + 100]]])
    assert list(pixels(heard)) == [0, 1, 2, 3]
    assert losses(heard) == [(Reason.TRUNCATED, "frames", 3)]
    assert "frames 4 to 6" in next(m.detail for m in heard if isinstance(m, Anomaly))


def test_dtype_and_size_may_change_between_series():
    small = COUNTS[:, :8, :8].astype(np.uint8)
    second = start(series="b", shape=[8, 8], dtype="uint8")
    heard = hear([start(), frames(), second, frames(0, small, series="b")])
    blocks = [m for m in heard if isinstance(m, FrameBlock)]
    assert [b.counts.dtype.name for b in blocks] == ["uint16", "uint8"]
    assert [m.geometry.shape for m in heard if isinstance(m, SeriesStart)] == [(12, 12), (8, 8)]
    np.testing.assert_array_equal(blocks[1].counts, small)
    assert not losses(heard)


def test_the_mask_of_the_start_hides_pixels():
    mask = np.zeros((12, 16), np.uint8)
    mask[3, 5] = 4
    heard = hear([[*start(), mask.tobytes()], frames()])
    assert (pixels(heard)[0][3, 3], losses(heard)) == (65535, [])


@pytest.mark.parametrize(
    ("message", "loss"),
    [
        ([], (Reason.CORRUPT, "messages", 1)),
        ([b"{}"], (Reason.CORRUPT, "messages", 1)),
        ([b"[" * 100_000], (Reason.CORRUPT, "messages", 1)),
        (frames(-1), (Reason.CORRUPT, "messages", 1)),
        (frames(count=10**12), (Reason.CORRUPT, "messages", 1)),
        (frames(count=0), (Reason.CORRUPT, "messages", 1)),
        (frames(None, index=[1, "2"]), (Reason.CORRUPT, "messages", 1)),
        (frames(shape=[-12, 16]), (Reason.CORRUPT, "frames", 7)),
        (frames(shape=[1 << 40, 1 << 40]), (Reason.OUT_OF_RANGE, "frames", 7)),
        (frames(dtype="float32"), (Reason.CORRUPT, "frames", 7)),
        (frames(encoding="zip"), (Reason.CORRUPT, "frames", 7)),
        (frames(encoding="lz4_block"), (Reason.CORRUPT, "frames", 7)),
        (frames(count=2), (Reason.CORRUPT, "frames", 2)),
        ([*frames(), *[b""] * 8], (Reason.CORRUPT, "frames", 7)),
        (frames(series="other"), (Reason.STRAY, "frames", 7)),
    ],
)
def test_what_cannot_be_used_is_counted_and_the_next_message_is_read(message, loss):
    heard = hear([start(), message, frames(20, COUNTS[:1])])
    reason, unit, count = loss
    told = losses(heard)
    assert {(r, u) for r, u, _ in told} == {(reason, unit)}
    assert sum(n for _, _, n in told) == count
    assert list(pixels(heard)) == [20]


def test_times_that_cannot_be_used_follow_the_period():
    heard = hear([start(period_s=0.5), frames(0, COUNTS[:2], start_s=[1.0, float("nan")], stop_s=["a", "b"])])
    (block,) = (m for m in heard if isinstance(m, FrameBlock))
    np.testing.assert_array_equal(block.exposure_start_s, [0.0, 0.5])
