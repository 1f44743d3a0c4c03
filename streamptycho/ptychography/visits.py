"""What is to be done with which frames in one call of an updater, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamptycho.messages import Array


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Visits:
    """Frames to visit, one after another in this order.

    Attributes
    ----------
    frames
        Numbers of the frames in their store, (K,) int64.
    corners
        Lattice pixels of their top left corners, (K, 2) int64.
    fractions_px
        Of a pixel by which they are further down and right, (K, 2) float64.
    object_step, probe_step
        Step sizes, (K,) float32. A probe step of 0 leaves the probe alone.
    gains
        Flux of each frame over that of the probe, (K,) float32, positive.
    in_turn
        How many frames are visited in turn, of which these are some.
    """

    frames: Array
    corners: Array
    fractions_px: Array
    object_step: Array
    probe_step: Array
    gains: Array
    in_turn: int

    def __len__(self) -> int:
        return len(self.frames)

    @staticmethod
    def of(
        frames: Array,
        corners: Array,
        fractions_px: Array,
        *,
        object_step: float | Array = 0.9,
        probe_step: float | Array = 0.0,
        gains: float | Array = 1.0,
        in_turn: int | None = None,
    ) -> Visits:
        """Return visits in the dtypes that updaters read; single numbers hold for every frame."""
        frames = np.ascontiguousarray(frames, np.int64)
        return Visits(
            frames=frames,
            corners=np.ascontiguousarray(corners, np.int64).reshape(len(frames), 2),
            fractions_px=np.ascontiguousarray(fractions_px, np.float64).reshape(len(frames), 2),
            object_step=_each(object_step, len(frames)),
            probe_step=_each(probe_step, len(frames)),
            gains=_each(gains, len(frames)),
            in_turn=len(frames) if in_turn is None else in_turn,
        )

    def taken(self, chosen: Array) -> Visits:
        """Return some of the visits, by number or slice."""
        return Visits(
            frames=self.frames[chosen],
            corners=self.corners[chosen],
            fractions_px=self.fractions_px[chosen],
            object_step=self.object_step[chosen],
            probe_step=self.probe_step[chosen],
            gains=self.gains[chosen],
            in_turn=self.in_turn,
        )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class VisitOutcome:
    """What visits found, each before it changed anything.

    Attributes
    ----------
    residual
        sum((|F| - sqrt(I))**2) over measured pixels, (K,) float64.
    shift_px
        How much further down and right the frame seems to be, (K, 2) float64; 0 where it was not asked for.
    gain
        Measured over modelled counts, without the gain that was given, (K,) float64; that gain where nothing is lit.
    """

    residual: Array
    shift_px: Array
    gain: Array


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class UpdateRule:
    """How an updater turns what is missing in a frame into a change.

    Attributes
    ----------
    upsampling
        Probe pixels per frame pixel along an edge; intensities of upsampling x upsampling far-field pixels are summed
        before they are compared with one measured pixel.
    object_alpha, probe_alpha
        Regularisation: changes are divided by (1 - alpha) x intensity + alpha x peak intensity. 1 is ePIE, less is
        rPIE, which moves dimly lit pixels faster.
    find_shifts
        Whether visits also tell by how much the frame seems to be displaced.
    transfer
        Transfer function to a detector in the near field, (n, n) complex64, zero frequency at [0, 0]; None for the far
        field.

    References
    ----------
    Batey et al. 2014, doi 10.1103/PhysRevA.89.043812 (upsampling).
    Maiden, Johnson and Li 2017, doi 10.1364/OPTICA.4.000736 (regularisation).
    """

    upsampling: int = 1
    object_alpha: float = 1.0
    probe_alpha: float = 1.0
    find_shifts: bool = False
    transfer: Array | None = None


def _each(value: float | Array, count: int) -> Array:
    return np.ascontiguousarray(np.broadcast_to(np.asarray(value, np.float32), (count,)))
