"""Appending to a stream log so that it is readable at every moment, whatever fails."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from streamptycho.messages import Array, RawBlock, RawRecord
from streamptycho.recording.log_file import LogFile
from streamptycho.recording.log_format import DiskFullError, StreamLogError, encode_header, file_header
from streamptycho.recording.log_kernels import (
    CHECKSUM_BYTES,
    HEADER_BYTES,
    MAX_CONTENT_BYTES,
    MAX_PARTS,
    encode_records,
    encoded_ends,
    stand_in_place,
)
from streamptycho.recording.log_tail import LogTail, aligned_room

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LARGE_PART = 1 << 16


class StreamLogWriter:
    """Appends records to a new file, each in full or not at all.

    Nothing is held back in the process: after `append` the record is with the operating system, a crash of this
    process cannot lose it. `sync` brings it to the disk.

    Parameters
    ----------
    path
        A file that does not exist yet, or is empty.
    configuration
        YAML text under which the recording is made: becomes the first record.
    tail
        Keeps the newest bytes in memory for a reader in this process; None when there is none.

    Raises
    ------
    StreamLogError
        If the file exists and is not empty, or cannot be created.
    DiskFullError
        If not even the start of the log fits.

    Attributes
    ----------
    head_bytes, part_bytes
        What stands before the content of a record in the log: so much, and so much for each of its parts.
    """

    head_bytes, part_bytes = HEADER_BYTES + CHECKSUM_BYTES, 4

    def __init__(self, path: Path, *, configuration: str | None = None, tail: LogTail | None = None) -> None:
        self.path = Path(path)
        self.records = 0
        self.bytes_written = 0
        self._broken = False
        self._tail = tail
        self._memory = tail if tail is not None else LogTail(slabs=1)
        self._lent: tuple[Array, bool] | None = None
        self._file = self._open()
        self._write([file_header()], np.zeros(0, np.int64))
        if configuration is not None:
            text = configuration.encode()
            self.append(RawRecord(source="recorder", kind="configuration", sequence=0, received_ns=0, parts=(text,)))

    def append(self, record: RawRecord) -> None:
        """Append a record.

        When it fails, the log ends with the record before and stays usable: the call can be repeated.

        Raises
        ------
        DiskFullError
            If there is no room for the record.
        StreamLogError
            If the record is too large, the log is closed, or writing fails in another way.
        """
        pieces: list[bytes] = []
        small = [encode_header(record)]
        for part in record.parts:
            if len(part) < _LARGE_PART:
                small.append(part)
            else:
                pieces += [b"".join(small), part]
                small = []
        pieces.append(b"".join(small))
        size = sum(map(len, pieces))
        elsewhere, self._lent = self._lent is not None, None
        room = self._tail.room(size, self.bytes_written, elsewhere=elsewhere) if self._tail is not None else None
        self._write(pieces, np.array([size]))
        if self._tail is not None and room is not None:
            room[:size] = np.frombuffer(b"".join(pieces), np.uint8)
            self._tail.commit(size)
        self._tell_length()

    def room(self, size: int) -> Array:
        """Return room (at least `size`,) uint8 in which records are as good as written.

        A block whose `data` begins there, with `head_bytes` and `part_bytes` for each part left free before the
        content of every record and the parts one behind the other, is not copied any more when it is appended. The
        room is good for one `append_block`; what is appended before that does not touch it.
        """
        self._lent = self._room_for(size)
        return self._lent[0]

    def append_block(self, block: RawBlock) -> None:
        """Append all records of a block in one piece.

        When it fails, the log ends with the last record that fitted and stays usable; `records` counts those.

        Raises
        ------
        DiskFullError
            If there is no room for all of them.
        StreamLogError
            If a record is too large, the log is closed, or writing fails in another way.
        """
        ends = np.zeros(len(block), np.int64)
        size = encoded_ends(block.first_part, block.spans, ends)
        if size < 0:
            raise StreamLogError(f"a record holds at most {MAX_PARTS} parts and {MAX_CONTENT_BYTES} bytes")
        lent, self._lent = self._lent, None
        room, kept = self._place_of(block, size, lent) or self._room_for(size, elsewhere=lent is not None)
        encode_records(
            block.source,
            block.kind,
            block.sequence,
            block.received_ns,
            block.first_part,
            block.spans,
            block.data,
            room,
        )
        self._write([room[:size].data], ends)
        if kept:
            self._memory.commit(size)
        self._tell_length()

    def _tell_length(self) -> None:
        if self._tail is not None:
            self._tail.written = self.bytes_written

    def _room_for(self, size: int, *, elsewhere: bool = False) -> tuple[Array, bool]:
        """Return room for the next bytes of the log, and whether that is in the memory that the reader sees."""
        room = self._memory.room(size, self.bytes_written, elsewhere=elsewhere)
        return (aligned_room(size, self.bytes_written), False) if room is None else (room, True)

    @staticmethod
    def _place_of(block: RawBlock, size: int, lent: tuple[Array, bool] | None) -> tuple[Array, bool] | None:
        """Return the room that was lent if the block lies there as it shall be written, else None."""
        if lent is None or block.data.ctypes.data != lent[0].ctypes.data or size > len(lent[0]):
            return None
        return lent if stand_in_place(block.first_part, block.spans) else None

    def free_bytes(self) -> int | None:
        """Return how much room is left for this log, None where that cannot be known."""
        try:
            room = os.statvfs(self.path.parent)
        except OSError:
            return None
        return room.f_bavail * room.f_frsize

    def flush(self) -> None:
        """Hand everything to the operating system: already so after every `append`."""

    def sync(self) -> None:
        """Bring everything to the disk.

        Raises
        ------
        StreamLogError
            If the disk refuses.
        """
        if self._file.closed:
            return
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._explain(error, "the last records") from None

    def close(self) -> None:
        """Bring everything to the disk and close the file."""
        if not self._file.closed:
            try:
                self.sync()
            finally:
                self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> Any:
        try:
            if self.path.exists() and self.path.stat().st_size > 0:
                raise StreamLogError(
                    f"{self.path} exists and is not empty: a recording never overwrites one, choose another file"
                )
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return LogFile(self.path)
        except OSError as error:
            raise StreamLogError(f"cannot create the stream log {self.path}: {error.strerror or error}") from None

    def _write(self, pieces: Sequence[bytes | memoryview], ends: Array) -> None:
        """Write records of which the k-th ends `ends[k]` bytes further on; those that fit stay."""
        if self._file.closed:
            raise StreamLogError(f"{self.path} is closed: {self._next} was not recorded")
        if self._broken:
            raise StreamLogError(f"{self.path} ends in an incomplete record: record into a new file")
        begin = self.bytes_written
        try:
            for piece in pieces:
                view = memoryview(piece)
                while view:
                    written = self._file.write(view)
                    self.bytes_written += written
                    view = view[written:]
        except OSError as error:
            # A reader may have seen those that are complete: they must not vanish again.
            complete = int(np.searchsorted(ends, self.bytes_written - begin, side="right"))
            self._cut_back(begin + (int(ends[complete - 1]) if complete else 0))
            self.records += complete
            self._tell_length()
            raise self._explain(error, self._next) from None
        self.records += len(ends)

    @property
    def _next(self) -> str:
        return f"record {self.records}" if self.bytes_written else "the start of the log"

    def _cut_back(self, size: int) -> None:
        """Remove an incomplete record, so that what follows a retry is found where it belongs."""
        try:
            self._file.truncate(size)
            self._file.seek(size)
        except OSError:
            self._broken = True
        self.bytes_written = size

    def _explain(self, error: OSError, what: str) -> StreamLogError:
        kept = f"the {self.records} records before it are safe in {self.path}"
        if error.errno in _FULL:
            return DiskFullError(
                f"no room for {what} ({error.strerror}); {kept}: free space on that disk or record elsewhere"
            )
        return StreamLogError(f"cannot record {what} ({error.strerror or error}); {kept}")
