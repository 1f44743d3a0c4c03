"""Messages between services: a batch to ZeroMQ parts and back, against one copy of its bytes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.clock import by_turns, compared
from benchmarks.frames import eiger_series, scan_xy_m
from benchmarks.row import Effort, Row, WrongResult
from streamptycho import wire
from streamptycho.messages import DiffractionBatch

FRAMES = 64
SIDE = 128
REPEATS = 500


def batch(effort: Effort) -> Iterator[Row]:
    frames = eiger_series(1).counts
    top, left = frames.shape[1] // 2 - SIDE // 2, frames.shape[2] // 2 - SIDE // 2
    counts = frames[np.arange(FRAMES) % len(frames), top : top + SIDE, left : left + SIDE].copy()
    message = DiffractionBatch(
        scan_id="scan",
        projection=3,
        index=np.arange(FRAMES),
        counts=counts,
        xy_m=scan_xy_m(FRAMES),
        quality=np.zeros(FRAMES, np.uint8),
    )
    parts = [bytes(part) for part in wire.encode(message)]
    gigabytes = sum(map(len, parts)) * REPEATS / 1e9
    target = np.empty_like(counts)
    again = wire.decode(parts)
    if not (isinstance(again, DiffractionBatch) and np.array_equal(again.counts, counts)):
        raise WrongResult("the wire gives another batch back")

    def encode() -> float:
        for _ in range(REPEATS):
            wire.encode(message)
        return gigabytes

    def decode() -> float:
        for _ in range(REPEATS):
            wire.decode(parts)
        return gigabytes

    def memcpy() -> float:
        for _ in range(REPEATS):
            np.copyto(target, counts)
        return gigabytes

    samples = by_turns({"encode": encode, "decode": decode, "memcpy": memcpy}, effort)
    copy = ("one memcpy of the counts, in cache", samples["memcpy"])
    size = f"{gigabytes / REPEATS * 1e3:.1f} MB"
    for name in ("encode", "decode"):
        microseconds = 1e6 * gigabytes / REPEATS / samples[name].median
        meaning = f"{size} in {microseconds:.0f} us: arrays are not copied, only the header is made or read"
        yield compared(f"wire {name}, batch of 64 frames 128x128 u16", "GB/s", samples[name], copy, meaning)
