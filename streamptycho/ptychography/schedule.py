"""Which frame is visited next."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from streamptycho.messages import Array


class VisitSchedule:
    """Order of visits: random, new frames soon, old ones never forgotten.

    A pass visits every frame once in random order. Frames that arrive during a pass take every second turn until each
    of them was visited once. The next pass holds all frames that are not ahead of the mean number of visits, and half
    as many of those that are: late frames catch up, among neighbours that keep the probe honest. When all frames came
    before the first visit, every pass is one complete random sweep, as in a batch reconstruction. When every frame
    was visited `target` times, nothing is due until more frames come.

    Parameters
    ----------
    seed
        Of the random order.
    target
        Visits after which a frame needs no more.
    """

    def __init__(self, seed: int, target: int) -> None:
        self._random = np.random.default_rng(seed)
        self._target = target
        self._visits: Array = np.zeros(0, np.int32)
        self._count = 0
        self._pass: deque[int] = deque()
        self._fresh: deque[int] = deque()
        self._fresh_turn = True

    @property
    def visits(self) -> Array:
        """Visits of every frame so far, (N,) int32."""
        return self._visits[: self._count]

    @property
    def sweeps(self) -> float:
        """The minimum number of visits over frames, plus the fraction of frames that is beyond it."""
        if self._count == 0:
            return 0.0
        least = int(self.visits.min())
        return least + float(np.count_nonzero(self.visits > least)) / self._count

    def add(self, count: int) -> None:
        """Take `count` new frames, numbered on from those held."""
        total = self._count + count
        if total > self._visits.size:
            grown = np.zeros(max(total, 2 * self._visits.size), np.int32)
            grown[: self._count] = self.visits
            self._visits = grown
        self._fresh.extend((self._count + self._random.permutation(count)).tolist())
        self._count = total

    def take(self) -> int | None:
        """Return the frame to visit now and count the visit, None when nothing is due."""
        if not self._fresh and not self._pass:
            self._plan_pass()
        if self._fresh and (self._fresh_turn or not self._pass):
            frame = self._fresh.popleft()
            self._fresh_turn = False
        elif self._pass:
            frame = self._pass.popleft()
            self._fresh_turn = True
        else:
            return None
        self._visits[frame] += 1
        return frame

    def _plan_pass(self) -> None:
        visits = self.visits
        if visits.size == 0 or visits.min() >= self._target:
            return
        due = visits <= math.floor(visits.mean())
        behind, ahead = np.flatnonzero(due), np.flatnonzero(~due)
        companions = self._random.choice(ahead, min(ahead.size, (behind.size + 1) // 2), replace=False)
        self._pass.extend(self._random.permutation(np.concatenate([behind, companions])).tolist())
