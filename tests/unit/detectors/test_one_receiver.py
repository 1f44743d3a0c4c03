"""What detectors do between and within series: other dtypes, channels, sizes, aborts and joins."""

from __future__ import annotations

import cbor2
import numpy as np
import pytest

from streamptycho.config import DetectorConfig, PairingConfig, ProjectionsConfig, RegionConfig
from streamptycho.detectors import decoder, encoder
from streamptycho.messages import (
    AcquisitionEnd,
    AcquisitionStart,
    Anomaly,
    DiffractionBatch,
    FrameBlock,
    PositionBlock,
    ProjectionEnd,
    Reason,
    SeriesStart,
)
from streamptycho.pairing import Pairing

PROTOCOLS = ("dectris_stream1", "dectris_stream2", "open")
N = 5


def series(protocol, number, dtype="uint16", shape=(16, 16), value=None, **changes):
    scale = {"energy_ev": 6200.0, "distance_m": 2.0, "detector_pixel_m": 75e-6, **changes}
    source = encoder(protocol, shape=shape, dtype=dtype, **scale)
    said = source.start(series=number, n_frames=N, epoch_s=1.7e9 + 60 * number, labels={"projection": number})
    for k in range(N):
        counts = np.full(shape, k + 10 * number if value is None else value, dtype)
        said += source.image(series=number, index=k, counts=counts, start_s=k * 1e-3, stop_s=k * 1e-3 + 9e-4)
    return said + source.end(series=number)


def hear(messages, protocol, **changes):
    target = decoder(DetectorConfig(protocol=protocol, **changes))
    return [m for parts in messages for m in target.feed(parts, 1)] + list(target.flush())


def pixels(heard):
    return {
        (m.series, int(k)): c
        for m in heard
        if isinstance(m, FrameBlock)
        for k, c in zip(m.index, m.counts, strict=True)
    }


def paired(heard):
    """Pair with one acquisition per series, by row."""
    pairing = Pairing("s", PairingConfig(match="order"), ProjectionsConfig())
    out = []
    starts = [m for m in heard if isinstance(m, SeriesStart)]
    for k, _ in enumerate(starts):
        name = f"a{k}"
        rows = PositionBlock(
            acquisition=name, row=np.arange(N), time_s=np.arange(N) * 1e-3, xy_m=np.arange(2.0 * N).reshape(N, 2)
        )
        for m in (AcquisitionStart(acquisition=name), rows):
            out += pairing.feed(m, 1)
        out += pairing.feed(AcquisitionEnd(acquisition=name, rows=N, reason="Ok", complete=True), 1)
    for m in heard:
        out += pairing.feed(m, 1)
    return out + list(pairing.finish(10**12, "done"))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_series_back_to_back_change_their_dtype(protocol):
    dtypes = ["uint16", "uint8", "uint32", "uint16"]
    said = [parts for k, dtype in enumerate(dtypes) for parts in series(protocol, k + 1, dtype)]
    heard = hear(said, protocol)
    out = paired(heard)
    batches = [m for m in out if isinstance(m, DiffractionBatch)]
    assert [b.counts.dtype.name for b in batches] == dtypes
    assert [b.projection for b in batches] == [1, 2, 3, 4]
    for batch in batches:
        assert (batch.counts[:, 3, 4] == np.arange(N) + 10 * batch.projection).all()
    assert all(m.frames_paired == N and not m.dropped for m in out if isinstance(m, ProjectionEnd))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_frames_of_two_series_that_overlap_in_time_are_told_apart(protocol):
    """A late frame of the series before is stray; the new series is whole."""
    first, second = series(protocol, 1), series(protocol, 2)
    heard = hear([*first[:4], second[0], first[4], *second[1:], first[-1]], protocol)
    last = [m for m in heard if isinstance(m, SeriesStart)][-1].series
    assert sorted(k for name, k in pixels(heard) if name == last) == list(range(N))
    assert [m.reason for m in heard if isinstance(m, Anomaly)] == [Reason.STRAY]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("dtype", "top"), [("uint8", 255), ("uint16", 65535), ("uint32", 2**32 - 1)])
def test_counts_over_the_cut_off_are_saturated_in_every_dtype(protocol, dtype, top):
    heard = hear(series(protocol, 1, dtype, value=201, saturation=200), protocol)
    assert all((c == top).all() for c in pixels(heard).values())
    assert sum(m.count for m in heard if isinstance(m, Anomaly) and m.reason is Reason.SATURATED) == N * 256
    within = hear(series(protocol, 1, dtype, value=200, saturation=200), protocol)
    assert all((c == 200).all() for c in pixels(within).values())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pixels_that_the_detector_binned_change_the_scale_with_the_header(protocol):
    plain = series(protocol, 1, shape=(32, 32))
    binned = series(protocol, 2, shape=(16, 16), detector_pixel_m=150e-6)
    heard = hear([*plain, *binned], protocol)
    one, two = (m.geometry for m in heard if isinstance(m, SeriesStart))
    assert (one.shape, two.shape) == ((32, 32), (16, 16))
    assert one.object_pixel_m == pytest.approx(two.object_pixel_m)
    assert not [m for m in heard if isinstance(m, Anomaly)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_join_in_mid_scan_says_what_it_needs_and_keeps_the_numbers(protocol):
    late = series(protocol, 1)[3:]
    lost = [m for m in hear(late, protocol) if isinstance(m, Anomaly)]
    assert [m.reason for m in lost] == [Reason.STRAY] * 3
    assert "detector.energy_ev, detector.distance_m and detector.pixel_m" in lost[0].detail
    heard = hear(late, protocol, energy_ev=6200, distance_m=2, pixel_m=75e-6)
    out = paired(heard)
    (batch,) = (m for m in out if isinstance(m, DiffractionBatch))
    assert batch.index.tolist() == [2, 3, 4]
    np.testing.assert_array_equal(batch.xy_m, np.arange(10.0).reshape(5, 2)[2:])
    (end,) = (m for m in out if isinstance(m, ProjectionEnd))
    assert (end.frames_sent, end.dropped) == (5, {"missing": 2})


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_series_that_was_aborted_and_armed_again_is_two(protocol):
    aborted = series(protocol, 1)[:3]
    again = series(protocol, 1 if protocol == "dectris_stream1" else 2)
    heard = hear([*aborted, *again], protocol)
    names = [m.series for m in heard if isinstance(m, SeriesStart)]
    assert len(set(names)) == 2
    assert [k for name, k in pixels(heard) if name == names[1]] == list(range(N))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_centre_that_the_first_frames_gave_stays_for_later_series(protocol):
    y, x = np.mgrid[:32, :32]

    def spots(number, row, column):
        said = series(protocol, number, shape=(32, 32))
        source = encoder(
            protocol, shape=(32, 32), dtype="uint16", energy_ev=6200.0, distance_m=2.0, detector_pixel_m=75e-6
        )
        source.start(series=number, n_frames=N, epoch_s=1.7e9 + 60 * number, labels={})
        spot = (900 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 20)).astype(np.uint16)
        images = [
            parts
            for k in range(N)
            for parts in source.image(series=number, index=k, counts=spot, start_s=k * 1e-3, stop_s=k * 1e-3)
        ]
        return [said[0], *images, said[-1]]

    region = RegionConfig(size_px=12, center_px="auto")
    heard = hear([*spots(1, 14, 18), *spots(2, 16, 18)], protocol, region=region)
    found = [np.unravel_index(c.argmax(), c.shape) for c in pixels(heard).values()]
    assert found == [(6, 6)] * N + [(8, 6)] * N


CHANNELS = ["threshold_1", "threshold_2", "difference"]


def several_channels():
    said = series("dectris_stream2", 1)
    out = []
    for parts in said:
        message = dict(cbor2.loads(parts[0][3:]))
        if message["type"] == "start":
            message["channels"] = CHANNELS
            message["pixel_mask"] = {}
        if message["type"] == "image":
            data = {
                name: cbor2.CBORTag(40, [[16, 16], cbor2.CBORTag(69, np.full((16, 16), 100 * at + 7, "<u2").tobytes())])
                for at, name in enumerate(CHANNELS)
            }
            message["data"] = data
        out.append([cbor2.dumps(cbor2.CBORTag(55799, message))])
    return out


@pytest.mark.parametrize(("channel", "value"), [(None, 7), *zip(CHANNELS, (7, 107, 207), strict=True)])
def test_thresholds_and_difference_are_chosen_by_name(channel, value):
    got = pixels(hear(several_channels(), "dectris_stream2", channel=channel))
    assert len(got) == N
    assert all((c == value).all() for c in got.values())


def test_a_channel_that_is_not_sent_costs_its_frames_with_the_names_of_those_that_are():
    heard = hear(several_channels(), "dectris_stream2", channel="threshold_3")
    lost = [m for m in heard if isinstance(m, Anomaly) and m.unit == "frames"]
    assert [(m.reason, m.count) for m in lost] == [(Reason.MISSING, 1)] * N
    assert "threshold_1, threshold_2, difference" in lost[0].detail
