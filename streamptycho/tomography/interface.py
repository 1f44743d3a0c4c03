"""What a tomography plugin offers, and the projections that it hands out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from streamptycho.messages import Anomaly, Array, ObjectUpdate, VolumeUpdate


@dataclass(frozen=True, slots=True, eq=False)
class ProjectionStack:
    """The projections as they are in the volume, in order of their numbers.

    `keys` (K,) int64 projection numbers, `angles_deg` (K,) float64, `phase_rad` (K, Z, X) float32 with air 0 and
    matter negative, `magnitude` (K, Z, X) float32 with air 1, `shifts_px` (K, 2) float64 by which alignment moved
    them (down, right) beyond their stage positions. Pixel (Z // 2, X // 2) is at `center_xy_m` of the stage before
    alignment; column X // 2 is the rotation axis.
    """

    keys: Array
    angles_deg: Array
    phase_rad: Array
    magnitude: Array
    shifts_px: Array
    pixel_m: float
    center_xy_m: tuple[float, float]

    def only(self, use: Array) -> ProjectionStack:
        """Return the projections where `use` (K,) bool is True."""
        return replace(
            self,
            keys=self.keys[use],
            angles_deg=self.angles_deg[use],
            phase_rad=self.phase_rad[use],
            magnitude=self.magnitude[use],
            shifts_px=self.shifts_px[use],
        )


@dataclass(frozen=True, slots=True, eq=False)
class VolumeSlabs:
    """A volume that is too large to be held whole: `shape` (Z, Y, X), and `slabs` (n, Y, X) float32 from top to bottom.

    The slabs are made while they are taken, and can be taken once.
    """

    shape: tuple[int, int, int]
    slabs: Iterable[Array]


class AggregatorProtocol(Protocol):
    """What a tomography plugin offers."""

    def add(self, update: ObjectUpdate) -> list[Anomaly]:
        """Take a projection, in place of an earlier one of the same number; say what is wrong with it, if anything."""

    @property
    def projections_used(self) -> int:
        """How many projections are in the volume."""

    def update(self, *, final: bool = False) -> VolumeUpdate | None:
        """Return the orthoslices so far, None while the projections are of one angle."""

    def volume(self) -> Array:
        """Return the volume (Z, Y, X) float32 in the configured quantity, (0, 0, 0) while there is none."""

    def projection_stack(self) -> ProjectionStack:
        """Return the aligned projections."""

    def resolution_m(self) -> float | None:
        """Return the resolution of the volume, None when it cannot be told yet."""
