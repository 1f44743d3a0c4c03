"""Many image messages at once, to one block of frames."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from streamptycho.detectors.compression import Encoding
from streamptycho.detectors.frame_kernel import BSLZ4, LZ4, RAW, cut_frames
from streamptycho.detectors.image_layout import ImageLayout, Scanned
from streamptycho.detectors.region import Cutter
from streamptycho.memory import ReusedMemory, ReusedSlabs
from streamptycho.messages import Array

BLOCK_BYTES = 8 << 20
# Blocks that lie behind each other are handed on as one without a copy.
SLAB_BYTES = 4 * BLOCK_BYTES
SHARED_FROM_BYTES = 4 << 20
MAX_THREADS = 8

_ENCODINGS: dict[Encoding, int] = {"raw": RAW, "lz4": LZ4, "bslz4": BSLZ4}


@dataclass(frozen=True, slots=True)
class CutFrames:
    """The first frames of a block that could be decoded: `counts` (N, n, n) and `saturated` (N,) pixels."""

    counts: Array
    saturated: Array


@dataclass(frozen=True, slots=True)
class _Band:
    """Rows of the square, from `first_out` of its result on: which of the frame they touch, and their mask."""

    first_row: int
    rows: int
    corner: tuple[int, int]
    masked: Array
    first_out: int


class FrameCutter:
    """Decodes and cuts frames; keeps the room that this needs from one block to the next.

    Large frames are cut by several threads, each of which decodes a band of every frame. Finding where a band begins
    takes a walk over the blocks before it, so there are no more bands than threads.

    Parameters
    ----------
    threads
        How many at most; None for one per two cores, up to `MAX_THREADS`: where cores are busy, sharing costs a tenth.
    """

    def __init__(self, threads: int | None = None) -> None:
        cores: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
        self._threads = threads or max(1, min(cores // 2, MAX_THREADS))
        self._pool: ThreadPoolExecutor | None = None
        self._bands: tuple[Cutter | None, bool, list[_Band]] = (None, False, [])
        self._rooms: list[Array] = []
        self._slabs = ReusedSlabs(ReusedMemory(), SLAB_BYTES)

    def place_in(self, memory: ReusedMemory) -> None:
        """Put the frames that come from now on into this memory."""
        self._slabs = ReusedSlabs(memory, SLAB_BYTES)

    @staticmethod
    def frames_at_once(layout: ImageLayout, cutter: Cutter) -> int:
        """Return how many frames one block should have at most."""
        n = cutter.square.side_px // cutter.square.binning
        return max(1, BLOCK_BYTES // (n * n * cutter.dtype_of(layout.dtype).itemsize))

    def cut(self, data: Array, scanned: Scanned, layout: ImageLayout, cutter: Cutter) -> CutFrames:
        """Return the square of each frame up to the first that cannot be decoded."""
        square, dtype = cutter.square, layout.dtype
        n, out = square.side_px // square.binning, cutter.dtype_of(layout.dtype)
        counts = self._slabs.empty((len(scanned.index), n, n), out)
        bands = self._bands_of(cutter, layout)
        rooms = self._rooms_for([(band.rows, layout.shape[1]) for band in bands], dtype)
        saturated = np.zeros((len(bands), len(scanned.index)), np.int64)

        def cut_band(number: int) -> int:
            band = bands[number]
            return int(
                cut_frames(
                    data,
                    scanned.payload,
                    _ENCODINGS[layout.encoding],
                    layout.shape[0],
                    band.first_row,
                    rooms[number],
                    band.corner,
                    band.masked,
                    cutter.mask_known,
                    cutter.largest_valid(dtype),
                    square.binning,
                    (_top(dtype), _top(out)),
                    band.first_out,
                    counts,
                    saturated[number],
                )
            )

        if len(bands) == 1:
            done = cut_band(0)
            return CutFrames(counts[:done], saturated[0, :done])
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads - 1, "decode")
        others = [self._pool.submit(cut_band, number) for number in range(1, len(bands))]
        done = min(cut_band(0), *(other.result() for other in others))
        return CutFrames(counts[:done], saturated[:, :done].sum(axis=0))

    def _bands_of(self, cutter: Cutter, layout: ImageLayout) -> list[_Band]:
        row_bytes = layout.shape[1] * layout.dtype.itemsize
        large = (cutter.rows.stop - cutter.rows.start) * row_bytes >= SHARED_FROM_BYTES
        known, was_large, bands = self._bands
        if known is not cutter or was_large != large:
            bands = _bands(cutter, self._threads if large else 1)
            self._bands = (cutter, large, bands)
        return bands

    def _rooms_for(self, shapes: list[tuple[int, int]], dtype: np.dtype[Any]) -> list[Array]:
        if [room.shape for room in self._rooms] != shapes or self._rooms[0].dtype != dtype:
            self._rooms = [np.empty(shape, dtype.newbyteorder("=")) for shape in shapes]
        return self._rooms


def _bands(cutter: Cutter, count: int) -> list[_Band]:
    """Return the square in so many bands, or fewer, that touch about as many rows of the frame each."""
    square, rows = cutter.square, cutter.rows
    n = square.side_px // square.binning
    places = np.linspace(rows.start, rows.stop, count + 1)[1:-1]
    cuts = np.unique(np.round((places - square.row) / square.binning).astype(int)).tolist()
    edges = [0, *(cut for cut in cuts if rows.start < square.row + cut * square.binning < rows.stop), n]
    bands = []
    for begin, end in itertools.pairwise(edges):
        top, bottom = square.row + begin * square.binning, square.row + end * square.binning
        first, last = max(top, rows.start), min(bottom, rows.stop)
        masked = cutter.masked[top - square.row : bottom - square.row]
        bands.append(_Band(first, last - first, (top - first, square.column), masked, begin))
    return bands


def _top(dtype: np.dtype[Any]) -> int:
    return int(np.iinfo(dtype).max)
