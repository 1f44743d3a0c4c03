"""A part of the volume that follows its projections: only what has changed is back-projected."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np

from streamptycho.messages import Array
from streamptycho.tomography.back_projector import back_project

AT_ONCE = 32


@dataclass(frozen=True, slots=True, eq=False)
class Filtered:
    """One filtered projection, `columns` (X, Z) float32: z runs fastest, as in the sums."""

    angle_deg: float
    columns: Array


class RunningSum:
    """The sum over a part of the volume, and which projections with which weights are in it."""

    def __init__(self, start: tuple[int, int, int], shape: tuple[int, int, int], dtype: type) -> None:
        self.z, self.y, self.x = start
        depth, height, width = shape
        self.total: Array = np.zeros((height, width, depth), dtype=dtype)
        self.applied: dict[Hashable, tuple[float, Filtered]] = {}

    def bring_to(self, target: Mapping[Hashable, tuple[float, Filtered]]) -> None:
        """Make it the sum of these projections with these weights."""
        changes = [
            (-weight, old)
            for key, (weight, old) in self.applied.items()
            if key not in target or target[key][1] is not old
        ]
        for key, (weight, new) in target.items():
            applied = self.applied.get(key)
            present = applied[0] if applied is not None and applied[1] is new else 0.0
            if abs(weight - present) > 1e-12:
                changes.append((weight - present, new))
        if len(changes) >= len(target):
            self.total[...] = 0
            changes = list(target.values())
        self._add(changes)
        self.applied = dict(target)

    def _add(self, changes: list[tuple[float, Filtered]]) -> None:
        changes = sorted(changes, key=lambda change: change[1].angle_deg)
        if not changes:
            return
        depth = self.total.shape[2]
        rows = slice(self.z, self.z + depth)
        columns = np.empty((min(len(changes), AT_ONCE), len(changes[0][1].columns), depth), np.float32)
        for first in range(0, len(changes), AT_ONCE):
            some = changes[first : first + AT_ONCE]
            back_project(
                self.total,
                np.stack([filtered.columns[:, rows] for _, filtered in some], out=columns[: len(some)]),
                np.array([filtered.angle_deg for _, filtered in some]),
                np.array([weight for weight, _ in some]),
                (0, self.y, self.x),
            )
