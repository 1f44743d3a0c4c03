"""What the simulated detector sends, read by other people's code."""

from __future__ import annotations

import hashlib
import json

import cbor2
import lz4.block
import numpy as np
import pytest

from streamptycho.detectors import encoder

SETTINGS = {"shape": (20, 30), "dtype": "uint16", "energy_ev": 6200.0, "distance_m": 2.0, "detector_pixel_m": 75e-6}
COUNTS = np.random.default_rng(0).poisson(2, (20, 30)).astype(np.uint16)


def stream2(compression="bslz4", **changes):
    source = encoder("dectris_stream2", **{**SETTINGS, **changes}, compression=compression)
    messages = source.start(series=4, n_frames=7, epoch_s=1.7e9 + 0.25, labels={"projection": 2})
    messages += source.image(series=4, index=3, counts=COUNTS, start_s=0.5, stop_s=0.501)
    messages += source.end(series=4)
    assert all(len(parts) == 1 for parts in messages)
    return [parts[0] for parts in messages]


def test_stream2_messages_say_that_they_are_cbor_and_name_their_type_first():
    for message in stream2():
        assert message[:3] == b"\xd9\xd9\xf7"
        assert message[4 + (message[3] == 0xB8) :][:5] == b"\x64type"


def test_stream2_header():
    start = cbor2.loads(stream2()[0])
    assert (start["image_size_x"], start["image_size_y"]) == (30, 20)
    assert start["image_dtype"] == "uint16"
    assert start["arm_date"].timestamp() == 1.7e9 + 0.25
    assert start["number_of_images"] == 7
    assert dict(start["user_data"]) == {"projection": 2}
    assert start["incident_wavelength"] == pytest.approx(1.99974, abs=1e-4)
    assert start["detector_translation"][2] == -2.0


@pytest.mark.parametrize("compression", ["bslz4", "lz4", "none"])
def test_stream2_image_decodes_with_the_library_of_dectris(compression):
    image = cbor2.loads(stream2(compression)[1])
    assert image["start_time"] == (25_000_000, 50_000_000)
    assert image["stop_time"] == (25_050_000, 50_000_000)
    layout = image["data"]["threshold_1"]
    shape, typed = layout.value
    assert (layout.tag, tuple(shape), typed.tag) == (40, (20, 30), 69)
    content = typed.value
    if compression != "none":
        dectris = pytest.importorskip("dectris.compression")
        assert content.tag == 56500
        algorithm, size, payload = content.value
        assert (algorithm, size) == (compression, 2 if compression == "bslz4" else 0)
        content = dectris.decompress(payload, algorithm, elem_size=2)
    np.testing.assert_array_equal(np.frombuffer(content, "<u2").reshape(shape), COUNTS)


def stream1(compression="bslz4"):
    source = encoder("dectris_stream1", **SETTINGS, compression=compression)
    messages = source.start(series=4, n_frames=7, epoch_s=1.7e9, labels={"projection": 2})
    messages += source.image(series=4, index=3, counts=COUNTS, start_s=0.5, stop_s=0.501)
    return messages + source.end(series=4)


def test_stream1_header_has_the_parts_of_the_manual():
    start = stream1()[0]
    assert len(start) == 9
    assert json.loads(start[0]) == {"htype": "dheader-1.0", "series": 4, "header_detail": "all"}
    for part, htype in ((2, "dflatfield-1.0"), (4, "dpixelmask-1.0"), (6, "dcountrate_table-1.0")):
        table = json.loads(start[part])
        assert table["htype"] == htype
        assert len(start[part + 1]) == 4 * np.prod(table["shape"])
    assert json.loads(start[4])["shape"] == [30, 20]
    assert json.loads(start[8]) == {"projection": 2}


@pytest.mark.parametrize(("compression", "encoding"), [("bslz4", "bs16-lz4<"), ("lz4", "lz4<"), ("none", "<")])
def test_stream1_image(compression, encoding):
    head, form, blob, times = stream1(compression)[1]
    assert json.loads(head)["hash"] == hashlib.md5(blob).hexdigest()
    described = json.loads(form)
    assert described["shape"] == [30, 20]
    assert (described["encoding"], described["type"], described["size"]) == (encoding, "uint16", len(blob))
    assert json.loads(times)["start_time"] == 500_000_000
    if compression == "bslz4":
        blob = pytest.importorskip("dectris.compression").decompress(blob, "bslz4", elem_size=2)
    elif compression == "lz4":
        blob = lz4.block.decompress(blob, uncompressed_size=COUNTS.nbytes)
    np.testing.assert_array_equal(np.frombuffer(blob, "<u2").reshape(20, 30), COUNTS)


@pytest.mark.parametrize("protocol", ["dectris_stream1", "dectris_stream2"])
def test_counts_of_another_detector_are_refused(protocol):
    source = encoder(protocol, **SETTINGS)
    for wrong in (COUNTS.astype(np.uint32), COUNTS[:10]):
        with pytest.raises(ValueError, match="frames of this detector"):
            source.image(series=1, index=0, counts=wrong, start_s=0, stop_s=1)
