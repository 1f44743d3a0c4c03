"""Whether several workers are faster than one, on a machine whose load changes."""

from __future__ import annotations

import math

_SOONEST_TRIAL = 8
_LATEST_TRIAL = 256
_MEMORY = 0.7


class Pace:
    """Chooses the faster of two ways to work, and tries the slower one again: seldom when it was clearly slower.

    `together` says which way to work next; `took` is told how long a piece of work took.
    """

    def __init__(self) -> None:
        self.together = True
        self._seconds: dict[bool, float] = {}
        self._best = True
        self._calls = 0
        self._trial_every = _SOONEST_TRIAL

    def took(self, seconds: float) -> None:
        """Note the time of a piece of work of always the same size, done as `together` said."""
        way = self.together
        before = self._seconds.get(way)
        trial = way != self._best
        self._seconds[way] = seconds if before is None or trial else _MEMORY * before + (1 - _MEMORY) * seconds
        if trial:
            won = seconds < self._seconds.get(self._best, math.inf)
            self._best = way if won else self._best
            self._trial_every = _SOONEST_TRIAL if won else min(2 * self._trial_every, _LATEST_TRIAL)
        self._calls += 1
        due = self._calls % self._trial_every == 0 or len(self._seconds) < 2
        self.together = self._best != due
