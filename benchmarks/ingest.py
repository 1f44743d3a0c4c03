"""Detector process, socket, decoding, pairing: what arrives as paired batches, against what the socket carries."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.clock import by_turns, compared
from benchmarks.frames import Series, eiger_series, selun_series
from benchmarks.row import Effort, Row, WrongResult
from benchmarks.sender import Sender, sending
from streamptycho.config import Config, RegionConfig
from streamptycho.messages import DiffractionBatch, Message, RawRecord
from streamptycho.stages.ingest import IngestStage


def eiger(effort: Effort) -> Iterator[Row]:
    series = eiger_series(600 if effort.quick else 2000)
    yield _row(series, 128, effort, "ingest 512x1028 u16, 128x128 region", "3 kHz is asked for")


def selun(effort: Effort) -> Iterator[Row]:
    series = selun_series(4000 if effort.quick else 20_000)
    yield _row(series, None, effort, "ingest 96x96 u8", "one frame per message; 110 kHz is the published rate")


def _row(series: Series, side: int | None, effort: Effort, name: str, meaning: str) -> Row:
    messages = [series.start, *series.images, series.end]
    config = _config(series, side)
    with tempfile.TemporaryDirectory() as folder, sending(messages, Path(folder)) as sender:

        def alone() -> float:
            sender.send_all()
            for _ in messages:
                sender.receive()
            return float(len(series.images))

        def ours() -> float:
            sender.send_all()
            paired = _ingest(sender, IngestStage(config), series, len(messages))
            lost = len(series.images) - paired
            if lost:
                raise WrongResult(f"{name}: {lost} of {len(series.images)} frames were lost")
            return float(paired)

        samples = by_turns({"ours": ours, "alone": alone}, effort)
    rounds = len(samples["ours"].rates)
    meaning = f"0 of {rounds * len(series.images)} frames lost; the sender shares the cores; {meaning}"
    facts = {"lost": 0.0, "message_bytes": series.image_bytes}
    return compared(name, "frames/s", samples["ours"], ("socket alone: receive, drop", samples["alone"]), meaning, facts)


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
    return paired + _count(stage.stop(0))


def _record(source: str, kind: str, parts: tuple[bytes, ...]) -> RawRecord:
    return RawRecord(source=source, kind=kind, sequence=0, received_ns=1, parts=parts)  # type: ignore[arg-type]


def _paired(stage: IngestStage, record: RawRecord) -> int:
    return _count(stage.handle(record, 1))


def _count(messages: Iterator[Message]) -> int:
    return sum(len(message.index) for message in messages if isinstance(message, DiffractionBatch))


def _config(series: Series, side: int | None) -> Config:
    region = RegionConfig(size_px=side, center_px="middle")
    detector = series.config.detector.model_copy(update={"region": region})
    pairing = series.config.pairing.model_copy(update={"by": "row"})
    return series.config.model_copy(update={"detector": detector, "pairing": pairing})
