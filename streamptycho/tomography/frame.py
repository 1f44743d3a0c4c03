"""The common frame of all projections: where metres of the stage are in rows and columns."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.ndimage

from streamptycho.messages import Array

MARGIN_PX = 4


@dataclass(frozen=True, slots=True)
class Extent:
    """Rectangle on the sample in metres, `x` and `y` each (first, last) pixel centre."""

    x_m: tuple[float, float]
    y_m: tuple[float, float]

    def joined(self, other: Extent) -> Extent:
        """Return the smallest rectangle that has both in it."""
        return Extent(
            (min(self.x_m[0], other.x_m[0]), max(self.x_m[1], other.x_m[1])),
            (min(self.y_m[0], other.y_m[0]), max(self.y_m[1], other.y_m[1])),
        )


@dataclass(frozen=True, slots=True)
class Frame:
    """Rows Z and columns X of `pixel_m`; pixel (Z // 2, X // 2) is at `center_xy_m` of the stage."""

    shape: tuple[int, int]
    center_xy_m: tuple[float, float]
    pixel_m: float

    @classmethod
    def around(
        cls, extent: Extent, pixel_m: float, width_px: int | None, height_px: int | None, axis_x_m: float | None
    ) -> Frame:
        """Return the frame about an extent with a margin; `axis_x_m` fixes the column of the rotation axis."""
        x = 0.5 * sum(extent.x_m) if axis_x_m is None else axis_x_m
        y = 0.5 * sum(extent.y_m)
        half_x = max(abs(edge - x) for edge in extent.x_m) / pixel_m
        half_y = max(abs(edge - y) for edge in extent.y_m) / pixel_m
        columns = width_px or 2 * (math.ceil(half_x - 1e-6) + MARGIN_PX)
        rows = height_px or 2 * (math.ceil(half_y - 1e-6) + MARGIN_PX)
        return cls((rows, columns), (x, y), pixel_m)

    def holds(self, extent: Extent, *, across: bool = True, along: bool = True) -> bool:
        """Whether the extent lies inside, across the rotation axis and along it (False: does not matter)."""
        here = self._extent()
        inside_x = here.x_m[0] <= extent.x_m[0] and extent.x_m[1] <= here.x_m[1]
        inside_y = here.y_m[0] <= extent.y_m[0] and extent.y_m[1] <= here.y_m[1]
        return (inside_x or not across) and (inside_y or not along)

    def touches(self, extent: Extent) -> bool:
        """Whether any of the extent lies inside."""
        here = self._extent()
        overlap_x = here.x_m[0] <= extent.x_m[1] and extent.x_m[0] <= here.x_m[1]
        return overlap_x and here.y_m[0] <= extent.y_m[1] and extent.y_m[0] <= here.y_m[1]

    def _extent(self) -> Extent:
        rows, columns = self.shape
        (x0, y0), p = self.center_xy_m, self.pixel_m
        left, top = x0 - (columns // 2) * p, y0 - (rows // 2) * p
        return Extent((left, left + (columns - 1) * p), (top, top + (rows - 1) * p))

    def offset_px(self, origin_xy_m: Array) -> tuple[float, float]:
        """Return where (row, column) the first pixel of an array with that origin falls."""
        x0, y0 = self.center_xy_m
        row = (float(origin_xy_m[1]) - y0) / self.pixel_m + self.shape[0] // 2
        column = (float(origin_xy_m[0]) - x0) / self.pixel_m + self.shape[1] // 2
        return row, column

    def place(self, image: Array, offset_px: tuple[float, float]) -> Array:
        """Return `image` (H, W) at an offset in the frame (Z, X) float32, by cubic splines, zero around it."""
        placed = scipy.ndimage.affine_transform(
            image.astype(np.float64),
            np.ones(2),
            offset=(-offset_px[0], -offset_px[1]),
            output_shape=self.shape,
            order=3,
            mode="constant",
            cval=0.0,
        )
        return np.asarray(placed, dtype=np.float32)
