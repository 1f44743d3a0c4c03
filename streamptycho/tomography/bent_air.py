"""Air whose phase rises towards the middle of the view: what a probe that has not converged leaves in the object."""

from __future__ import annotations

import numpy as np

from streamptycho.messages import Array
from streamptycho.tomography.air import AirFit, grown_air

ROUNDS = 2
MOST_PX = 20_000
MIN_AIR = 0.15
MAX_UNCERTAINTY = 0.15
ROUND = 0.4


def bend_of_air(phase_rad: Array, inside: Array, fit: AirFit) -> Array | None:
    """Return the paraboloid (H, W) of the air, to be taken off with the plane of `fit` gone already, None without one.

    While the curvature of the probe is a little wrong, that of the object is wrong by as much the other way: a round
    paraboloid over the whole view, the same with the sample as without. It makes the air beside the sample higher than
    at the margins, which no matter can, and takes as much off the sample. Only what can be nothing else is returned: as
    curved along as across, highest in the middle, higher than the noise, and well determined by the air alone.

    Parameters
    ----------
    phase_rad
        (H, W), the plane of the air gone.
    inside
        (H, W) bool, where it is reliable.
    fit
        Of the plane.
    """
    air = fit.air
    rows, columns = np.nonzero(inside)
    if np.count_nonzero(air) < max(MIN_AIR * rows.size, 12):
        return None
    half = max(float(np.ptp(rows)), float(np.ptp(columns)), 1.0) / 2
    y = (np.arange(inside.shape[0])[:, None] - rows.mean()) / half
    x = (np.arange(inside.shape[1])[None, :] - columns.mean()) / half
    free = _Surface((np.ones_like(y), y, x, y * y, x * x, x * y))
    for growing in range(ROUNDS + 1):
        found = free.fitted(phase_rad, air)
        if not (found[3] < 0 and found[4] < 0):
            return None
        if growing == ROUNDS:
            break
        grown = grown_air(phase_rad - free.of(found), inside, air)
        if np.count_nonzero(grown) < MIN_AIR * rows.size:
            return None
        air = grown
    if abs(found[3] - found[4]) > ROUND * abs(found[3] + found[4]) / 2:
        return None
    paraboloid = _Surface((np.ones_like(y), y, x, y * y + x * x))
    surface = paraboloid.of(paraboloid.fitted(phase_rad, air))
    left = float(np.std((phase_rad - surface)[air]))
    if float(np.ptp(surface[inside])) < left or paraboloid.uncertainty(inside, air) > MAX_UNCERTAINTY:
        return None
    return surface


class _Surface:
    """A sum of terms, each an array that broadcasts to the view (H, W)."""

    def __init__(self, terms: tuple[Array, ...]) -> None:
        self._terms = terms

    def fitted(self, values: Array, where: Array) -> Array:
        system = self._at(where)
        found: Array = np.linalg.lstsq(system, values[_some(where)], rcond=None)[0]
        return found

    def of(self, factors: Array) -> Array:
        return np.asarray(sum(factor * term for factor, term in zip(factors, self._terms, strict=True)))

    def uncertainty(self, inside: Array, where: Array) -> float:
        """Return the largest error `inside` of a surface fitted to noise of one that only some of the pixels have."""
        system = self._at(where)
        normal = system.T @ system
        if np.linalg.cond(normal) > 1e6:
            return np.inf
        everywhere = self._at(inside)
        return float(np.sqrt(np.max(np.sum(everywhere @ np.linalg.inv(normal) * everywhere, axis=1))))

    def _at(self, where: Array) -> Array:
        chosen = _some(where)
        return np.stack([np.broadcast_to(term, where.shape)[chosen] for term in self._terms], axis=1)


def _some(where: Array) -> tuple[Array, Array]:
    rows, columns = np.nonzero(where)
    step = max(1, rows.size // MOST_PX)
    return rows[::step], columns[::step]
