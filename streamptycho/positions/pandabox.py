"""PandABox data port (TCP 8889): the sans-I/O parser of pandablocks between bounded framing and our messages."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from xml.etree.ElementTree import ParseError

import numpy as np
from pandablocks.connections import DataConnection
from pandablocks.responses import Data, EndData, EndReason, FrameData, StartData

from streamptycho.config import AxisConfig, PositionsConfig
from streamptycho.messages import AcquisitionEnd, AcquisitionStart, Anomaly, Array, PositionBlock, Reason
from streamptycho.positions import ColumnMissingError, PositionMessage
from streamptycho.positions.orientation import orient
from streamptycho.positions.pandabox_columns import ColumnReader, HeaderError
from streamptycho.positions.pandabox_framing import PandaFraming, Piece

MAX_MISSED_ROWS = 1 << 53
_COMPLETE = frozenset({EndReason.OK, EndReason.DISARMED, EndReason.MANUALLY_STOPPED})
_UNPARSABLE = (AssertionError, ValueError, TypeError, AttributeError, OverflowError, ParseError, HeaderError)


class _Acquisition:
    """One acquisition in progress."""

    def __init__(self, name: str, reader: ColumnReader, missed: int) -> None:
        self.name = name
        self.reader = reader
        self.next_row = missed
        self.held: Array | None = None


class PandaBoxDecoder:
    """Decodes what a PandABox sends after the request ``XML FRAMED SCALED`` or ``XML FRAMED RAW``.

    Unscaled frames are handed on one frame late, because the server declares the last one corrupt after a data
    overrun. Rows whose position is not finite are counted and left out; the others keep their number.

    Parameters
    ----------
    config
        Which columns are x, y, angle and time, their units, and the orientation.
    """

    def __init__(self, config: PositionsConfig) -> None:
        self.config = config
        self._names: set[str] = set()
        self._counter = 0
        self._open: _Acquisition | None = None
        self._pending: list[PositionMessage] = []
        self._renew()

    def request(self) -> bytes:
        """Return the option line of a data client."""
        request: bytes = DataConnection().connect(self.config.scaled)
        return request

    def connected(self) -> None:
        """Start afresh with the answer to the option line."""
        self._pending.extend(self.disconnected())
        self._renew()

    def disconnected(self) -> Iterator[PositionMessage]:
        """End the acquisition in progress as incomplete."""
        self._framing = PandaFraming()
        lost: list[PositionMessage] = []
        if self._open is not None:
            detail = "the positions broke off in the middle of an acquisition"
            lost.append(Anomaly(source="positions", reason=Reason.DISCONNECTED, unit="messages", detail=detail))
        return iter([*lost, *self._close("disconnected", complete=False)])

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
            yield from [message for item in parsed for message in self._translate(item, received_ns)]
        except _UNPARSABLE as error:
            self._framing.reject()
            yield from self._corrupt(f"{piece.kind} cannot be read: {error}")

    def _translate(self, item: Data, received_ns: int) -> Iterator[PositionMessage]:
        if isinstance(item, StartData):
            yield from self._close("superseded by another header", complete=False)
            yield from self._start(item, received_ns)
        elif isinstance(item, FrameData) and self._open is not None:
            if not self._open.reader.raw:
                yield from self._rows(self._open, item.data)
            else:
                yield from self._release(self._open)
                self._open.held = item.data
        elif isinstance(item, EndData) and self._open is not None:
            yield from self._end(self._open, item)

    def _start(self, start: StartData, received_ns: int) -> Iterator[PositionMessage]:
        if not 0 <= start.missed <= MAX_MISSED_ROWS:
            raise HeaderError(f"{start.missed} missed rows")
        reader = ColumnReader(start)
        for axis in (self.config.x, self.config.y, self.config.angle):
            if axis is not None and axis.column not in reader.columns:
                raise ColumnMissingError(
                    f"the position source does not capture {axis.column!r}. "
                    f"It captures {', '.join(reader.columns)}. "
                    "Name one of these under positions, or capture the column on the PandABox"
                )
        self._open = _Acquisition(self._new_name(start.arm_time), reader, start.missed)
        yield AcquisitionStart(
            acquisition=self._open.name, epoch_s=_epoch_s(start), missed=start.missed, received_ns=received_ns
        )
        time = self.config.time
        if time is not None and time.column not in reader.columns:
            detail = f"{time.column!r} is not captured, so rows have no time and can only be paired by row"
            yield Anomaly(source="positions", reason=Reason.MISSING, unit="messages", detail=detail)

    def _rows(self, acquisition: _Acquisition, table: Array) -> Iterator[PositionMessage]:
        config, reader = self.config, acquisition.reader
        rows = acquisition.next_row + np.arange(len(table), dtype=np.int64)
        acquisition.next_row += len(table)
        xy_m = np.column_stack([_axis(reader, table, config.x), _axis(reader, table, config.y)])
        good = np.isfinite(xy_m).all(axis=1)
        if not good.all():
            lost = int(len(good) - good.sum())
            detail = "positions that are not finite"
            yield Anomaly(source="positions", reason=Reason.CORRUPT, count=lost, unit="rows", detail=detail)
        if good.any():
            yield PositionBlock(
                acquisition=acquisition.name,
                row=rows[good],
                time_s=self._time_s(reader, table)[good],
                xy_m=orient(xy_m, config.orientation)[good],
                angle_deg=None if config.angle is None else _axis(reader, table, config.angle)[good],
            )

    def _time_s(self, reader: ColumnReader, table: Array) -> Array:
        axis = self.config.time
        if axis is None or axis.column not in reader.columns:
            return np.full(len(table), np.nan)
        time_s = _axis(reader, table, axis)
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
            lost = len(acquisition.held)
            acquisition.held = None
            detail = "the last frame before a data overrun"
            yield Anomaly(source="positions", reason=Reason.CORRUPT, count=lost, unit="rows", detail=detail)
        yield from self._close(end.reason.value, complete=end.reason in _COMPLETE)

    def _close(self, reason: str, *, complete: bool) -> Iterator[PositionMessage]:
        acquisition, self._open = self._open, None
        if acquisition is not None:
            yield from self._release(acquisition)
            yield AcquisitionEnd(
                acquisition=acquisition.name, rows=acquisition.next_row, reason=reason, complete=complete
            )

    def _corrupt(self, detail: str) -> Iterator[PositionMessage]:
        self._connection = _ready_connection(self.config.scaled)
        yield Anomaly(source="positions", reason=Reason.CORRUPT, unit="messages", detail=detail)
        yield from self._close("corrupt data", complete=False)

    def _new_name(self, arm_time: str | None) -> str:
        self._counter += 1
        name = arm_time if arm_time and arm_time not in self._names else f"{arm_time or 'acquisition'}#{self._counter}"
        self._names.add(name)
        return name


def _ready_connection(scaled: bool) -> DataConnection:
    """Return a parser that waits for a header."""
    connection = DataConnection()
    connection.connect(scaled)
    list(connection.receive_bytes(b"OK\n"))
    return connection


def _axis(reader: ColumnReader, table: Array, axis: AxisConfig) -> Array:
    with np.errstate(all="ignore"):
        return reader.values(table, axis.column) * axis.scale + axis.offset


def _epoch_s(start: StartData) -> float | None:
    """Return the Unix time of timestamp zero, None where the server is too old to say."""
    text = start.start_time or start.arm_time
    if not text:
        return None
    whole, _, fraction = text.removesuffix("Z").partition(".")
    try:
        seconds = datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp()
        part = float(f"0.{fraction}") if fraction.isdecimal() else 0.0
    except ValueError:
        return None
    epoch_s = seconds + part + float(start.hw_time_offset_ns or 0) * 1e-9
    return epoch_s if math.isfinite(epoch_s) else None
