"""Detector process, socket, log, decoding, pairing: what arrives as paired batches, against what the socket carries."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import cbor2
import numpy as np

from benchmarks.clock import by_turns, compared
from benchmarks.frames import Series, eiger_series, large_series, selun_series
from benchmarks.row import Effort, Row, WrongResult
from benchmarks.sender import Sender, sending
from streamptycho.config import Config, RegionConfig
from streamptycho.detectors.compression import decompress as own_decompress
from streamptycho.messages import Array, DiffractionBatch, RawBlock, RawRecord
from streamptycho.recording.stream_log import LogTail, StreamLogReader, StreamLogWriter
from streamptycho.runtime.bulk_receive import BulkReceiver, function_addresses
from streamptycho.stages.ingest import IngestStage
from streamptycho.stages.record import LogFeed, Recorder

WAIT_S = 0.02


def eiger(effort: Effort) -> Iterator[Row]:
    series = eiger_series(600 if effort.quick else 3000)
    yield from _rows(series, 128, effort, "ingest 512x1028 u16, 128x128 region", "3 kHz is asked for")


def selun(effort: Effort) -> Iterator[Row]:
    series = selun_series(12_000 if effort.quick else 60_000)
    meaning = "one frame per message, 110 kHz is the published rate"
    yield from _rows(series, None, effort, "ingest 96x96 u8", meaning)


def large(effort: Effort) -> Iterator[Row]:
    series = large_series(20 if effort.quick else 60)
    yield from _rows(series, 1024, effort, "ingest 4362x4148 u16, 1024x1024 region", "130 Hz is the fastest EIGER2 16M")


def _rows(series: Series, side: int | None, effort: Effort, name: str, meaning: str) -> Iterator[Row]:
    messages = [series.start, *series.images, series.end]
    config = _config(series, side)
    frames = len(series.images)
    processor_s: list[float] = []
    with tempfile.TemporaryDirectory() as folder, sending(messages, Path(folder)) as sender:

        def alone() -> float:
            sender.send_all()
            receiver = BulkReceiver(sender.socket, function_addresses())
            left = len(messages)
            while left:
                block = receiver.receive(1) if sender.wait() else None
                left -= len(block) if block is not None else 0
            return float(frames)

        def plain() -> float:
            sender.send_all()
            for _ in messages:
                _decode_plainly(sender.receive()[0], series.counts.shape[1:], side or min(series.counts.shape[1:]))
            return float(frames)

        def ours() -> float:
            sender.send_all()
            began_s = time.process_time()
            _check(_ingest(sender, config, series, len(messages), Path(folder) / "run.log"), frames, name)
            processor_s.append(time.process_time() - began_s)
            return float(frames)

        samples = by_turns({"ours": ours, "alone": alone, "plain": plain}, effort)
    frame_us = 1e6 * statistics.median(processor_s[1:]) / frames
    facts = {"lost": 0.0, "processor_us_per_frame": frame_us, "message_bytes": series.image_bytes}
    lost = f"0 of {len(samples['ours'].rates) * frames} frames lost or twice; {frame_us:.1f} us of processor a frame"
    whole = f"{lost}, {1e6 / frame_us:,.0f} frames/s a core; log, sender and receiver share the cores; {meaning}"
    socket = ("socket alone: receive many, drop", samples["alone"])
    yield compared(name, "frames/s", samples["ours"], socket, whole, facts)
    peer = ("recv, cbor2, full decode, crop", samples["plain"])
    yield compared(name, "frames/s", samples["ours"], peer, "theirs is not recorded, not paired, not checked", facts)


class _Client:
    """The instrument as the recorder sees it: frames from the socket, and the positions that belong to them."""

    detector_connected = True

    def __init__(self, sender: Sender, series: Series) -> None:
        self._sender, self._series = sender, series
        self._receiver = BulkReceiver(sender.socket, function_addresses())
        self._positions = [("connected", b""), ("data", series.rows_header), *(("data", row) for row in series.rows)]
        self.taken = 0

    def poll(self, timeout_s: float) -> Iterator[RawRecord | RawBlock]:
        block = self._receiver.receive(self.taken + 1) if self._sender.wait(timeout_s) else None
        if block is None:
            return
        self.taken += len(block)
        wanted = 3 + self.taken // self._series.frames_per_piece
        due, self._positions = self._positions[:wanted], self._positions[wanted:]
        for kind, data in due:
            yield _record("positions", "connected" if kind == "connected" else "data", data)
        yield block

    def missing(self) -> None:
        return None

    def close(self) -> None:
        self._receiver.close()


def _ingest(sender: Sender, config: Config, series: Series, messages: int, path: Path) -> list[Array]:
    """Return the numbers of the frames that came out paired, through a log that another thread writes."""
    path.unlink(missing_ok=True)
    client: Any = _Client(sender, series)
    paired: list[Array] = []
    stage = IngestStage(config)
    tail = LogTail()
    recorder = Recorder(client, StreamLogWriter(path, tail=tail), sync_s=1.0, connect_timeout_s=None)
    recorder.start()
    with StreamLogReader(path, tail) as log:
        feed = LogFeed(log.follow_blocks())
        while not stage.finished:
            message = feed.get(WAIT_S)
            if client.taken == messages:
                recorder.stop()
            if message is not None:
                made = stage.handle(message, time.time_ns())
                paired += [out.index for out in made if isinstance(out, DiffractionBatch)]
    recorder.join()
    if recorder.failure is not None:
        raise WrongResult(recorder.failure)
    return paired


def _check(paired: list[Array], frames: int, name: str) -> None:
    index = np.sort(np.concatenate([np.zeros(0, np.int64), *paired]))
    if not np.array_equal(index, np.arange(frames)):
        raise WrongResult(f"{name}: {len(index)} frames came out, {len(np.unique(index))} of {frames} different ones")


def _decode_plainly(image: bytes, shape: tuple[int, ...], side: int) -> Array | None:
    message = cbor2.loads(image)
    if hasattr(message, "value"):
        message = message.value
    if message["type"] != "image":
        return None
    algorithm, size, payload = next(iter(message["data"].values())).value[1].value.value
    frame = _decompressor()(payload, algorithm, size, shape)
    top, left = shape[0] // 2 - side // 2, shape[1] // 2 - side // 2
    return frame[top : top + side, left : left + side].copy()


def _decompressor() -> Callable[[Any, Any, int, tuple[int, ...]], Array]:
    try:
        from dectris.compression import decompress
    except ImportError:
        return lambda data, name, size, shape: own_decompress(data, name, np.dtype(f"u{size}"), (shape[0], shape[1]))
    return lambda data, name, size, shape: np.frombuffer(decompress(data, name, elem_size=size), f"u{size}").reshape(
        shape
    )


def _record(source: Literal["positions"], kind: Literal["data", "connected"], data: bytes) -> RawRecord:
    parts = (data,) if kind == "data" else ()
    return RawRecord(source=source, kind=kind, sequence=0, received_ns=time.time_ns(), parts=parts)


def _config(series: Series, side: int | None) -> Config:
    region = RegionConfig(size_px=side, center_px="middle")
    detector = series.config.detector.model_copy(update={"region": region})
    pairing = series.config.pairing.model_copy(update={"by": "row"})
    return series.config.model_copy(update={"detector": detector, "pairing": pairing})
