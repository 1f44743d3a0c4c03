"""Pixel masks besides those of the stream: from files, from the detector, and for frames they do not fit."""

from __future__ import annotations

import base64
import http.server
import json
import threading
import time

import h5py
import numpy as np
import pytest
import tifffile

from streamptycho.config import Config, ConfigError, DetectorConfig, beside
from streamptycho.detectors import decoder, encoder
from streamptycho.detectors.mask import MaskError, mask_for
from streamptycho.messages import Anomaly, FrameBlock, Reason
from streamptycho.recording.mask_file import read_mask
from streamptycho.runtime.simplon import fetch_pixel_mask
from streamptycho.stages.pixel_mask import keep_mask

MASK = np.zeros((16, 16), np.uint32)
MASK[2, 3] = 1
MASK[15, 0] = 16


def series(shape=(16, 16), mask=None, protocol="dectris_stream2"):
    source = encoder(
        protocol, shape=shape, dtype="uint16", energy_ev=6200.0, distance_m=2.0, detector_pixel_m=75e-6, mask=mask
    )
    said = source.start(series=1, n_frames=1, epoch_s=1.7e9, labels={})
    return said + source.image(series=1, index=0, counts=np.full(shape, 9, np.uint16), start_s=0, stop_s=1e-3)


def masked_pixels(path, messages, **changes):
    target = decoder(DetectorConfig(mask=None if path is None else str(path), **changes))
    heard = [m for parts in messages for m in target.feed(parts, 1)] + list(target.flush())
    (block,) = (m for m in heard if isinstance(m, FrameBlock))
    return np.argwhere(block.counts[0] == 65535).tolist(), [m for m in heard if isinstance(m, Anomaly)]


@pytest.fixture
def npy(tmp_path):
    np.save(tmp_path / "mask.npy", MASK)
    return tmp_path / "mask.npy"


@pytest.mark.parametrize("protocol", ["dectris_stream1", "dectris_stream2", "open"])
def test_pixels_of_either_mask_are_unmeasured(npy, protocol):
    theirs = np.zeros((16, 16), bool)
    theirs[7, 7] = True
    assert masked_pixels(npy, series(protocol=protocol), protocol=protocol) == ([[2, 3], [15, 0]], [])
    both, told = masked_pixels(npy, series(mask=theirs, protocol=protocol), protocol=protocol)
    assert both == [[2, 3], [7, 7], [15, 0]]
    assert not told


def test_a_mask_of_unbinned_pixels_masks_bins(npy):
    binned, told = masked_pixels(npy, series((8, 8)))
    assert binned == [[1, 1], [7, 0]]
    assert not told


def test_a_mask_that_does_not_fit_is_told_and_not_used(npy):
    none, told = masked_pixels(npy, series((12, 12)))
    assert none == []
    assert [(m.reason, m.unit) for m in told] == [(Reason.CORRUPT, "messages")]
    assert "configuration is for 16 x 16 pixels, frames have 12 x 12" in told[0].detail


@pytest.mark.parametrize(
    ("shape", "fits"), [((16, 16), True), ((4, 4), True), ((8, 4), False), ((32, 32), False), ((0, 16), False)]
)
def test_which_frames_a_mask_fits(shape, fits):
    assert (mask_for(MASK != 0, shape) is not None) == fits


def write(path, kind):
    if kind == "tif":
        tifffile.imwrite(path / "m.tif", MASK.astype(np.uint16))
        return str(path / "m.tif")
    if kind == "npy":
        np.save(path / "m.npy", MASK)
        return str(path / "m.npy")
    inside = "/entry/instrument/detector/detectorSpecific/pixel_mask" if kind == "h5" else "/some/where"
    with h5py.File(path / "m.h5", "w") as file:
        file[inside] = MASK
    return str(path / "m.h5") + ("" if kind == "h5" else f":{inside}")


@pytest.mark.parametrize("kind", ["npy", "tif", "h5", "h5 inside"])
def test_masks_are_read_from_files(tmp_path, kind):
    np.testing.assert_array_equal(read_mask(write(tmp_path, kind), 1000), MASK != 0)


@pytest.mark.parametrize("kind", ["npy", "tif", "h5"])
def test_masks_of_too_many_pixels_are_refused(tmp_path, kind):
    with pytest.raises(MaskError, match="255"):
        read_mask(write(tmp_path, kind), 255)


@pytest.mark.parametrize("name", ["no.npy", "no.tif", "no.h5", "bad.npy", "bad.tif", "bad.h5", "mask.png", "cube.npy"])
def test_files_that_hold_no_mask_are_named(tmp_path, name):
    if name.startswith("bad"):
        (tmp_path / name).write_bytes(b"\x93NUMPY\x01\x00 nothing of the kind")
    if name == "cube.npy":
        np.save(tmp_path / name, np.zeros((2, 3, 4), int))
    with pytest.raises(MaskError, match=name):
        read_mask(str(tmp_path / name), 10_000)


def test_objects_are_not_unpickled(tmp_path):
    np.save(tmp_path / "m.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(MaskError, match="cannot be read"):
        read_mask(str(tmp_path / "m.npy"), 100)


def test_a_run_keeps_its_mask_and_a_replay_finds_it(tmp_path):
    (tmp_path / "there").mkdir()
    config = Config(detector=DetectorConfig(mask=write(tmp_path, "h5")))
    kept = keep_mask(config, tmp_path / "there" / "pixel_mask.npy")
    assert masked_pixels(kept.detector.mask, series())[0] == [[2, 3], [15, 0]]
    (tmp_path / "there").rename(tmp_path / "moved")
    found = beside(kept, tmp_path / "moved")
    assert masked_pixels(found.detector.mask, series())[0] == [[2, 3], [15, 0]]
    assert keep_mask(Config(), tmp_path / "none.npy") == Config()


def test_a_file_that_is_gone_is_an_error_with_words(tmp_path):
    with pytest.raises(MaskError, match=r"gone\.npy"):
        decoder(DetectorConfig(mask=str(tmp_path / "gone.npy")))
    assert not issubclass(MaskError, ConfigError)


class Detector(http.server.BaseHTTPRequestHandler):
    answer = b""
    drip_s = 0.0

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        step = len(self.answer) if not self.drip_s else 1
        for at in range(0, len(self.answer), step):
            try:
                self.wfile.write(self.answer[at : at + step])
            except OSError:
                return
            time.sleep(self.drip_s)

    def log_message(self, *arguments):
        pass


def darray(array, **changes):
    said = {
        "__darray__": [1, 0, 0],
        "type": array.dtype.str,
        "shape": list(array.shape),
        "filters": ["base64"],
        "data": base64.b64encode(array.tobytes()).decode(),
        **changes,
    }
    return json.dumps({"access_mode": "rw", "value": said, "value_type": "uint"}).encode()


@pytest.fixture
def serve():
    servers = []

    def start(answer, drip_s=0.0):
        handler = type("Handler", (Detector,), {"answer": answer, "drip_s": drip_s})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/detector/api/1.8.0/config/pixel_mask"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_detector_is_asked_for_its_mask(serve, tmp_path):
    url = serve(darray(MASK))
    np.testing.assert_array_equal(fetch_pixel_mask(url, 1000), MASK != 0)
    kept = keep_mask(Config(detector=DetectorConfig(mask=url)), tmp_path / "m.npy")
    assert masked_pixels(kept.detector.mask, series())[0] == [[2, 3], [15, 0]]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b"[" * 50_000,
        b"[]",
        b'{"value": 3}',
        darray(MASK, shape=[16, 15]),
        darray(MASK, shape=[-16, -16]),
        darray(MASK, type="<f4"),
        darray(MASK, type=["<u4"]),
        darray(MASK, data="*"),
        darray(MASK, shape=[16, 16, 1]),
    ],
)
def test_answers_that_are_no_mask_are_refused(serve, answer):
    with pytest.raises(MaskError, match=r"detector\.mask: http"):
        fetch_pixel_mask(serve(answer), 1000)


def test_endless_and_slow_answers_are_cut(serve):
    with pytest.raises(MaskError, match="more than"):
        fetch_pixel_mask(serve(b"x" * 1_000_000), 1000)
    with pytest.raises(MaskError, match="too long"):
        fetch_pixel_mask(serve(b"x" * 2000, drip_s=0.05), 1000, timeout_s=0.3)


def test_nobody_there(serve):
    with pytest.raises(MaskError, match="check the address"):
        fetch_pixel_mask("http://127.0.0.1:1/pixel_mask", 1000)
    with pytest.raises(MaskError, match="http://"):
        fetch_pixel_mask("file:///etc/hostname", 1000)
