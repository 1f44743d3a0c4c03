"""What the engine holds in memory per frame, against the counts alone."""

from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import Iterator

import numpy as np

from benchmarks.row import Effort, Row
from benchmarks.scans import PROBE, scan
from streamptycho.config import ReconstructionConfig
from streamptycho.messages import ProjectionStart
from streamptycho.ptychography.epie import EpieEngine

SIDE = 128
BATCH = 64


def bytes_per_frame(effort: Effort) -> Iterator[Row]:
    """Peak memory that grows with the number of frames, from two runs of which one has three times as many."""
    few = 2 * BATCH
    many = 3 * few
    _peak_bytes(BATCH)
    low, high = _peak_bytes(few), _peak_bytes(many)
    per_frame = (high - low) / (many - few)
    counts = float(SIDE * SIDE * 2)
    yield Row(
        name=f"ePIE {SIDE}x{SIDE}: memory per frame held",
        figure=per_frame / 1024,
        unit="KiB",
        better="less",
        spread=0.0,
        rounds=1,
        reference="the counts themselves, 16 bit",
        reference_figure=counts / 1024,
        ratio=per_frame / counts,
        meaning=f"peak of {many} frames {high / 2**20:.1f} MiB (object, probe and all), of {few} {low / 2**20:.1f} MiB",
        details={"peak_bytes": float(high), "frames": float(many), "bytes_per_frame": per_frame},
    )


def _peak_bytes(frames: int) -> int:
    """Return the most that was allocated while frames came in batches on the same area and were swept."""
    data = scan(SIDE, 1)
    start: ProjectionStart = dataclasses.replace(data.start(), n_frames=frames)
    tracemalloc.start()
    try:
        engine = EpieEngine(ReconstructionConfig(sweeps=3, min_sweeps=1, probe=PROBE))
        engine.begin(start)
        for first in range(0, frames, BATCH):
            batch = data.batch(first % BATCH, first % BATCH + BATCH)
            engine.add(dataclasses.replace(batch, index=np.arange(first, first + BATCH)))
            del batch
        engine.run(1)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
