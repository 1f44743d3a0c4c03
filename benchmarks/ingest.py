"""Detector process, socket, decoding, pairing: what arrives as paired batches, against what the socket carries."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from benchmarks.clock import by_turns, compared
from benchmarks.frames import Series, eiger_series, selun_series
from benchmarks.row import Effort, Row, WrongResult
from benchmarks.sender import Sender, sending
from streamptycho.config import Config, RegionConfig
from streamptycho.messages import DiffractionBatch, Message, RawRecord
from streamptycho.stages.ingest import IngestStage

Parts = tuple[bytes, ...]


def eiger(effort: Effort) -> Iterator[Row]:
    series = eiger_series(300 if effort.quick else 1200)
    yield _row(
        series, 128, effort, "ingest 512x1028 u16, 128x128 region", "the sender shares the cores; 3 kHz is asked for"
    )


def selun(effort: Effort) -> Iterator[Row]:
    series = selun_series(1500 if effort.quick else 6000)
    yield _row(series, None, effort, "ingest 96x96 u8", "one frame per message, 110 kHz is the published rate")


def _row(series: Series, side: int | None, effort: Effort, name: str, meaning: str) -> Row:
    messages = [series.start, *series.images, series.end]
    config = _config(series, side)
    processor_s: list[float] = []
    with tempfile.TemporaryDirectory() as folder, sending(messages, Path(folder)) as sender:

        def alone() -> float:
            sender.send_all()
            for _ in messages:
                sender.receive()
            return float(len(series.images))

        def ours() -> float:
            sender.send_all()
            began_s = time.process_time()
            paired = _ingest(sender, IngestStage(config), series, len(messages))
            processor_s.append(time.process_time() - began_s)
            lost = len(series.images) - paired
            if lost:
                raise WrongResult(f"{name}: {lost} of {len(series.images)} frames were lost")
            return float(paired)

        samples = by_turns({"ours": ours, "alone": alone}, effort)
    rounds = len(samples["ours"].rates)
    frame_us = 1e6 * statistics.median(processor_s[1:]) / len(series.images)
    meaning = f"0 of {rounds * len(series.images)} frames lost; {frame_us:.0f} us of processor a frame; {meaning}"
    facts = {"lost": 0.0, "processor_us_per_frame": frame_us, "message_bytes": series.image_bytes}
    reference = ("socket alone: receive, drop", samples["alone"])
    return compared(name, "frames/s", samples["ours"], reference, meaning, facts)


def _ingest(sender: Sender, stage: IngestStage, series: Series, messages: int) -> int:
    """Return how many frames came out paired. Positions come as bytes too, before the frames they belong to."""
    pieces = iter(series.rows)
    paired = _paired(stage, _record("positions", "connected", ()))
    paired += _paired(stage, _record("positions", "data", (series.rows_header,)))
    for number in range(messages):
        parts = sender.receive()
        if number % series.frames_per_piece == 0 and (piece := next(pieces, None)) is not None:
            paired += _paired(stage, _record("positions", "data", (piece,)))
        paired += _paired(stage, _record("detector", "data", tuple(parts)))
    return paired + _count(stage.stop(time.time_ns()))


def _record(source: Literal["detector", "positions"], kind: Literal["data", "connected"], parts: Parts) -> RawRecord:
    return RawRecord(source=source, kind=kind, sequence=0, received_ns=time.time_ns(), parts=parts)


def _paired(stage: IngestStage, record: RawRecord) -> int:
    return _count(stage.handle(record, record.received_ns))


def _count(messages: Iterable[Message]) -> int:
    return sum(len(message.index) for message in messages if isinstance(message, DiffractionBatch))


def _config(series: Series, side: int | None) -> Config:
    region = RegionConfig(size_px=side, center_px="middle")
    detector = series.config.detector.model_copy(update={"region": region})
    pairing = series.config.pairing.model_copy(update={"by": "row"})
    return series.config.model_copy(update={"detector": detector, "pairing": pairing})
