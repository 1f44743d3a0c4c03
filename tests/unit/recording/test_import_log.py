"""Imported data as a stream log: what the decoders make of it is what was measured."""

import numpy as np
import pytest

from streamptycho import config, detectors, positions
from streamptycho.geometry import Geometry
from streamptycho.messages import (
    AcquisitionEnd,
    AcquisitionStart,
    Anomaly,
    FrameBlock,
    PositionBlock,
    SeriesEnd,
    SeriesStart,
)
from streamptycho.recording.import_log import DEFAULT_EPOCH_S, write_log
from streamptycho.recording.importers import Dataset, load_dataset
from streamptycho.recording.stream_log import DiskFullError, StreamLogError, StreamLogReader, StreamLogWriter
from streamptycho.registry import UnknownPluginError
from tests.data import shared_data


def measurement(n=250, shape=(24, 24), dtype=np.uint16, mask=None, probe=True):
    rng = np.random.default_rng(4)
    counts = rng.integers(0, 200, (n, *shape)).astype(dtype)
    if mask is not None:
        counts[:, mask != 0] = np.iinfo(dtype).max
    side = min(shape)
    return Dataset(
        counts=counts,
        xy_m=rng.normal(size=(n, 2)) * 3e-6,
        geometry=Geometry(6200.0, 2.0, 75e-6, (side, side)),
        probe=np.full((2, side, side), 1 + 1j, np.complex64) if probe else None,
        mask=mask,
    )


def decode(path):
    """Return the configuration and everything the decoders make of a log."""
    reader = StreamLogReader(path)
    settings = config.parse(reader.configuration)
    frames, rows = detectors.decoder(settings.detector), positions.decoder(settings.positions)
    frames.connected()
    rows.connected()
    out = []
    for record in reader:
        if record.kind != "data":
            continue
        if record.source == "detector":
            out += frames.feed(record.parts, record.received_ns)
        else:
            for part in record.parts:
                out += rows.feed(part, record.received_ns)
    out += frames.flush()
    return settings, out


def of(kind, messages):
    return [m for m in messages if isinstance(m, kind)]


@pytest.mark.parametrize("protocol", ["dectris_stream1", "dectris_stream2"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_the_decoders_find_what_was_measured(tmp_path, protocol, dtype):
    mask = np.zeros((24, 24), np.uint32)
    mask[2, 3] = 1
    data = measurement(dtype=dtype, mask=mask)
    path = write_log(data, tmp_path / "scan.log", protocol=protocol, rate_hz=500.0, scan_id="bone")
    settings, out = decode(path)
    assert not of(Anomaly, out)
    (start,) = of(SeriesStart, out)
    assert start.n_frames == len(data.counts)
    assert start.geometry.object_pixel_m == pytest.approx(data.geometry.object_pixel_m)
    assert start.labels["scan_id"] == "bone"
    blocks = of(FrameBlock, out)
    np.testing.assert_array_equal(np.concatenate([b.index for b in blocks]), np.arange(len(data.counts)))
    np.testing.assert_array_equal(np.concatenate([b.counts for b in blocks]), data.counts)
    assert len(of(SeriesEnd, out)) == 1
    (armed,) = of(AcquisitionStart, out)
    assert armed.epoch_s == pytest.approx(DEFAULT_EPOCH_S)
    rows = of(PositionBlock, out)
    np.testing.assert_allclose(np.concatenate([b.xy_m for b in rows]), data.xy_m, rtol=1e-12)
    np.testing.assert_array_equal(np.concatenate([b.row for b in rows]), np.arange(len(data.xy_m)))
    np.testing.assert_allclose(np.concatenate([b.time_s for b in rows]), np.arange(250) / 500.0, atol=2e-3)
    (over,) = of(AcquisitionEnd, out)
    assert (over.rows, over.complete) == (len(data.xy_m), True)
    assert settings.projections.count == 1
    assert settings.scan_id == "bone"


def test_the_log_is_complete_in_order_of_arrival_and_reproducible(tmp_path):
    data = measurement()
    seen = []
    path = write_log(data, tmp_path / "a" / "scan.log", progress=lambda done, total: seen.append((done, total)))
    records = list(StreamLogReader(path))
    assert records[0].kind == "configuration"
    assert records[-1].kind == "end"
    times = [r.received_ns for r in records[1:]]
    assert times == sorted(times)
    assert [r.sequence for r in records] == list(range(len(records)))
    assert (times[-1] - times[0]) / 1e9 == pytest.approx(0.35, abs=0.02)
    sources = [r.source for r in records if r.kind == "data"]
    assert sources.index("positions") < 40
    assert "detector" in sources[sources.index("positions") + 120 :]
    assert seen[-1] == (250, 250)
    again = write_log(data, tmp_path / "a" / "again.log", scan_id="scan")
    assert [r.parts for r in StreamLogReader(again)][1:] == [r.parts for r in records][1:]


def test_the_probe_is_saved_beside_the_log_and_named_in_the_configuration(tmp_path):
    data = measurement(n=3)
    path = write_log(data, tmp_path / "star.log", orientation="swap_xy")
    settings = config.beside(config.parse(StreamLogReader(path).configuration), path.parent)
    assert settings.reconstruction.probe.start == "file"
    assert settings.reconstruction.probe.file == tmp_path / "star.log.probe.npy"
    np.testing.assert_array_equal(np.load(settings.reconstruction.probe.file), data.probe)
    assert settings.reconstruction.modes == 2
    assert settings.positions.orientation == "swap_xy"
    assert settings.scan_id == "star"
    plain = write_log(measurement(n=3, probe=False), tmp_path / "plain.log")
    assert config.parse(StreamLogReader(plain).configuration).reconstruction.probe.start == "data"
    assert not (tmp_path / "plain.log.probe.npy").exists()


def test_a_rectangular_detector_is_cut_to_its_middle(tmp_path):
    data = measurement(n=4, shape=(20, 30))
    _, out = decode(write_log(data, tmp_path / "a.log"))
    (start,) = of(SeriesStart, out)
    assert start.geometry.shape == (20, 20)
    np.testing.assert_array_equal(np.concatenate([b.counts for b in of(FrameBlock, out)]), data.counts[:, :, 5:25])


def test_an_existing_log_is_kept(tmp_path):
    path = write_log(measurement(n=3), tmp_path / "a.log")
    before = path.read_bytes()
    with pytest.raises(StreamLogError, match="never overwrites"):
        write_log(measurement(n=4), path)
    assert path.read_bytes() == before


def test_an_import_that_fails_leaves_nothing_in_the_way_of_the_next(tmp_path, monkeypatch):
    append = StreamLogWriter.append

    def full_after_some(self, record):
        if record.sequence > 20:
            raise DiskFullError("no room")
        append(self, record)

    with monkeypatch.context() as patch:
        patch.setattr(StreamLogWriter, "append", full_after_some)
        with pytest.raises(DiskFullError):
            write_log(measurement(), tmp_path / "a.log")
    with pytest.raises(UnknownPluginError, match="dectris_stream2"):
        write_log(measurement(), tmp_path / "a.log", protocol="morse")
    assert list(tmp_path.iterdir()) == []
    write_log(measurement(), tmp_path / "a.log")


def test_the_star_travels_through_the_log_unchanged(tmp_path):
    star = load_dataset(shared_data("siemens-star-aps/siemens-star-small.npz.bz2"))
    _, out = decode(write_log(star, tmp_path / "star.log"))
    assert not of(Anomaly, out)
    np.testing.assert_array_equal(np.concatenate([b.counts for b in of(FrameBlock, out)]), star.counts)
    np.testing.assert_allclose(np.concatenate([b.xy_m for b in of(PositionBlock, out)]), star.xy_m, rtol=1e-12)
