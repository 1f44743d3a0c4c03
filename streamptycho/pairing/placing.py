"""Gives every series its acquisition, and its frames their positions."""

from __future__ import annotations

from typing import Literal

from streamptycho.config import PairingConfig
from streamptycho.messages import Array
from streamptycho.pairing.by_row import RowPositions
from streamptycho.pairing.by_time import TimePositions
from streamptycho.pairing.errors import ClockError
from streamptycho.pairing.frames import Placed, Series
from streamptycho.pairing.matching import Matcher
from streamptycho.pairing.rows import LEAST_ROWS, Acquisition

# Projections leave in order of their series, so those behind many undecided ones need no verdict yet.
MAX_UNDECIDED = 8

Positions = RowPositions | TimePositions | Literal["none"]


class Placer:
    """Keeps, for each open series, where its positions come from.

    Parameters
    ----------
    config
        How frames get their positions.
    matcher
        Who belongs together.
    """

    def __init__(self, config: PairingConfig, matcher: Matcher) -> None:
        self.config = config
        self.matcher = matcher
        self._positions: dict[Series, Positions] = {}
        self._users: dict[Acquisition, list[Series]] = {}
        self._unbound: dict[Series, None] = {}
        self._touched: dict[Series, None] = {}

    def add_series(self, series: Series) -> None:
        """Take note of a series that needs positions.

        Raises
        ------
        ClockError
            If absolute times are needed and it has none.
        """
        self.matcher.add_series(series)
        self._unbound[series] = None

    def bind(self) -> None:
        """Give an acquisition to every series that has none and for which it is certain."""
        if self.matcher.acquisitions.count:
            undecided = 0
            for series in list(self._unbound):
                self._bind(series, nothing_follows=False)
                undecided += series in self._unbound
                if undecided >= MAX_UNDECIDED:
                    return

    def bind_nearest(self) -> None:
        """Give the nearest acquisition to series that wait for certainty, because nothing was armed for a while."""
        for series in list(self._unbound):
            if isinstance(self.matcher.find(series, nothing_follows=True), Acquisition):
                self._bind(series, nothing_follows=True)

    def bind_finally(self, series: Series) -> None:
        """Decide on a series, because nothing will be armed any more."""
        if series in self._unbound:
            self._bind(series, nothing_follows=True)

    def add_frames(self, series: Series, indices: Array) -> None:
        """Take note of new frames of a series."""
        positions = self._positions.get(series)
        self._touched[series] = None
        if isinstance(positions, RowPositions | TimePositions):
            positions.add_frames(indices)

    def add_rows(self, acquisition: Acquisition, rows: Array) -> None:
        """Take note of new rows of an acquisition."""
        for series in self._users.get(acquisition, ()):
            positions = self._positions.get(series)
            self._touched[series] = None
            if isinstance(positions, RowPositions | TimePositions):
                positions.add_rows(rows)

    def end_rows(self, acquisition: Acquisition) -> None:
        """Take note that no more rows of an acquisition come."""
        acquisition.ended = True
        self._touched.update(dict.fromkeys(self._users.get(acquisition, ())))

    def acquisition_of(self, series: Series) -> Acquisition | None:
        """Return where the positions of a series come from, None when that is unknown or nowhere."""
        positions = self._positions.get(series)
        return positions.acquisition if isinstance(positions, RowPositions | TimePositions) else None

    def place_touched(self) -> None:
        """Resolve frames of the series for which something came."""
        touched, self._touched = self._touched, {}
        for series in touched:
            self.place(series)

    def order(self, acquisition: Acquisition) -> int:
        """Bring rows in order of time if they are needed so; return how many had no usable time."""
        return acquisition.order_by_time() if self.config.by == "time" else 0

    def place(self, series: Series, *, at_once: bool = False) -> None:
        """Resolve the frames whose position is known by now, or known never to come."""
        positions = self._positions.get(series)
        if positions is None or not len(series.waiting):
            return
        if positions == "none":
            series.resolve(Placed.missing(series.waiting.indices()))
            return
        if positions.acquisition.ended:
            self.order(positions.acquisition)
        at_once = at_once or series.all_arrived or series.ended_ns is not None
        series.resolve(positions.take(at_once=at_once))

    def forget_unused(self, most_rows: int) -> tuple[int, str]:
        """Let rows of acquisitions go that no series uses, the oldest first, until `most_rows` are held at most.

        Returns
        -------
        tuple
            How many rows that were, and what the operator should know of them.
        """
        unused = [acquisition for acquisition in self.matcher.acquisitions if self._may_be_used(acquisition)]
        held, gone, names = sum(map(_held_rows, unused)), 0, []
        for acquisition in unused:
            if held <= most_rows:
                break
            held -= _held_rows(acquisition)
            if rows := acquisition.waiting_rows:
                gone += rows
                names.append(acquisition.name)
                acquisition.forget()
            if acquisition.ended:
                self._end(acquisition)
        if not gone:
            return 0, ""
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return gone, (
            f"{gone} position rows of acquisition {names[0]}{others} were let go: no detector series belongs to them. "
            "Check that the detector is armed and its stream enabled, and pairing.match"
        )

    def release(self, series: Series) -> None:
        """Let a series go that was ended, and the rows that only it needed."""
        self.matcher.end_series(series)
        positions = self._positions.pop(series, None)
        self._unbound.pop(series, None)
        self._touched.pop(series, None)
        if isinstance(positions, RowPositions | TimePositions):
            acquisition = positions.acquisition
            self._users[acquisition].remove(series)
            if not self.config.one_acquisition:
                if not self._users[acquisition]:
                    self._end(acquisition)
            elif not any(earlier.order < series.order for earlier in self._unbound):
                others = [self._positions.get(other) for other in self._users[acquisition]]
                if isinstance(positions, RowPositions):
                    rest = [other for other in others if isinstance(other, RowPositions)]
                    positions.forget_rows(series.frames_sent, rest)
                else:
                    positions.forget_rows([other for other in others if isinstance(other, TimePositions)])

    def _may_be_used(self, acquisition: Acquisition) -> bool:
        return not acquisition.over and not self._users.get(acquisition)

    def _end(self, acquisition: Acquisition) -> None:
        acquisition.forget()
        acquisition.over = True
        self._users.pop(acquisition, None)
        self.matcher.end_acquisition(acquisition)

    def _bind(self, series: Series, nothing_follows: bool) -> None:
        found = self.matcher.find(series, nothing_follows=nothing_follows)
        if found == "undecided":
            return
        if found == "none":
            self._positions[series] = "none"
            self._unbound.pop(series, None)
            self._touched[series] = None
            return
        positions = (
            self._by_row(series, found) if self.config.by == "row" else self._by_time(series, found, nothing_follows)
        )
        if positions is None:
            return
        self._positions[series] = positions
        self._unbound.pop(series, None)
        self._touched[series] = None
        self._users.setdefault(found, []).append(series)
        positions.add_frames(series.waiting.indices())

    def _by_row(self, series: Series, acquisition: Acquisition) -> RowPositions | None:
        if not self.config.one_acquisition:
            return RowPositions(acquisition, 0, series.waiting)
        first_row = self.matcher.frames_before(series)
        return None if first_row is None else RowPositions(acquisition, first_row, series.waiting)

    def _by_time(self, series: Series, acquisition: Acquisition, nothing_follows: bool) -> TimePositions | None:
        apart_s = self._apart_s(series, acquisition)
        if self.config.clock_offset_s != "measured":
            return TimePositions(acquisition, apart_s + self.config.clock_offset_s, self.config, series.waiting)
        if acquisition.clock_offset_s is None:
            row_time_s = acquisition.timed()[0]
            first_middle_s = series.middle_of_first_s(certain=series.ended_ns is not None or nothing_follows)
            if not len(row_time_s) or first_middle_s is None:
                return None
            acquisition.clock_offset_s = float(row_time_s[0]) - first_middle_s - apart_s
        return TimePositions(acquisition, apart_s + acquisition.clock_offset_s, self.config, series.waiting)

    def _apart_s(self, series: Series, acquisition: Acquisition) -> float:
        """Return how much later than the acquisition the series was armed, 0 where that is unknown."""
        if series.start.epoch_s is not None and acquisition.epoch_s is not None:
            return series.start.epoch_s - acquisition.epoch_s
        if self.config.one_acquisition and series.order > 0:
            raise ClockError(
                "one acquisition for many series is paired by absolute time, and one side has none: "
                "pair by row, or arm the position source for every series"
            )
        return 0.0


def _held_rows(acquisition: Acquisition) -> int:
    """Return how many rows there is memory for; one without any costs as much as a few."""
    return max(acquisition.held_rows, LEAST_ROWS)
