"""Where one projection ends and the next begins: at a series, after a count of frames, or at a new angle."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np

from streamptycho.config import ProjectionsConfig
from streamptycho.geometry import Geometry
from streamptycho.messages import Quality, Reason
from streamptycho.pairing.accounting import ProjectionWriter
from streamptycho.pairing.frames import REORDER_BYTES, REORDER_FRAMES, Resolved, Series


class Cutter(Protocol):
    """Distributes the frames of one series after the other over projections."""

    def begin(self, series: Series, geometry: Geometry) -> None:
        """Take up a series; the previous one was ended."""

    def take(self, series: Series) -> None:
        """Hand on the resolved frames of the series."""

    def end(self, series: Series, reason: str) -> None:
        """Account for the frames of the series that never came."""

    def finish(self, reason: str) -> None:
        """End what is still open: no series follows."""


def cutter(config: ProjectionsConfig, writer: ProjectionWriter, reorder_ns: int = 0) -> Cutter:
    """Return the cutter that the configuration asks for.

    A frame may come after `REORDER_FRAMES` later ones of its series, and up to `reorder_ns` after one of them as long
    as those that wait for it have less than `REORDER_BYTES`.
    """
    if config.cut_by == "angle":
        return AngleCutter(config.min_angle_step_deg, writer, reorder_ns)
    if config.cut_by == "count" and config.frames is not None:
        return CountCutter(config.frames, writer, reorder_ns)
    return SeriesCutter(writer)


class SeriesCutter:
    """Every series is a projection."""

    def __init__(self, writer: ProjectionWriter) -> None:
        self.writer = writer

    def begin(self, series: Series, geometry: Geometry) -> None:
        """Start the projection of the series."""
        self.writer.open(geometry, n_frames=series.start.n_frames, labels=series.start.labels)

    def take(self, series: Series) -> None:
        """Hand on all frames."""
        for frames in series.take_resolved():
            self.writer.add(frames)

    def end(self, series: Series, reason: str) -> None:
        """End the projection of the series."""
        lost = series.take_explained(series.frames_sent - series.frames_received)
        self.writer.close(lost, series.take_anomalies(), reason)

    def finish(self, reason: str) -> None:
        """Nothing is open between series."""


class CountCutter:
    """Every `frames` exposures of a series are a projection; a series begins a new one."""

    def __init__(self, frames: int, writer: ProjectionWriter, reorder_ns: int = 0) -> None:
        self.frames = frames
        self.writer = writer
        self._reorder_ns = reorder_ns
        self._newest_ns = self._missing_since_ns = 0
        self._current = 0
        self._done = 0
        self._later = 0
        self._held: dict[int, list[Resolved]] = {}
        self._geometry: Geometry | None = None

    def begin(self, series: Series, geometry: Geometry) -> None:
        """Start the first projection of the series."""
        self._geometry = geometry
        self._current = self._later = 0
        self._open(series)

    def take(self, series: Series) -> None:
        """Hand on the frames of the current projection and keep those of later ones."""
        for frames in series.take_resolved():
            self._newest_ns = max(self._newest_ns, int(frames.arrived_ns.max()))
            number = frames.frame // self.frames
            for at in np.unique(number).tolist():
                part = frames.some(number == at)
                if at > self._current:
                    self._held.setdefault(at, []).append(part)
                    self._later += len(part)
                elif at == self._current:
                    self._done += len(part)
                    self._missing_since_ns = self._newest_ns
                    self.writer.add(part)
                else:
                    # The projection was ended without these frames and counted them as missing.
                    series.anomalies[Reason.LATE] += len(part)
        while self._is_over(series):
            self._close(series, "complete" if self._done == self._size(series) else "incomplete")
            if not self._follows(series):
                return
            self._current += 1
            self._open(series)

    def end(self, series: Series, reason: str) -> None:
        """End all projections of the series that are left."""
        while self.writer.is_open:
            self._close(series, reason)
            if self._follows(series):
                self._current += 1
                self._open(series)
        self._held.clear()

    def finish(self, reason: str) -> None:
        """Nothing is open between series."""

    def _open(self, series: Series) -> None:
        if self._geometry is None or self.writer.scan_ended:
            return
        n_frames = None if series.start.n_frames is None else self._size(series)
        labels = {key: value for key, value in series.start.labels.items() if key == "angle_deg"}
        if self.writer.config.angle_step_deg is not None:
            labels = {}
        self.writer.open(self._geometry, n_frames=n_frames, first_frame=self._current * self.frames, labels=labels)
        parts = self._held.pop(self._current, [])
        self._done = sum(map(len, parts))
        self._missing_since_ns = self._newest_ns
        self._later -= self._done
        for part in parts:
            self.writer.add(part)

    def _close(self, series: Series, reason: str) -> None:
        lost = series.take_explained(max(self._size(series) - self._done, 0))
        self.writer.close(lost, series.take_anomalies(), reason)

    def _size(self, series: Series) -> int:
        return min(self.frames, max(series.frames_sent - self._current * self.frames, 0))

    def _follows(self, series: Series) -> bool:
        return (self._current + 1) * self.frames < series.frames_sent

    def _is_over(self, series: Series) -> bool:
        if not self.writer.is_open:
            return False
        if self._done >= self.frames:
            return self._follows(series)
        if self._later < REORDER_FRAMES:
            return False
        if self._newest_ns - self._missing_since_ns < self._reorder_ns and self._later_bytes() < REORDER_BYTES:
            return False
        begin = self._current * self.frames
        waits = series.count_seen(begin, begin + self.frames) > self._done
        return not waits

    def _later_bytes(self) -> int:
        (first, *_), *_ = self._held.values()
        return self._later * first.counts.frame_bytes


class _Frame(NamedTuple):
    """Frame `at` of `source`, under the number and with the quality that it shall have."""

    frame: int
    quality: int
    angle_deg: float
    lost: bool
    source: Resolved
    at: int


def _one_by_one(frames: Resolved) -> Iterator[_Frame]:
    columns = (frames.frame.tolist(), frames.quality.tolist(), frames.angle_deg.tolist(), frames.lost.tolist())
    for at, (frame, quality, angle_deg, lost) in enumerate(zip(*columns, strict=True)):
        yield _Frame(frame, quality, angle_deg, lost, frames, at)


def _together(items: list[_Frame]) -> Resolved:
    """Return single frames, which were lost for the same reason if at all, together again."""
    pieces = []
    for _, group in itertools.groupby(items, key=lambda item: id(item.source)):
        of_one = list(group)
        piece = of_one[0].source.some(np.array([item.at for item in of_one]))
        pieces.append(
            replace(
                piece,
                frame=np.array([item.frame for item in of_one], np.int64),
                quality=np.array([item.quality for item in of_one], np.uint8),
            )
        )
    return Resolved.joined(pieces)


class AngleCutter:
    """A projection lasts as long as the measured angle stays within `step_deg` of its first frame's.

    Frames taken while the angle moves stay with the projection before, marked as turn-around.
    """

    def __init__(self, step_deg: float, writer: ProjectionWriter, reorder_ns: int = 0) -> None:
        self.step_deg = step_deg
        self.writer = writer
        self._reorder_ns = reorder_ns
        self._newest_ns = 0
        self._geometry: Geometry | None = None
        self._base = 0
        self._next = 0
        self._held: dict[int, _Frame] = {}
        self._undecided: _Frame | None = None
        self._first_angle_deg = math.nan
        self._decided: list[_Frame] = []
        self._lost: Counter[Reason] = Counter()
        self._anomalies: Counter[Reason] = Counter()
        self._first_lost = 0

    def begin(self, series: Series, geometry: Geometry) -> None:
        """Go on with the projection of the series before, if the angle is the same."""
        self._geometry = geometry
        self._next = 0

    def take(self, series: Series) -> None:
        """Hand on frames in the order of their index."""
        for frames in series.take_resolved():
            self._newest_ns = max(self._newest_ns, int(frames.arrived_ns.max()))
            for item in _one_by_one(frames):
                if item.frame < self._next:
                    series.anomalies[Reason.LATE] += 1
                else:
                    self._held[item.frame] = item
        while True:
            while self._next in self._held:
                following = self._held.pop(self._next)
                self._next += 1
                self._decide_before(following)
                self._undecided = following._replace(frame=self._base + following.frame)
            if len(self._held) <= REORDER_FRAMES or not self._waited() or series.has_seen(self._next):
                break
            self._skip(series, min(self._held))
        self._hand_on()
        self._anomalies.update(series.take_anomalies())

    def end(self, series: Series, reason: str) -> None:
        """Account for what never came."""
        while self._held:
            self._skip(series, min(self._held))
            self.take(series)
        self._skip(series, series.frames_sent)
        self._decide_before(None)
        self._hand_on()
        self._base += self._next

    def finish(self, reason: str) -> None:
        """End the last projection."""
        if not self.writer.is_open and self._lost:
            self._open(math.nan, self._first_lost)
        self._close(reason)

    def _waited(self) -> bool:
        """Whether the next frame was waited for long enough: as long as the oldest of those behind it."""
        oldest = next(iter(self._held.values()))
        waited_ns = self._newest_ns - int(oldest.source.arrived_ns[oldest.at])
        return waited_ns >= self._reorder_ns or len(self._held) * oldest.source.counts.frame_bytes >= REORDER_BYTES

    def _skip(self, series: Series, frame: int) -> None:
        missing = frame - self._next
        if missing <= 0:
            return
        self._decide_before(None)
        if not self.writer.is_open and not self._lost:
            self._first_lost = self._base + self._next
        self._lost.update(series.take_explained(missing))
        self._next = frame

    def _decide_before(self, following: _Frame | None) -> None:
        """Decide on the frame before `following`: whether it has settled shows in the one after it."""
        item, self._undecided = self._undecided, None
        if item is None:
            return
        if not self.writer.is_open:
            self._open(item.angle_deg, self._first_lost if self._lost else item.frame)
        elif not math.isfinite(self._first_angle_deg):
            self._first_angle_deg = item.angle_deg
        if not abs(item.angle_deg - self._first_angle_deg) > self.step_deg:
            self._decided.append(item)
        elif following is not None and abs(following.angle_deg - item.angle_deg) > self.step_deg / 2:
            self._hand_on()
            self._decided.append(item if item.lost else item._replace(quality=int(Quality.TURNAROUND)))
            self._hand_on(measures_angle=False)
        else:
            self._close("complete")
            self._open(item.angle_deg, item.frame)
            self._decided.append(item)

    def _open(self, angle_deg: float, first_frame: int) -> None:
        if self._geometry is None:
            return
        self._first_angle_deg = angle_deg
        self.writer.open(self._geometry, n_frames=None, first_frame=first_frame)

    def _hand_on(self, *, measures_angle: bool = True) -> None:
        """Give what was decided to the open projection."""
        decided, self._decided = self._decided, []
        for _, alike in itertools.groupby(decided, key=lambda item: item.source.reason):
            self.writer.add(_together(list(alike)), measures_angle=measures_angle)

    def _close(self, reason: str) -> None:
        self._hand_on()
        lost, self._lost = self._lost, Counter()
        anomalies, self._anomalies = self._anomalies, Counter()
        self.writer.close(lost, anomalies, reason)
