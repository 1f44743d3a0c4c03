"""PandABox data port (TCP 8889): the sans-I/O parser of pandablocks between bounded framing and our messages."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal
from xml.etree.ElementTree import ParseError

import numpy as np
from pandablocks.connections import DataConnection
from pandablocks.responses import Data, EndData, EndReason, FrameData, StartData

from streamptycho.config import PositionsConfig
from streamptycho.messages import AcquisitionEnd, AcquisitionStart, Anomaly, Array, Reason
from streamptycho.naming import UniqueNames
from streamptycho.positions import PositionMessage
from streamptycho.positions.pandabox_columns import ColumnReader, HeaderError
from streamptycho.positions.pandabox_framing import PandaFraming, Piece
from streamptycho.positions.reading import in_units, lost_rows, no_time, position_rows, require_columns, unix_s

MAX_MISSED_ROWS = 1 << 53
_COMPLETE = frozenset({EndReason.OK, EndReason.DISARMED, EndReason.MANUALLY_STOPPED})
_UNPARSABLE = (AssertionError, ValueError, TypeError, AttributeError, OverflowError, ParseError, HeaderError)


class _Acquisition:
    """One acquisition in progress."""

    def __init__(self, name: str, start: StartData, reader: ColumnReader) -> None:
        self.name = name
        self.start = start
        self.reader = reader
        self.next_row: int = start.missed
        self.held: Array | None = None

    def goes_on_in(self, start: StartData) -> bool:
        """Whether a header that came with a new connection is that of this acquisition."""
        mine = self.start
        return bool(mine.arm_time) and (mine.arm_time, mine.start_time) == (start.arm_time, start.start_time)


class PandaBoxDecoder:
    """Decodes what a PandABox sends after the request ``XML FRAMED SCALED`` or ``XML FRAMED RAW``.

    Unscaled frames are handed on one frame late, because the server declares the last one corrupt after a data
    overrun. Rows whose position is not finite are counted and left out; the others keep their number. After a lost
    connection the rows of the same acquisition (told by its time of arming) go on at the number that the server
    gives; what was captured meanwhile is counted as missing.

    Parameters
    ----------
    config
        Which columns are x, y, angle and time, their units, and the orientation.
    """

    transport: Literal["tcp"] = "tcp"

    def __init__(self, config: PositionsConfig) -> None:
        self.config = config
        self._names = UniqueNames()
        self._open: _Acquisition | None = None
        self._suspended: _Acquisition | None = None
        self._pending: list[PositionMessage] = []
        self._tables: list[Array] = []
        self._framing = PandaFraming()
        self._connection = _ready_connection(config.scaled)

    def request(self) -> bytes:
        """Return the option line of a data client."""
        request: bytes = DataConnection().connect(self.config.scaled)
        return request

    def connected(self) -> None:
        """Start afresh with the answer to the option line."""
        self._pending.extend(self.disconnected())
        self._renew()

    def disconnected(self) -> Iterator[PositionMessage]:
        """Keep the acquisition in progress for the next connection, and yield what was held back of it."""
        unfinished = self._framing.unfinished
        self._framing = PandaFraming()
        lost: list[PositionMessage] = []
        if unfinished:
            detail = f"the connection ended inside {unfinished}"
            lost.append(Anomaly(source="positions", reason=Reason.TRUNCATED, unit="messages", detail=detail))
        if self._open is not None:
            lost.extend(self._release(self._open))
            detail = "the positions broke off in the middle of an acquisition"
            lost.append(Anomaly(source="positions", reason=Reason.DISCONNECTED, unit="messages", detail=detail))
            self._suspended, self._open = self._open, None
        return iter(lost)

    def flush(self) -> Iterator[PositionMessage]:
        """End the acquisition in progress as incomplete."""
        pending, self._pending = self._pending, []
        return iter([*pending, *self.disconnected(), *self._give_up_suspended()])

    def feed(self, data: bytes, received_ns: int) -> Iterator[PositionMessage]:
        """Take bytes, cut anywhere, and yield what they complete.

        Raises
        ------
        ColumnMissingError
            If a configured column is not captured. Feeding on skips that acquisition.
        """
        pending, self._pending = self._pending, []
        yield from pending
        for piece in self._framing.feed(data):
            yield from self._take(piece, received_ns)
        yield from self._rows_so_far()

    def _renew(self) -> None:
        self._framing = PandaFraming()
        self._connection = _ready_connection(self.config.scaled)

    def _take(self, piece: Piece, received_ns: int) -> Iterator[PositionMessage]:
        if piece.kind == "garbage":
            yield from self._corrupt(piece.detail)
            return
        try:
            if piece.kind == "header" and b"<!" in piece.data:
                raise HeaderError("a header declares no entities")
            parsed: list[Data] = list(self._connection.receive_bytes(piece.data))
            if piece.kind == "header" and not any(isinstance(item, StartData) for item in parsed):
                raise HeaderError("it announces nothing")
            yield from [message for item in parsed for message in self._translate(item, received_ns)]
        except _UNPARSABLE as error:
            self._framing.reject()
            yield from self._corrupt(f"{piece.kind} cannot be read: {error}")

    def _translate(self, item: Data, received_ns: int) -> Iterator[PositionMessage]:
        if not isinstance(item, FrameData):
            yield from self._rows_so_far()
        if isinstance(item, StartData):
            yield from self._close("superseded by another header", complete=False)
            yield from self._start(item, received_ns)
        elif isinstance(item, FrameData) and self._open is not None:
            if not self._open.reader.raw:
                # Frames of some rows each are read together: what follows costs as much for one row as for many.
                self._tables.append(item.data)
            else:
                yield from self._release(self._open)
                self._open.held = item.data
        elif isinstance(item, EndData) and self._open is not None:
            yield from self._end(self._open, item)

    def _start(self, start: StartData, received_ns: int) -> Iterator[PositionMessage]:
        if not 0 <= start.missed <= MAX_MISSED_ROWS:
            raise HeaderError(f"{start.missed} missed rows")
        reader = ColumnReader(start)
        before = self._suspended
        if before is not None and before.goes_on_in(start):
            require_columns(self.config, reader.columns)
            self._suspended, self._open = None, before
            before.reader = reader
            if start.missed > before.next_row:
                detail = "rows that were captured while the connection was lost"
                yield lost_rows(Reason.MISSING, start.missed - before.next_row, detail)
            before.next_row = start.missed
            return
        yield from self._give_up_suspended()
        require_columns(self.config, reader.columns)
        self._open = _Acquisition(self._names.unique((start.arm_time or "acquisition")[:64]), start, reader)
        yield AcquisitionStart(
            acquisition=self._open.name, epoch_s=_epoch_s(start), missed=start.missed, received_ns=received_ns
        )
        time = self.config.time
        if time is not None and time.column not in reader.columns:
            yield no_time(time.column)

    def _rows_so_far(self) -> Iterator[PositionMessage]:
        """Yield the rows of the frames that came and were not read yet."""
        tables, self._tables = self._tables, []
        if tables and self._open is not None:
            yield from self._rows(self._open, tables[0] if len(tables) == 1 else np.concatenate(tables))

    def _rows(self, acquisition: _Acquisition, table: Array) -> Iterator[PositionMessage]:
        reader = acquisition.reader
        rows = acquisition.next_row + np.arange(len(table), dtype=np.int64)
        acquisition.next_row += len(table)
        time_s = self._time_s(reader, table)
        yield from position_rows(
            self.config, acquisition.name, rows, time_s, lambda column: reader.values(table, column)
        )

    def _time_s(self, reader: ColumnReader, table: Array) -> Array:
        axis = self.config.time
        if axis is None or axis.column not in reader.columns:
            return np.full(len(table), np.nan)
        time_s = in_units(reader.values(table, axis.column), axis)
        averages = not self.config.x.column.endswith(".Value")
        if averages and axis.column.startswith("PCAP.TS_START."):
            gate_s = reader.gate_s(table)
            if gate_s is not None:
                with np.errstate(all="ignore"):
                    time_s = time_s + gate_s / 2
        return time_s

    def _release(self, acquisition: _Acquisition) -> Iterator[PositionMessage]:
        held, acquisition.held = acquisition.held, None
        if held is not None:
            yield from self._rows(acquisition, held)

    def _end(self, acquisition: _Acquisition, end: EndData) -> Iterator[PositionMessage]:
        overrun = end.reason in (EndReason.DATA_OVERRUN, EndReason.DRIVER_DATA_OVERRUN)
        if overrun and acquisition.held is not None:
            lost, acquisition.held = len(acquisition.held), None
            yield lost_rows(Reason.CORRUPT, lost, "the last frame before a data overrun")
        yield from self._close(end.reason.value, complete=end.reason in _COMPLETE)

    def _close(self, reason: str, *, complete: bool) -> Iterator[PositionMessage]:
        acquisition, self._open = self._open, None
        if acquisition is not None:
            yield from self._release(acquisition)
            yield _end_of(acquisition, reason, complete=complete)

    def _give_up_suspended(self) -> Iterator[PositionMessage]:
        acquisition, self._suspended = self._suspended, None
        if acquisition is not None:
            yield _end_of(acquisition, "disconnected", complete=False)

    def _corrupt(self, detail: str) -> Iterator[PositionMessage]:
        yield from self._rows_so_far()
        self._connection = _ready_connection(self.config.scaled)
        yield Anomaly(source="positions", reason=Reason.CORRUPT, unit="messages", detail=detail)
        yield from self._close("corrupt data", complete=False)


def _end_of(acquisition: _Acquisition, reason: str, *, complete: bool) -> AcquisitionEnd:
    return AcquisitionEnd(acquisition=acquisition.name, rows=acquisition.next_row, reason=reason, complete=complete)


def _ready_connection(scaled: bool) -> DataConnection:
    """Return a parser that waits for a header."""
    connection = DataConnection()
    connection.connect(scaled)
    list(connection.receive_bytes(b"OK\n"))
    return connection


def _epoch_s(start: StartData) -> float | None:
    """Return the Unix time of timestamp zero, None where the server is too old to say."""
    epoch_s = unix_s(start.start_time or start.arm_time)
    if epoch_s is None:
        return None
    epoch_s += float(start.hw_time_offset_ns or 0) * 1e-9
    return epoch_s if math.isfinite(epoch_s) else None
