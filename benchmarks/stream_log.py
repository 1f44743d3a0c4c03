"""The stream log against a plain file of the same bytes in the same folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.clock import by_turns, compared
from benchmarks.frames import eiger_series, selun_series
from benchmarks.row import Effort, Row, WrongResult
from streamptycho.messages import RawBlock
from streamptycho.recording.stream_log import StreamLogReader, StreamLogWriter

STEP_BYTES = 4 << 20


def large_records(effort: Effort) -> Iterator[Row]:
    """Messages of the EIGER2 500K."""
    yield from _rows([parts[0] for parts in eiger_series(300 if effort.quick else 1500).images], effort)


def small_records(effort: Effort) -> Iterator[Row]:
    """Messages of 96 x 96 pixels: the cost of a record, not of a byte."""
    yield from _rows([parts[0] for parts in selun_series(4000 if effort.quick else 20_000).images], effort)


def _rows(messages: list[bytes], effort: Effort) -> Iterator[Row]:
    megabytes = sum(map(len, messages)) / 1e6
    step = max(1, STEP_BYTES * len(messages) // sum(map(len, messages)))
    blocks = [_block(messages[first : first + step], first) for first in range(0, len(messages), step)]
    with tempfile.TemporaryDirectory() as folder:
        log, plain = Path(folder) / "stream.log", Path(folder) / "plain"

        def append() -> float:
            log.unlink(missing_ok=True)
            with StreamLogWriter(log) as writer:
                for block in blocks:
                    writer.append_block(block)
            return megabytes

        def write() -> float:
            plain.unlink(missing_ok=True)
            with plain.open("wb", buffering=0) as file:
                for message in messages:
                    file.write(message)
                os.fsync(file.fileno())
            return megabytes

        def read_log() -> float:
            with StreamLogReader(log) as reader:
                read = [block for block in reader.blocks() if isinstance(block, RawBlock)]
                if sum(int(np.diff(block.spans).sum()) for block in read) != sum(map(len, messages)):
                    raise WrongResult("the stream log gives other bytes back than were recorded")
            return megabytes

        def read_plain() -> float:
            with plain.open("rb", buffering=0) as file:
                for message in messages:
                    file.read(len(message))
            return megabytes

        writing = by_turns({"ours": append, "plain": write}, effort)
        reading = by_turns({"ours": read_log, "plain": read_plain}, effort)
    kilobytes = 1000 * megabytes / len(messages)
    records_per_s = writing["ours"].median / megabytes * len(messages)
    what = f"log, records of {kilobytes:.0f} kB"
    facts = {"records_per_s": records_per_s}
    meaning = f"with checksums, forced to the disk at the end; {records_per_s:,.0f} records/s"
    yield compared(
        f"{what}: append", "MB/s", writing["ours"], ("plain file, one write each", writing["plain"]), meaning, facts
    )
    records_per_s = reading["ours"].median / megabytes * len(messages)
    facts = {"records_per_s": records_per_s}
    meaning = f"checksums verified, from the page cache; {records_per_s:,.0f} records/s"
    yield compared(
        f"{what}: read", "MB/s", reading["ours"], ("plain file, one read each", reading["plain"]), meaning, facts
    )


def _block(messages: list[bytes], first: int) -> RawBlock:
    """Return messages as they come from the socket: many at once."""
    count = len(messages)
    ends = np.cumsum([0, *map(len, messages)])
    return RawBlock(
        source=np.zeros(count, np.uint8),
        kind=np.zeros(count, np.uint8),
        sequence=np.arange(first, first + count),
        received_ns=1000 * np.arange(first, first + count),
        first_part=np.arange(count + 1),
        spans=np.stack([ends[:-1], ends[1:]], axis=1),
        data=np.frombuffer(b"".join(messages), np.uint8),
    )
