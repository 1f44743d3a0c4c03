"""The square of the detector that is reconstructed: where it lies, and how it is cut out of a frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.ndimage

from streamptycho.config import RegionConfig
from streamptycho.detectors.region_kernel import bin_down, cut_out
from streamptycho.messages import Array

FRAMES_FOR_CENTER = 8
_BACKGROUND_FRACTION = 0.1
_BRIGHTEST_QUANTILE = 0.9999
_BINNED_DTYPE = {1: np.uint16, 2: np.uint32, 4: np.uint32}


class RegionError(ValueError):
    """A region that the frames of this detector cannot have."""


@dataclass(frozen=True, slots=True)
class Square:
    """`side_px` x `side_px` pixels of the detector from (`row`, `column`) on, which may lie off the detector."""

    row: int
    column: int
    side_px: int
    binning: int

    def rows_on(self, height: int) -> slice:
        """Return the rows of a detector of this height that the square touches."""
        return slice(min(max(self.row, 0), height), min(max(self.row + self.side_px, 0), height))


def side_px(config: RegionConfig, shape: tuple[int, int]) -> int:
    """Return the side of the square on a detector of this shape, a multiple of the binning.

    Raises
    ------
    RegionError
        If fewer than 2 x 2 bins remain.
    """
    side = min(shape) if config.size_px is None else config.size_px
    side -= side % config.binning
    if side < 2 * config.binning:
        raise RegionError(
            f"a region of {config.size_px or min(shape)} px with binning {config.binning} leaves fewer than "
            "2 x 2 pixels: choose a larger detector.region.size_px or a smaller binning"
        )
    return side


def square_at(center_px: tuple[float, float], side: int, binning: int) -> Square:
    """Return the square whose pixel [side // 2, side // 2] holds `center_px` (row, column).

    Pixel i spans from i to i + 1, as in the beam centre of DECTRIS headers.
    """
    row, column = (int(np.floor(value)) - side // 2 for value in center_px)
    return Square(row, column, side, binning)


def middle_of(shape: tuple[int, int]) -> tuple[float, float]:
    """Return the centre (row, column) of a detector."""
    return shape[0] / 2, shape[1] / 2


class CenterFinder:
    """Centre of mass of the first frames, blind to pixels that were not measured, to hot ones and to background."""

    def __init__(self, shape: tuple[int, int], masked: Array | None) -> None:
        self.shape = shape
        self._sum = np.zeros(shape, np.float32)
        self._masked = masked

    def add(self, counts: Array, largest_valid: int) -> None:
        """Take one frame (H, W). Counts above `largest_valid` are left out."""
        measured = counts <= largest_valid
        if self._masked is not None:
            measured &= ~self._masked
        np.add(self._sum, counts, out=self._sum, where=measured)

    def center_px(self) -> tuple[float, float] | None:
        """Return (row, column) in units in which pixel i spans from i to i + 1; None if there were no counts."""
        # A hot pixel is alone: the median of its neighbourhood does not know it. Where photons are so rare that the
        # median knows none, each pixel is held down to its brightest neighbour instead. A few clusters of hot
        # pixels outshine nothing, as no pixel weighs more than the brightest ones of the whole picture.
        bright = scipy.ndimage.median_filter(self._sum, size=3, mode="constant")
        if not bright.any():
            ring = np.ones((3, 3), bool)
            ring[1, 1] = False
            bright = np.minimum(self._sum, scipy.ndimage.maximum_filter(self._sum, footprint=ring, mode="constant"))
        flat = bright.reshape(-1)
        brightest = int((flat.size - 1) * _BRIGHTEST_QUANTILE)
        ceiling = max(float(np.partition(flat, brightest)[brightest]), 1.0)
        bright = np.maximum(np.minimum(bright, ceiling) - _BACKGROUND_FRACTION * ceiling, 0)
        total = bright.sum(dtype=np.float64)
        if not total > 0:
            return None
        row = (bright.sum(axis=1, dtype=np.float64) @ np.arange(bright.shape[0])) / total
        column = (bright.sum(axis=0, dtype=np.float64) @ np.arange(bright.shape[1])) / total
        return float(row) + 0.5, float(column) + 0.5


class Cutter:
    """Cuts the square out of frames of one series.

    Parameters
    ----------
    masked
        (H, W) bool of the whole detector, None if it is not known.
    saturation
        Largest valid count, None if it is not known.

    Raises
    ------
    RegionError
        If no pixel of the square is on the detector.
    """

    def __init__(self, square: Square, shape: tuple[int, int], masked: Array | None, saturation: int | None) -> None:
        if not (-square.side_px < square.row < shape[0] and -square.side_px < square.column < shape[1]):
            raise RegionError(
                f"the region begins at row {square.row}, column {square.column}: no part of it is on a detector of "
                f"{shape[0]} x {shape[1]} pixels"
            )
        self.square = square
        self.rows = square.rows_on(shape[0])
        self._saturation = saturation
        self._mask_known = masked is not None
        self._masked = np.zeros((square.side_px, square.side_px), bool)
        if masked is not None:
            self._masked = _padded(masked, square)
        self._as_it_is = masked is None and square == Square(0, 0, shape[1], 1) and shape[0] == shape[1]

    @property
    def masked(self) -> Array:
        """Which pixels of the square are masked, (side, side) bool."""
        return self._masked

    @property
    def mask_known(self) -> bool:
        """Whether a mask was given."""
        return self._mask_known

    def largest_valid(self, dtype: np.dtype[Any]) -> int:
        """Return the largest count that is valid in frames of this dtype."""
        return valid_limit(dtype, self._saturation)

    def dtype_of(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype of the square for frames of a native dtype."""
        return dtype if self.square.binning == 1 else np.dtype(_BINNED_DTYPE[dtype.itemsize])

    def cut(self, rows: Array) -> tuple[Array, int]:
        """Return the square (n, n) and the number of saturated pixels in it.

        `rows` (R, W) are the rows `self.rows` of the frame. The result has the dtype of `rows`, or the next wider one
        if it is binned; the largest value of its dtype marks pixels that were not measured.
        """
        square = self.square
        largest_valid = valid_limit(rows.dtype, self._saturation)
        if self._as_it_is and largest_valid == np.iinfo(rows.dtype).max - 1:
            return rows, 0
        top = int(np.iinfo(rows.dtype).max)
        counts = np.empty((square.side_px, square.side_px), rows.dtype)
        row = square.row - self.rows.start
        saturated = cut_out(rows, row, square.column, self._masked, self._mask_known, largest_valid, top, counts)
        if square.binning == 1:
            return counts, int(saturated)
        n = square.side_px // square.binning
        binned = np.empty((n, n), _BINNED_DTYPE[rows.dtype.itemsize])
        saturated += bin_down(counts, square.binning, top, int(np.iinfo(binned.dtype).max), binned)
        return binned, int(saturated)


def valid_limit(dtype: np.dtype[Any], saturation: int | None) -> int:
    """Return the largest count that is valid in this dtype; its largest value never is."""
    limit = int(np.iinfo(dtype).max) - 1
    return limit if saturation is None else min(limit, saturation)


def _padded(masked: Array, square: Square) -> Array:
    """Return the mask of the square; off the detector everything is masked."""
    out = np.ones((square.side_px, square.side_px), bool)
    height, width = masked.shape
    top, left = max(square.row, 0), max(square.column, 0)
    bottom, right = min(square.row + square.side_px, height), min(square.column + square.side_px, width)
    if bottom > top and right > left:
        here = np.s_[top - square.row : bottom - square.row, left - square.column : right - square.column]
        out[here] = masked[top:bottom, left:right]
    return out
