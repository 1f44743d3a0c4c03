"""Pieces of a log file, through the page cache or past it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from streamptycho.memory import ReusedMemory
from streamptycho.messages import Array
from streamptycho.recording.log_file import ALIGNMENT_BYTES

WINDOW_BYTES = 1 << 20
DIRECT_BYTES = (8 << 20) - 2 * ALIGNMENT_BYTES


class Window:
    """A file read in large steps, with a way to forget what was read before the file changed.

    Parameters
    ----------
    path
        The file.

    Attributes
    ----------
    ahead
        How much is read at once at least.
    """

    def __init__(self, path: Path) -> None:
        self.file = path.open("rb", buffering=0)
        self.ahead = WINDOW_BYTES
        self._start = 0
        self._data = b""

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from an offset on, fewer at the end, as they were when they were first read."""
        begin = offset - self._start
        if begin < 0 or begin + size > len(self._data):
            self.file.seek(offset)
            self._data, self._start, begin = self._read_up_to(max(size, self.ahead)), offset, 0
        return self._data[begin : begin + size]

    def _read_up_to(self, size: int) -> bytes:
        pieces = []
        while size > 0 and (piece := self.file.read(size)):
            pieces.append(piece)
            size -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read_new(self, offset: int, size: int) -> bytes:
        """Return what is in the file now, not what was read before."""
        self.file.seek(offset)
        return self._read_up_to(size)

    def forget(self) -> None:
        """Read anew from now on."""
        self._data = b""

    def __del__(self) -> None:
        if "file" in self.__dict__:
            self.file.close()

    def size(self) -> int:
        """Return how long the file is now."""
        return os.fstat(self.file.fileno()).st_size


class DirectReader:
    """Reads large pieces past the page cache, in which a log that was written past it is not."""

    def __init__(self, path: Path, memory: ReusedMemory) -> None:
        self._memory = memory
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)

    def read(self, offset: int, size: int) -> Array:
        """Return up to `size` bytes (N,) uint8 from an offset on.

        Raises
        ------
        OSError
            If the file system does not do it.
        """
        skipped = offset % ALIGNMENT_BYTES
        room = self._memory.empty((size + 2 * ALIGNMENT_BYTES,), np.dtype(np.uint8))
        whole = room[: skipped + size + -(skipped + size) % ALIGNMENT_BYTES]
        count = os.preadv(self._file, [whole.data], offset - skipped)
        return whole[skipped : min(count, skipped + size)]

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __del__(self) -> None:
        if "_file" in self.__dict__:
            self.close()
