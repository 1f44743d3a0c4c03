"""The frames of one projection: checked on entry, kept in the detector's own dtype."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from streamptycho.array import Backend
from streamptycho.messages import Anomaly, Array, DiffractionBatch, Quality, Reason
from streamptycho.ptychography.flux import without_beam
from streamptycho.ptychography.growing import GrowingArray

LARGEST_POSITION_PX = 1e12
LARGEST_COUNT = 1e15
STORED_DTYPES = tuple(np.dtype(name) for name in ("uint8", "uint16", "uint32", "float32"))


_PER_FRAME = ("_chunk_of", "_row_of", "_addresses", "_kinds", "_index", "_xy_m", "_totals", "_has_gaps")


def measured(counts: Any, xp: Any = np) -> Any:
    """Return which pixels were measured: a boolean array of the shape of `counts`.

    Not measured are the largest value of an integer dtype, negative values, and what no detector counts.
    """
    if counts.dtype.kind == "u":
        return counts != np.iinfo(counts.dtype).max
    if counts.dtype.kind == "i":
        return (counts >= 0) & (counts != np.iinfo(counts.dtype).max)
    return (counts >= 0) & (counts < LARGEST_COUNT)


class FrameStore:
    """Frames by number, with their positions.

    Counts keep their dtype and lie on the device, zero frequency at [0, 0]; on the CPU column by column, as compiled
    code reads them. Frames of the near field have no zero frequency and stay as they come.

    Parameters
    ----------
    backend
        Where the counts lie.
    shape
        Rows and columns that every frame must have.
    far_field
        Whether the middle of a frame is the zero frequency.
    """

    def __init__(self, backend: Backend, shape: tuple[int, int], *, far_field: bool = True) -> None:
        self._backend = backend
        self._far_field = far_field
        self._shape = shape
        self._chunks: list[Any] = []
        self._chunk_of = GrowingArray((), np.int64)
        self._row_of = GrowingArray((), np.int64)
        self._addresses = GrowingArray((), np.int64)
        self._kinds = GrowingArray((), np.int64)
        self._seen: set[int] = set()
        self._index = GrowingArray((), np.int64)
        self._xy_m = GrowingArray((2,), np.float64)
        self._totals = GrowingArray((), np.float64)
        self._has_gaps = GrowingArray((), np.bool_)

    def __len__(self) -> int:
        return len(self._chunk_of)

    @property
    def backend(self) -> Backend:
        """Where the counts lie."""
        return self._backend

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a frame."""
        return self._shape

    @property
    def index(self) -> Array:
        """Numbers of the frames within their projection, (N,) int64, a copy."""
        return self._index.rows.copy()

    @property
    def xy_m(self) -> Array:
        """Positions, (N, 2) float64, a copy."""
        return self._xy_m.rows.copy()

    @property
    def totals(self) -> Array:
        """Counts per frame over measured pixels, (N,) float64."""
        return self._totals.rows

    @property
    def has_gaps(self) -> Array:
        """Which frames have pixels that were not measured, (N,) bool."""
        return self._has_gaps.rows

    @property
    def addresses(self) -> Array:
        """Where each frame starts in the memory of the device, (N,) int64: on the CPU column by column, else by row."""
        return self._addresses.rows

    @property
    def kinds(self) -> Array:
        """Which of `STORED_DTYPES` each frame has, (N,) int64."""
        return self._kinds.rows

    def replace_positions(self, frames: Array, xy_m: Array) -> None:
        """Take other positions (K, 2) for frames (K,) that are held."""
        self._xy_m.rows[frames] = xy_m

    def counts(self, frame: int) -> Any:
        """Return one frame, (H, W), zero frequency at [0, 0]."""
        return self._chunks[self._chunk_of.rows[frame]][self._row_of.rows[frame]]

    def sample(self, limit: int) -> Any:
        """Return up to `limit` frames spread over those held, (K, H, W)."""
        numbers = np.unique(np.linspace(0, len(self) - 1, min(limit, len(self))).astype(int))
        return self._backend.xp.stack([self.counts(int(k)) for k in numbers])

    def usable(
        self, batch: DiffractionBatch, *, use_turnaround: bool, min_flux: float = 0.0
    ) -> tuple[Array, Counter[Reason]]:
        """Return which frames of a batch can be reconstructed, (N,) bool, and the rest counted by reason.

        Frames with less than `min_flux` of the usual counts had no beam.
        """
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
        totals = np.where(measured(batch.counts), batch.counts, 0).sum(axis=(1, 2), dtype=np.float64)
        reject(totals <= 0, Reason.NO_BEAM)
        dark = np.zeros(count, bool)
        dark[good] = without_beam(totals[good], self.totals, min_flux)
        reject(dark, Reason.NO_BEAM)
        return good, lost

    def without(self, some: Array) -> FrameStore:
        """Return a store of the same frames but for `some`, (N,) bool, whose numbers still count as known."""
        rest = FrameStore(self._backend, self._shape, far_field=self._far_field)
        rest._chunks, rest._seen = list(self._chunks), set(self._seen)
        for name in _PER_FRAME:
            getattr(rest, name).extend(getattr(self, name).rows[~some])
        return rest

    def add(self, batch: DiffractionBatch, good: Array) -> None:
        """Keep the `good` frames of a batch."""
        if not good.any():
            return
        self.add_counts(batch.counts[good])
        self._seen.update(int(k) for k in batch.index[good])
        self._index.extend(batch.index[good])
        self._xy_m.extend(batch.xy_m[good])

    def add_counts(self, counts: Array) -> None:
        """Keep frames (K, H, W), zero frequency at [H // 2, W // 2], without number and position."""
        counts = storable(counts)
        valid = measured(counts)
        self._totals.extend(np.where(valid, counts, 0).sum(axis=(1, 2), dtype=np.float64))
        self._has_gaps.extend((~valid).any(axis=(1, 2)))
        self._chunk_of.extend(np.full(len(counts), len(self._chunks)))
        self._row_of.extend(np.arange(len(counts)))
        self._kinds.extend(np.full(len(counts), STORED_DTYPES.index(counts.dtype)))
        shifted = np.fft.ifftshift(counts, axes=(1, 2)) if self._far_field else counts
        if self._backend.name == "cpu":
            shifted = np.ascontiguousarray(shifted.transpose(0, 2, 1)).transpose(0, 2, 1)
        kept = self._backend.to_device(shifted)
        interface = getattr(kept, "__cuda_array_interface__", None) or kept.__array_interface__
        self._addresses.extend(interface["data"][0] + kept.strides[0] * np.arange(len(counts)))
        self._chunks.append(kept)


def anomalies(lost: Counter[Reason], detail: str = "") -> list[Anomaly]:
    """Return one anomaly for every reason that was counted."""
    return [Anomaly(source="reconstruct", reason=reason, count=count, detail=detail) for reason, count in lost.items()]


def storable(counts: Array) -> Array:
    """Return counts in a dtype that the kernels read: unsigned as they are, others as float32 with gaps at -1."""
    if counts.dtype.kind == "u" and counts.dtype.itemsize <= 4 and counts.dtype.isnative:
        return counts
    return np.where(measured(counts), counts, np.float32(-1)).astype(np.float32)
