"""What every detector decoder must do, whatever its bytes look like.

A third party subclasses `DetectorContract`, names its protocol and gives an encoder with the interface of
`streamptycho.detectors.encoder`.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamptycho import wire
from streamptycho.config import DetectorConfig, RegionConfig
from streamptycho.detectors import decoder, encoder
from streamptycho.geometry import Geometry
from streamptycho.messages import Anomaly, FrameBlock, Reason, SeriesEnd, SeriesStart

SETTINGS = {"energy_ev": 6200.0, "distance_m": 2.0, "detector_pixel_m": 75e-6}


def frames_of(messages):
    return {
        int(i): counts
        for m in messages
        if isinstance(m, FrameBlock)
        for i, counts in zip(m.index, m.counts, strict=True)
    }


def losses_of(messages):
    total = Counter()
    for m in messages:
        if isinstance(m, Anomaly):
            total[m.reason, m.unit] += m.count
    return total


def pictures(count, shape=(32, 40), dtype="uint16", mean=3.0):
    return np.random.default_rng(5).poisson(mean, (count, *shape)).astype(dtype)


class DetectorContract:
    protocol = ""

    def make_encoder(self, **changes):
        return encoder(self.protocol, **{"shape": (32, 40), "dtype": "uint16", **SETTINGS, **changes})

    def make_decoder(self, **changes):
        return decoder(DetectorConfig(protocol=self.protocol, **changes))

    def series(self, source, counts, series=1, labels=None, epoch_s=1.7e9, period_s=1e-3):
        """Return the messages of a whole series, one list of parts per message: start, images, end."""
        said = list(source.start(series=series, n_frames=len(counts), epoch_s=epoch_s, labels=labels or {}))
        for k, picture in enumerate(counts):
            start_s = k * period_s
            said += source.image(
                series=series, index=k, counts=picture, start_s=start_s, stop_s=start_s + 0.9 * period_s
            )
        return said + source.end(series=series)

    def run(self, target, messages):
        heard = [m for parts in messages for m in target.feed(parts, 123)]
        return heard + list(target.flush())

    @pytest.mark.parametrize("compression", ["bslz4", "lz4", "none"])
    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
    def test_frames_come_back_bit_for_bit(self, dtype, compression):
        counts = pictures(3, (32, 32), dtype)
        source = self.make_encoder(shape=(32, 32), dtype=dtype, compression=compression)
        heard = self.run(self.make_decoder(), self.series(source, counts))
        got = frames_of(heard)
        assert sorted(got) == [0, 1, 2]
        for k in got:
            assert got[k].dtype == dtype
            np.testing.assert_array_equal(got[k], counts[k])
        assert not losses_of(heard)

    def test_header_becomes_the_start_of_a_series(self):
        labels = {"scan_id": "s1", "projection": 4, "angle_deg": 12.5}
        heard = self.run(self.make_decoder(), self.series(self.make_encoder(), pictures(2), labels=labels))
        start = heard[0]
        assert isinstance(start, SeriesStart)
        assert start.n_frames == 2
        assert start.labels == labels
        assert start.received_ns == 123
        assert start.geometry.shape == (32, 32)
        assert start.geometry.energy_ev == pytest.approx(6200)
        assert start.geometry.distance_m == pytest.approx(2)
        assert start.geometry.detector_pixel_m == pytest.approx(75e-6)
        assert isinstance(heard[-1], SeriesEnd)
        assert {m.series for m in heard} == {start.series}

    def test_exposures_follow_the_clock(self):
        heard = self.run(self.make_decoder(), self.series(self.make_encoder(), pictures(5), period_s=2e-3))
        start = heard[0]
        blocks = [m for m in heard if isinstance(m, FrameBlock)]
        begin = np.concatenate([b.exposure_start_s for b in blocks])
        stop = np.concatenate([b.exposure_stop_s for b in blocks])
        np.testing.assert_allclose(begin, 2e-3 * np.arange(5), atol=1e-7)
        np.testing.assert_allclose(stop - begin, 1.8e-3, atol=1e-7)
        assert start.epoch_s is None or start.epoch_s == pytest.approx(1.7e9, abs=1e-6)

    def test_configuration_overrides_the_stream(self):
        target = self.make_decoder(energy_ev=8000.0, distance_m=3.0, pixel_m=55e-6)
        start = self.run(target, self.series(self.make_encoder(), pictures(1)))[0]
        assert start.geometry == Geometry(8000.0, 3.0, 55e-6, (32, 32))

    def test_region_is_announced_and_cut(self):
        counts = pictures(1)
        target = self.make_decoder(region=RegionConfig(size_px=16, center_px=(10, 20), binning=2))
        heard = self.run(target, self.series(self.make_encoder(), counts))
        assert heard[0].geometry.shape == (8, 8)
        assert heard[0].geometry.detector_pixel_m == pytest.approx(150e-6)
        expected = counts[0, 2:18, 12:28].reshape(8, 2, 8, 2).sum(axis=(1, 3))
        np.testing.assert_array_equal(frames_of(heard)[0], expected)

    def test_mask_and_saturation_are_unmeasured(self):
        counts = np.full((1, 32, 32), 7, np.uint16)
        counts[0, 4, 5] = 1001
        mask = np.zeros((32, 32), bool)
        mask[8, 9] = True
        source = self.make_encoder(shape=(32, 32), mask=mask, saturation=1000)
        heard = self.run(self.make_decoder(), self.series(source, counts))
        picture = frames_of(heard)[0]
        assert picture[4, 5] == picture[8, 9] == 65535
        assert (picture == 7).sum() == 32 * 32 - 2
        assert losses_of(heard) == {(Reason.SATURATED, "pixels"): 1}

    def test_saturation_is_told_in_sums(self):
        counts = np.full((200, 8, 8), 9, np.uint16)
        source = self.make_encoder(shape=(8, 8), saturation=5)
        heard = self.run(self.make_decoder(), self.series(source, counts))
        told = [m for m in heard if isinstance(m, Anomaly)]
        assert sum(m.count for m in told) == 200 * 64
        assert len(told) <= 3

    def test_reordered_frames_keep_their_numbers_and_times(self):
        counts = pictures(4)
        start, *images, end = self.series(self.make_encoder(), counts)
        heard = self.run(self.make_decoder(), [start, images[2], images[0], end, images[3], images[1]])
        blocks = sorted((m for m in heard if isinstance(m, FrameBlock)), key=lambda m: m.index[0])
        assert [int(b.index[0]) for b in blocks] == [0, 1, 2, 3]
        np.testing.assert_allclose([b.exposure_start_s[0] for b in blocks], 1e-3 * np.arange(4), atol=1e-7)
        assert not losses_of(heard)

    def test_each_header_begins_a_new_series(self):
        source = self.make_encoder()
        messages = self.series(source, pictures(1), series=1) + self.series(source, pictures(1), epoch_s=1.7e9 + 60)
        heard = self.run(self.make_decoder(), messages)
        names = [m.series for m in heard if isinstance(m, SeriesStart)]
        assert len(set(names)) == 2
        assert [m.series for m in heard if isinstance(m, FrameBlock)] == names
        assert [m.series for m in heard if isinstance(m, SeriesEnd)] == names

    def test_frames_of_an_aborted_series_are_stray(self):
        source = self.make_encoder()
        old = self.series(source, pictures(3), series=1)
        new = self.series(source, pictures(2), series=2)
        heard = self.run(self.make_decoder(), [*old[:2], new[0], old[2], old[3], *new[1:]])
        assert losses_of(heard) == {(Reason.STRAY, "frames"): 2}
        last = [m for m in heard if isinstance(m, SeriesStart)][-1].series
        assert sorted(frames_of(m for m in heard if m.series == last)) == [0, 1]

    def test_frames_before_any_header_are_stray_without_a_geometry(self):
        messages = self.series(self.make_encoder(), pictures(3))
        heard = self.run(self.make_decoder(), messages[2:])
        assert losses_of(heard) == {(Reason.STRAY, "frames"): 2}
        assert not frames_of(heard)

    def test_joining_in_mid_scan_with_a_configured_geometry(self):
        counts = pictures(3)
        target = self.make_decoder(energy_ev=8000.0, distance_m=3.0, pixel_m=55e-6)
        heard = self.run(target, self.series(self.make_encoder(), counts)[2:])
        start = heard[0]
        assert isinstance(start, SeriesStart)
        assert start.n_frames is None
        assert start.geometry.shape == (32, 32)
        assert sorted(frames_of(heard)) == [1, 2]
        assert not losses_of(heard)

    def test_a_second_end_and_an_end_of_nothing(self):
        messages = self.series(self.make_encoder(), pictures(1))
        heard = self.run(self.make_decoder(), [messages[-1], *messages, messages[-1]])
        assert sorted(frames_of(heard)) == [0]
        assert sum(isinstance(m, SeriesEnd) for m in heard) == 3

    def test_auto_centre_holds_frames_and_loses_none(self):
        y, x = np.mgrid[:32, :40]
        spot = (200 * np.exp(-((y - 12) ** 2 + (x - 25) ** 2) / 18)).astype(np.uint16)
        counts = np.repeat(spot[np.newaxis], 20, axis=0)
        counts[:, 30, 2] = 60000
        target = self.make_decoder(region=RegionConfig(size_px=16, center_px="auto"))
        heard = []
        for parts in self.series(self.make_encoder(), counts):
            heard += target.feed(parts, 1)
        assert isinstance(heard[0], SeriesStart)
        got = frames_of(heard)
        assert sorted(got) == list(range(20))
        assert np.unravel_index(got[0].argmax(), (16, 16)) == (8, 8)
        assert not losses_of(heard)

    def test_auto_centre_gives_its_frames_at_the_end_of_the_input(self):
        start, *images, _ = self.series(self.make_encoder(), pictures(5))
        target = self.make_decoder(region=RegionConfig(size_px=16, center_px="auto"))
        for parts in [start, *images[:3]]:
            assert not frames_of(target.feed(parts, 1))
        assert sorted(frames_of(target.flush())) == [0, 1, 2]

    def test_too_many_pixels_are_refused_before_they_are_decoded(self):
        heard = self.run(self.make_decoder(max_frame_pixels=1000), self.series(self.make_encoder(), pictures(2)))
        assert not frames_of(heard)
        assert losses_of(heard)[Reason.OUT_OF_RANGE, "frames"] == 2

    def test_region_off_the_detector_refuses_frames_aloud(self):
        target = self.make_decoder(region=RegionConfig(size_px=8, center_px=(500, 500)))
        heard = self.run(target, self.series(self.make_encoder(), pictures(2)))
        assert losses_of(heard) == {(Reason.OUT_OF_RANGE, "frames"): 2}

    @pytest.mark.parametrize("cut", [0.1, 0.5, 0.9, 0.999])
    def test_a_cut_image_is_counted_and_the_next_one_decodes(self, cut):
        counts = pictures(3)
        messages = self.series(self.make_encoder(), counts)
        longest = max(range(len(messages[2])), key=lambda i: len(messages[2][i]))
        blob = messages[2][longest]
        messages[2] = [*messages[2][:longest], blob[: int(len(blob) * cut)], *messages[2][longest + 1 :]]
        heard = self.run(self.make_decoder(), messages)
        assert sorted(frames_of(heard)) == [0, 2]
        assert sum(n for (reason, _), n in losses_of(heard).items() if reason is Reason.TRUNCATED) == 1
        if cut > 0.2:
            (loss,) = (m for m in heard if isinstance(m, Anomaly))
            assert "frame 1" in loss.detail

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(st.data())
    def test_damage_never_raises_and_never_outlives_its_series(self, data):
        source = self.make_encoder(shape=(12, 12))
        counts = pictures(3, (12, 12))
        messages = self.series(source, counts)
        for _ in range(data.draw(st.integers(1, 4))):
            number = data.draw(st.integers(0, len(messages) - 1))
            kind = data.draw(st.sampled_from(["change", "cut", "noise", "drop part", "drop", "swap", "split"]))
            messages = self.damaged(messages, number, kind, data)
            if not messages:
                break
        center = data.draw(st.sampled_from(["middle", "auto"]))
        target = self.make_decoder(region=RegionConfig(center_px=center))
        heard = []
        for parts in messages:
            heard += target.feed(parts, 1)
            if data.draw(st.booleans()):
                target.connected()
        fresh = self.series(source, counts, series=77, labels={"fresh": True}, epoch_s=1.8e9)
        after = self.run(target, fresh)
        start = [m for m in after if isinstance(m, SeriesStart)][-1]
        assert start.labels == {"fresh": True}
        got = frames_of(m for m in after if m.series == start.series)
        assert sorted(got) == [0, 1, 2]
        for k in got if center == "middle" else ():
            np.testing.assert_array_equal(got[k], counts[k])
        for message in heard + after:
            wire.decode([bytes(p) for p in wire.encode(message)])
            if isinstance(message, FrameBlock):
                assert np.isfinite(message.exposure_start_s).all()
                assert np.isfinite(message.exposure_stop_s).all()

    def damaged(self, messages, number, kind, data):
        parts = list(messages[number])
        if kind in ("drop part", "change", "cut") and not parts:
            return messages
        position = data.draw(st.integers(0, max(len(parts) - 1, 0)))
        if kind == "drop":
            return messages[:number] + messages[number + 1 :]
        if kind == "split":
            return messages[:number] + [[p] for p in parts] + messages[number + 1 :]
        if kind == "swap":
            other = data.draw(st.integers(0, len(messages) - 1))
            swapped = list(messages)
            swapped[number], swapped[other] = swapped[other], swapped[number]
            return swapped
        if kind == "drop part":
            del parts[position]
        elif kind == "noise":
            parts.insert(position, data.draw(st.binary(max_size=30)))
        else:
            part = bytearray(parts[position])
            if kind == "cut":
                part = part[: data.draw(st.integers(0, len(part)))]
            for _ in range(data.draw(st.integers(1, 5)) if part else 0):
                part[data.draw(st.integers(0, min(len(part), 900) - 1))] = data.draw(st.integers(0, 255))
            parts[position] = bytes(part)
        return [*messages[:number], parts, *messages[number + 1 :]]

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(st.lists(st.lists(st.binary(max_size=60), max_size=4), max_size=5))
    def test_random_bytes_never_raise(self, messages):
        heard = self.run(self.make_decoder(), messages)
        assert all(isinstance(m, Anomaly | SeriesStart | SeriesEnd) for m in heard)

    def test_times_are_finite_numbers(self):
        blocks = [
            m
            for m in self.run(self.make_decoder(), self.series(self.make_encoder(), pictures(2)))
            if isinstance(m, FrameBlock)
        ]
        assert all(math.isfinite(float(b.exposure_start_s[0])) for b in blocks)
