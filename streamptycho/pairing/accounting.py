"""One projection after the other, as messages, with every frame of it accounted for."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from streamptycho.config import ProjectionsConfig
from streamptycho.geometry import Geometry
from streamptycho.memory import ReusedMemory
from streamptycho.messages import DiffractionBatch, ProjectionEnd, ProjectionStart, Reason, ScanEnd
from streamptycho.pairing.frames import Resolved

KNOWN_NUMBERS = 1 << 16

PairedMessage = ProjectionStart | DiffractionBatch | ProjectionEnd | ScanEnd


@dataclass
class _Projection:
    number: int
    planned_angle_deg: float | None
    first_frame: int
    received: int = 0
    paired: int = 0
    dropped: Counter[Reason] = field(default_factory=Counter)
    anomalies: Counter[Reason] = field(default_factory=Counter)
    last_frame_ns: int = 0
    angle_sum_deg: float = 0.0
    angle_count: int = 0

    @property
    def angle_deg(self) -> float | None:
        """Mean of the captured angles, else what was planned."""
        return self.angle_sum_deg / self.angle_count if self.angle_count else self.planned_angle_deg


class ProjectionWriter:
    """Writes projections strictly one after the other, and the end of the scan after the last one.

    Parameters
    ----------
    scan_id
        Identity of the scan.
    config
        How many projections there are and which angles they have when nobody measured them.
    batch_frames
        Largest number of frames in a batch.
    memory
        Where batches lie that are put together.
    """

    def __init__(self, scan_id: str, config: ProjectionsConfig, batch_frames: int, memory: ReusedMemory) -> None:
        self.scan_id = scan_id
        self.config = config
        self.batch_frames = batch_frames
        self.out: deque[PairedMessage] = deque()
        self.projections = 0
        self.scan_ended = False
        self.paired = 0
        self.dropped: Counter[Reason] = Counter()
        self._memory = memory
        self._open: _Projection | None = None
        self._batch: list[Resolved] = []
        self._in_batch = 0
        self._used: set[int] = set()
        self._next_number = self._lowest_free = 0

    @property
    def is_open(self) -> bool:
        """Whether a projection was started and not ended."""
        return self._open is not None

    @property
    def frames_in_batch(self) -> int:
        """Frames that wait for the batch to fill."""
        return self._in_batch

    def open(
        self, geometry: Geometry, *, n_frames: int | None, first_frame: int = 0, labels: dict[str, Any] | None = None
    ) -> None:
        """Start a projection; `first_frame` is the frame that has index 0 in it."""
        if self.scan_ended:
            return
        labels = labels or {}
        number = self._number(labels.get("projection"))
        planned = _finite(labels.get("angle_deg"))
        if planned is None and self.config.angle_step_deg is not None:
            planned = self.config.first_angle_deg + number * self.config.angle_step_deg
        self._open = _Projection(number, planned, first_frame)
        self.out.append(
            ProjectionStart(
                scan_id=self.scan_id, projection=number, angle_deg=planned, n_frames=n_frames, geometry=geometry
            )
        )

    def add(self, frames: Resolved, *, measures_angle: bool = True) -> None:
        """Add frames to the projection; `measures_angle` False leaves their angle out of its mean."""
        projection = self._open
        if projection is None or not len(frames):
            return
        projection.received += len(frames)
        projection.last_frame_ns = max(projection.last_frame_ns, int(frames.arrived_ns.max()))
        lost = int(frames.lost.sum())
        if lost:
            projection.dropped[frames.reason] += lost
            frames = frames.some(~frames.lost)
        projection.paired += len(frames)
        if measures_angle:
            measured = np.isfinite(frames.angle_deg)
            projection.angle_sum_deg += float(frames.angle_deg[measured].sum())
            projection.angle_count += int(measured.sum())
        for alike in _alike(frames):
            self._append(alike)

    def flush(self) -> None:
        """Send the frames that wait for the batch to fill."""
        if self._batch:
            frames = Resolved.joined(self._batch)
            self._batch, self._in_batch = [], 0
            self._send(frames)

    def _append(self, frames: Resolved) -> None:
        """Send frames, which have one dtype, in full batches, and keep what does not fill one."""
        if self._batch and _dtype(frames) != _dtype(self._batch[0]):
            self.flush()
        begin = 0
        while begin < len(frames):
            count = min(self.batch_frames - self._in_batch, len(frames) - begin)
            whole = begin == 0 and count == len(frames)
            self._batch.append(frames if whole else frames.some(slice(begin, begin + count)))
            self._in_batch += count
            begin += count
            if self._in_batch >= self.batch_frames:
                self.flush()

    def _send(self, frames: Resolved) -> None:
        if self._open is None:
            return
        self.out.append(
            DiffractionBatch(
                scan_id=self.scan_id,
                projection=self._open.number,
                index=frames.frame - self._open.first_frame,
                counts=frames.counts.gather(self._memory),
                xy_m=np.asarray(frames.xy_m, np.float64),
                quality=np.asarray(frames.quality, np.uint8),
                received_ns=np.asarray(frames.arrived_ns, np.int64),
            )
        )

    def close(self, lost: Counter[Reason], anomalies: Counter[Reason], reason: str) -> None:
        """End the projection; `lost` are frames of it that never came, by reason."""
        projection = self._open
        if projection is None:
            return
        self.flush()
        projection.dropped.update(lost)
        dropped = +projection.dropped
        self.paired += projection.paired
        self.dropped.update(dropped)
        self.out.append(
            ProjectionEnd(
                scan_id=self.scan_id,
                projection=projection.number,
                angle_deg=projection.angle_deg,
                reason=reason,
                frames_sent=projection.received + lost.total(),
                frames_received=projection.received,
                frames_paired=projection.paired,
                dropped={key.value: count for key, count in dropped.items()},
                anomalies={key.value: count for key, count in (+anomalies).items()},
                last_frame_ns=projection.last_frame_ns,
            )
        )
        self._open = None
        self.projections += 1
        if self.projections == self.config.count:
            self.end_scan("complete")

    def end_scan(self, reason: str) -> None:
        """Say once that no projections follow."""
        if not self.scan_ended:
            self.scan_ended = True
            self.out.append(ScanEnd(scan_id=self.scan_id, reason=reason, projections=self.projections))

    def _number(self, label: Any) -> int:
        whole = isinstance(label, int) and not isinstance(label, bool)
        wanted = whole and label >= self._lowest_free and label not in self._used
        number = int(label) if wanted else self._next_number
        self._next_number = max(self._next_number, number + 1)
        self._used.add(number)
        while self._lowest_free in self._used:
            self._used.remove(self._lowest_free)
            self._lowest_free += 1
        if len(self._used) > KNOWN_NUMBERS:
            self._lowest_free = self._next_number
            self._used.clear()
        return number


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _dtype(frames: Resolved) -> np.dtype[Any]:
    """Return the dtype of frames that all have the same."""
    return frames.counts.blocks[int(frames.counts.block[0])].dtype


def _alike(frames: Resolved) -> Iterator[Resolved]:
    """Yield frames in order, those of one dtype together."""
    kinds = [block.dtype for block in frames.counts.blocks]
    if not len(frames) or len(set(kinds)) < 2:
        yield from (frames,) if len(frames) else ()
        return
    sizes = np.array([kind.itemsize for kind in kinds])[frames.counts.block]
    ends = [*(np.flatnonzero(np.diff(sizes)) + 1).tolist(), len(frames)]
    begin = 0
    for end in ends:
        yield frames.some(slice(begin, end))
        begin = end
