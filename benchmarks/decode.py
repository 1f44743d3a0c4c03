"""Detector bytes to frames: the decoders against full decoding by others, and against parsing alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import cbor2
import numpy as np

from benchmarks.clock import by_turns, compared
from benchmarks.frames import FULL, Series, eiger_series, large_series, selun_series
from benchmarks.row import Effort, Row, WrongResult
from streamptycho.config import DetectorConfig, RegionConfig
from streamptycho.detectors import BlockDecoder, compression, decoder
from streamptycho.detectors.image_blocks import MAX_THREADS
from streamptycho.messages import Array, FrameBlock

Decompress = Callable[[Any, int], Any]


def eiger_whole(effort: Effort) -> Iterator[Row]:
    """Every pixel decoded; the largest square is kept, as a reconstruction needs it."""
    series = eiger_series(96)
    yield from _rows(series, None, effort, "decode 512x1028 u16, whole", "full decode, crop, mask and geometry")


def eiger_region(effort: Effort) -> Iterator[Row]:
    series = eiger_series(96)
    meaning = "only the blocks under the 128x128 region are decoded; 3 kHz is asked for"
    yield from _rows(series, 128, effort, "decode 512x1028 u16, 128x128 region", meaning)


def selun_whole(effort: Effort) -> Iterator[Row]:
    series = selun_series(1500)
    meaning = "one frame per message: Python per message counts, not bytes; 110 kHz is the published rate"
    yield from _rows(series, None, effort, "decode 96x96 u8, whole", meaning)


def selun_full(effort: Effort) -> Iterator[Row]:
    series = selun_series(1500, background=FULL)
    meaning = "the same, but 5.3 kB a frame: none of its pixels is empty"
    yield from _rows(series, None, effort, "decode 96x96 u8, full frames", meaning)


def large_shared(effort: Effort) -> Iterator[Row]:
    """Frames of 16 million pixels, of which every one is decoded: as many threads as cores, beside one."""
    series = large_series(6)
    cores = min(len(os.sched_getaffinity(0)), MAX_THREADS)
    images = [np.frombuffer(parts[0], np.uint8) for parts in series.images]

    def decoding(threads: int) -> Callable[[], float]:
        config = _config(series, None).model_copy(update={"decode_threads": threads})
        target = decoder(config)
        list(target.feed(series.start, 0))
        if not isinstance(target, BlockDecoder):
            raise WrongResult("the decoder takes no blocks")
        decode = target.feed_block

        def run() -> float:
            done = 0
            for image in images:
                for message in decode(image, np.array([[0, len(image)]]), np.zeros(1, np.int64)):
                    done += len(message.index) if isinstance(message, FrameBlock) else 0
            return float(done)

        return run

    name = "decode 4362x4148 u16, whole"
    samples = by_turns({"shared": decoding(cores), "one": decoding(1)}, effort)
    meaning = (
        f"{cores} threads, messages of {series.image_bytes / 1e6:.1f} MB from memory; the fastest 16M sends 133 Hz"
    )
    yield compared(name, "frames/s", samples["shared"], ("one thread", samples["one"]), meaning)


def _rows(series: Series, side: int | None, effort: Effort, name: str, meaning: str) -> Iterator[Row]:
    peer_name, decompress = _peer()
    shape, dtype = series.counts.shape[1:], series.counts.dtype
    images = [parts[0] for parts in series.images]
    target = decoder(_config(series, side))
    list(target.feed(series.start, 0))

    ends = np.cumsum([0, *map(len, images)])
    spans = np.stack([ends[:-1], ends[1:]], axis=1)
    data, received_ns = np.frombuffer(b"".join(images), np.uint8), np.zeros(len(images), np.int64)
    if not isinstance(target, BlockDecoder):
        raise WrongResult(f"{name}: the decoder takes no blocks")
    blocks = target.feed_block

    def ours() -> float:
        return float(sum(len(m.index) for m in blocks(data, spans, received_ns) if isinstance(m, FrameBlock)))

    def peer() -> float:
        for image in images:
            _cropped(_plain(image, decompress, shape, dtype), side or min(shape))
        return float(len(images))

    def parsing() -> float:
        for image in images:
            cbor2.loads(image)
        return float(len(images))

    (block,) = (m for m in target.feed((images[0],), 0) if isinstance(m, FrameBlock))
    theirs = _cropped(_plain(images[0], decompress, shape, dtype), side or min(shape))
    if not np.array_equal(block.counts[0], theirs):
        raise WrongResult(f"{name}: {peer_name} decodes other counts")
    samples = by_turns({"ours": ours, "peer": peer, "parsing": parsing}, effort)
    facts = {"message_bytes": series.image_bytes, "zero_pixels": float((series.counts == 0).mean())}
    full = f"cbor2 + {peer_name}, full decode, crop"
    yield compared(name, "frames/s", samples["ours"], (full, samples["peer"]), meaning, facts)
    meaning = f"messages of {series.image_bytes / 1e3:.1f} kB; at 1 the rest of decoding would cost nothing"
    yield compared(name, "frames/s", samples["ours"], ("cbor2.loads alone", samples["parsing"]), meaning, facts)


def _config(series: Series, side: int | None) -> DetectorConfig:
    region = RegionConfig(size_px=side, center_px="middle")
    return series.config.detector.model_copy(update={"region": region})


def _peer() -> tuple[str, Decompress]:
    """Return the decompressor of DECTRIS, or ours where that is not installed."""
    try:
        from dectris.compression import decompress
    except ImportError:
        return "own full decode (dectris-compression absent)", _own
    return "dectris-compression", lambda payload, element: decompress(payload, "bslz4", elem_size=element)


def _own(payload: Any, element: int) -> Any:
    total, _ = compression.FRAME_HEADER.unpack_from(payload)
    return compression.decompress(payload, "bslz4", np.dtype(f"u{element}"), (1, total // element))


def _plain(image: bytes, decompress: Decompress, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    message = cbor2.loads(image)
    content = next(iter(message["data"].values())).value[1].value.value
    return np.frombuffer(decompress(content[2], dtype.itemsize), dtype).reshape(shape)


def _cropped(frame: Array, side: int) -> Array:
    top, left = frame.shape[0] // 2 - side // 2, frame.shape[1] // 2 - side // 2
    return frame[top : top + side, left : left + side].copy()
