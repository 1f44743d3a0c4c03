"""Frames on their way through pairing, and what is known of the series they belong to."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from streamptycho.messages import Array, FrameBlock, Quality, Reason, SeriesStart

MAX_FRAMES_PER_SERIES = 1 << 26
NO_TIME_S = -1e18
REORDER_FRAMES = 1024


class Waiting(NamedTuple):
    """A frame without a position: `middle_s` of its exposure from the epoch of its series, `half_s` half of it."""

    counts: Array
    middle_s: float
    half_s: float
    arrived_ns: int


class Resolved(NamedTuple):
    """A frame whose fate is known: `dropped` is None when it has a position."""

    frame: int
    counts: Array
    x_m: float
    y_m: float
    quality: int
    angle_deg: float
    arrived_ns: int
    dropped: Reason | None = None


@dataclass(frozen=True)
class Placed:
    """Positions of the frames `index` (N,); quality MISSING where there will never be one."""

    index: Array
    xy_m: Array
    quality: Array
    angle_deg: Array

    @classmethod
    def missing(cls, index: Array) -> Placed:
        """Return the answer for frames that get no position."""
        count = len(index)
        quality = np.full(count, Quality.MISSING, dtype=np.uint8)
        return cls(index, np.full((count, 2), np.nan), quality, np.full(count, np.nan))


@dataclass
class Arrivals:
    """How many frames of a block were new, seen before, not what was announced, or behind a later one."""

    fresh: list[int]
    duplicate: int = 0
    stray: int = 0
    reordered: int = 0


class Series:
    """One armed series: which frames came, which wait, and whether more can come.

    Parameters
    ----------
    start
        Its announcement.
    order
        How many series were armed before.
    """

    def __init__(self, start: SeriesStart, order: int) -> None:
        self.start = start
        self.order = order
        self.waiting: dict[int, Waiting] = {}
        self.resolved: deque[Resolved] = deque()
        self.explained: Counter[Reason] = Counter()
        self.anomalies: Counter[Reason] = Counter()
        self.frames_received = 0
        self.newest_index = -1
        self.newest_exposure_s = 0.0
        self.newest_middle_s = 0.0
        self.first_middle_s: float | None = None
        self.first_index = -1
        self.last_frame_ns = 0
        self.ended_ns: int | None = None
        self.closed = False
        self._seen = np.zeros(min(start.n_frames or 1024, 1 << 16) or 1, dtype=bool)

    @property
    def frames_sent(self) -> int:
        """How many frames the detector took, as far as can be known now."""
        seen = max(self.newest_index + 1, self.frames_received + self.explained.total())
        return seen if self.start.n_frames is None else self.start.n_frames

    @property
    def all_arrived(self) -> bool:
        """Whether every announced frame came, or is known to be lost."""
        announced = self.start.n_frames
        return announced is not None and self.frames_received + self.explained.total() >= announced

    @property
    def delivered(self) -> bool:
        """Whether anything of its frames was seen."""
        return self.frames_received > 0 or bool(self.explained)

    def middle_of_first_s(self, *, certain: bool) -> float | None:
        """Return the middle of exposure 0, continued from later ones when it was lost; None while it may come."""
        if self.first_middle_s is None or self.first_index == 0:
            return self.first_middle_s
        if not certain and self.frames_received <= REORDER_FRAMES:
            return None
        frames = self.newest_index - self.first_index
        period_s = (self.newest_middle_s - self.first_middle_s) / frames if frames else 0.0
        return self.first_middle_s - self.first_index * period_s

    def has_seen(self, index: int) -> bool:
        """Return whether a frame came."""
        return index < len(self._seen) and bool(self._seen[index])

    def count_seen(self, begin: int, end: int) -> int:
        """Return how many of the frames begin <= index < end came."""
        return int(np.count_nonzero(self._seen[begin:end]))

    def take(self, block: FrameBlock, now_ns: int) -> Arrivals:
        """Add the frames of a block that are new to `waiting`."""
        arrivals = Arrivals([])
        limit = MAX_FRAMES_PER_SERIES if self.start.n_frames is None else self.start.n_frames
        starts, stops = block.exposure_start_s.tolist(), block.exposure_stop_s.tolist()
        for at, index in enumerate(block.index.tolist()):
            if not 0 <= index < limit:
                arrivals.stray += 1
                continue
            if index >= len(self._seen):
                self._grow(index)
            if self._seen[index]:
                arrivals.duplicate += 1
                continue
            self._seen[index] = True
            arrivals.reordered += index < self.newest_index
            middle_s, half_s = (starts[at] + stops[at]) / 2, (stops[at] - starts[at]) / 2
            if not math.isfinite(middle_s):
                middle_s, half_s = NO_TIME_S, 0.0
            self.newest_exposure_s = max(self.newest_exposure_s, middle_s - half_s)
            if index > self.newest_index:
                self.newest_index, self.newest_middle_s = index, middle_s
            if self.first_middle_s is None or index < self.first_index:
                self.first_middle_s, self.first_index = middle_s, index
            self.waiting[index] = Waiting(block.counts[at], middle_s, half_s, now_ns)
            arrivals.fresh.append(index)
        if arrivals.fresh:
            self.frames_received += len(arrivals.fresh)
            self.last_frame_ns = now_ns
        return arrivals

    def resolve(self, placed: Placed, reason: Reason = Reason.UNPAIRED) -> None:
        """Move frames from `waiting` to `resolved`."""
        qualities = placed.quality.tolist()
        for at, (index, (x_m, y_m)) in enumerate(zip(placed.index.tolist(), placed.xy_m.tolist(), strict=True)):
            frame = self.waiting.pop(index)
            dropped = reason if qualities[at] == Quality.MISSING else None
            self.resolved.append(
                Resolved(index, frame.counts, x_m, y_m, qualities[at], placed.angle_deg[at], frame.arrived_ns, dropped)
            )

    def close(self) -> None:
        """Take no more frames and free what only they needed."""
        self.closed = True
        self._seen = np.zeros(1, dtype=bool)

    def take_anomalies(self) -> Counter[Reason]:
        """Return what was noted since the last call."""
        taken, self.anomalies = self.anomalies, Counter()
        return taken

    def take_explained(self, missing: int) -> Counter[Reason]:
        """Return the reasons of `missing` frames that did not come, known losses first."""
        reasons: Counter[Reason] = Counter()
        for reason in list(self.explained):
            count = min(self.explained[reason], missing)
            self.explained[reason] -= count
            reasons[reason] += count
            missing -= count
        reasons[Reason.MISSING] += missing
        return +reasons

    def _grow(self, index: int) -> None:
        grown = np.zeros(max(2 * len(self._seen), index + 1), dtype=bool)
        grown[: len(self._seen)] = self._seen
        self._seen = grown
