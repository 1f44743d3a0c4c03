"""The columns that the simulated PandABox captures, so that the configured axes give the truth back."""

from __future__ import annotations

import numpy as np

from streamptycho.config import AxisConfig, PositionsConfig
from streamptycho.messages import Array
from streamptycho.positions.encode_pandabox import CapturedField, PandaEncoder
from streamptycho.simulation.errors import SimulationError

_CLOCK_HZ = 125e6
_GATE = "PCAP.GATE_DURATION.Value"
_LENGTH_STEP_M = 1e-10
_ANGLE_STEP_DEG = 1e-6


class Capture:
    """Turns true positions into captured columns: the configured ones and the duration of the gate.

    A time stamp PCAP.TS_START beside averaged encoders is the begin of the gate, any other the centre of the row.

    Parameters
    ----------
    config
        Names, scales and offsets of the columns and the orientation of the stage.

    Raises
    ------
    SimulationError
        If a column has no capture mode in its name or two axes share one.
    """

    def __init__(self, config: PositionsConfig) -> None:
        self._config = config
        self._axes: list[tuple[str, AxisConfig, float]] = [
            ("x", config.x, _LENGTH_STEP_M),
            ("y", config.y, _LENGTH_STEP_M),
        ]
        if config.angle is not None:
            self._axes.append(("angle", config.angle, _ANGLE_STEP_DEG))
        if config.time is not None:
            self._axes.append(("time", config.time, 1 / _CLOCK_HZ))
        columns = [axis.column for _, axis, _ in self._axes]
        if len(set(columns)) != len(columns):
            raise SimulationError(f"positions: every axis needs a column of its own, got {', '.join(columns)}")
        fields = [_field(axis, kind, step) for kind, axis, step in self._axes]
        self._gate = _GATE not in columns
        if self._gate:
            name, capture = _GATE.rsplit(".", 1)
            fields.append(CapturedField(name, "uint32", capture))
        self.encoder = PandaEncoder(fields, scaled=config.scaled)

    @property
    def averages(self) -> bool:
        """Whether the encoders are averaged over the gate rather than read once."""
        return not self._config.x.column.endswith(".Value")

    @property
    def _stamps_begin(self) -> bool:
        time = self._config.time
        return self.averages and time is not None and time.column.startswith("PCAP.TS_START.")

    def rows(self, time_s: Array, xy_m: Array, angle_deg: float, gate_s: Array) -> bytes:
        """Return the bytes of rows with centre times (M,), positions (M, 2) and gates (M,) of an acquisition."""
        stage_m = _stage(xy_m, self._config.orientation)
        stamp_s = time_s - gate_s / 2 if self._stamps_begin else time_s
        values = {"x": stage_m[:, 0], "y": stage_m[:, 1], "angle": np.full(len(time_s), angle_deg), "time": stamp_s}
        columns = {axis.column: (values[kind] - axis.offset) / axis.scale for kind, axis, _ in self._axes}
        if self._gate:
            columns[_GATE] = np.maximum(np.rint(gate_s * _CLOCK_HZ), 1)
        return self.encoder.rows(columns)


def _field(axis: AxisConfig, kind: str, step: float) -> CapturedField:
    name, _, capture = axis.column.rpartition(".")
    if not name:
        raise SimulationError(f"positions.{kind}.column must be NAME.CAPTURE, as INENC1.VAL.Mean, got {axis.column!r}")
    units = {"x": "um", "y": "um", "angle": "deg", "time": "s"}[kind]
    return CapturedField(name, "double", capture, scale=step / abs(axis.scale), units=units)


def _stage(xy_m: Array, orientation: str) -> Array:
    """Return what the stage reads when the frames see `xy_m`: the orientation (swap, then flips) undone."""
    x, y = xy_m[:, 0], xy_m[:, 1]
    if orientation.endswith(("flip_x", "flip_xy")):
        x = -x
    if orientation.endswith(("flip_y", "flip_xy")):
        y = -y
    return np.stack([y, x] if orientation.startswith("swap") else [x, y], axis=-1)
