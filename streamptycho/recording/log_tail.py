"""The newest bytes of a log that is being written, still in memory: a reader that keeps up need not read them back."""

from __future__ import annotations

import mmap
import threading
import weakref
from collections.abc import Callable

import numpy as np

from streamptycho.memory import fresh
from streamptycho.messages import Array
from streamptycho.recording.log_file import ALIGNMENT_BYTES

SLAB_BYTES = 16 << 20
SLABS = 6
RETIRED = 3


class _Slab:
    """Bytes of the log from `begin` to `end`, in memory that may be handed out.

    They have the same place in a page of memory as in a page of the file, so that they can be written directly.
    """

    def __init__(self, memory: mmap.mmap, begin: int) -> None:
        self.memory, self.begin, self.end = memory, begin, begin
        self.data: Array = _like_in_file(memory, begin)


def aligned_room(size: int, offset: int) -> Array:
    """Return room for `size` bytes (size,) uint8, with the place in a page that `offset` has in the file."""
    return _like_in_file(fresh(size + ALIGNMENT_BYTES), offset)


def _like_in_file(memory: mmap.mmap, offset: int) -> Array:
    address = np.frombuffer(memory, np.uint8).ctypes.data
    skipped = (offset - address) % ALIGNMENT_BYTES
    return np.frombuffer(memory, np.uint8, len(memory) - ALIGNMENT_BYTES, skipped)


class LogTail:
    """An image of the newest bytes of a log, bounded. One thread writes, one reads.

    The log itself stays the truth: what is not in memory any more, or never was, is read from it.

    Parameters
    ----------
    slab_bytes, slabs
        Size of a piece, and how many are kept at most while the reader is behind.
    allocate
        Returns memory of a size.
    prepared
        How many pieces are allocated now, and then kept: where memory comes slowly, it must not while frames come.

    Attributes
    ----------
    written
        How long the log is, as its writer says; a reader that is there need not look.
    """

    def __init__(
        self,
        slab_bytes: int = SLAB_BYTES,
        slabs: int = SLABS,
        allocate: Callable[[int], mmap.mmap] = fresh,
        prepared: int = 0,
    ) -> None:
        self._slab_bytes, self._most, self._allocate = slab_bytes, slabs, allocate
        self._most_retired = max(RETIRED, prepared)
        self._slabs: list[_Slab] = []
        self._retired: list[tuple[mmap.mmap, Callable[[], Array | None]]] = [
            (allocate(slab_bytes + ALIGNMENT_BYTES), lambda: None) for _ in range(prepared)
        ]
        self._taken = 0
        self.written = 0
        self._lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        """How much memory the tail itself holds."""
        with self._lock:
            return self._slab_bytes * (len(self._slabs) + len(self._retired))

    def room(self, size: int, offset: int, *, elsewhere: bool = False) -> Array | None:
        """Return where to put the next bytes, which will stand at `offset` of the log; None if they are many.

        There is room for `size` at least, and for all that follow in the same piece of memory; with `elsewhere` that
        is not the memory that the last call returned.
        """
        if size > self._slab_bytes:
            return None
        with self._lock:
            if elsewhere or not self._fits(size, offset):
                self._begin_slab(offset)
            slab = self._slabs[-1]
            return slab.data[offset - slab.begin :]

    def commit(self, size: int) -> None:
        """Let the reader see the bytes that were put in the room: they are in the log now."""
        with self._lock:
            self._slabs[-1].end += size

    def bytes_at(self, offset: int) -> Array | None:
        """Return the bytes of the log from an offset on, as many as lie together here; None if they are not here.

        The reader does not ask for what stands before `offset` any more. What it was given stays as it is.
        """
        with self._lock:
            self._taken = max(self._taken, offset)
            for slab in reversed(self._slabs):
                if slab.begin <= offset < slab.end:
                    return slab.data[offset - slab.begin : slab.end - slab.begin]
            return None

    def _fits(self, size: int, offset: int) -> bool:
        last = self._slabs[-1] if self._slabs else None
        return last is not None and last.end == offset and size <= self._slab_bytes - (offset - last.begin)

    def _begin_slab(self, offset: int) -> None:
        """Begin a slab, in memory that was used before and is not looked at any more where there is such."""
        while self._slabs and (self._slabs[0].end <= self._taken or len(self._slabs) >= self._most):
            slab = self._slabs.pop(0)
            self._retired.append((slab.memory, weakref.ref(slab.data)))
            del slab
        idle = next((k for k, (_, seen) in enumerate(self._retired) if seen() is None), None)
        memory = self._allocate(self._slab_bytes + ALIGNMENT_BYTES) if idle is None else self._retired.pop(idle)[0]
        self._retired = self._retired[-self._most_retired :]
        self._slabs.append(_Slab(memory, offset))
