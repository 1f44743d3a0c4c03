"""The bytes a PandABox sends on its data port, made from arrays: for the simulated instrument and for imports."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from xml.sax.saxutils import quoteattr

import numpy as np

from streamptycho.messages import Array

GATE_DURATION_COLUMN = "PCAP.GATE_DURATION.Value"
DEFAULT_GATE_TICKS = 125_000
MAX_FRAME_BYTES = 65_536
_FRAME_HEAD = struct.Struct("<4sI")
_NUMPY_TYPES = {"double": "<f8", "int32": "<i4", "uint32": "<u4", "int64": "<i8"}


class EncodingError(ValueError):
    """Columns that a PandABox could not have sent."""


@dataclass(frozen=True)
class CapturedField:
    """One column: value = raw count x scale + offset, in `units`.

    `type` "double" stands for the type that the server gives such a column: a double when it scales, the integer of
    its kind when it does not (a mean is sent as a 64-bit sum over the gate).
    """

    name: str
    type: str = "double"
    capture: str = "Mean"
    scale: float = 1.0
    offset: float = 0.0
    units: str = ""

    @property
    def column(self) -> str:
        """Name of the column: "NAME.CAPTURE"."""
        return f"{self.name}.{self.capture}"

    @property
    def is_bits(self) -> bool:
        """Whether the column is one of the bit words, which have neither scale nor units."""
        return self.name.startswith("PCAP.BITS")


class PandaEncoder:
    """Encodes acquisitions as the data port sends them after the option line was answered with ``OK``.

    Parameters
    ----------
    fields
        The captured columns. They are sent in the order of the server: 32-bit words first, then 64-bit ones.
    scaled
        The answer to ``XML FRAMED SCALED`` when True, to ``XML FRAMED RAW`` when False. Unscaled means are sums over
        the gate, so the gate duration is then captured too.

    Raises
    ------
    EncodingError
        If a field type is unknown, a scale is zero or a column appears twice.
    """

    def __init__(self, fields: Sequence[CapturedField], *, scaled: bool = True) -> None:
        self.scaled = scaled
        wanted = list(fields)
        if not scaled and all(f.column != GATE_DURATION_COLUMN for f in wanted):
            name, capture = GATE_DURATION_COLUMN.rsplit(".", 1)
            wanted.insert(0, CapturedField(name, "uint32", capture))
        typed = [replace(f, type=_wire_type(f, scaled)) for f in wanted]
        for item in typed:
            if item.type not in _NUMPY_TYPES:
                raise EncodingError(
                    f"{item.column} has type {item.type!r}; a PandABox sends {', '.join(sorted(_NUMPY_TYPES))}"
                )
            if item.scale == 0:
                raise EncodingError(f"{item.column} has scale 0: give the unit of one count")
        self.fields = tuple(sorted(typed, key=lambda f: np.dtype(_NUMPY_TYPES[f.type]).itemsize))
        names = [f.column for f in self.fields]
        if len(set(names)) != len(names):
            raise EncodingError(f"columns must differ, got {', '.join(names)}")
        self.dtype = np.dtype([(f.column, _NUMPY_TYPES[f.type]) for f in self.fields])

    def header(self, *, arm_epoch_s: float, missed: int = 0) -> bytes:
        """Return the header of an acquisition armed and started at the Unix time `arm_epoch_s`."""
        time = datetime.fromtimestamp(arm_epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
        process = "Scaled" if self.scaled else "Raw"
        lines = [
            "<header>",
            f'<data arm_time="{time}" start_time="{time}" missed="{missed}" process="{process}" format="Framed" '
            f'sample_bytes="{self.dtype.itemsize}" />',
            "<fields>",
            *(_field_line(f) for f in self.fields),
            "</fields>",
            "</header>",
        ]
        return ("\n".join(lines) + "\n\n").encode()

    def rows(self, columns: Mapping[str, Array]) -> bytes:
        """Return frames with the rows of `columns`, each (M,), keyed "NAME.CAPTURE", in the units of its field.

        Unscaled, values are rounded to whole counts; a gate duration that is not given is `DEFAULT_GATE_TICKS`.

        Raises
        ------
        EncodingError
            If a column is missing or unknown, lengths differ, or a value does not fit the column's integer.
        """
        table = self._table(columns)
        step = (MAX_FRAME_BYTES - _FRAME_HEAD.size) // self.dtype.itemsize
        frames = []
        for begin in range(0, len(table), step):
            body = table[begin : begin + step].tobytes()
            frames.append(_FRAME_HEAD.pack(b"BIN ", _FRAME_HEAD.size + len(body)) + body)
        return b"".join(frames)

    def end(self, samples: int, reason: str = "Disarmed") -> bytes:
        """Return the line that ends an acquisition of `samples` rows."""
        return f"END {samples} {reason}\n".encode()

    def _table(self, columns: Mapping[str, Array]) -> Array:
        given = {name: np.atleast_1d(np.asarray(values, dtype=np.float64)) for name, values in columns.items()}
        lengths = {len(values) for values in given.values()}
        if len(lengths) != 1 or any(values.ndim != 1 for values in given.values()):
            raise EncodingError(f"columns must be one-dimensional and equally long, got lengths {sorted(lengths)}")
        (length,) = lengths
        if not self.scaled:
            given.setdefault(GATE_DURATION_COLUMN, np.full(length, float(DEFAULT_GATE_TICKS)))
        names = {f.column for f in self.fields}
        if names != set(given):
            raise EncodingError(
                f"columns must be {', '.join(sorted(names))}, "
                f"missing {sorted(names - set(given))}, unknown {sorted(set(given) - names)}"
            )
        table = np.zeros(length, self.dtype)
        for item in self.fields:
            values = given[item.column]
            table[item.column] = values if item.type == "double" else self._counts(item, values, given)
        return table

    def _counts(self, item: CapturedField, values: Array, given: Mapping[str, Array]) -> Array:
        counts = values
        if not item.is_bits:
            counts = (values - item.offset) / item.scale
        if item.capture == "Mean" and not self.scaled:
            gate = next(f for f in self.fields if f.column == GATE_DURATION_COLUMN)
            counts = counts * ((given[GATE_DURATION_COLUMN] - gate.offset) / gate.scale)
        counts = np.rint(counts)
        limits = np.iinfo(_NUMPY_TYPES[item.type])
        # 2**63 is a double and one more than int64 holds, so the upper limit itself is refused.
        if not np.all((counts >= float(limits.min)) & (counts < float(limits.max) + (limits.bits == 32))):
            raise EncodingError(f"{item.column} has values that {item.type} cannot hold: check scale and offset")
        return counts.astype(_NUMPY_TYPES[item.type])


def _wire_type(item: CapturedField, scaled: bool) -> str:
    if item.is_bits:
        return "uint32"
    if scaled:
        return "double"
    if item.type != "double":
        return item.type
    if item.column == GATE_DURATION_COLUMN:
        return "uint32"
    return "int64" if item.capture in ("Mean", "Sum") or item.name.startswith("PCAP.TS_") else "int32"


def _field_line(item: CapturedField) -> str:
    begin = f'<field name={quoteattr(item.name)} type="{item.type}" capture={quoteattr(item.capture)}'
    if item.is_bits:
        return begin + " />"
    return f'{begin} scale="{item.scale!r}" offset="{item.offset!r}" units={quoteattr(item.units)} />'
