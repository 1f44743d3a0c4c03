"""The object array, which grows as the scan goes on."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamptycho.array import Backend
from streamptycho.messages import Array

_GROWTH = 0.3


class Canvas:
    """Complex transmission on the fixed lattice of object pixels, 1 where nothing is known.

    Lattice pixel (0, 0) is at x = y = 0, whatever frame comes first, so that arrays of different extent fit together.
    `box` is (top, left, bottom, right) of what frames have touched, in lattice pixels.

    Parameters
    ----------
    backend
        Where the array lies.
    frame_px
        Rows and columns of a frame.
    margin_px
        Kept around what frames touch.
    max_px
        Longest edge of `box`.
    """

    def __init__(self, backend: Backend, frame_px: int, margin_px: int, max_px: int) -> None:
        self._backend = backend
        self._n = frame_px
        self._margin = margin_px
        self._max = max_px
        self._origin = (0, 0)
        self._array: Any = None
        self.box: tuple[int, int, int, int] | None = None

    @classmethod
    def holding(cls, backend: Backend, image: Array, frame_px: int) -> Canvas:
        """Return a canvas that is an image (H, W), complex64 after a copy, its first pixel lattice pixel (0, 0)."""
        canvas = cls(backend, frame_px, 0, max(image.shape))
        canvas._array = backend.xp.array(image, np.complex64, order="C")
        canvas.box = (0, 0, *image.shape)
        return canvas

    @property
    def image(self) -> Any:
        """The whole array, (H, W) complex64 on the device, with room to grow. It is replaced when the canvas grows."""
        return self._array

    def places(self, corners: Array) -> Array:
        """Return where in `image` frames with top left `corners` (N, 2) int64 start.

        Raises
        ------
        ValueError
            If a frame reaches beyond the image.
        """
        places: Array = corners - np.array(self._origin)
        limit = np.zeros(2, np.int64) if self._array is None else np.array(self._array.shape) - self._n
        if len(places) and ((places < 0).any() or (places > limit).any()):
            raise ValueError("a visit lies beyond the canvas: include its frame first")
        return places

    def fitting(self, corners: Array) -> Array:
        """Return which frames fit on the largest canvas, (N,) bool, from their top left `corners` (N, 2) int64.

        When not all do, those nearest to the middle of the canvas (of the batch, before the first frame) are kept.
        """
        if len(corners) == 0:
            return np.zeros(0, bool)
        low, high = corners.min(axis=0), corners.max(axis=0) + self._n
        if self.box is not None:
            low, high = np.minimum(low, self.box[:2]), np.maximum(high, self.box[2:])
        fits = np.ones(len(corners), bool)
        if (high - low).max() <= self._max:
            return fits
        if self.box is None:
            middle = np.median(corners, axis=0)
            low = high = None
        else:
            low, high = np.array(self.box[:2]), np.array(self.box[2:])
            middle = (low + high - self._n) / 2
        for k in np.argsort(np.abs(corners - middle).max(axis=1), kind="stable"):
            corner = corners[k]
            new_low = corner if low is None else np.minimum(low, corner)
            new_high = corner + self._n if high is None else np.maximum(high, corner + self._n)
            fits[k] = (new_high - new_low).max() <= self._max
            if fits[k]:
                low, high = new_low, new_high
        return fits

    def include(self, corners: Array) -> None:
        """Make room for frames with top left `corners` (N, 2) int64. What is already known stays."""
        low, high = corners.min(axis=0), corners.max(axis=0) + self._n
        if self.box is not None:
            low, high = np.minimum(low, self.box[:2]), np.maximum(high, self.box[2:])
        self.box = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
        need_low, need_high = low - self._margin, high + self._margin
        if self._array is None:
            self._allocate(need_low, need_high)
            return
        have_low = np.array(self._origin)
        have_high = have_low + self._array.shape
        if (need_low >= have_low).all() and (need_high <= have_high).all():
            return
        allowed = self._max + 2 * self._margin - (np.maximum(need_high, have_high) - np.minimum(need_low, have_low))
        spare = np.minimum(np.ceil(_GROWTH * (need_high - need_low)).astype(np.int64), np.maximum(allowed, 0))
        old, old_origin = self._array, self._origin
        self._allocate(
            np.where(need_low < have_low, need_low - spare, have_low),
            np.where(need_high > have_high, need_high + spare, have_high),
        )
        row, column = old_origin[0] - self._origin[0], old_origin[1] - self._origin[1]
        self._array[row : row + old.shape[0], column : column + old.shape[1]] = old

    def patch(self, corner_row: int, corner_column: int) -> Any:
        """Return the view (n, n) that a frame lights."""
        row, column = corner_row - self._origin[0], corner_column - self._origin[1]
        return self._array[row : row + self._n, column : column + self._n]

    def roll(self, down: int, right: int) -> None:
        """Move everything by whole pixels; what leaves on one side comes in on the other, where no frame reaches."""
        self._array[...] = self._backend.xp.roll(self._array, (down, right), (0, 1))

    def scale(self, factor: float) -> None:
        """Multiply everything by a number."""
        self._array *= np.float32(factor)

    def cropped(self) -> tuple[Any, tuple[int, int]]:
        """Return the view of what frames touched, with the margin, and its origin in lattice pixels."""
        assert self.box is not None
        top, left, bottom, right = self.box
        row, column = top - self._margin, left - self._margin
        height, width = bottom - top + 2 * self._margin, right - left + 2 * self._margin
        start_row, start_column = row - self._origin[0], column - self._origin[1]
        return self._array[start_row : start_row + height, start_column : start_column + width], (row, column)

    def _allocate(self, low: Array, high: Array) -> None:
        self._origin = (int(low[0]), int(low[1]))
        self._array = self._backend.xp.ones(tuple(int(v) for v in high - low), np.complex64)


def coverage(corners: Array, intensity: Any, origin: tuple[int, int], shape: tuple[int, int], backend: Backend) -> Any:
    """Return the summed probe intensity on every object pixel, `shape` float32.

    Parameters
    ----------
    corners
        Top left lattice pixels of the frames, (N, 2) int64.
    intensity
        Of the probe, summed over modes, (n, n), on the device.
    origin
        Lattice pixel of the first row and column of the result.
    shape
        Of the result. Every frame must lie within.
    backend
        Where `intensity` lies and the result will.
    """
    xp, fft = backend.xp, backend.fft
    n = intensity.shape[0]
    rows, columns = corners[:, 0] - origin[0], corners[:, 1] - origin[1]
    visited = np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1]).reshape(shape)
    kernel = xp.zeros(shape, np.float32)
    kernel[:n, :n] = intensity
    spectrum = fft.rfft2(xp.asarray(visited.astype(np.float32)))
    spectrum *= fft.rfft2(kernel)
    summed = fft.irfft2(spectrum, s=shape)
    return xp.maximum(summed, 0, dtype=np.float32)
