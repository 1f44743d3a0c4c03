"""From columns of numbers to position rows: what all sources have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import numpy as np

from streamptycho.config import AxisConfig, PositionsConfig
from streamptycho.messages import Anomaly, Array, PositionBlock, Reason
from streamptycho.positions import ColumnMissingError
from streamptycho.positions.orientation import orient


def require_columns(config: PositionsConfig, captured: list[str]) -> None:
    """Refuse a source that lacks a configured column.

    Raises
    ------
    ColumnMissingError
        Naming the column and those that there are.
    """
    for axis in (config.x, config.y, config.angle):
        if axis is not None and axis.column not in captured:
            shown = [name[:80] for name in captured[:64]]
            raise ColumnMissingError(
                f"the position source does not capture {axis.column!r}. "
                f"It captures {', '.join(shown) or 'nothing'}. "
                "Name one of these under positions, or capture the column on the PandABox"
            )


def no_time(column: str) -> Anomaly:
    """Return the note that rows have no time, as `column` is not captured."""
    detail = f"{column!r} is not captured, so rows have no time and can only be paired by row"
    return Anomaly(source="positions", reason=Reason.MISSING, unit="messages", detail=detail)


def lost_rows(reason: Reason, count: int, detail: str) -> Anomaly:
    """Return the loss of rows."""
    return Anomaly(source="positions", reason=reason, count=count, unit="rows", detail=detail)


def in_units(values: Array, axis: AxisConfig) -> Array:
    """Return a captured column (M,) in the unit of its axis."""
    with np.errstate(all="ignore"):
        return np.asarray(values * axis.scale + axis.offset)


def position_rows(
    config: PositionsConfig, acquisition: str, rows: Array, time_s: Array, column: Callable[[str], Array]
) -> Iterator[Anomaly | PositionBlock]:
    """Yield the block of these rows, oriented and in metres. Positions that are not finite are counted and left out.

    Parameters
    ----------
    rows
        (M,) int64.
    time_s
        (M,) float64.
    column
        Returns a captured column (M,) float64 by its name.
    """
    xy_m = np.column_stack([in_units(column(axis.column), axis) for axis in (config.x, config.y)])
    good = np.isfinite(xy_m).all(axis=1)
    if not good.all():
        yield lost_rows(Reason.CORRUPT, int(len(good) - good.sum()), "positions that are not finite")
    if good.any():
        angle = config.angle
        yield PositionBlock(
            acquisition=acquisition,
            row=rows[good],
            time_s=time_s[good],
            xy_m=orient(xy_m, config.orientation)[good],
            angle_deg=None if angle is None else in_units(column(angle.column), angle)[good],
        )


def unix_s(text: object) -> float | None:
    """Return the Unix time that an ISO 8601 text in UTC names, to the nanosecond; None if it names none."""
    if not isinstance(text, str) or not text:
        return None
    whole, _, fraction = text.removesuffix("Z").partition(".")
    try:
        seconds = datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp()
        part = float(f"0.{fraction}") if fraction.isdecimal() else 0.0
    except (ValueError, OverflowError):
        return None
    return seconds + part
