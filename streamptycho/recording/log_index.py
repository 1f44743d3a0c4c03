"""Where each record of a stream log is: a sidecar file that only saves time and is rebuilt whenever it does not fit."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamptycho.messages import Array
from streamptycho.recording.log_format import FILE_HEADER, KINDS, RECORD_HEADER, SOURCES
from streamptycho.recording.log_reader import StreamLogReader

_ENTRY = np.dtype(
    [
        ("offset", "<i8"),
        ("size", "<i8"),
        ("sequence", "<i8"),
        ("received_ns", "<i8"),
        ("source", "u1"),
        ("kind", "u1"),
        ("check", "<u4"),
    ]
)


@dataclass(frozen=True, eq=False)
class LogIndex:
    """Offsets of the records of a log.

    `entries` (R,) has the fields offset, size, sequence, received_ns, source and kind (numbers in `SOURCES` and
    `KINDS`). Whether the contents are intact is only known when they are read.
    """

    entries: Array

    def __len__(self) -> int:
        return len(self.entries)

    def offset_at(self, received_ns: int) -> int | None:
        """Return the offset of the first record received at or after a time, for `StreamLogReader.records`."""
        later = np.flatnonzero(
            (self.entries["received_ns"] >= received_ns) & (self.entries["kind"] != KINDS.index("configuration"))
        )
        return int(self.entries["offset"][later[0]]) if later.size else None


def index_path(log: Path) -> Path:
    """Return the path of the sidecar of a log."""
    return log.with_name(log.name + ".idx")


def load_index(log: Path) -> LogIndex:
    """Return the index of a log: from the sidecar as far as that fits, from the log itself where not.

    The sidecar is written again when it changed and its folder can be written to.

    Raises
    ------
    StreamLogError
        If the log cannot be read.
    """
    with StreamLogReader(log) as reader:
        known = _fitting_entries(log)
        begin = int(known["offset"][-1] + known["size"][-1]) if len(known) else FILE_HEADER.size
        new = [
            (
                offset,
                header.size,
                header.sequence,
                header.received_ns,
                SOURCES.index(header.source),
                KINDS.index(header.kind),
                0,
            )
            for offset, header in reader.headers(begin)
        ]
    entries = np.concatenate([known, np.array(new, _ENTRY)])
    if new:
        entries["check"][-1] = _check(log, int(entries["offset"][-1]))
        _store(index_path(log), entries)
    return LogIndex(entries)


def _fitting_entries(log: Path) -> Array:
    """Return the entries of the sidecar if they belong to this log, else none."""
    none = np.empty(0, _ENTRY)
    try:
        entries: Array = np.load(index_path(log), allow_pickle=False)
        size = log.stat().st_size
    except (OSError, ValueError, EOFError):
        return none
    if entries.dtype != _ENTRY or entries.ndim != 1 or not len(entries):
        return none
    ends = entries["offset"] + entries["size"]
    in_order = entries["offset"][0] >= FILE_HEADER.size and bool(np.all(entries["offset"][1:] >= ends[:-1]))
    if not in_order or ends[-1] > size or _check(log, int(entries["offset"][-1])) != entries["check"][-1]:
        return none
    return entries


def _check(log: Path, offset: int) -> int:
    with log.open("rb") as file:
        file.seek(offset)
        return zlib.crc32(file.read(RECORD_HEADER.size))


def _store(path: Path, entries: Array) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            np.save(file, entries, allow_pickle=False)
        temporary.replace(path)
    except OSError:
        # The index is a convenience: a full or read-only disk must not keep anybody from reading the log.
        temporary.unlink(missing_ok=True)
