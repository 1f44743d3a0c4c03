"""The file of a growing log: large writes go past the page cache, which costs a fraction of the processor time."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path

import numpy as np

ALIGNMENT_BYTES = 4096
DIRECT_FROM_BYTES = 1 << 17
SLOW_S = 0.05
SLOW_BYTES_PER_S = 150e6
BUFFERED_AFTER_SLOW_BYTES = 256 << 20

_REFUSED = {errno.EINVAL, errno.ENOTSUP}


class LogFile:
    """A new file that is appended to.

    Whole pages of large pieces are written directly from memory that begins at the same place of a page as they will
    in the file; what stands before and behind them, and everything where the file system refuses that, through the
    page cache. No page is ever written both ways. While the disk is slow the page cache takes all, as it can hold more.

    Parameters
    ----------
    path
        The file. It is emptied.
    """

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o666)
        self._direct: int | None = None
        with contextlib.suppress(OSError, AttributeError):
            self._direct = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_DIRECT)
        self._at = 0
        self._direct_again_at = 0
        self.closed = False

    @property
    def is_direct(self) -> bool:
        """Whether large pieces go past the page cache now."""
        return self._direct is not None and self._at >= self._direct_again_at

    def write(self, data: bytes | memoryview) -> int:
        """Append the first bytes of `data`, at least one, and return how many."""
        view = memoryview(data)
        if len(view) >= DIRECT_FROM_BYTES and self.is_direct:
            before = -self._at % ALIGNMENT_BYTES
            if before:
                view = view[:before]
            elif np.frombuffer(view, np.uint8).ctypes.data % ALIGNMENT_BYTES == 0:
                written = self._write_directly(view[: len(view) - len(view) % ALIGNMENT_BYTES])
                if written is not None:
                    return written
        written = os.pwrite(self._file, view, self._at)
        self._at += written
        return written

    def tell(self) -> int:
        """Return where the next byte goes."""
        return self._at

    def seek(self, offset: int) -> None:
        """Let the next byte go to an offset."""
        self._at = offset

    def truncate(self, size: int) -> None:
        """Remove what stands behind `size` bytes."""
        os.ftruncate(self._file, size)

    def fileno(self) -> int:
        """Return the descriptor, to bring all that was written to the disk."""
        return self._file

    def close(self) -> None:
        """Give up the file."""
        if not self.closed:
            self.closed = True
            os.close(self._file)
            self._close_direct()

    def _write_directly(self, view: memoryview) -> int | None:
        """Return how many bytes were written, None where the file system does not do it."""
        if self._direct is None:
            return None
        began_s = time.monotonic()
        try:
            written = os.pwrite(self._direct, view, self._at)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            self._close_direct()
            return None
        self._at += written
        if time.monotonic() - began_s > SLOW_S + written / SLOW_BYTES_PER_S:
            self._direct_again_at = self._at + BUFFERED_AFTER_SLOW_BYTES
        return written

    def _close_direct(self) -> None:
        direct, self._direct = self._direct, None
        if direct is not None:
            os.close(direct)
