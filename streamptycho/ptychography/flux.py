"""How bright the beam was in each frame."""

from __future__ import annotations

import numpy as np

from streamptycho.messages import Array
from streamptycho.ptychography.growing import GrowingArray

_SHARE_OF_NEW = 0.5
_LIMIT = 10.0
_FRAMES_FOR_A_MEDIAN = 16


class Flux:
    """The gain of each frame: its flux over that of a mean frame, followed from visit to visit.

    Gains are within a factor of ten of 1. `settle` keeps their median at 1: a common factor belongs to the probe.
    """

    def __init__(self) -> None:
        self._gains = GrowingArray((), np.float64)

    @property
    def gains(self) -> Array:
        """(N,) float64."""
        return self._gains.rows

    def extend(self, count: int) -> None:
        """Take new frames, of gain 1."""
        self._gains.extend(np.ones(count))

    def follow(self, frames: Array, found: Array) -> None:
        """Move the gains of frames (K,) half way to what was found in them, (K,)."""
        known = np.clip(np.where(np.isfinite(found), found, 1.0), 1 / _LIMIT, _LIMIT)
        self.gains[frames] += _SHARE_OF_NEW * (known - self.gains[frames])

    def settle(self) -> None:
        """Divide all gains by their median."""
        if len(self._gains):
            self.gains[:] /= np.median(self.gains)


def without_beam(totals: Array, held: Array, least_share: float) -> Array:
    """Return which frames are too dark for the beam to have been there, (K,) bool.

    Parameters
    ----------
    totals
        Counts of the frames, (K,).
    held
        Counts of frames already taken, (N,).
    least_share
        Of the median of both below which there was no beam. With fewer than 16 frames nothing is judged.
    """
    every = np.concatenate([held, totals])
    if len(every) < _FRAMES_FOR_A_MEDIAN:
        return np.zeros(len(totals), bool)
    dark: Array = totals < least_share * np.median(every)
    return dark
