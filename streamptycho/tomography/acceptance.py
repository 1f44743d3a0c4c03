"""Which projections cannot be of the sample that all others show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from streamptycho.messages import Array
from streamptycho.tomography.frame import Frame
from streamptycho.tomography.phase import ProjectionPhase
from streamptycho.tomography.placed_projection import PlacedProjection

RESIDUES_PER_PIXEL = 0.05
MIN_OTHERS = 8
MASS_OFF = 0.5
MASS_OFF_TYPICAL = 8.0
MASS_OFF_OF_TURNS = 1.0
TAKEN_BACK = 0.8
MAX_SHARE_BY_MASS = 0.2
NOISY_RAD = 0.4
NOISIER = 10.0
WORSE_FIT = 5.0
NEIGHBOURS = 2


def diverged(phase: ProjectionPhase) -> str | None:
    """Return why a phase is no phase of anything, None if it may be one.

    Of random phases a third of all pixels have a vortex about them; a reconstruction that came to its end has next to
    none, and pairs of them where thick matter has steep edges.
    """
    seen = int(np.count_nonzero(phase.weight >= 1))
    if phase.residues <= RESIDUES_PER_PIXEL * seen or seen == 0:
        return None
    return (
        f"its phase has {phase.residues} vortices in {seen} pixels, as noise has: the reconstruction has diverged. "
        "Reconstruct it again with more sweeps, or measure it again"
    )


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """Keys of the projections that were set aside or taken back, and why for each newly set aside."""

    changed: tuple[int, ...]
    reasons: dict[int, str]


class Acceptance:
    """Sets projections aside that differ from all others in what the angle cannot change, and takes them back.

    Looked at from anywhere, a slice of the sample has the same mass: the sum over each row is that of all other
    projections, whether the half turn is complete or not. One whose rows are far off, both from the median of all and
    from its neighbours in angle, is set aside; so is one whose phase is many times noisier, or whose diffraction
    patterns fit many times worse, than those of the others. One with vortices in its phase may be further off: where
    unwrapping lost whole turns, the alignment finds them again. Where more than a fifth is off by mass, the sample is
    larger than what is seen of it, and mass says nothing. Nothing is judged against fewer than eight others.

    References
    ----------
    The zeroth moment: D. Ludwig, Commun. Pure Appl. Math. 19, 49 (1966). doi:10.1002/cpa.3160190105
    """

    def __init__(self) -> None:
        self._frame: Frame | None = None
        self._profiles: dict[int, tuple[object, Array, Array]] = {}

    def judge(self, projections: Mapping[int, PlacedProjection], frame: Frame) -> Judgement:
        """Judge all projections against each other; `set_aside` and `trusted` of those that changed are brought up."""
        if len(projections) <= MIN_OTHERS:
            return Judgement((), {})
        found = {**self._by_mass(projections, frame), **_by_noise(projections), **_by_error(projections)}
        changed, reasons = [], {}
        for key, item in projections.items():
            why = found.get(key)
            if (why is None) == (item.set_aside is None):
                continue
            item.set_aside, item.trusted = why, why is None
            changed.append(key)
            if why is not None:
                reasons[key] = why
        return Judgement(tuple(changed), reasons)

    def _by_mass(self, projections: Mapping[int, PlacedProjection], frame: Frame) -> dict[int, str]:
        keys = list(projections)
        profiles, valid = self._in_frame(projections, frame)
        # Bad ones are few: the median does not see them.
        reference = np.nan_to_num(np.nanmedian(np.where(valid.any(axis=0), profiles, 0.0), axis=0))
        total = float(np.sqrt(np.sum(reference**2)))
        if total <= 0:
            return {}
        distance = np.array([_distance(row, reference, use) for row, use in zip(profiles, valid, strict=True)])
        limit = max(MASS_OFF, MASS_OFF_TYPICAL * float(np.median(distance)))
        angles = np.array([item.angle_deg for item in projections.values()])
        found = {}
        far = np.flatnonzero(distance > limit * TAKEN_BACK)
        for k in far:
            apart = np.abs((angles - angles[k] + 90.0) % 180.0 - 90.0)
            apart[far] = np.inf
            nearest = np.argsort(apart, kind="stable")[:NEIGHBOURS]
            beside = np.nan_to_num(np.nanmean(np.where(valid[nearest].any(axis=0), profiles[nearest], 0.0), axis=0))
            item = projections[keys[k]]
            allowed = max(limit, MASS_OFF_OF_TURNS) if item.residues else limit
            off = min(_best_distance(item, frame, other) for other in (reference, beside))
            if off > allowed * (TAKEN_BACK if item.set_aside else 1.0):
                found[keys[k]] = (
                    f"the mass in its rows is {100 * off:.0f} % off that of all others, which no angle can change: "
                    "the reconstruction has failed, or it shows something else"
                )
        return {} if len(found) > MAX_SHARE_BY_MASS * len(keys) else found

    def _in_frame(self, projections: Mapping[int, PlacedProjection], frame: Frame) -> tuple[Array, Array]:
        if frame != self._frame:
            self._frame, self._profiles = frame, {}
        self._profiles = {key: known for key, known in self._profiles.items() if key in projections}
        for key, item in projections.items():
            state = (id(item), item.shift_px[0], item.corrected_px)
            if key not in self._profiles or self._profiles[key][0] != state:
                self._profiles[key] = (state, *item.profile_in(frame, item.shift_px[0]))
        known = [self._profiles[key] for key in projections]
        valid = np.array([part for _, _, part in known])
        return np.where(valid, np.array([part for _, part, _ in known]), np.nan), valid


def _distance(profile: Array, reference: Array, use: Array) -> float:
    expected = float(np.sqrt(np.sum(reference[use] ** 2)))
    return float(np.sqrt(np.sum((profile[use] - reference[use]) ** 2))) / expected if expected > 0 else 0.0


def _best_distance(item: PlacedProjection, frame: Frame, reference: Array) -> float:
    everywhere = np.ones(reference.shape, bool)
    shifts = (item.shift_px[0], item.best_shift_px(frame, (reference, everywhere))[0])
    return min(_distance(*_pair(item.profile_in(frame, shift), reference)) for shift in shifts)


def _pair(here: tuple[Array, Array], reference: Array) -> tuple[Array, Array, Array]:
    return here[0], reference, here[1]


def _by_noise(projections: Mapping[int, PlacedProjection]) -> dict[int, str]:
    typical = float(np.median([item.noise_rad for item in projections.values()]))
    return {
        key: f"its phase has a noise of {item.noise_rad:.2f} rad, that of the others is {typical:.2g} rad: "
        "the reconstruction has failed, or the beam was weak"
        for key, item in projections.items()
        if item.noise_rad > max(NOISY_RAD, NOISIER * typical)
    }


def _by_error(projections: Mapping[int, PlacedProjection]) -> dict[int, str]:
    """Compare errors, in units of what photon noise alone leaves where that is known: fewer photons are no fault."""
    known = {key: item for key, item in projections.items() if item.error is not None and np.isfinite(item.error)}
    if len(known) <= MIN_OTHERS:
        return {}
    floors = [item.noise_floor for item in known.values()]
    relative = all(floor is not None and floor > 0 for floor in floors)
    errors = {
        key: (item.error or 0.0) / ((item.noise_floor or 1.0) if relative else 1.0) for key, item in known.items()
    }
    typical = float(np.median(list(errors.values())))
    return {
        key: f"its error is {errors[key] / typical:.0f} times that of the others: the reconstruction has not converged"
        for key in known
        if typical > 0 and errors[key] > WORSE_FIT * typical
    }
