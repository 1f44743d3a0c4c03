"""Joint alignment of the projections of an aggregator: what goes into a refinement, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from streamptycho.messages import Array
from streamptycho.tomography.figures import largest_gap_deg
from streamptycho.tomography.frame import Frame
from streamptycho.tomography.placed_projection import PlacedProjection
from streamptycho.tomography.refinement import Refined, Refinement

MIN_PROJECTIONS = 12
MAX_GAP_DEG = 45.0
WORTH_A_MOVE_PX = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class AlignmentJob:
    """A refinement of the projections that were there when it was made. `run` touches nothing of the aggregator."""

    frame: Frame
    keys: tuple[int, ...]
    items: tuple[PlacedProjection, ...]
    shifts_px: Array
    refinement: Refinement

    @classmethod
    def of(cls, projections: Mapping[int, PlacedProjection], frame: Frame) -> AlignmentJob | None:
        """Return the job, None with fewer than twelve projections that show anything, or far from half a turn.

        A volume of a narrow range of angles says little of what the projections outside of it should be, and nothing of
        the axis: refined on it, they would run away.
        """
        chosen = {
            key: item
            for key, item in sorted(projections.items())
            if item.center_px is not None and item.set_aside is None
        }
        if len(chosen) < MIN_PROJECTIONS:
            return None
        items = tuple(chosen.values())
        if largest_gap_deg(np.array([item.angle_deg for item in items])) > MAX_GAP_DEG:
            return None
        mass = (-item.placed_phase(frame) for item in items)
        shifts = np.array([item.shift_px for item in items], dtype=np.float64)
        angles = np.array([item.angle_deg for item in items])
        return cls(frame, tuple(chosen), items, shifts, Refinement(mass, angles))

    def run(self) -> Refined:
        """Refine until nothing moves."""
        return self.refinement.run()


@dataclass(frozen=True, slots=True, eq=False)
class Applied:
    """Which projections changed place or phase (keys), which are not to be trusted, and how far off those are."""

    changed: tuple[int, ...]
    untrusted: dict[int, float]
    trusted_again: tuple[int, ...]


def apply_alignment(
    job: AlignmentJob, refined: Refined, projections: Mapping[int, PlacedProjection], frame: Frame
) -> Applied:
    """Move the projections that are still those of the job, and bring their phases within half a turn.

    Where the frame has grown since, or a projection was replaced, the result is not for it and is left.
    """
    changed, untrusted, again = [], {}, []
    if frame != job.frame:
        return Applied((), {}, ())
    typical = float(np.median(refined.misfit_rad))
    for k, (key, item) in enumerate(zip(job.keys, job.items, strict=True)):
        if projections.get(key) is not item or item.set_aside is not None:
            continue
        move = refined.moves_px[k]
        if item.trusted != bool(refined.trusted[k]):
            item.trusted = bool(refined.trusted[k])
            changed.append(key)
            if item.trusted:
                again.append(key)
            else:
                untrusted[key] = float(refined.misfit_rad[k]) / max(typical, 1e-12)
        wanted = (float(job.shifts_px[k, 0] + move[0]), float(job.shifts_px[k, 1] + move[1]))
        moved = max(abs(wanted[0] - item.shift_px[0]), abs(wanted[1] - item.shift_px[1])) > WORTH_A_MOVE_PX
        if moved:
            item.shift_px = wanted
        corrected = item.turned_like(refined.reprojection(k), frame) if item.trusted else 0
        item.corrected_px += corrected
        if moved or corrected:
            changed.append(key)
    return Applied(tuple(dict.fromkeys(changed)), untrusted, tuple(again))
