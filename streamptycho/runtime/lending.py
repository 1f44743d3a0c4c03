"""Arrays that another process of this machine uses where they lie: it is told the place, and nothing is copied.

Memory is lent as an anonymous file (memfd), which the other process opens through /proc: there is no name to clean up,
and it is gone when the last process that uses it is, however that ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import ipaddress
import mmap
import os
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamptycho.memory import ReusedMemory, ReusedSlabs, fresh
from streamptycho.messages import Array

LENT_FROM_BYTES = 1 << 16
MOST_LENT_BYTES = 64 << 20
MOST_MAPPINGS = 24
MOST_LENDERS = 4
MOST_MEMORY_BYTES = 2 << 30
ROOM_BYTES = 8 << 20
STUCK_S = 2.0
ASK_AGAIN_S = 10.0
LOOK_S = 0.001
LONGEST_LOOK_S = 0.01

# The page on which the borrower tells: the number of the first loan that it received, and of the newest, and which
# process it is; behind that in the line of each loan its number, when it is returned.
_FIRST, _NEWEST, _BORROWER, _HEADER = range(4)
_LINES = 253
_CONTROL_BYTES = 8 * (_HEADER + _LINES)


class LendingError(OSError):
    """Memory of another process that cannot be used."""


class LenderGoneError(LendingError):
    """Memory of a process that has ended before it was looked at."""


def can_lend(address: str) -> bool:
    """Whether whoever reads at an address is on this machine, and this system lends memory."""
    if not hasattr(os, "memfd_create") or not hasattr(mmap, "MAP_POPULATE"):
        return False
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(address).is_loopback
    return address == "localhost"


@dataclass(frozen=True, slots=True)
class _Memory:
    descriptor: int
    inode: int
    address: int
    size: int


class Lender:
    """Allocates memory that can be lent, and keeps what is lent until the other process has returned it.

    One process borrows at a time; another may take its place.

    Parameters
    ----------
    most_bytes
        How much is lent at once.

    Attributes
    ----------
    lent_so_far
        How many arrays were lent.
    """

    def __init__(self, most_bytes: int = MOST_LENT_BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_bytes, self._clock = most_bytes, clock
        # Changed by single steps only: memory is given back at any moment, in any thread.
        self._memories: dict[int, _Memory] = {}
        self._control_memory, self._control_file = _memfd(_CONTROL_BYTES)
        self._control = np.frombuffer(self._control_memory, np.int64)
        self._lent: dict[int, tuple[int, Array]] = {}
        self._room = ReusedSlabs(ReusedMemory(2 * most_bytes, self.allocate), ROOM_BYTES)
        self._free_lines = list(range(_HEADER, _HEADER + _LINES))
        self._lent_bytes = 0
        self.lent_so_far = 0
        self._full_since: float | None = None
        self._asked_at = -np.inf

    def allocate(self, size: int) -> mmap.mmap:
        """Return memory of which any part can be lent; where the system has none to lend, other memory."""
        try:
            memory, descriptor = _memfd(size)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSYS, errno.EPERM):
                raise
            return fresh(size)
        known = _Memory(descriptor, os.fstat(descriptor).st_ino, np.frombuffer(memory, np.uint8).ctypes.data, size)
        self._memories[descriptor] = known
        weakref.finalize(memory, self._release, descriptor)
        return memory

    def has_room(self, timeout_s: float) -> bool:
        """Wait until something may be sent; False where the other process did not return enough within the time.

        Where it returns nothing for `STUCK_S`, sending goes on: what is not lent then goes through the socket.
        """
        if self._settled() < self._most_bytes:
            self._full_since = None
            return True
        now = self._clock()
        self._full_since = now if self._full_since is None else self._full_since
        if now - self._full_since > STUCK_S:
            return True
        until, pause_s = now + timeout_s, LOOK_S
        while self._clock() < until:
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_LOOK_S)
            if self._settled() < self._most_bytes:
                self._full_since = None
                return True
        return False

    def lend(self, array: Array) -> dict[str, int] | None:
        """Return where the other process finds a contiguous array, None if it must be sent.

        One that does not lie in memory that can be lent is copied there once, which costs less than a socket.
        """
        if array.nbytes < LENT_FROM_BYTES or not self._may_lend():
            return None
        memory = self._memory_of(array)
        if memory is None:
            copy = self._room.empty((array.nbytes,), np.dtype(np.uint8))
            memory = self._memory_of(copy)
            if memory is None:
                return None
            copy[:] = array.reshape(-1).view(np.uint8)
            array = copy
        self.lent_so_far += 1
        line = self._free_lines.pop()
        self._lent[self.lent_so_far] = line, array
        self._lent_bytes += array.nbytes
        return {
            "process": os.getpid(),
            "memory": memory.descriptor,
            "memory_inode": memory.inode,
            "offset": array.ctypes.data - memory.address,
            "number": self.lent_so_far,
            "line": line,
            "control": self._control_file,
            "control_inode": os.fstat(self._control_file).st_ino,
        }

    def take_back(self, lent_before: int) -> None:
        """Take back what was lent since `lent_so_far` was so many: nobody was told of it."""
        while self.lent_so_far > lent_before:
            self._return(self.lent_so_far)
            self.lent_so_far -= 1

    def wait_until_received(self, give_up: Callable[[], bool]) -> None:
        """Wait until the other process has opened all that was lent, or has ended: only then may this one end."""
        while self._control[_NEWEST] < self.lent_so_far and not self._borrower_ended() and not give_up():
            time.sleep(LONGEST_LOOK_S)

    def _borrower_ended(self) -> bool:
        process = int(self._control[_BORROWER])
        return process > 0 and not os.path.exists(f"/proc/{process}")

    def _may_lend(self) -> bool:
        """Whether there is room; where nothing is returned for long, one array now and then asks a new borrower."""
        if not self._free_lines:
            return False
        if self._lent_bytes < self._most_bytes:
            return True
        if self._clock() - self._asked_at < ASK_AGAIN_S:
            return False
        self._asked_at = self._clock()
        return True

    def _settled(self) -> int:
        first = int(self._control[_FIRST])
        for number, (line, _) in list(self._lent.items()):
            # What came before the first of this borrower was lost with the one before.
            if number < first or self._control[line] == number:
                self._return(number)
        return self._lent_bytes

    def _return(self, number: int) -> None:
        line, array = self._lent.pop(number)
        self._free_lines.append(line)
        self._lent_bytes -= array.nbytes

    def _memory_of(self, array: Array) -> _Memory | None:
        address = array.ctypes.data
        for memory in tuple(self._memories.values()):
            if memory.address <= address and address + array.nbytes <= memory.address + memory.size:
                return memory
        return None

    def _release(self, descriptor: int) -> None:
        self._memories.pop(descriptor)
        os.close(descriptor)


class _Loans:
    """What was borrowed from one lender, told on its page."""

    def __init__(self, control: mmap.mmap, first: int) -> None:
        self._page = np.frombuffer(control, np.int64)
        self._page[_FIRST], self._page[_BORROWER] = first, os.getpid()

    def note_received(self, number: int) -> None:
        self._page[_NEWEST] = number

    def note_returned(self, number: int, line: int) -> None:
        self._page[line] = number


class Borrower:
    """Finds the arrays that a `Lender` in another process lent, and returns them when nobody looks at them any more."""

    def __init__(self) -> None:
        self._mappings: dict[tuple[int, int], mmap.mmap] = {}
        self._loans: dict[tuple[int, int], _Loans] = {}

    def borrow(self, place: Any, size: int) -> Array:
        """Return the bytes (size,) uint8, read-only, that lie at a place that `lend` returned.

        Raises
        ------
        LenderGoneError
            If it has ended: what could be borrowed before shows that memory of others is seen from here.
        LendingError
            If they cannot be found there.
        """
        try:
            process, offset = int(place["process"]), int(place["offset"])
            number, line = int(place["number"]), int(place["line"])
            lent = int(place["memory"]), int(place["memory_inode"])
            control = int(place["control"]), int(place["control_inode"])
        except (KeyError, TypeError, ValueError) as error:
            raise LendingError(f"a message does not say where its data lie: {error}") from None
        try:
            loans = self._loans_of(process, *control, number)
            memory = self._memory(process, *lent)
        except LendingError as error:
            if not self._loans:
                raise
            raise LenderGoneError(f"process {process} has ended, what it lent last is lost: {error}") from None
        if offset < 0 or size < 0 or offset + size > len(memory):
            raise LendingError(f"{size} bytes at {offset} do not lie in the {len(memory)} that process {process} lends")
        if not _HEADER <= line < _HEADER + _LINES:
            raise LendingError(f"there is no line {line} to return what process {process} lends")
        array = np.frombuffer(memory, np.uint8, size, offset)
        loans.note_received(number)
        weakref.finalize(array, loans.note_returned, number, line).atexit = False
        return array

    def copy(self, place: Any, size: int) -> Array:
        """Return a copy of what `borrow` returns."""
        return self.borrow(place, size).copy()

    def _loans_of(self, process: int, descriptor: int, inode: int, number: int) -> _Loans:
        """Return the loans of a lender, of which this is the first number where none are known."""
        key = process, inode
        if key not in self._loans:
            # What a lender sent before it ended may come among what its successor sends.
            self._loans[key] = _Loans(_opened(process, descriptor, inode, writable=True), number)
            while len(self._loans) > MOST_LENDERS:
                del self._loans[next(iter(self._loans))]
        return self._loans[key]

    def _memory(self, process: int, descriptor: int, inode: int) -> mmap.mmap:
        key = process, inode
        memory = self._mappings.pop(key, None)
        if memory is None:
            memory = _opened(process, descriptor, inode, writable=False)
        self._mappings[key] = memory
        while len(self._mappings) > MOST_MAPPINGS:
            del self._mappings[next(iter(self._mappings))]
        return memory


def _memfd(size: int) -> tuple[mmap.mmap, int]:
    """Return memory that is there in full and cannot shrink, and its descriptor."""
    descriptor = os.memfd_create("streamptycho", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.posix_fallocate(descriptor, 0, size)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE), descriptor
    except BaseException:
        os.close(descriptor)
        raise


def _opened(process: int, descriptor: int, inode: int, *, writable: bool) -> mmap.mmap:
    """Map memory of another process, after a look at whether it is what was meant and cannot vanish."""
    path = f"/proc/{process}/fd/{descriptor}"
    hint = "if the two services run in different containers, set pipeline.shared_memory: false"
    try:
        file = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
    except OSError as error:
        raise LendingError(f"cannot open the memory that process {process} lends ({error.strerror}): {hint}") from None
    try:
        facts = os.fstat(file)
        if facts.st_size > MOST_MEMORY_BYTES:
            raise LendingError(f"process {process} lends {facts.st_size} bytes, more than {MOST_MEMORY_BYTES}")
        if facts.st_ino != inode or not fcntl.fcntl(file, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
            raise LendingError(f"process {process} does not lend the memory that was announced: {hint}")
        access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        return mmap.mmap(file, facts.st_size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, prot=access)
    except OSError as error:
        if isinstance(error, LendingError):
            raise
        raise LendingError(f"cannot use the memory that process {process} lends ({error}): {hint}") from None
    finally:
        os.close(file)
