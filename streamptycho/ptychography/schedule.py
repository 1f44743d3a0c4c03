"""Which frame is visited next."""

from __future__ import annotations

import math

import numpy as np

from streamptycho.messages import Array
from streamptycho.ptychography.growing import GrowingArray


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
        self._visits = GrowingArray((), np.int32)
        self._pass: Array = np.zeros(0, np.int64)
        self._fresh: Array = np.zeros(0, np.int64)
        self._fresh_turn = True
        self._grew = False

    @property
    def grew(self) -> bool:
        """Whether frames came after others had been visited."""
        return self._grew

    @property
    def visits(self) -> Array:
        """Visits of every frame so far, (N,) int32."""
        return self._visits.rows

    @property
    def sweeps(self) -> float:
        """The minimum number of visits over frames, plus the fraction of frames that is beyond it."""
        if len(self._visits) == 0:
            return 0.0
        least = int(self.visits.min())
        return least + float(np.count_nonzero(self.visits > least)) / len(self._visits)

    @property
    def taken(self) -> int:
        """Visits of all frames so far."""
        return int(self.visits.sum(dtype=np.int64))

    def add(self, count: int) -> None:
        """Take `count` new frames, numbered on from those held."""
        self._grew = self._grew or self.taken > 0
        fresh = len(self._visits) + self._random.permutation(count)
        self._visits.extend(np.zeros(count, np.int32))
        self._fresh = np.concatenate([self._fresh, fresh])

    def take(self, limit: int) -> tuple[Array, Array]:
        """Return up to `limit` frames to visit now, in this order, (K,) int64, none when nothing is due.

        The visits are counted. With the frames comes which visit of its frame each is, from 1, (K,) int64.
        """
        chosen = self._choose(limit)
        order = np.argsort(chosen, kind="stable")
        repeats = np.zeros(len(chosen), np.int64)
        again = np.flatnonzero(np.diff(chosen[order]) == 0) + 1
        for k in again.tolist():
            repeats[order[k]] = repeats[order[k - 1]] + 1
        numbers = self.visits[chosen] + repeats + 1
        np.add.at(self.visits, chosen, 1)
        return chosen, numbers

    def _choose(self, limit: int) -> Array:
        if self._fresh.size == 0 and self._pass.size == 0:
            self._plan_pass()
        if self._fresh.size == 0 or self._pass.size == 0:
            rest = self._pass if self._fresh.size == 0 else self._fresh
            self._fresh_turn = self._fresh.size == 0
            chosen = rest[:limit]
            if self._fresh.size == 0:
                self._pass = rest[limit:]
            else:
                self._fresh = rest[limit:]
            return chosen
        pairs = min(self._fresh.size, self._pass.size, (limit + 1) // 2)
        turns = (self._fresh, self._pass) if self._fresh_turn else (self._pass, self._fresh)
        chosen = np.stack([turn[:pairs] for turn in turns], axis=1).ravel()[:limit]
        of_second = len(chosen) // 2
        taken = {id(turns[0]): len(chosen) - of_second, id(turns[1]): of_second}
        if len(chosen) % 2:
            self._fresh_turn = not self._fresh_turn
        self._fresh, self._pass = self._fresh[taken[id(self._fresh)] :], self._pass[taken[id(self._pass)] :]
        return chosen

    def _plan_pass(self) -> None:
        visits = self.visits
        if visits.size == 0 or visits.min() >= self._target:
            return
        due = visits <= math.floor(visits.mean())
        behind, ahead = np.flatnonzero(due), np.flatnonzero(~due)
        companions = self._random.choice(ahead, min(ahead.size, (behind.size + 1) // 2), replace=False)
        self._pass = self._random.permutation(np.concatenate([behind, companions])).astype(np.int64)
