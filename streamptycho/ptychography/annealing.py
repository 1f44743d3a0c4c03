"""Position correction by trial and error, ever finer.

References
----------
Maiden, Humphry, Sarahan, Kraus and Rodenburg 2012, doi 10.1016/j.ultramic.2012.06.001.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from streamptycho.messages import Array


class Annealing:
    """Tries random displacements of each frame and keeps the one of least misfit.

    In the first sweep trials lie within a disc of the full radius, later within one that shrinks linearly to
    `LEAST_RADIUS_PX` in the last sweep.

    Parameters
    ----------
    radius_px
        Of the first disc.
    trials
        Per visit, besides the place where the frame is.
    first_visit, last_visit
        Visits of a frame between which the disc shrinks.
    seed
        Of the random displacements.
    """

    LEAST_RADIUS_PX = 0.1

    def __init__(self, radius_px: float, trials: int, first_visit: int, last_visit: int, seed: int) -> None:
        self._radius_px = radius_px
        self._trials = trials
        self._first, self._last = first_visit, max(last_visit, first_visit + 1)
        self._random = np.random.default_rng(seed)

    def best_shifts(self, numbers: Array, misfit: Callable[[Array, Array], Array]) -> Array:
        """Return the displacements (K, 2) of least misfit.

        Parameters
        ----------
        numbers
            Which visit of its frame each is, from 1, (K,).
        misfit
            Returns the misfits (M,) of frames, given by number in this call (M,), displaced by (M, 2).
        """
        share = np.clip((numbers - self._first) / (self._last - self._first), 0, 1)
        radius = self._radius_px + (min(self.LEAST_RADIUS_PX, self._radius_px) - self._radius_px) * share
        count = len(numbers)
        length = radius[:, None] * np.sqrt(self._random.uniform(size=(count, self._trials)))
        angle = self._random.uniform(0, 2 * np.pi, (count, self._trials))
        tried = np.zeros((count, self._trials + 1, 2))
        tried[:, 1:, 0], tried[:, 1:, 1] = length * np.sin(angle), length * np.cos(angle)
        found = misfit(np.repeat(np.arange(count), self._trials + 1), tried.reshape(-1, 2))
        found = np.where(np.isfinite(found), found, np.inf).reshape(count, -1)
        return np.asarray(tried[np.arange(count), found.argmin(axis=1)])
