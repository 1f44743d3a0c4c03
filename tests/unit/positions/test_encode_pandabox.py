"""The official client reads what the encoder writes."""

from __future__ import annotations

import numpy as np
import pytest
from pandablocks.connections import DataConnection
from pandablocks.hdf import FrameProcessor
from pandablocks.responses import EndData, FrameData, ReadyData, StartData

from streamptycho.positions.encode_pandabox import (
    MAX_FRAME_BYTES,
    CapturedField,
    EncodingError,
    PandaEncoder,
)

FIELDS = [
    CapturedField("INENC1.VAL", scale=1e-3, offset=-2.0, units="mm"),
    CapturedField("PCAP.TS_START", capture="Value", scale=8e-9, units="s"),
    CapturedField("PCAP.BITS0", capture="Value"),
]


def table(n: int) -> dict[str, np.ndarray]:
    k = np.arange(n, dtype=np.float64)
    return {"INENC1.VAL.Mean": k * 1e-3 - 2, "PCAP.TS_START.Value": k * 8e-6, "PCAP.BITS0.Value": k % 7}


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("chunk", [1, 1000, 1 << 20])
def test_the_official_client_parses_an_acquisition(scaled: bool, chunk: int) -> None:
    n = 50 if chunk == 1 else 5000
    encoder = PandaEncoder(FIELDS, scaled=scaled)
    header = encoder.header(arm_epoch_s=1.7e9, missed=3)
    data = b"OK\n" + header + encoder.rows(table(n)) + encoder.end(n, "Disarmed")
    connection, processor = DataConnection(), FrameProcessor()
    connection.connect(scaled)
    items = [m for at in range(0, len(data), chunk) for m in connection.receive_bytes(data[at : at + chunk])]
    assert isinstance(items[0], ReadyData)
    start, end = items[1], items[-1]
    assert isinstance(start, StartData)
    assert isinstance(end, EndData)
    assert (start.missed, start.process, start.format) == (3, "Scaled" if scaled else "Raw", "Framed")
    assert start.sample_bytes == sum(f.type.itemsize for f in start.fields)
    assert start.arm_time == "2023-11-14T22:13:20.000000000Z"
    assert (end.samples, end.reason.value) == (n, "Disarmed")
    names = [f"{f.name}.{f.capture}" for f in start.fields]
    processor.create_processors(start)
    frames = [processor.scale_data(m) for m in items if isinstance(m, FrameData)]
    for name, values in table(n).items():
        theirs = np.concatenate([frame[names.index(name)] for frame in frames])
        np.testing.assert_allclose(theirs, values, atol=1e-12)


def test_frames_are_bounded_and_rows_never_straddle_them() -> None:
    encoder = PandaEncoder(FIELDS)
    data = encoder.rows(table(20_000))
    at = 0
    while at < len(data):
        assert data[at : at + 4] == b"BIN "
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        assert size <= MAX_FRAME_BYTES
        assert (size - 8) % encoder.dtype.itemsize == 0
        at += size
    assert at == len(data)


def test_no_rows_are_no_bytes() -> None:
    assert PandaEncoder(FIELDS).rows(table(0)) == b""


def test_words_come_before_doubles() -> None:
    assert PandaEncoder(FIELDS).dtype.names == ("PCAP.BITS0.Value", "INENC1.VAL.Mean", "PCAP.TS_START.Value")


def test_mistakes_are_explained() -> None:
    encoder = PandaEncoder(FIELDS)
    with pytest.raises(EncodingError, match="missing"):
        encoder.rows({"INENC1.VAL.Mean": np.zeros(3)})
    with pytest.raises(EncodingError, match="equally long"):
        encoder.rows({**table(3), "PCAP.BITS0.Value": np.zeros(4)})
    with pytest.raises(EncodingError, match="differ"):
        PandaEncoder([FIELDS[0], FIELDS[0]])
    with pytest.raises(EncodingError, match="scale 0"):
        PandaEncoder([CapturedField("INENC1.VAL", scale=0.0)])
    raw = PandaEncoder([CapturedField("INENC1.VAL", capture="Value", scale=1e-9)], scaled=False)
    with pytest.raises(EncodingError, match="cannot hold"):
        raw.rows({"INENC1.VAL.Value": np.array([10.0])})
    with pytest.raises(EncodingError, match="cannot hold"):
        raw.rows({"INENC1.VAL.Value": np.array([np.nan])})
