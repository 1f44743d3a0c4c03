"""Positions of a PandABox as JSON over ZeroMQ, in the two dialects of the field, one message at a time.

MAX IV: ``{"message_type": "series-start" | "data" | "series-end", "frame_number": first row, COLUMN: [...], ...}``.
NSLS-II: ``{"msg_type": "start" | "data" | "stop", "datasets": {COLUMN: {"starting_sample_number": first row,
"data": [...]}}}``.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from streamptycho.config import PositionsConfig
from streamptycho.messages import AcquisitionEnd, AcquisitionStart, Anomaly, Array, Reason
from streamptycho.naming import UniqueNames
from streamptycho.positions import PositionMessage
from streamptycho.positions.reading import in_units, lost_rows, no_time, position_rows, require_columns, unix_s

MAX_MESSAGE_BYTES = 16 << 20
MAX_ROW = 1 << 53
_STARTS = ("series-start", "start")
_ENDS = ("series-end", "stop")


class _MessageError(ValueError):
    """A message that cannot be used: says why."""


@dataclass(slots=True)
class _Rows:
    """The rows of one message: columns of one length, from row `first` on."""

    first: int
    columns: dict[str, Array]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


@dataclass(slots=True)
class _Acquisition:
    name: str
    next_row: int
    columns: list[str] = field(default_factory=list)


class PandaJsonDecoder:
    """Decodes what a PandABox client publishes as JSON; see `PositionDecoder`.

    A PUB drops messages that a subscriber is too slow for: rows that were skipped are counted as missing, and those
    that follow keep their number. Whoever joins in the middle of an acquisition takes it from the first row that comes.

    Parameters
    ----------
    config
        Which columns are x, y, angle and time, their units, and the orientation. Values come scaled.
    """

    transport: Literal["zmq_sub"] = "zmq_sub"

    def __init__(self, config: PositionsConfig) -> None:
        self.config = config
        self._names = UniqueNames()
        self._open: _Acquisition | None = None
        self._announced: dict[str, Any] | None = None

    def request(self) -> bytes:
        """Return nothing: subscribers do not ask."""
        return b""

    def connected(self) -> None:
        """Take note of a new connection: nothing to do, as every message says which rows it holds."""

    def disconnected(self) -> Iterator[PositionMessage]:
        """Take note of a lost connection; the acquisition goes on with the next one."""
        if self._open is not None:
            detail = "the positions broke off in the middle of an acquisition"
            yield Anomaly(source="positions", reason=Reason.DISCONNECTED, unit="messages", detail=detail)

    def flush(self) -> Iterator[PositionMessage]:
        """End the acquisition in progress as incomplete."""
        yield from self._begin_empty(0)
        yield from self._end("the stream ended", complete=False)

    def feed(self, data: bytes, received_ns: int) -> Iterator[PositionMessage]:
        """Take one message and yield what it says.

        Raises
        ------
        ColumnMissingError
            If a configured column is not captured. Feeding on skips that acquisition's message.
        """
        try:
            message = _parsed(data)
            kind = message.get("message_type", message.get("msg_type"))
            if kind in _STARTS:
                yield from self._begin_empty(received_ns)
                yield from self._end("superseded by another start", complete=False)
                self._announced = message
            elif kind in _ENDS:
                yield from self._begin_empty(received_ns)
                if self._open is None:
                    yield Anomaly(source="positions", reason=Reason.STRAY, unit="messages", detail="an end of nothing")
                yield from self._end("stopped by the source", complete=True)
            elif kind == "data":
                yield from self._data(_rows_of(message), received_ns)
            else:
                raise _MessageError("expected a message that says that it is a start, data or an end")
        except _MessageError as error:
            yield Anomaly(source="positions", reason=Reason.CORRUPT, unit="messages", detail=str(error)[:300])

    def _data(self, rows: _Rows, received_ns: int) -> Iterator[PositionMessage]:
        acquisition = self._open
        if acquisition is None:
            require_columns(self.config, list(rows.columns))
            acquisition = yield from self._begin(rows.first if self._announced is None else 0, received_ns)
            acquisition.columns = list(rows.columns)
            time = self.config.time
            if time is not None and time.column not in rows.columns:
                yield no_time(time.column)
        missing = [c for c in self._wanted() if c not in rows.columns]
        if missing:
            yield lost_rows(Reason.CORRUPT, len(rows), f"rows without {', '.join(missing)}"[:300])
            return
        if rows.first > acquisition.next_row:
            detail = "rows that never came: the source dropped messages"
            yield lost_rows(Reason.MISSING, rows.first - acquisition.next_row, detail)
        number = rows.first + np.arange(len(rows), dtype=np.int64)
        acquisition.next_row = max(acquisition.next_row, rows.first + len(rows))
        yield from position_rows(self.config, acquisition.name, number, self._time_s(rows), rows.columns.__getitem__)

    def _begin(self, missed: int, received_ns: int) -> Generator[PositionMessage, None, _Acquisition]:
        announced, self._announced = self._announced or {}, None
        said = announced.get("arm_time")
        name = self._names.unique(said[:64] if isinstance(said, str) and said else "acquisition")
        self._open = _Acquisition(name, missed)
        yield AcquisitionStart(acquisition=name, epoch_s=unix_s(said), missed=missed, received_ns=received_ns)
        return self._open

    def _begin_empty(self, received_ns: int) -> Iterator[PositionMessage]:
        """Announce an acquisition that ends without a row."""
        if self._announced is not None:
            yield from self._begin(0, received_ns)

    def _end(self, reason: str, *, complete: bool) -> Iterator[PositionMessage]:
        acquisition, self._open = self._open, None
        self._announced = None
        if acquisition is None:
            return
        yield AcquisitionEnd(acquisition=acquisition.name, rows=acquisition.next_row, reason=reason, complete=complete)

    def _wanted(self) -> list[str]:
        axes = (self.config.x, self.config.y, self.config.angle)
        return [axis.column for axis in axes if axis is not None]

    def _time_s(self, rows: _Rows) -> Array:
        axis = self.config.time
        if axis is None or axis.column not in rows.columns:
            return np.full(len(rows), np.nan)
        return in_units(rows.columns[axis.column], axis)


def _parsed(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_MESSAGE_BYTES:
        raise _MessageError(f"message of {len(data)} bytes, at most {MAX_MESSAGE_BYTES} are read")
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        raise _MessageError("message that is not JSON") from None
    if not isinstance(message, dict):
        raise _MessageError("message that is not an object of JSON")
    return message


def _rows_of(message: dict[str, Any]) -> _Rows:
    datasets = message.get("datasets")
    if isinstance(datasets, dict):
        given = {
            name.lstrip("/"): (item.get("data"), item.get("starting_sample_number"))
            for name, item in datasets.items()
            if isinstance(item, dict)
        }
    else:
        first = message.get("frame_number")
        given = {name: (values, first) for name, values in message.items() if isinstance(values, list)}
    if not given:
        raise _MessageError("data message without columns")
    firsts = {_whole(first) for _, first in given.values()}
    first = firsts.pop()
    if firsts or first is None:
        raise _MessageError("data message whose columns do not begin at one row number")
    columns = {name: _numbers(name, values) for name, (values, _) in given.items()}
    if len({len(values) for values in columns.values()}) != 1:
        raise _MessageError("data message whose columns differ in length")
    return _Rows(first, columns)


def _numbers(name: str, values: Any) -> Array:
    if isinstance(values, list) and all(type(value) in (float, int, bool, type(None)) for value in values):
        try:
            return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
        except OverflowError:
            pass
    raise _MessageError(f"column {name[:80]!r} does not hold numbers")


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_ROW else None
