"""The frames of a projection in work: where they lie on which object, how bright they are, which one is next."""

from __future__ import annotations

import numpy as np

from streamptycho.array import Backend
from streamptycho.config import ReconstructionConfig
from streamptycho.messages import Array, DiffractionBatch
from streamptycho.ptychography.canvas import Canvas
from streamptycho.ptychography.flux import Flux
from streamptycho.ptychography.frames import LARGEST_POSITION_PX, FrameStore
from streamptycho.ptychography.placement import Placement
from streamptycho.ptychography.schedule import VisitSchedule
from streamptycho.ptychography.visits import Visits


class HeldFrames:
    """Keeps in step what is known of each frame; `canvas` is 1 where no frame has been visited.

    Parameters
    ----------
    store
        The first frames.
    centres_px
        Where they were measured to lie, (N, 2) in object pixels, (row, column).
    config
        Limits, corrections, sweeps.
    backend
        Where to compute.
    seed
        Of the order of visits.
    """

    def __init__(
        self, store: FrameStore, centres_px: Array, config: ReconstructionConfig, backend: Backend, seed: int
    ) -> None:
        n = store.shape[0] * config.upsampling
        radius_px = 0.0 if config.positions == "none" else config.position_radius_px
        self.store = store
        self.canvas = Canvas(backend, n, config.margin_px, max(config.max_canvas_px, n))
        self.placement = Placement(n, radius_px, config.position_shared_frames)
        self.flux = Flux()
        self.schedule = VisitSchedule(seed, config.sweeps)
        self._take(centres_px)

    def __len__(self) -> int:
        return len(self.store)

    def add(self, batch: DiffractionBatch, good: Array, centres_px: Array) -> None:
        """Keep the `good` frames of a batch; `centres_px` (K, 2) are theirs."""
        self.store.add(batch, good)
        self._take(centres_px)

    def correct(self, frames: Array, centres_px: Array, xy_m: Array) -> None:
        """Take better measured positions (K, 2) of frames (K,)."""
        self._make_room(centres_px)
        self.placement.replace(frames, centres_px)
        self.store.replace_positions(frames, xy_m)

    def on_canvas(self, centres_px: Array) -> Array:
        """Return the numbers, within (K, 2), of the centres that the canvas can take."""
        near = np.flatnonzero((np.abs(np.nan_to_num(centres_px, nan=np.inf)) < LARGEST_POSITION_PX).all(axis=1))
        return near[self.canvas.fitting(self.placement.corners(centres_px[near])[0])]

    def places(self) -> tuple[Array, Array]:
        """Return the corners (N, 2) int64 of all frames and the fractions of a pixel beyond them, (N, 2)."""
        return self.placement.corners(self.placement.centres_px())

    def visits(
        self,
        frames: Array,
        object_step: float | Array = 0.0,
        probe_step: float | Array = 0.0,
        centres_px: Array | None = None,
    ) -> Visits:
        """Return visits of frames (K,), at other centres (K, 2) than theirs if these are given."""
        corners, fractions_px = self.placement.corners(
            self.placement.centres_px(frames) if centres_px is None else centres_px
        )
        return Visits.of(
            frames,
            corners,
            fractions_px,
            object_step=object_step,
            probe_step=probe_step,
            gains=self.flux.gains[frames],
            in_turn=len(self),
        )

    def _take(self, centres_px: Array) -> None:
        if len(centres_px):
            self._make_room(centres_px)
            self.placement.extend(centres_px)
            self.flux.extend(len(centres_px))
            self.schedule.add(len(centres_px))

    def _make_room(self, centres_px: Array) -> None:
        """Grow the canvas by what frames reach, trial displacements included."""
        reach = 2 * self.placement.reach_px
        around = [centres_px + reach * np.array(side) for side in ((-1, -1), (1, 1))]
        self.canvas.include(self.placement.corners(np.concatenate(around))[0])
