"""One projection after the other, as messages, with every frame of it accounted for."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from streamptycho.config import ProjectionsConfig
from streamptycho.geometry import Geometry
from streamptycho.messages import DiffractionBatch, ProjectionEnd, ProjectionStart, Reason, ScanEnd
from streamptycho.pairing.frames import Resolved

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
    """

    def __init__(self, scan_id: str, config: ProjectionsConfig, batch_frames: int) -> None:
        self.scan_id = scan_id
        self.config = config
        self.batch_frames = batch_frames
        self.out: deque[PairedMessage] = deque()
        self.projections = 0
        self.scan_ended = False
        self.paired = 0
        self.dropped: Counter[Reason] = Counter()
        self._open: _Projection | None = None
        self._batch: list[Resolved] = []
        self._used: set[int] = set()
        self._next_number = 0

    @property
    def is_open(self) -> bool:
        """Whether a projection was started and not ended."""
        return self._open is not None

    @property
    def frames_in_batch(self) -> int:
        """Frames that wait for the batch to fill."""
        return len(self._batch)

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

    def add(self, items: Iterable[Resolved], *, measures_angle: bool = True) -> None:
        """Add frames to the projection; `measures_angle` False leaves their angle out of its mean."""
        projection = self._open
        if projection is None:
            return
        for item in items:
            projection.received += 1
            projection.last_frame_ns = max(projection.last_frame_ns, item.arrived_ns)
            if item.dropped is not None:
                projection.dropped[item.dropped] += 1
                continue
            if measures_angle and math.isfinite(item.angle_deg):
                projection.angle_sum_deg += item.angle_deg
                projection.angle_count += 1
            projection.paired += 1
            if self._batch and item.counts.dtype != self._batch[0].counts.dtype:
                self.flush()
            self._batch.append(item)
            if len(self._batch) >= self.batch_frames:
                self.flush()

    def flush(self) -> None:
        """Send the frames that wait for the batch to fill."""
        if not self._batch or self._open is None:
            return
        items, self._batch = self._batch, []
        first = self._open.first_frame
        self.out.append(
            DiffractionBatch(
                scan_id=self.scan_id,
                projection=self._open.number,
                index=np.array([item.frame - first for item in items], dtype=np.int64),
                counts=np.stack([item.counts for item in items]),
                xy_m=np.array([(item.x_m, item.y_m) for item in items], dtype=np.float64),
                quality=np.array([item.quality for item in items], dtype=np.uint8),
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
        wanted = isinstance(label, int) and not isinstance(label, bool) and label >= 0 and label not in self._used
        number = int(label) if wanted else self._next_number
        self._used.add(number)
        self._next_number = max(self._next_number, number + 1)
        return number


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
