"""Many image messages at once, to one block of frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from streamptycho.detectors.compression import Encoding
from streamptycho.detectors.frame_kernel import BSLZ4, LZ4, RAW, cut_frames
from streamptycho.detectors.image_layout import ImageLayout, Scanned
from streamptycho.detectors.region import Cutter
from streamptycho.memory import ReusedMemory
from streamptycho.messages import Array

BLOCK_BYTES = 8 << 20

_ENCODINGS: dict[Encoding, int] = {"raw": RAW, "lz4": LZ4, "bslz4": BSLZ4}


@dataclass(frozen=True, slots=True)
class CutFrames:
    """The first frames of a block that could be decoded: `counts` (N, n, n) and `saturated` (N,) pixels."""

    counts: Array
    saturated: Array


class FrameCutter:
    """Decodes and cuts frames; keeps the room that this needs from one block to the next."""

    def __init__(self) -> None:
        self._room = np.empty((0, 0), np.uint8)
        self._memory = ReusedMemory()

    @staticmethod
    def frames_at_once(layout: ImageLayout, cutter: Cutter) -> int:
        """Return how many frames one block should have at most."""
        n = cutter.square.side_px // cutter.square.binning
        return max(1, BLOCK_BYTES // (n * n * cutter.dtype_of(layout.dtype).itemsize))

    def cut(self, data: Array, scanned: Scanned, layout: ImageLayout, cutter: Cutter) -> CutFrames:
        """Return the square of each frame up to the first that cannot be decoded."""
        square, dtype = cutter.square, layout.dtype
        n, out = square.side_px // square.binning, cutter.dtype_of(layout.dtype)
        counts = self._memory.empty((len(scanned.index), n, n), out)
        saturated = np.zeros(len(scanned.index), np.int64)
        done = cut_frames(
            data,
            scanned.payload,
            _ENCODINGS[layout.encoding],
            layout.shape[0],
            cutter.rows.start,
            self._rows((cutter.rows.stop - cutter.rows.start, layout.shape[1]), dtype),
            (square.row - cutter.rows.start, square.column),
            cutter.masked,
            cutter.mask_known,
            cutter.largest_valid(dtype),
            square.binning,
            (_top(dtype), _top(out)),
            counts,
            saturated,
        )
        return CutFrames(counts[:done], saturated[:done])

    def _rows(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> Array:
        if self._room.shape != shape or self._room.dtype != dtype:
            self._room = np.empty(shape, dtype.newbyteorder("="))
        return self._room


def _top(dtype: np.dtype[Any]) -> int:
    return int(np.iinfo(dtype).max)
