"""Messages that no honest instrument sends: damaged real ones, random ones, and ones made to hurt."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cbor2
import numpy as np

from streamptycho.detectors import encoder
from streamptycho.detectors.compression import compress_bslz4, compress_lz4
from streamptycho.positions.encode_pandabox import CapturedField, PandaEncoder

SHARED = Path(__file__).resolve().parents[1] / "shared" / "data"
SHAPE = (24, 32)
GOOD_FRAMES = 3
GOOD_ROWS = 12
REAL_SHARE = 0.002
SCALE = {"energy_ev": 6200.0, "distance_m": 2.0, "detector_pixel_m": 75e-6}
COUNTS = np.random.default_rng(2).poisson(4, (GOOD_FRAMES, *SHAPE)).astype(np.uint16)
HUGE = (0xFFFFFFFF, 1 << 31, (1 << 63) - 1, (1 << 64) - 1, 1 << 40, 65_535, 0)

Parts = list[bytes]
Maker = Callable[[np.random.Generator], Parts]


def good_series(protocol: str, number: int) -> list[Parts]:
    """Return a series that must decode exactly, whatever came before it."""
    compression = ("bslz4", "lz4", "none")[number % 3]
    source = encoder(protocol, shape=SHAPE, dtype="uint16", compression=compression, **SCALE)
    said = source.start(series=10_000 + number, n_frames=GOOD_FRAMES, epoch_s=1.8e9 + number, labels={"n": number})
    for k in range(GOOD_FRAMES):
        said += source.image(
            series=10_000 + number, index=k, counts=COUNTS[k], start_s=k * 1e-3, stop_s=k * 1e-3 + 5e-4
        )
    return said + source.end(series=10_000 + number)


def good_acquisition(number: int) -> list[bytes]:
    """Return header, rows and end of a PandABox acquisition of `GOOD_ROWS` rows."""
    panda = PandaEncoder([CapturedField("INENC1.VAL"), CapturedField("INENC2.VAL")], scaled=number % 2 == 0)
    k = np.arange(GOOD_ROWS, dtype=np.float64)
    rows = {"INENC1.VAL.Mean": k, "INENC2.VAL.Mean": -k}
    return [panda.header(arm_epoch_s=1.7e9 + number), panda.rows(rows), panda.end(GOOD_ROWS)]


def good_json(number: int) -> list[bytes]:
    """Return the messages of an acquisition of `GOOD_ROWS` rows as JSON, in one dialect or the other."""
    values = {"INENC1.VAL.Mean": list(range(GOOD_ROWS)), "INENC2.VAL.Mean": [0.5] * GOOD_ROWS}
    armed = f"2026-01-01T00:00:00.{number:09d}Z"
    if number % 2:
        sets = {name: {"starting_sample_number": 0, "data": v} for name, v in values.items()}
        said: list[dict[str, Any]] = [
            {"msg_type": "start", "arm_time": armed},
            {"msg_type": "data", "frame_number": 0, "datasets": sets},
            {"msg_type": "stop"},
        ]
    else:
        said = [
            {"message_type": "series-start", "arm_time": armed},
            {"message_type": "data", "frame_number": 0, **values},
            {"message_type": "series-end"},
        ]
    return [json.dumps(message).encode() for message in said]


def real(name: str) -> bytes | None:
    """Return measured bytes, None where they are not."""
    path = SHARED / name
    return path.read_bytes() if path.exists() else None


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Return the bytes with one to three kinds of damage."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        kind, size = int(rng.integers(0, 7)), max(len(out), 1)
        at = int(rng.integers(0, min(size, 400) if rng.random() < 0.7 else size))
        if kind == 0:
            for _ in range(int(rng.integers(1, 9))):
                where = int(rng.integers(0, size))
                out[where : where + 1] = bytes([int(rng.integers(0, 256))])
        elif kind == 1:
            del out[at:]
        elif kind == 2:
            out[at:at] = rng.bytes(int(rng.integers(1, 64)))
        elif kind == 3:
            del out[at : at + int(rng.integers(1, 64))]
        elif kind == 4:
            out[at:at] = out[at : at + int(rng.integers(1, 200))]
        elif kind == 5:
            width = int(rng.choice([1, 2, 4, 8]))
            value = int(HUGE[int(rng.integers(0, len(HUGE)))]) & ((1 << (8 * width)) - 1)
            out[at : at + width] = value.to_bytes(width, "big" if rng.random() < 0.5 else "little")
        elif at < len(out):
            out[at] = int(rng.choice([0x1B, 0x3B, 0x5B, 0x7B, 0x9B, 0xBB, 0xDB, 0x9F, 0xBF, 0x5F, 0xFF]))
    return bytes(out)


def hostile_cbor(rng: np.random.Generator) -> Parts:
    """Random CBOR: huge declared sizes, deep nesting, open ends, tags upon tags."""
    kind = int(rng.integers(0, 6))
    if kind == 0:
        head = bytes([int(rng.choice([0x5B, 0x7B, 0x9B, 0xBB]))])
        return [head + struct.pack(">Q", int(rng.integers(0, 1 << 63)) * 2 + 1) + rng.bytes(int(rng.integers(0, 50)))]
    if kind == 1:
        return [bytes([int(rng.choice([0x81, 0x9F, 0xA1, 0xBF, 0xC0, 0xD8]))]) * int(rng.integers(1, 20_000))]
    if kind == 2:
        return [b"\xd9\xd9\xf7" + rng.bytes(int(rng.integers(0, 200)))]
    if kind == 3:
        return [b"\x9f" + b"\x00" * int(rng.integers(0, 200_000 if rng.random() < 0.01 else 2_000))]
    if kind == 4:
        return [b"\xa1" + bytes([int(rng.integers(0, 256))]) * int(rng.integers(1, 300))]
    return [rng.bytes(int(rng.integers(0, 400)))]


def hostile_stream2(rng: np.random.Generator) -> Parts:
    """Well-formed CBOR whose image lies: sizes, dimensions, element sizes, bombs."""
    side = _lie(rng)
    dims = [[side, _lie(rng)], [side], [side, 4, 4], [-4, -4], "24x32", [24, 32]][int(rng.integers(0, 6))]
    payload = _bomb(rng)
    algorithm = ["bslz4", "lz4", "zstd", "", 7][int(rng.integers(0, 5))]
    content: Any = cbor2.CBORTag(56500, [algorithm, int(rng.choice([0, 1, 2, 4, 3, 255])), payload])
    if rng.random() < 0.2:
        content = payload
    typed = cbor2.CBORTag(int(rng.choice([64, 69, 70, 85, 66, 40])), content)
    array = cbor2.CBORTag(int(rng.choice([40, 1040, 41])), [dims, typed])
    image = {"type": "image", "series_id": 1, "series_unique_id": "x", "image_id": _lie(rng)}
    image |= {"data": {"threshold_1": array}, "start_time": [_lie(rng), _lie(rng)], "stop_time": _lie(rng)}
    start = {"type": "start", "series_id": 1, "series_unique_id": str(_lie(rng)), "pixel_mask": {"threshold_1": array}}
    start |= {"image_size_x": _lie(rng), "image_size_y": side, "number_of_images": _lie(rng), "user_data": [[[{}]]]}
    message = [image, start, {"type": "end", "series_id": _lie(rng)}, {"type": _lie(rng)}][int(rng.integers(0, 4))]
    return [cbor2.dumps(message)]


def hostile_stream1(rng: np.random.Generator) -> Parts:
    """Parts whose JSON lies about the blob behind it."""
    shape = [[_lie(rng), _lie(rng)], [-4, 4], [32, 24, 9], "x", [32, 24]][int(rng.integers(0, 5))]
    form = {
        "htype": "dimage_d-1.0",
        "shape": shape,
        "type": ["uint16", "uint8", "float64", 3][int(rng.integers(0, 4))],
        "encoding": ["bs16-lz4<", "lz4<", "<", "bs8-lz4>", "bs64-lz4<", None][int(rng.integers(0, 6))],
        "size": _lie(rng),
    }
    top = {"htype": "dimage-1.0", "series": _lie(rng), "frame": _lie(rng)}
    table = {"htype": "dpixelmask-1.0", "shape": shape, "type": "uint32"}
    head = {"htype": "dheader-1.0", "series": _lie(rng), "header_detail": ["all", "none", 4][int(rng.integers(0, 3))]}
    message = [
        [top, form, _bomb(rng), {"htype": "dconfig-1.0", "start_time": _lie(rng), "stop_time": _lie(rng)}],
        [head, {"nimages": _lie(rng), "ntrigger": _lie(rng)}, table, _bomb(rng)],
        [{"htype": "dseries_end-1.0", "series": _lie(rng)}],
        [b"{" * int(rng.integers(1, 5000))],
    ][int(rng.integers(0, 4))]
    return [part if isinstance(part, bytes) else json.dumps(part).encode() for part in message]


def hostile_open(rng: np.random.Generator) -> Parts:
    """Headers that lie about numbers, shapes and buffers."""
    header = {
        "type": ["start", "frames", "frames", "end", "?"][int(rng.integers(0, 5))],
        "series": _lie(rng),
        "first": _lie(rng),
        "count": _lie(rng),
        "index": [None, [], [1, 2, _lie(rng)], "x", [[]]][int(rng.integers(0, 5))],
        "shape": [[_lie(rng), _lie(rng)], [24, 32], [-1, 5], None][int(rng.integers(0, 4))],
        "dtype": ["uint16", "uint8", "object", 9][int(rng.integers(0, 4))],
        "encoding": ["raw", "lz4", "bslz4", "lz4_block", {}][int(rng.integers(0, 5))],
        "start_s": [_lie(rng)],
        "labels": {"a": [[[[_lie(rng)]]]]},
    }
    kept = {key: value for key, value in header.items() if rng.random() < 0.9}
    first = json.dumps(kept).encode() if rng.random() < 0.95 else b"[" * int(rng.integers(1, 50_000))
    return [first, *(_bomb(rng) for _ in range(int(rng.integers(0, 4))))]


def hostile_panda(rng: np.random.Generator) -> Parts:
    """Headers, frames and end lines of a PandABox that lie."""
    header, rows, _ = good_acquisition(int(rng.integers(0, 4)))
    kind = int(rng.integers(0, 6))
    size = struct.pack("<4sI", b"BIN ", int(rng.choice((*HUGE[:1], 7, 0, 9, 1 << 23, (1 << 23) + 1))))
    entities = b'<!DOCTYPE a [<!ENTITY b "' + b"x" * 500 + b'"><!ENTITY c "&b;&b;&b;&b;">]>'
    made = [
        header + size + rng.bytes(int(rng.integers(0, 400))),
        b"<header>\n" + entities + header[9:],
        header.replace(b'sample_bytes="', b'sample_bytes="%d' % int(rng.integers(0, 1 << 40))) + rows,
        header.replace(b'missed="0"', b'missed="%d"' % int(rng.integers(-(1 << 62), 1 << 62))) + rows,
        b"<header>\n" + b"<x>" * int(rng.integers(1, 100_000)) + b"</header>\n\n",
        header + b"END " + rng.bytes(int(rng.integers(0, 600))) + b"\n",
    ]
    return [made[kind]]


def hostile_json(rng: np.random.Generator) -> Parts:
    """JSON of a PandABox that lies."""
    column = [[_lie(rng)] * int(rng.integers(0, 5)), [None, 1e308, "a"], {}, [[1]], [float("nan")] * 3]
    message = {
        "message_type": ["series-start", "data", "data", "data", "series-end", 5][int(rng.integers(0, 6))],
        "arm_time": _lie(rng),
        "frame_number": _lie(rng),
        "INENC1.VAL.Mean": column[int(rng.integers(0, 5))],
        "INENC2.VAL.Mean": column[int(rng.integers(0, 5))],
    }
    if rng.random() < 0.3:
        message["datasets"] = {"INENC1.VAL.Mean": {"data": column[0], "starting_sample_number": _lie(rng)}, "x": 3}
    if rng.random() < 0.1:
        return [b'{"message_type":"data","x":' + b"[" * int(rng.integers(1, 60_000))]
    return [json.dumps(message).encode()]


_LIES = (0, 1, -1, 24, 32, 5000, 65_536, 1 << 31, 1 << 62, 1 << 70, -(1 << 70), 1.5, "1", None, [], {}, True, 1e300)


def _lie(rng: np.random.Generator) -> Any:
    return _LIES[int(rng.integers(0, len(_LIES)))]


def _bomb(rng: np.random.Generator) -> bytes:
    """Return a payload that unpacks to far more than it is, or declares to, or is cut or random."""
    kind = int(rng.integers(0, 6))
    if kind == 0:
        return _BOMBS[int(rng.integers(0, len(_BOMBS)))]
    if kind == 1:
        return struct.pack(">QI", int(rng.choice([1 << 62, 1536, 0, 1 << 31])), int(rng.choice([0, 8, 8192, 1 << 31])))
    if kind == 2:
        return struct.pack(">QI", 1536, 8192) + rng.bytes(int(rng.integers(0, 300)))
    if kind == 3:
        return damaged(_PAYLOADS[int(rng.integers(0, len(_PAYLOADS)))], rng)
    return (
        b"\x1f\x00\x01\x00" + b"\xff" * int(rng.integers(0, 3000)) if kind == 4 else rng.bytes(int(rng.integers(0, 99)))
    )


_BOMBS = [compress_lz4(np.zeros(1 << 20, np.uint16)), compress_bslz4(np.zeros(1 << 20, np.uint16))]
_PAYLOADS = [compress_bslz4(COUNTS[0]), compress_lz4(COUNTS[0])]


def makers(protocol: str) -> Iterator[tuple[float, Maker]]:
    """Yield the kinds of message of a protocol and how often they come, as shares."""
    if protocol == "pandabox":
        made = [(3, _damaged_bytes(lambda n: [b"".join(good_acquisition(n))])), (3, hostile_panda)]
    elif protocol == "panda_json":
        made = [(3, _damaged_bytes(good_json)), (3, hostile_json), (1, _damaged_bytes(_measured_json))]
    else:
        made = [(3, _damaged_series(protocol)), (3, _LIARS[protocol])]
    if protocol == "dectris_stream2":
        made.append((1, hostile_cbor))
    yield from made
    whole = [data for name in _REAL.get(protocol, ()) if (data := real(name)) is not None]
    if whole:
        total = sum(share for share, _ in made)
        yield REAL_SHARE * total, lambda rng: [damaged(whole[int(rng.integers(0, len(whole)))], rng)]


_LIARS = {"dectris_stream2": hostile_stream2, "dectris_stream1": hostile_stream1, "open": hostile_open}
_REAL = {
    "dectris_stream2": [f"eiger-stream/stream2_eiger2_16m_{kind}.cbor" for kind in ("start", "image", "end")],
    "pandabox": ["panda-stream/slow_dump.bin", "panda-stream/fast_dump.bin", "panda-stream/raw_dump.bin"],
}


def _damaged_series(protocol: str) -> Maker:
    known = [parts for number in range(3) for parts in good_series(protocol, number)]
    if protocol == "dectris_stream1":
        known += _measured_series()

    def make(rng: np.random.Generator) -> Parts:
        parts = list(known[int(rng.integers(0, len(known)))])
        at = int(rng.integers(0, len(parts)))
        kind = int(rng.integers(0, 6)) if len(parts) > 1 else 5
        if kind == 0:
            del parts[at]
        elif kind == 1:
            parts.insert(at, rng.bytes(int(rng.integers(0, 60))))
        elif kind == 2:
            return [parts[at]]
        else:
            parts[at] = damaged(parts[at], rng)
        return parts

    return make


def _damaged_bytes(good: Callable[[int], list[bytes]]) -> Maker:
    known = [message for number in range(4) for message in good(number)]
    return lambda rng: [damaged(known[int(rng.integers(0, len(known)))], rng)]


def _measured_json(number: int) -> list[bytes]:
    data = real("panda-stream/pcap-zmq.cbors")
    if data is None or number:
        return good_json(number)
    file, messages = io.BytesIO(data), []
    while file.tell() < len(data):
        messages += cbor2.load(file)
    return messages


def _measured_series() -> list[Parts]:
    data = real("eiger-stream/stream1_eiger2_9m_series.cbors")
    if data is None:
        return []
    file, messages = io.BytesIO(data), []
    while file.tell() < len(data):
        messages.append([bytes(part) for part in cbor2.load(file)])
    return messages
