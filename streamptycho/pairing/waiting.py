"""Frames that wait for their positions, in columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamptycho.memory import ReusedMemory, as_one
from streamptycho.messages import Array
from streamptycho.pairing.frame_copies import copy_frames

_UNSEEN, _DONE, _FIRST_PLACE = range(3)
_AT_LEAST = 1024
_SPARSE = 4
_MOST_SPARSE = 4
_RUNS_PER_BLOCK = 4


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """The counts of N frames, where they lie: frame k is `blocks[block[k]][at[k]]`."""

    blocks: tuple[Array, ...]
    block: Array
    at: Array

    def __len__(self) -> int:
        return len(self.block)

    @property
    def frame_bytes(self) -> int:
        """How much one frame takes."""
        return int(self.blocks[0][0].nbytes)

    def some(self, which: Array | slice) -> Counts:
        """Return those of some of the frames."""
        block = self.block[which]
        if len(self.blocks) > 1:
            used, block = np.unique(block, return_inverse=True)
            return Counts(tuple(self.blocks[k] for k in used.tolist()), block, self.at[which])
        return Counts(self.blocks, block, self.at[which])

    def gather(self, memory: ReusedMemory) -> Array:
        """Return the frames in one array (N, H, W): a view where they lie one behind the other, else in `memory`."""
        turns = np.flatnonzero((np.diff(self.block) != 0) | (np.diff(self.at) != 1)) + 1
        if len(turns) <= len(self.blocks) * _RUNS_PER_BLOCK:
            edges = [0, *turns.tolist(), len(self)]
            runs = [
                self.blocks[block][at : at + end - begin]
                for begin, end, block, at in zip(
                    edges[:-1], edges[1:], self.block[edges[:-1]].tolist(), self.at[edges[:-1]].tolist(), strict=True
                )
            ]
            whole = as_one(runs)
            if whole is not None:
                return whole
            return np.concatenate(runs, out=memory.empty((len(self), *runs[0].shape[1:]), runs[0].dtype))
        out = memory.empty((len(self), *self.blocks[0].shape[1:]), self.blocks[0].dtype)
        blocks = [block if block[0].flags.c_contiguous else np.ascontiguousarray(block) for block in self.blocks]
        first = np.array([block.ctypes.data for block in blocks])
        apart = np.array([block.strides[0] for block in blocks])
        copy_frames(first[self.block] + self.at * apart[self.block], self.frame_bytes, out.ctypes.data)
        return out

    @classmethod
    def joined(cls, pieces: Sequence[Counts]) -> Counts:
        """Return the frames of several pieces, one behind the other."""
        if len(pieces) == 1:
            return pieces[0]
        known: dict[int, int] = {}
        blocks: list[Array] = []
        numbers = []
        for piece in pieces:
            renamed = []
            for source in piece.blocks:
                if id(source) not in known:
                    known[id(source)] = len(blocks)
                    blocks.append(source)
                renamed.append(known[id(source)])
            numbers.append(np.array(renamed, np.int64)[piece.block])
        return cls(tuple(blocks), np.concatenate(numbers), np.concatenate([piece.at for piece in pieces]))


class WaitingFrames:
    """The frames of one series that wait, in the order in which they came, found by their index."""

    def __init__(self) -> None:
        # little until there are frames: a scan may have thousands of series without any, or that are over
        self._place = np.zeros(1, np.int32)
        self._columns = _Columns(1)
        self._begin = self._end = self._waiting = 0
        self._blocks: dict[int, Array] = {}
        self._alive_in: dict[int, int] = {}
        self._sparse: set[int] = set()
        self._next_block = 0

    def __len__(self) -> int:
        return self._waiting

    @property
    def oldest_ns(self) -> int:
        """When the frame came that has waited longest."""
        return int(self._columns.arrived_ns[self._begin])

    def has_seen(self, index: Array) -> Array:
        """Return which frames came, (N,) bool, whether they still wait or not."""
        return np.asarray(self._places(index) != _UNSEEN)

    def count_seen(self, begin: int, end: int) -> int:
        """Return how many of the frames begin <= index < end came."""
        return int(np.count_nonzero(self._place[begin:end]))

    def contains(self, index: Array) -> Array:
        """Return which frames wait, (N,) bool."""
        return np.asarray(self._places(index) >= _FIRST_PLACE)

    def indices(self) -> Array:
        """Return the frames that wait, in the order in which they came."""
        part = slice(self._begin, self._end)
        return self._columns.index[part][self._columns.alive[part]]

    def times_s(self, index: Array) -> tuple[Array, Array]:
        """Return the middle of the exposures of frames that wait, and half their length."""
        at = self._place[index] - _FIRST_PLACE
        return self._columns.middle_s[at], self._columns.half_s[at]

    def add(self, index: Array, middle_s: Array, half_s: Array, arrived_ns: Array, counts: Array, at: Array) -> None:
        """Take frames that were not seen before: number k is `counts[at[k]]`."""
        count = len(index)
        self._reserve(int(index.max()) + 1, count)
        part = slice(self._end, self._end + count)
        columns = self._columns
        columns.index[part], columns.middle_s[part], columns.half_s[part] = index, middle_s, half_s
        columns.arrived_ns[part], columns.at[part], columns.alive[part] = arrived_ns, at, True
        columns.block[part] = self._keep(counts, count)
        self._place[index] = np.arange(self._end, self._end + count) + _FIRST_PLACE
        self._end += count
        self._waiting += count

    def take(self, index: Array) -> tuple[Counts, Array]:
        """Let frames go that wait; return their counts, and when they came (N,)."""
        places = self._place[index] - _FIRST_PLACE
        columns = self._columns
        columns.alive[places] = False
        self._place[index] = _DONE
        self._waiting -= len(index)
        used, block = np.unique(columns.block[places], return_inverse=True)
        counts = Counts(tuple(self._blocks[k] for k in used.tolist()), block, columns.at[places])
        for number, gone in zip(used.tolist(), np.bincount(block).tolist(), strict=True):
            self._let_go(number, gone)
        alive = columns.alive[self._begin : self._end]
        self._begin = self._begin + int(alive.argmax()) if self._waiting else self._end
        return counts, columns.arrived_ns[places]

    def pack(self) -> None:
        """Copy the few frames out of blocks in which little is left."""
        for number in sorted(self._sparse):
            self._copy_out(number)

    def _places(self, index: Array) -> Array:
        within = (index >= 0) & (index < len(self._place))
        if within.all():
            return self._place[index]
        return np.where(within, self._place[np.where(within, index, 0)], _UNSEEN)

    def _keep(self, counts: Array, frames: int) -> int:
        self._next_block += 1
        self._blocks[self._next_block] = counts
        self._alive_in[self._next_block] = frames
        return self._next_block

    def _let_go(self, number: int, frames: int) -> None:
        """Free a block that nobody waits in.

        Where little is left it mostly is about to go too, and what lies in one piece is sent without a copy: only the
        oldest of many such blocks is freed at once.
        """
        left = self._alive_in[number] = self._alive_in[number] - frames
        if not left:
            self._sparse.discard(number)
            del self._blocks[number], self._alive_in[number]
        elif left * _SPARSE <= len(self._blocks[number]):
            self._sparse.add(number)
            if len(self._sparse) > _MOST_SPARSE:
                self._copy_out(min(self._sparse))

    def _copy_out(self, number: int) -> None:
        """Copy the frames that wait in a block, and free it."""
        self._sparse.remove(number)
        counts, left = self._blocks.pop(number), self._alive_in.pop(number)
        columns, part = self._columns, slice(self._begin, self._end)
        places = self._begin + np.flatnonzero(columns.alive[part] & (columns.block[part] == number))
        columns.block[places] = self._keep(counts[columns.at[places]], left)
        columns.at[places] = np.arange(left)

    def _reserve(self, indices: int, frames: int) -> None:
        if indices > len(self._place):
            grown = np.zeros(max(2 * len(self._place), indices, _AT_LEAST), np.int32)
            grown[: len(self._place)] = self._place
            self._place = grown
        if self._end + frames <= len(self._columns):
            return
        part = slice(self._begin, self._end)
        alive = self._begin + np.flatnonzero(self._columns.alive[part])
        room = max(len(self._columns), _AT_LEAST)
        while room < 2 * (len(alive) + frames):
            room *= 2
        self._columns = self._columns.packed(alive, room)
        self._begin, self._end = 0, len(alive)
        self._place[self._columns.index[: self._end]] = np.arange(self._end) + _FIRST_PLACE


class _Columns:
    def __init__(self, room: int) -> None:
        self.index, self.arrived_ns = np.empty(room, np.int64), np.empty(room, np.int64)
        self.middle_s, self.half_s = np.empty(room), np.empty(room)
        self.block, self.at = np.empty(room, np.int64), np.empty(room, np.int64)
        self.alive = np.zeros(room, np.bool_)

    def __len__(self) -> int:
        return len(self.alive)

    def packed(self, places: Array, room: int) -> _Columns:
        """Return some of the rows, from the first place on, with room for more."""
        new = _Columns(room)
        for name in vars(self):
            getattr(new, name)[: len(places)] = getattr(self, name)[places]
        return new
