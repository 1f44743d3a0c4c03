"""Frames on their way through pairing, and what is known of the series they belong to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamptycho.messages import Array, FrameBlock, Quality, Reason, SeriesStart
from streamptycho.pairing.waiting import Counts, WaitingFrames

MAX_FRAMES_PER_SERIES = 1 << 26
NO_TIME_S = -1e18
REORDER_FRAMES = 1024
REORDER_BYTES = 256 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Resolved:
    """N frames whose fate is known: those that are `lost` (N,) bool have no position, because of `reason`."""

    frame: Array
    counts: Counts
    xy_m: Array
    quality: Array
    angle_deg: Array
    arrived_ns: Array
    lost: Array
    reason: Reason

    def __len__(self) -> int:
        return len(self.frame)

    def some(self, which: Array | slice) -> Resolved:
        """Return some of them."""
        return Resolved(
            self.frame[which],
            self.counts.some(which),
            self.xy_m[which],
            self.quality[which],
            self.angle_deg[which],
            self.arrived_ns[which],
            self.lost[which],
            self.reason,
        )

    @classmethod
    def joined(cls, pieces: Sequence[Resolved]) -> Resolved:
        """Return several pieces, which were lost for the same reason if at all, one behind the other."""
        if len(pieces) == 1:
            return pieces[0]
        return cls(
            np.concatenate([piece.frame for piece in pieces]),
            Counts.joined([piece.counts for piece in pieces]),
            np.concatenate([piece.xy_m for piece in pieces]),
            np.concatenate([piece.quality for piece in pieces]),
            np.concatenate([piece.angle_deg for piece in pieces]),
            np.concatenate([piece.arrived_ns for piece in pieces]),
            np.concatenate([piece.lost for piece in pieces]),
            pieces[0].reason,
        )


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

    fresh: Array
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
        self.waiting = WaitingFrames()
        self.resolved: list[Resolved] = []
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

    @property
    def name(self) -> str:
        """Identity of the series."""
        return self.start.series

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
        return bool(self.waiting.has_seen(np.array([index]))[0])

    def count_seen(self, begin: int, end: int) -> int:
        """Return how many of the frames begin <= index < end came."""
        return self.waiting.count_seen(begin, end)

    def take(self, block: FrameBlock, now_ns: int) -> Arrivals:
        """Add the frames of a block that are new to `waiting`."""
        limit = MAX_FRAMES_PER_SERIES if self.start.n_frames is None else self.start.n_frames
        index = np.asarray(block.index, np.int64)
        fresh = (index >= 0) & (index < limit)
        stray = len(index) - int(fresh.sum())
        if len(index) > 1 and not (np.diff(index) > 0).all():
            first = np.zeros(len(index), bool)
            first[np.unique(index, return_index=True)[1]] = True
            fresh &= first
        fresh &= ~self.waiting.has_seen(index)
        at = np.flatnonzero(fresh)
        duplicate = len(index) - stray - len(at)
        index = index[at]
        if not len(at):
            return Arrivals(index, duplicate, stray)
        newest_before = np.maximum.accumulate(np.append(self.newest_index, index[:-1]))
        reordered = int((index < newest_before).sum())
        starts_s, stops_s = block.exposure_start_s[at], block.exposure_stop_s[at]
        middle_s, half_s = (starts_s + stops_s) / 2, (stops_s - starts_s) / 2
        timeless = ~np.isfinite(middle_s)
        if timeless.any():
            middle_s, half_s = np.where(timeless, NO_TIME_S, middle_s), np.where(timeless, 0.0, half_s)
        self.newest_exposure_s = max(self.newest_exposure_s, float((middle_s - half_s).max()))
        last, first_at = int(index.argmax()), int(index.argmin())
        if index[last] > self.newest_index:
            self.newest_index, self.newest_middle_s = int(index[last]), float(middle_s[last])
        if self.first_middle_s is None or index[first_at] < self.first_index:
            self.first_middle_s, self.first_index = float(middle_s[first_at]), int(index[first_at])
        arrived_ns = np.full(len(at), now_ns) if block.received_ns is None else block.received_ns[at]
        self.waiting.add(index, middle_s, half_s, arrived_ns, block.counts, at)
        self.frames_received += len(at)
        self.last_frame_ns = now_ns
        return Arrivals(index, duplicate, stray, reordered)

    def resolve(self, placed: Placed, reason: Reason = Reason.UNPAIRED) -> None:
        """Move frames from `waiting` to `resolved`."""
        if not len(placed.index):
            return
        counts, arrived_ns = self.waiting.take(placed.index)
        lost = placed.quality == Quality.MISSING
        self.resolved.append(
            Resolved(placed.index, counts, placed.xy_m, placed.quality, placed.angle_deg, arrived_ns, lost, reason)
        )

    def take_resolved(self) -> list[Resolved]:
        """Return what was resolved since the last call."""
        taken, self.resolved = self.resolved, []
        return taken

    def close(self) -> None:
        """Take no more frames and free what only they needed."""
        self.closed = True
        self.waiting = WaitingFrames()

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
