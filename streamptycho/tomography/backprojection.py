"""Filtered back-projection that takes, replaces and gives back one projection at a time.

Geometry: the line integral at detector coordinate s = x cos(theta) + y sin(theta), z down the rows, centre of rotation
at index n // 2 of both the detector rows' X columns and the volume's (Z, Y, X) axes x and y; Y = X.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator

import numpy as np

from streamptycho.messages import Array
from streamptycho.tomography.angular_weights import angular_weights, total_to_pi
from streamptycho.tomography.back_projector import back_project, back_projected, upright
from streamptycho.tomography.filter_columns import filtered_columns
from streamptycho.tomography.filtering import FilterName
from streamptycho.tomography.running_sum import Filtered, RunningSum

MAX_VOXELS = 4_000_000_000
LIVE_VOXELS = 64_000_000
SLAB_ROWS = 64


class VolumeTooLargeError(ValueError):
    """A volume that would not fit into the memory that was allowed."""


class ProjectionError(ValueError):
    """A projection that cannot be part of the volume."""


class IncrementalBackProjection:
    """Orthoslices after every projection, and the whole volume when asked.

    A new projection changes its own weight and at most those of its neighbours in angle: only these differences are
    back-projected. When more than that has changed the sum starts afresh, so the result is that of a single
    reconstruction of the same projections to the rounding of float32, in any order of arrival.

    Memory: 4 Z X bytes per projection, 8 (X X + 2 Z X) for the orthoslices, and once `volume` is called 4 Z X X more. A
    volume of more than `LIVE_VOXELS` is never kept, but made anew each time: `slabs` takes 256 X X bytes, and as much
    again of each projection's 64 rows; `volume` that and the result.

    Parameters
    ----------
    shape
        Rows Z and columns X of the projections.
    filter_name
        One of `FILTERS`.
    max_voxels
        Bound of Z x X x X.

    Raises
    ------
    VolumeTooLargeError
        If the volume would have more than `max_voxels`.
    """

    def __init__(
        self, shape: tuple[int, int], filter_name: FilterName = "hamming", *, max_voxels: int = MAX_VOXELS
    ) -> None:
        rows, columns = shape
        check_shape(rows, columns, max_voxels)
        self.shape = shape
        self._filter: FilterName = filter_name
        self._projections: dict[Hashable, Filtered] = {}
        self._slices: tuple[RunningSum, ...] = ()
        self._volume: RunningSum | None = None

    def __len__(self) -> int:
        return len(self._projections)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._projections

    def add(self, key: Hashable, angle_deg: float, line_integrals: Array) -> None:
        """Take the projection `line_integrals` (Z, X) at an angle, in place of an earlier one with the same key.

        Raises
        ------
        ProjectionError
            If the shape is another, or a value is not finite; what was there before stays.
        """
        if line_integrals.shape != self.shape:
            raise ProjectionError(f"projection {key!r} must have shape {self.shape}, got {line_integrals.shape}")
        if not (math.isfinite(angle_deg) and np.isfinite(line_integrals).all()):
            raise ProjectionError(f"projection {key!r} must be finite, with a finite angle: it has NaN or infinity")
        self._projections[key] = Filtered(float(angle_deg), self._filtered(line_integrals))

    def remove(self, key: Hashable) -> None:
        """Take a projection out of the volume.

        Raises
        ------
        KeyError
            If there is none with this key.
        """
        del self._projections[key]

    def orthoslices(self) -> tuple[Array, Array, Array]:
        """Return the central slices across z (Y, X), across y (Z, X) and across x (Z, Y), float32."""
        target, scale = self._target()
        rows, columns = self.shape
        middle_z, middle = rows // 2, columns // 2
        self._slices = self._slices or (
            RunningSum((middle_z, 0, 0), (1, columns, columns), np.float64),
            RunningSum((0, middle, 0), (rows, 1, columns), np.float64),
            RunningSum((0, 0, middle), (rows, columns, 1), np.float64),
        )
        for box in self._slices:
            box.bring_to(target)
        across_z, across_y, across_x = (box.total for box in self._slices)
        return (
            (across_z[:, :, 0] * scale).astype(np.float32),
            (across_y[0].T * scale).astype(np.float32),
            (across_x[:, 0].T * scale).astype(np.float32),
        )

    def volume(self) -> Array:
        """Return the volume (Z, Y, X) float32 of all projections."""
        rows, columns = self.shape
        if rows * columns**2 > LIVE_VOXELS:
            return filled((rows, columns, columns), self.slabs())
        target, scale = self._target()
        if self._volume is None:
            self._volume = RunningSum((0, 0, 0), (rows, columns, columns), np.float32)
        self._volume.bring_to(target)
        return upright(self._volume.total, scale)

    def slabs(self) -> Iterator[Array]:
        """Return the volume (Z, Y, X) float32 from top to bottom, `SLAB_ROWS` at a time, made while they are taken."""
        target, scale = self._target()
        rows, columns = self.shape
        ordered = sorted(target.values(), key=lambda weighted: weighted[1].angle_deg)
        angles = np.array([filtered.angle_deg for _, filtered in ordered])
        weights = np.array([weight for weight, _ in ordered])
        for first in range(0, rows, SLAB_ROWS):
            last = min(first + SLAB_ROWS, rows)
            part = np.empty((len(ordered), columns, last - first), np.float32)
            for k, (_, filtered) in enumerate(ordered):
                part[k] = filtered.columns[:, first:last]
            yield back_projected(part, angles, weights, scale)

    def region(self, z: slice, y: slice, x: slice, keys: Iterable[Hashable] | None = None) -> Array:
        """Return a part of the volume (float32, step 1), from some of the projections if `keys` says which."""
        target, scale = self._target(keys)
        (z0, z1), (y0, y1), (x0, x1) = self._spans(z, y, x)
        box = RunningSum((z0, y0, x0), (z1 - z0, y1 - y0, x1 - x0), np.float32)
        box.bring_to(target)
        return np.ascontiguousarray(box.total.transpose(2, 0, 1)) * np.float32(scale)

    def _spans(self, *parts: slice) -> list[tuple[int, int]]:
        spans = [part.indices(n)[:2] for part, n in zip(parts, (*self.shape, self.shape[1]), strict=True)]
        return [(first, max(first, last)) for first, last in spans]

    def _filtered(self, line_integrals: Array) -> Array:
        return np.asarray(filtered_columns(line_integrals[None], self._filter)[0])

    def _target(self, keys: Iterable[Hashable] | None = None) -> tuple[dict[Hashable, tuple[float, Filtered]], float]:
        names = list(self._projections) if keys is None else list(keys)
        if not names:
            return {}, 1.0
        weights = angular_weights(np.array([self._projections[name].angle_deg for name in names]))
        target = {name: (float(w), self._projections[name]) for name, w in zip(names, weights, strict=True)}
        return target, total_to_pi(weights)


def filtered_back_projection(line_integrals: Array, angles_deg: Array, filter_name: FilterName = "hamming") -> Array:
    """Return the volume (Z, X, X) float32 of `line_integrals` (K, Z, X) at `angles_deg` (K,), in one go.

    Raises
    ------
    ProjectionError, VolumeTooLargeError
        As in `IncrementalBackProjection`.
    """
    if line_integrals.ndim != 3 or len(line_integrals) != len(angles_deg):
        raise ProjectionError(
            f"expected projections (K, Z, X) and K angles, got {line_integrals.shape} and {len(angles_deg)}"
        )
    check_shape(line_integrals.shape[1], line_integrals.shape[2], MAX_VOXELS)
    if not (np.isfinite(line_integrals).all() and np.isfinite(angles_deg).all()):
        raise ProjectionError("projections and angles must be finite: there is NaN or infinity")
    return back_projected(*_in_order(line_integrals, angles_deg, filter_name))


def filled(shape: tuple[int, int, int], slabs: Iterable[Array]) -> Array:
    """Return the volume (Z, Y, X) float32 of slabs (n, Y, X), from top to bottom."""
    volume = np.empty(shape, np.float32)
    first = 0
    for slab in slabs:
        volume[first : first + len(slab)] = slab
        first += len(slab)
    return volume


def volume_columns(line_integrals: Array, angles_deg: Array, filter_name: FilterName) -> tuple[Array, float]:
    """Return the volume (Y, X, Z) float32 of `line_integrals` (K, Z, X), z fastest, and the factor that it lacks."""
    rows, side = line_integrals.shape[1:]
    columns, angles, weights, scale = _in_order(line_integrals, angles_deg, filter_name)
    total = np.zeros((side, side, rows), np.float32)
    back_project(total, columns, angles, weights, (0, 0, 0))
    return total, scale


def _in_order(line_integrals: Array, angles_deg: Array, filter_name: FilterName) -> tuple[Array, Array, Array, float]:
    """Return filtered columns, angles and weights by angle, and the factor that makes up for missing angles."""
    angles = np.asarray(angles_deg, dtype=np.float64)
    order = np.argsort(angles, kind="stable")
    weights = angular_weights(angles)
    columns = filtered_columns(line_integrals, filter_name, order)
    return columns, angles[order], weights[order], total_to_pi(weights)


def checked_columns(line_integrals: Array, angles_deg: Array) -> Array:
    """Return projections (K, Z, X) with z fastest, (K, X, Z), for what reconstructs all of them together.

    Raises
    ------
    ProjectionError, VolumeTooLargeError
        If shapes do not fit, a value is not finite, or the volume would be too large.
    """
    if line_integrals.ndim != 3 or len(line_integrals) != len(angles_deg) or len(angles_deg) == 0:
        raise ProjectionError(
            f"expected projections (K, Z, X) and K angles, got {line_integrals.shape} and {len(angles_deg)}"
        )
    rows, side = line_integrals.shape[1:]
    check_shape(rows, side, MAX_VOXELS)
    if not (np.isfinite(line_integrals).all() and np.isfinite(angles_deg).all()):
        raise ProjectionError("projections and angles must be finite: there is NaN or infinity")
    return columns_first(line_integrals)


def columns_first(projections: Array) -> Array:
    """Return projections (K, Z, X) as (K, X, Z), z fastest."""
    return np.ascontiguousarray(projections.transpose(0, 2, 1), dtype=np.float32)


def check_shape(rows: int, columns: int, max_voxels: int) -> None:
    """Refuse projections that make no volume, or too large a one.

    Raises
    ------
    ProjectionError, VolumeTooLargeError
        Saying what is allowed.
    """
    if rows < 1 or columns < 2:
        raise ProjectionError(f"projections must have at least 1 x 2 pixels, got {rows} x {columns}")
    if rows * columns * columns > max_voxels:
        raise VolumeTooLargeError(
            f"a volume of {rows} x {columns} x {columns} voxels is over the bound of {max_voxels}: "
            "set width_px and height_px, or bin the projections"
        )
