"""One projection with what alignment needs of it, and where it was put."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import scipy.ndimage

from streamptycho.messages import Array
from streamptycho.tomography.alignment import center_of_mass_px, profile_shift_px, sample_mass
from streamptycho.tomography.frame import Extent, Frame
from streamptycho.tomography.phase import ProjectionPhase

VALID_ROW = 0.5
REALIGN_ROUNDS = 3
SETTLED_PX = 0.02
MAX_CORRECTED = 0.4
MIN_CORRECTED_PX = 9
DARKEST = 1e-3
EDGE_SHARE = 0.005


@dataclass(slots=True, eq=False)
class PlacedProjection:
    """A projection cropped to its reliable area.

    `phase_rad` (H, W) and `magnitude_change` (H, W) float32 are weighted, zero at the edge; `profile` (H,) is the
    mass in each row and `valid` (H,) bool says which rows are wholly in it; `center_px` is the column of the centre of
    mass and `edges_px` those between which nearly all mass lies, None for an empty projection. `residues` and
    `noise_rad` are those of the phase, `absorbed` is the sum of -ln |transmission|^2 over the sample, `fluence_per_m2`
    the photons that lit it; `error`, `noise_floor` and `resolution_m` are those of its reconstruction. `shift_px`
    (down, right) is what alignment adds to the stage position, `corrected_px` counts the pixels whose phase it moved by
    whole turns; one that is not `trusted` disagrees with all others, `set_aside` says how if alignment has no part.
    """

    angle_deg: float
    origin_xy_m: Array
    extent: Extent
    phase_rad: Array
    magnitude_change: Array
    weight: Array
    profile: Array
    valid: Array
    center_px: float | None
    edges_px: tuple[float, float] | None
    residues: int
    noise_rad: float
    absorbed: float
    shift_px: tuple[float, float] = (0.0, 0.0)
    trusted: bool = True
    corrected_px: int = 0
    fluence_per_m2: float | None = None
    set_aside: str | None = None
    error: float | None = None
    noise_floor: float | None = None
    resolution_m: float | None = None

    @classmethod
    def of(cls, phase: ProjectionPhase, angle_deg: float, origin_xy_m: Array, pixel_m: float) -> PlacedProjection:
        """Return the projection of a phase whose first pixel is at `origin_xy_m` of the stage."""
        rows, columns = scipy.ndimage.find_objects((phase.weight > 0).astype(np.uint8))[0]
        weight = phase.weight[rows, columns]
        mass = sample_mass(phase.phase_rad[rows, columns], weight, phase.noise_rad)
        origin = origin_xy_m + pixel_m * np.array([columns.start, rows.start])
        height, width = weight.shape
        covered = weight.mean(axis=1)
        return cls(
            angle_deg=angle_deg,
            origin_xy_m=origin,
            extent=Extent(
                (float(origin[0]), float(origin[0]) + (width - 1) * pixel_m),
                (float(origin[1]), float(origin[1]) + (height - 1) * pixel_m),
            ),
            phase_rad=phase.phase_rad[rows, columns] * weight,
            magnitude_change=(phase.magnitude[rows, columns] - 1.0) * weight,
            weight=weight,
            profile=mass.sum(axis=1),
            valid=covered > VALID_ROW * float(covered.max()),
            center_px=center_of_mass_px(mass),
            edges_px=_edges_px(mass),
            residues=phase.residues,
            noise_rad=phase.noise_rad,
            absorbed=_absorbed(phase.magnitude[rows, columns], mass, weight),
        )

    def placed_phase(self, frame: Frame) -> Array:
        """Return the phase in the frame (Z, X) float32, zero around it."""
        return frame.place(self.phase_rad, self._position(frame))

    def placed_magnitude(self, frame: Frame) -> Array:
        """Return the magnitude in the frame (Z, X) float32, one around it."""
        return frame.place(self.magnitude_change, self._position(frame)) + np.float32(1.0)

    def placed_absorption(self, frame: Frame) -> Array:
        """Return -ln |transmission| in the frame (Z, X) float32, zero around it."""
        return frame.place(_absorption(1.0 + self.magnitude_change), self._position(frame))

    def turned_like(self, reprojection: Array, frame: Frame) -> int:
        """Bring the phase within half a turn of a reprojection (Z, X), in radians of mass, by whole turns.

        Only connected regions count, in which the difference is nearly the same; returns how many pixels were changed.
        None are where most of the projection is off: then it is not the unwrapping that failed.
        """
        row, column = self._position(frame)
        height, width = self.phase_rad.shape
        grid = np.meshgrid(row + np.arange(height), column + np.arange(width), indexing="ij")
        expected = scipy.ndimage.map_coordinates(reprojection, grid, order=1, mode="nearest")
        off = np.where(self.weight >= 1, -self.phase_rad - expected, 0.0)
        turns = np.rint(off / (2.0 * np.pi))
        seen = np.count_nonzero(self.weight >= 1)
        if not turns.any() or np.count_nonzero(turns) > MAX_CORRECTED * seen:
            return 0
        labels, _ = scipy.ndimage.label(turns)
        sizes = np.bincount(labels.ravel())
        keep = sizes >= MIN_CORRECTED_PX
        keep[0] = False
        turns = np.where(keep[labels], turns, 0.0)
        if turns.any():
            self.phase_rad = (self.phase_rad + 2.0 * np.pi * turns).astype(np.float32)
            self._weigh_again()
        return int(np.count_nonzero(turns))

    def _weigh_again(self) -> None:
        weight = np.maximum(self.weight, 1e-6)
        mass = sample_mass(self.phase_rad / weight, self.weight, self.noise_rad)
        self.profile, self.center_px, self.edges_px = mass.sum(axis=1), center_of_mass_px(mass), _edges_px(mass)
        self.absorbed = _absorbed(1.0 + self.magnitude_change / weight, mass, self.weight)

    def edges_in(self, frame: Frame) -> tuple[float, float]:
        """Return the columns of the frame between which nearly all of the mass lies."""
        column = self._position(frame)[1]
        left, right = self.edges_px or (0.0, float(self.phase_rad.shape[1] - 1))
        return column + left, column + right

    def profile_in(self, frame: Frame, shift_rows_px: float) -> tuple[Array, Array]:
        """Return the mass in each row of the frame (Z,), and where it is valid (Z,) bool."""
        source = np.arange(frame.shape[0]) - frame.offset_px(self.origin_xy_m)[0] - shift_rows_px
        values = scipy.ndimage.map_coordinates(self.profile, source[None], order=3, mode="nearest")
        nearest = np.rint(source).astype(int)
        inside = (nearest >= 0) & (nearest < self.profile.size)
        valid = inside & self.valid[np.clip(nearest, 0, self.profile.size - 1)]
        return np.where(valid, values, 0.0), valid

    def best_shift_px(self, frame: Frame, reference: tuple[Array, Array]) -> tuple[float, float]:
        """Return the shift (down, right) that brings the mass onto the axis and its profile onto the reference."""
        if self.center_px is None:
            return 0.0, 0.0
        middle = frame.shape[1] // 2
        right = middle - (frame.offset_px(self.origin_xy_m)[1] + self.center_px)
        down = profile_shift_px(*self.profile_in(frame, 0.0), *reference)
        return (0.0 if down is None else down), (right if abs(right) <= middle else 0.0)

    def _position(self, frame: Frame) -> tuple[float, float]:
        row, column = frame.offset_px(self.origin_xy_m)
        return row + self.shift_px[0], column + self.shift_px[1]


def _edges_px(mass: Array) -> tuple[float, float] | None:
    columns = np.cumsum(np.abs(mass).sum(axis=0))
    if columns.size == 0 or columns[-1] <= 0:
        return None
    left, right = np.searchsorted(columns, np.array([EDGE_SHARE, 1.0 - EDGE_SHARE]) * columns[-1])
    return float(left), float(right)


def _absorbed(magnitude: Array, mass: Array, weight: Array) -> float:
    return float(_absorption(magnitude)[(mass != 0) & (weight > 0)].sum()) * 2.0


def _absorption(magnitude: Array) -> Array:
    return np.asarray(-np.log(np.maximum(magnitude, DARKEST)), np.float32)


def mean_profile(projections: Iterable[PlacedProjection], frame: Frame) -> tuple[Array, Array]:
    """Return the mean mass in each row of the frame (Z,) of aligned projections, and where at least one is valid."""
    total, count = np.zeros(frame.shape[0]), np.zeros(frame.shape[0])
    for projection in projections:
        if projection.center_px is not None and projection.set_aside is None:
            profile, valid = projection.profile_in(frame, projection.shift_px[0])
            total += profile
            count += valid
    return total / np.maximum(count, 1), count > 0


def realigned_shifts_px(projections: Mapping[int, PlacedProjection], frame: Frame) -> dict[int, tuple[float, float]]:
    """Return the shifts (down, right) that align each projection with the mean of all others.

    The mean of the shifts stays: all together may not move, so that the operator's picture does not jump.
    """
    used = {key: item for key, item in projections.items() if item.set_aside is None}
    shifts = {key: item.shift_px for key, item in used.items() if item.center_px is not None}
    for _ in range(REALIGN_ROUNDS):
        profiles = {key: projections[key].profile_in(frame, down) for key, (down, _) in shifts.items()}
        total = np.sum([profile for profile, _ in profiles.values()], axis=0)
        count = np.sum([valid for _, valid in profiles.values()], axis=0)
        found = {}
        for key, (profile, valid) in profiles.items():
            others = count - valid
            reference = (total - profile) / np.maximum(others, 1), others > 0
            found[key] = projections[key].best_shift_px(frame, reference)
        drift = float(np.mean([found[key][0] - shifts[key][0] for key in found])) if found else 0.0
        settled = {key: (down - drift, right) for key, (down, right) in found.items()}
        moved = max((abs(settled[key][0] - shifts[key][0]) for key in settled), default=0.0)
        shifts = settled
        if moved < SETTLED_PX:
            break
    return shifts
