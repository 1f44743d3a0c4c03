"""The frames of one projection: checked on entry, kept in the detector's own dtype."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from streamptycho.array import Backend
from streamptycho.messages import Anomaly, Array, DiffractionBatch, Quality, Reason

LARGEST_POSITION_PX = 1e12


def measured(counts: Any, xp: Any = np) -> Any:
    """Return which pixels were measured: a boolean array of the shape of `counts`.

    Not measured are the largest value of an integer dtype, negative values, and what is not finite.
    """
    if counts.dtype.kind == "u":
        return counts != np.iinfo(counts.dtype).max
    if counts.dtype.kind == "i":
        return (counts >= 0) & (counts != np.iinfo(counts.dtype).max)
    return xp.isfinite(counts) & (counts >= 0)


class FrameStore:
    """Frames by number, with their positions.

    Counts keep their dtype and lie on the device, zero frequency at [0, 0]; on the CPU column by column, as compiled
    code reads them. `totals` (N,) float64 are counts per frame over measured pixels, `has_gaps` (N,) bool says where
    pixels were not measured.

    Parameters
    ----------
    backend
        Where the counts lie.
    shape
        Rows and columns that every frame must have.
    """

    def __init__(self, backend: Backend, shape: tuple[int, int]) -> None:
        self._backend = backend
        self._shape = shape
        self._chunks: list[Any] = []
        self._chunk_of: list[int] = []
        self._row_of: list[int] = []
        self._seen: set[int] = set()
        self._index: list[Array] = []
        self._xy_m: list[Array] = []
        self.totals: list[float] = []
        self.has_gaps: list[bool] = []

    def __len__(self) -> int:
        return len(self._chunk_of)

    @property
    def index(self) -> Array:
        """Numbers of the frames within their projection, (N,) int64."""
        return np.concatenate(self._index) if self._index else np.zeros(0, np.int64)

    @property
    def xy_m(self) -> Array:
        """Positions, (N, 2) float64."""
        return np.concatenate(self._xy_m) if self._xy_m else np.zeros((0, 2))

    def counts(self, frame: int) -> Any:
        """Return one frame, (H, W), zero frequency at [0, 0]."""
        return self._chunks[self._chunk_of[frame]][self._row_of[frame]]

    def sample(self, limit: int) -> Any:
        """Return up to `limit` frames spread over those held, (K, H, W)."""
        numbers = np.unique(np.linspace(0, len(self) - 1, min(limit, len(self))).astype(int))
        return self._backend.xp.stack([self.counts(int(k)) for k in numbers])

    def usable(self, batch: DiffractionBatch, *, use_turnaround: bool) -> tuple[Array, Counter[Reason]]:
        """Return which frames of a batch can be reconstructed, (N,) bool, and the rest counted by reason."""
        count = len(batch.index)
        lost: Counter[Reason] = Counter()
        good = np.ones(count, bool)
        sound = (
            batch.counts.shape == (count, *self._shape)
            and batch.counts.dtype.kind in "uif"
            and batch.xy_m.shape == (count, 2)
            and batch.quality.shape == (count,)
        )
        if not sound:
            return np.zeros(count, bool), Counter({Reason.CORRUPT: count})

        def reject(bad: Array, reason: Reason) -> None:
            bad = bad & good
            if bad.any():
                lost[reason] += int(bad.sum())
                good[bad] = False

        known = [int(k) in self._seen for k in batch.index]
        _, first = np.unique(batch.index, return_index=True)
        repeated = np.ones(count, bool)
        repeated[first] = False
        reject(np.array(known, bool) | repeated, Reason.DUPLICATE)
        reject(~np.isfinite(batch.xy_m).all(axis=1) | (batch.quality == Quality.MISSING), Reason.UNPAIRED)
        if not use_turnaround:
            reject(batch.quality == Quality.TURNAROUND, Reason.TURNAROUND)
        lit = ((batch.counts > 0) & measured(batch.counts)).any(axis=(1, 2))
        reject(~lit, Reason.NO_BEAM)
        return good, lost

    def add(self, batch: DiffractionBatch, good: Array) -> None:
        """Keep the `good` frames of a batch."""
        if not good.any():
            return
        counts = storable(batch.counts[good])
        valid = measured(counts)
        self.totals.extend(np.where(valid, counts, 0).sum(axis=(1, 2), dtype=np.float64).tolist())
        self.has_gaps.extend((~valid).any(axis=(1, 2)).tolist())
        self._chunk_of.extend([len(self._chunks)] * len(counts))
        self._row_of.extend(range(len(counts)))
        shifted = np.fft.ifftshift(counts, axes=(1, 2))
        if self._backend.name == "cpu":
            shifted = np.ascontiguousarray(shifted.transpose(0, 2, 1)).transpose(0, 2, 1)
        self._chunks.append(self._backend.to_device(shifted))
        self._seen.update(int(k) for k in batch.index[good])
        self._index.append(np.array(batch.index[good], np.int64))
        self._xy_m.append(np.array(batch.xy_m[good], np.float64))


def anomalies(lost: Counter[Reason], detail: str = "") -> list[Anomaly]:
    """Return one anomaly for every reason that was counted."""
    return [Anomaly(source="reconstruct", reason=reason, count=count, detail=detail) for reason, count in lost.items()]


def storable(counts: Array) -> Array:
    """Return counts in a dtype that the kernels read: unsigned as they are, others as float32 with gaps at -1."""
    if counts.dtype.kind == "u" and counts.dtype.itemsize <= 4 and counts.dtype.isnative:
        return counts
    return np.where(measured(counts), counts, np.float32(-1)).astype(np.float32)
