"""Columns of a PandABox table in the units of its header, whether the server scaled them or not."""

from __future__ import annotations

import numpy as np
from pandablocks.connections import GATE_DURATION_FIELD, SAMPLES_FIELD
from pandablocks.responses import FieldCapture, StartData

from streamptycho.messages import Array
from streamptycho.positions.pandabox_framing import MAX_SAMPLE_BYTES

TICK_S = 8e-9
_WIRE_TYPES = frozenset(np.dtype(name) for name in ("<i4", "<u4", "<i8", "<f8"))


class HeaderError(ValueError):
    """A header that no PandABox sends."""


class ColumnReader:
    """Reads the columns of one acquisition by name.

    Parameters
    ----------
    start
        The parsed header.

    Raises
    ------
    HeaderError
        If rows are empty or too long, or a column has no name or a type that is not on the wire.
    """

    def __init__(self, start: StartData) -> None:
        self.raw = start.process == "Raw"
        self._fields: dict[str, FieldCapture] = {f"{f.name}.{f.capture}": f for f in start.fields}
        if start.format != "Framed" or start.process not in ("Raw", "Scaled"):
            raise HeaderError(f"expected framed rows, scaled or raw, got {start.format!r} {start.process!r}")
        if any("None" in (f.name, f.capture) for f in start.fields):
            raise HeaderError("a column has no name or no capture")
        if any(f.type not in _WIRE_TYPES for f in start.fields):
            raise HeaderError("a column has a type that is neither int32, uint32, int64 nor double")
        size = sum(f.type.itemsize for f in start.fields)
        if size != start.sample_bytes or not 1 <= size <= MAX_SAMPLE_BYTES:
            raise HeaderError(f"rows declare {start.sample_bytes} bytes and their columns take {size}")

    @property
    def columns(self) -> list[str]:
        """Names of the captured columns, in the order of the header."""
        return list(self._fields)

    def values(self, table: Array, column: str) -> Array:
        """Return a column (M,) float64 in the units of the header; not finite where its gate never opened."""
        field = self._fields[column]
        values: Array = table[column].astype(np.float64)
        if not self.raw or field.scale is None or field.offset is None:
            return values
        if field.capture == "Mean":
            ticks = self._gate_ticks(table)
            with np.errstate(all="ignore"):
                values = values / ticks if ticks is not None else np.full(len(table), np.nan)
        with np.errstate(all="ignore"):
            scaled: Array = values * field.scale + field.offset
        return scaled

    def gate_s(self, table: Array) -> Array | None:
        """Return how long the gate was open (M,) in seconds, None when that was not captured."""
        ticks = self._gate_ticks(table)
        with np.errstate(all="ignore"):
            return None if ticks is None else ticks * TICK_S

    def _gate_ticks(self, table: Array) -> Array | None:
        for column in (GATE_DURATION_FIELD, SAMPLES_FIELD):
            field = self._fields.get(column)
            if field is None:
                continue
            ticks: Array = table[column].astype(np.float64)
            if not self.raw and field.scale:
                with np.errstate(all="ignore"):
                    ticks = (ticks - (field.offset or 0.0)) / field.scale
            return ticks
        return None
