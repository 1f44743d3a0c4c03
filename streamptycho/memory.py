"""Memory for large arrays that come and go: fresh pages cost more than what is written into them."""

from __future__ import annotations

import contextlib
import math
import mmap
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from streamptycho.messages import Array

REUSED_FROM_BYTES = 1 << 18
KEPT_BYTES = 256 << 20
_LARGE_PAGE_BYTES = 2 << 20
_PRIVATE: dict[str, int] = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}


def fresh(size: int) -> mmap.mmap:
    """Return memory that is not in use before it is written to, in large pages where there are such."""
    # By default it would be shared with child processes, and shared memory seldom comes in large pages.
    memory = mmap.mmap(-1, size, **_PRIVATE)
    if hasattr(mmap, "MADV_HUGEPAGE") and size >= _LARGE_PAGE_BYTES:
        # Not every kernel has them.
        with contextlib.suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


class ReusedMemory:
    """Gives arrays in memory of earlier ones that nobody looks at any more. For use in one thread.

    Parameters
    ----------
    kept_bytes
        How much is kept at most; memory beyond that is given back as soon as it is not looked at.
    allocate
        Returns memory of a size.
    """

    def __init__(self, kept_bytes: int = KEPT_BYTES, allocate: Callable[[int], mmap.mmap] = fresh) -> None:
        self._kept_bytes, self._allocate = kept_bytes, allocate
        self._held: list[tuple[mmap.mmap, Callable[[], Array | None]]] = []
        self._held_bytes = 0

    def prepare(self, size: int, count: int) -> None:
        """Allocate now what `count` arrays of a size will need: where memory comes slowly, it must not later."""
        room = 1 << (size - 1).bit_length()
        self._held += [(self._allocate(room), lambda: None) for _ in range(count)]
        self._held_bytes += room * count

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return an array of any content. Small ones are new."""
        size = math.prod(shape) * dtype.itemsize
        if size < REUSED_FROM_BYTES:
            return np.empty(shape, dtype)
        room = 1 << (size - 1).bit_length()
        idle = next((k for k, (memory, seen) in enumerate(self._held) if len(memory) == room and seen() is None), None)
        if idle is None:
            memory = self._allocate(room)
            self._held_bytes += room
        else:
            memory = self._held.pop(idle)[0]
        whole = np.frombuffer(memory, np.uint8)
        self._held.insert(0, (memory, weakref.ref(whole)))
        while self._held_bytes > max(self._kept_bytes, room):
            self._held_bytes -= len(self._held.pop()[0])
        return whole[:size].view(dtype).reshape(shape)


class ReusedSlabs:
    """Gives arrays of one shape behind each other in large pieces of `ReusedMemory`. For use in one thread.

    Parameters
    ----------
    memory
        Where the pieces come from.
    slab_bytes
        How large a piece is at least.
    """

    def __init__(self, memory: ReusedMemory, slab_bytes: int) -> None:
        self._memory, self._slab_bytes = memory, slab_bytes
        self._left: Array = np.empty(0, np.uint8)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return an array of any content."""
        if self._left.shape[1:] != shape[1:] or self._left.dtype != dtype or len(self._left) < shape[0]:
            item_bytes = math.prod(shape[1:]) * dtype.itemsize
            count = max(shape[0], self._slab_bytes // max(item_bytes, 1))
            self._left = self._memory.empty((count, *shape[1:]), dtype)
        given, self._left = self._left[: shape[0]], self._left[shape[0] :]
        return given


def as_one(pieces: Sequence[Array]) -> Array | None:
    """Return arrays (N, ...) of one shape and dtype as one if they lie behind each other, else None."""
    first, base = pieces[0], pieces[0].base
    if len(pieces) == 1:
        return first
    begin = at = first.ctypes.data
    for piece in pieces:
        if piece.base is not base or piece.ctypes.data != at or not piece.flags.c_contiguous:
            return None
        at += piece.nbytes
    if not isinstance(base, np.ndarray) or not base.flags.c_contiguous:
        return None
    offset = begin - base.ctypes.data
    joined = base.view(np.uint8).reshape(-1)[offset : offset + at - begin].view(first.dtype)
    return joined.reshape(sum(map(len, pieces)), *first.shape[1:])


def in_one(pieces: Sequence[Array]) -> Array:
    """Return arrays (N, ...) of one shape and dtype as one, without a copy where they lie behind each other."""
    whole = as_one(pieces)
    return np.concatenate(pieces) if whole is None else whole
