"""Where frames lie on the object: measured, and corrected by what the frames themselves show."""

from __future__ import annotations

import numpy as np
import scipy.ndimage

from streamptycho.messages import Array
from streamptycho.ptychography.growing import GrowingArray

_LARGEST_STEP = 0.25
_FRAMES_FOR_A_PLANE = 12
_JUMP_IN_STEPS = 4.0


class Placement:
    """Centres of frames in object pixels, (row, column), with corrections that stay within a radius of the measured.

    A displacement of all frames together, and one that grows linearly with the position (a scaled, turned or sheared
    scan), can hardly be told from another object and probe: `settle` takes both out of the corrections.

    Parameters
    ----------
    frame_px
        Rows and columns of a patch of the object.
    radius_px
        Longest correction. With 0 there is none.
    shared_frames
        About how many consecutive frames of a line share what they seem to be displaced by, and are moved by the mean
        of it at the end of a sweep. With 1 each frame is moved by its own, at once.
    """

    def __init__(self, frame_px: int, radius_px: float, shared_frames: int = 1) -> None:
        self._n = frame_px
        self._radius_px = radius_px
        self._shared_frames = shared_frames
        self._hints_px = GrowingArray((3,), np.float64)
        self._measured_px = GrowingArray((2,), np.float64)
        self._shift_px = GrowingArray((2,), np.float64)

    def __len__(self) -> int:
        return len(self._measured_px)

    @property
    def measured_px(self) -> Array:
        """Measured centres, (N, 2)."""
        return self._measured_px.rows

    @property
    def shift_px(self) -> Array:
        """Corrections, (N, 2): how much further down and right a frame is than measured."""
        return self._shift_px.rows

    @property
    def reach_px(self) -> int:
        """Whole pixels by which a frame may come to lie beyond its measured place."""
        return int(np.ceil(self._radius_px))

    def extend(self, centres_px: Array) -> None:
        """Take measured centres (K, 2) of new frames."""
        self._measured_px.extend(centres_px)
        self._shift_px.extend(np.zeros_like(centres_px))
        self._hints_px.extend(np.zeros((len(centres_px), 3)))

    def replace(self, frames: Array, centres_px: Array) -> None:
        """Take better measured centres (K, 2) of frames that are there, (K,) int64, and forget their corrections."""
        self._measured_px.rows[frames] = centres_px
        self._shift_px.rows[frames] = 0

    def centres_px(self, frames: Array | slice = slice(None)) -> Array:
        """Return corrected centres, (K, 2)."""
        centres: Array = self._measured_px.rows[frames] + self._shift_px.rows[frames]
        return centres

    def corners(self, centres_px: Array) -> tuple[Array, Array]:
        """Return the top left corners (K, 2) int64 of patches, and the fractions of a pixel beyond them, (K, 2)."""
        whole = np.rint(centres_px)
        return whole.astype(np.int64) - self._n // 2, centres_px - whole

    def follow(self, frames: Array, seeming_px: Array) -> None:
        """Move frames (K,) to where they seem to be, (K, 2) from where they are, by a quarter pixel at most.

        What is not finite is no hint.
        """
        hint = np.where(np.isfinite(seeming_px).all(axis=1, keepdims=True), np.clip(seeming_px, -1, 1), 0.0)
        if self._shared_frames == 1:
            self.move(frames, within(hint, _LARGEST_STEP))
        else:
            np.add.at(self._hints_px.rows, frames, np.column_stack([hint, np.ones(len(hint))]))

    def move(self, frames: Array, by_px: Array) -> None:
        """Move frames (K,), each once, by (K, 2), no further than the radius from where they were measured."""
        shift = self._shift_px.rows
        shift[frames] = within(shift[frames] + by_px, self._radius_px)

    def settle(self, index: Array) -> None:
        """Move what shares its hints, then take out of the corrections what all frames have in common.

        Frames were measured in the order of `index`, (N,).
        """
        shift, count = self._shift_px.rows, len(self)
        if self._shared_frames > 1 and self._hints_px.rows.any():
            self._share(np.argsort(index, kind="stable"))
        if count == 0 or not shift.any():
            return
        columns = [np.ones(count)]
        if count >= _FRAMES_FOR_A_PLANE:
            centred = self._measured_px.rows - self._measured_px.rows.mean(axis=0)
            columns.extend((centred / max(float(np.abs(centred).max()), 1.0)).T)
        basis = np.stack(columns, axis=1)
        shift[:] = within(shift - basis @ np.linalg.lstsq(basis, shift, rcond=1e-6)[0], self._radius_px)

    def _share(self, order: Array) -> None:
        """Move every frame by what its neighbours in time seem to be displaced by, never across the end of a line."""
        hints = self._hints_px.rows[order]
        steps_px = np.linalg.norm(np.diff(self._measured_px.rows[order], axis=0), axis=1)
        usual_px = float(np.median(steps_px)) if len(steps_px) else 0.0
        ends = np.flatnonzero(steps_px > _JUMP_IN_STEPS * usual_px) + 1
        sigma = self._shared_frames / np.sqrt(4 * np.pi)
        lines = [
            scipy.ndimage.gaussian_filter1d(line, sigma, axis=0, mode="constant") for line in np.split(hints, ends)
        ]
        summed = np.concatenate(lines)
        known = summed[:, 2] > 0
        self.move(order[known], within(summed[known, :2] / summed[known, 2:], _LARGEST_STEP))
        self._hints_px.rows[:] = 0


def within(vectors: Array, radius: float) -> Array:
    """Return vectors (K, 2), those longer than the radius cut to it."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors * np.minimum(1.0, radius / np.maximum(length, 1e-300)))
