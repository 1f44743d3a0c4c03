"""Reading a stream log: whole, damaged, torn, or still being written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from streamptycho.memory import ReusedMemory
from streamptycho.messages import RECORD_KINDS, Array, RawBlock, RawRecord
from streamptycho.recording.log_format import (
    FILE_HEADER,
    FILE_MAGIC,
    RECORD_MAGIC,
    DamagedRecordError,
    RecordHeader,
    StreamLogError,
    check_file_header,
    decode_header,
    decode_parts,
)
from streamptycho.recording.log_kernels import scan_records
from streamptycho.recording.log_tail import LogTail
from streamptycho.recording.log_window import DIRECT_BYTES, WINDOW_BYTES, DirectReader, Window

BLOCK_BYTES = 4 << 20
BLOCK_RECORDS = 4096
BLOCK_PARTS = 16_384

_END = RECORD_KINDS.index("end")
_HEADER_WINDOW_BYTES = 1 << 13
_MAX_CONFIGURATION_BYTES = 4 << 20


def is_stream_log(path: Path) -> bool:
    """Whether a file is a stream log, of whatever version."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(FILE_MAGIC)) == FILE_MAGIC
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class LogSummary:
    """What a log holds.

    `by_source` counts records of each source, `duration_s` spans the receive times, which leave the configuration
    out. `torn_bytes` at the end belong to no record, `corrupt_records` are damaged places that were skipped,
    `complete` says that the recording was ended on purpose.
    """

    records: int
    bytes: int
    by_source: dict[str, int] = field(default_factory=dict)
    duration_s: float = 0.0
    first_received_ns: int | None = None
    last_received_ns: int | None = None
    torn_bytes: int = 0
    corrupt_records: int = 0
    complete: bool = False


class StreamLogReader:
    """Reads a stream log. `torn_bytes` and `corrupt_records` tell what the last pass had to leave out.

    Parameters
    ----------
    path
        The log.
    tail
        Of the writer, when the log is being written in this process: `follow_blocks` then takes from memory what is
        still there.
    memory
        Where what was written past the page cache is read to, past it as well; None to read everything through it.

    Raises
    ------
    StreamLogError
        If the file cannot be read or is not a stream log; says what it is.
    """

    def __init__(self, path: Path, tail: LogTail | None = None, memory: ReusedMemory | None = None) -> None:
        self.path = Path(path)
        self._tail = tail
        self._direct: DirectReader | None = None
        self.torn_bytes = 0
        self.corrupt_records = 0
        try:
            self._window = Window(self.path)
        except OSError as error:
            raise StreamLogError(f"cannot read the stream log {self.path}: {error.strerror or error}") from None
        try:
            check_file_header(self._window.read(0, FILE_HEADER.size), str(self.path))
        except (StreamLogError, OSError) as error:
            self.close()
            raise StreamLogError(str(error)) from None
        if memory is not None:
            with contextlib.suppress(OSError, AttributeError):
                self._direct = DirectReader(self.path, memory)
        self._configuration: str | None = None
        self._configuration_read = False

    def __iter__(self) -> Iterator[RawRecord]:
        """Return all intact records, from the first."""
        for _, _, record in self.records():
            yield record

    def records(self, offset: int = FILE_HEADER.size) -> Iterator[tuple[int, int, RawRecord]]:
        """Return (offset, offset behind it, record) of all intact records from a record's offset on."""
        self.torn_bytes = self.corrupt_records = 0
        self._window.forget()
        while True:
            found = self._next(offset)
            if found is None:
                self.torn_bytes = max(0, self._window.size() - offset)
                return
            begin, end, record = found
            self.corrupt_records += (begin != offset) + (record is None)
            offset = end
            if record is not None:
                yield begin, end, record

    def blocks(self) -> Iterator[RawRecord | RawBlock]:
        """Return all intact records, from the first, many at once wherever they stand undamaged."""
        self.torn_bytes = self.corrupt_records = 0
        self._window.forget()
        offset = FILE_HEADER.size
        while True:
            block, used = self._block(offset)
            if block is not None:
                offset += used
                yield block
                continue
            found = self._next(offset)
            if found is None:
                self.torn_bytes = max(0, self._window.size() - offset)
                return
            begin, end, record = found
            self.corrupt_records += (begin != offset) + (record is None)
            offset = end
            if record is not None:
                yield record

    def follow_blocks(self) -> Iterator[RawRecord | RawBlock | None]:
        """Return records of a log that is still being written, as `follow` does, many at once."""
        self.torn_bytes = self.corrupt_records = 0
        offset = FILE_HEADER.size
        while True:
            if self._tail is not None and 0 < self._tail.written <= offset:
                yield None
                continue
            newest = self._tail.bytes_at(offset) if self._tail is not None else None
            block, used = self._block(offset) if newest is None else _scanned(newest, check=False)
            if block is not None:
                offset += used
                self.torn_bytes = 0
                yield block
                if block.kind[-1] == _END:
                    return
                continue
            ended = False
            for record, behind in self._follow(offset):
                yield record
                offset, ended = behind, record is not None and record.kind == "end"
                if record is not None:
                    break
                if self._window.size() > offset:
                    break
            if ended:
                return

    def _block(self, offset: int) -> tuple[RawBlock | None, int]:
        """Return the intact records from an offset on that one step finds, None if there are none, and their bytes."""
        return _scanned(self._read_new(offset), check=True)

    def _read_new(self, offset: int) -> Array:
        if self._direct is not None:
            try:
                return self._direct.read(offset, DIRECT_BYTES)
            except OSError:
                self._direct.close()
                self._direct = None
        return np.frombuffer(self._window.read_new(offset, BLOCK_BYTES), np.uint8)

    def follow(self, offset: int = FILE_HEADER.size) -> Iterator[RawRecord | None]:
        """Return records of a log that is still being written.

        Gives None when everything so far was given: wait, then go on. Ends after the record of kind "end". What is
        incomplete or damaged at the very end is looked at again, since it may be half written.
        """
        self.torn_bytes = self.corrupt_records = 0
        for record, _ in self._follow(offset):
            yield record
            if record is not None and record.kind == "end":
                return

    def _follow(self, offset: int) -> Iterator[tuple[RawRecord | None, int]]:
        """Return (record or None, offset behind it) of a log that is still being written, for ever."""
        while True:
            found = self._next(offset, growing=True)
            if found is not None and found[2] is None:
                # What was read may be older than the file: a failed append is cut back and written again.
                self._window.forget()
                found = self._next(offset, growing=True)
            if found is None or (found[2] is None and not self._starts_record(found[1])):
                self._window.forget()
                self.torn_bytes = max(0, self._window.size() - offset)
                yield None, offset
                continue
            begin, end, record = found
            self.torn_bytes = 0
            self.corrupt_records += (begin != offset) + (record is None)
            offset = end
            if record is not None:
                yield record, offset

    @property
    def configuration(self) -> str | None:
        """The YAML text of the first record, None when the log does not start with one or it is damaged."""
        if not self._configuration_read:
            header = self._header(FILE_HEADER.size)
            if header is not None and header.kind == "configuration":
                record = self._record(FILE_HEADER.size, header)
                if record is not None and header.content_bytes <= _MAX_CONFIGURATION_BYTES:
                    self._configuration = b"".join(record.parts).decode(errors="replace")
            self._configuration_read = header is not None
        return self._configuration

    def summary(self) -> LogSummary:
        """Read the whole log and return what it holds. Counts of damage as in `torn_bytes` and `corrupt_records`."""
        by_source: dict[str, int] = {}
        first: int | None = None
        last: int | None = None
        complete = False
        for record in self:
            by_source[record.source] = by_source.get(record.source, 0) + 1
            complete = complete or record.kind == "end"
            if record.kind != "configuration":
                first = record.received_ns if first is None else min(first, record.received_ns)
                last = record.received_ns if last is None else max(last, record.received_ns)
        return LogSummary(
            records=sum(by_source.values()),
            bytes=self._window.size(),
            by_source=by_source,
            duration_s=(last - first) / 1e9 if first is not None and last is not None else 0.0,
            first_received_ns=first,
            last_received_ns=last,
            torn_bytes=self.torn_bytes,
            corrupt_records=self.corrupt_records,
            complete=complete,
        )

    @property
    def damage(self) -> str:
        """What the last pass had to leave out, in words; empty when nothing."""
        torn = f"it ends in the middle of a record: {self.torn_bytes} bytes were left out" if self.torn_bytes else ""
        corrupt = f"damaged places that were skipped: {self.corrupt_records}" if self.corrupt_records else ""
        what = "; ".join(filter(None, (torn, corrupt)))
        return f"{self.path} is damaged: {what}" if what else ""

    def close(self) -> None:
        """Close the file."""
        self._window.file.close()
        if self._direct is not None:
            self._direct.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def headers(self, offset: int = FILE_HEADER.size) -> Iterator[tuple[int, RecordHeader]]:
        """Return (offset, header) of all records that are there in full, without reading what they contain."""
        self._window.forget()
        self._window.ahead = _HEADER_WINDOW_BYTES
        try:
            while True:
                header = self._header(offset)
                if header is None:
                    begin = self._resync(offset)
                    if begin is None:
                        return
                    offset = begin
                    continue
                if offset + header.size > self._window.size():
                    return
                yield offset, header
                offset += header.size
        finally:
            self._window.ahead = WINDOW_BYTES

    def _next(self, offset: int, growing: bool = False) -> tuple[int, int, RawRecord | None] | None:
        """Return (begin, end, record or None when its content is damaged) of the next record, None at the end."""
        begin = offset
        header = self._header(begin)
        if header is None:
            found = self._resync(offset)
            header = self._header(found) if found is not None else None
            if found is None or header is None:
                return None
            begin = found
        end = begin + header.size
        size = self._window.size()
        record = self._record(begin, header) if end <= size else None
        if record is None and end != size and (end > size or not self._starts_record(end)):
            if growing and end > size:
                return None
            # Bytes are missing or too many, so the size of this record does not lead to the next one.
            found = self._resync(begin + 1)
            if found is None and end > size:
                return None
            end = end if found is None else found
        return begin, end, record

    def _header(self, offset: int) -> RecordHeader | None:
        try:
            return decode_header(lambda skip, size: self._window.read(offset + skip, size))
        except DamagedRecordError:
            return None

    def _record(self, offset: int, header: RecordHeader) -> RawRecord | None:
        content = self._window.read(offset + header.content_offset, header.content_bytes)
        parts = decode_parts(header, content) if len(content) == header.content_bytes else None
        if parts is None:
            return None
        return RawRecord(
            source=header.source,
            kind=header.kind,
            sequence=header.sequence,
            received_ns=header.received_ns,
            parts=parts,
        )

    def _starts_record(self, offset: int) -> bool:
        return self._header(offset) is not None

    def _resync(self, offset: int) -> int | None:
        """Return where the next record starts at or behind `offset`, None when no more starts."""
        overlap = len(RECORD_MAGIC) - 1
        while len(chunk := self._window.read(offset, WINDOW_BYTES)) > overlap:
            at = chunk.find(RECORD_MAGIC)
            if at < 0:
                offset += len(chunk) - overlap
                continue
            offset += at
            if self._starts_record(offset):
                return offset
            offset += 1
        return None


def _scanned(data: Array, *, check: bool) -> tuple[RawBlock | None, int]:
    """Return the intact records that `data` begins with, None if there are none, and their bytes."""
    columns = np.empty((2, BLOCK_RECORDS), np.uint8)
    numbers = np.empty((2, BLOCK_RECORDS), np.int64)
    first_part = np.empty(BLOCK_RECORDS + 1, np.int64)
    spans = np.empty((BLOCK_PARTS, 2), np.int64)
    records, parts, used = scan_records(data, check, columns[0], columns[1], numbers[0], numbers[1], first_part, spans)
    if not records:
        return None, 0
    block = RawBlock(
        source=columns[0, :records],
        kind=columns[1, :records],
        sequence=numbers[0, :records],
        received_ns=numbers[1, :records],
        first_part=first_part[: records + 1],
        spans=spans[:parts],
        data=data[:used],
    )
    return block, used
