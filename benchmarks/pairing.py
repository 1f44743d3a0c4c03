"""Frames meet their positions: by row and by time, against only copying the frames into batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from benchmarks.clock import by_turns, compared
from benchmarks.frames import EPOCH_S, eiger_series, scan_xy_m
from benchmarks.row import Effort, Row, WrongResult
from streamptycho.config import PairingConfig, ProjectionsConfig
from streamptycho.geometry import Geometry
from streamptycho.messages import (
    AcquisitionEnd,
    AcquisitionStart,
    Array,
    DiffractionBatch,
    FrameBlock,
    Message,
    PositionBlock,
    SeriesEnd,
    SeriesStart,
)
from streamptycho.pairing import Pairing

SIDE = 128
BATCH = 64
BLOCK = 200
PERIOD_S = 1 / 3000
FRAMES_PER_ROW = 3


def by_row(effort: Effort) -> Iterator[Row]:
    yield _row("row", effort, "one position per frame")


def by_time(effort: Effort) -> Iterator[Row]:
    yield _row("time", effort, f"one position per {FRAMES_PER_ROW} frames, interpolated at mid-exposure")


def _row(by: Literal["row", "time"], effort: Effort, meaning: str) -> Row:
    frames = 1500 if effort.quick else 6000
    counts = np.ascontiguousarray(_region_counts())
    messages = list(_messages(frames, counts, 1 if by == "row" else FRAMES_PER_ROW))

    def ours() -> float:
        core = Pairing("scan", PairingConfig(by=by, batch_frames=BATCH), ProjectionsConfig())
        paired = sum(_frames(out) for k, message in enumerate(messages) for out in core.feed(message, 1000 * k))
        paired += sum(map(_frames, core.finish(1000 * len(messages), "finished")))
        if paired != frames:
            raise WrongResult(f"pairing by {by}: {paired} of {frames} frames were paired ({core.dropped})")
        return float(frames)

    def copying() -> float:
        for first in range(0, frames, BATCH):
            np.stack([counts[k % len(counts)] for k in range(first, min(first + BATCH, frames))])
        return float(frames)

    samples = by_turns({"ours": ours, "copying": copying}, effort)
    reference = (f"copying frames into batches of {BATCH}", samples["copying"])
    return compared(f"pair by {by}, 128x128 u16", "frames/s", samples["ours"], reference, meaning, {"lost": 0.0})


def _frames(message: Message) -> int:
    return len(message.index) if isinstance(message, DiffractionBatch) else 0


def _region_counts() -> Array:
    counts = eiger_series(1).counts
    top, left = counts.shape[1] // 2 - SIDE // 2, counts.shape[2] // 2 - SIDE // 2
    return counts[:, top : top + SIDE, left : left + SIDE]


def _messages(frames: int, counts: Array, frames_per_row: int) -> Iterator[Message]:
    """Yield what the decoders of one projection give: frames in blocks, positions in blocks, ahead of the frames."""
    yield SeriesStart(
        series="1", n_frames=frames, geometry=Geometry(11_000.0, 5.1, 75e-6, (SIDE, SIDE)), epoch_s=EPOCH_S
    )
    yield AcquisitionStart(acquisition="1", epoch_s=EPOCH_S)
    rows = frames // frames_per_row + 2
    exposure_s = 0.9 * PERIOD_S
    time_s = np.arange(rows) * frames_per_row * PERIOD_S + (exposure_s / 2 if frames_per_row == 1 else 0.0)
    xy_m = scan_xy_m(rows)
    rows_per_block = max(1, BLOCK // frames_per_row)
    sent = 0
    for first in range(0, frames, BLOCK):
        index = np.arange(first, min(first + BLOCK, frames))
        while sent < rows and sent < index[-1] // frames_per_row + 2:
            block = slice(sent, min(sent + rows_per_block, rows))
            yield PositionBlock(
                acquisition="1", row=np.arange(block.start, block.stop), time_s=time_s[block], xy_m=xy_m[block]
            )
            sent = block.stop
        yield FrameBlock(
            series="1",
            index=index,
            exposure_start_s=index * PERIOD_S,
            exposure_stop_s=index * PERIOD_S + exposure_s,
            counts=counts[index % len(counts)],
        )
    yield SeriesEnd(series="1")
    yield AcquisitionEnd(acquisition="1", rows=rows, reason="Disarmed", complete=True)
