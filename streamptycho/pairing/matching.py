"""Which acquisition holds the positions of which series, decided by content and never by arrival."""

from __future__ import annotations

import math
from typing import Literal

from streamptycho.config import PairingConfig
from streamptycho.pairing.armed import Armed
from streamptycho.pairing.errors import ClockError
from streamptycho.pairing.frames import Series
from streamptycho.pairing.rows import Acquisition

Verdict = Acquisition | Literal["none", "undecided"]


class Matcher:
    """Knows the series and acquisitions of a scan, in the order in which they were armed.

    By order, series k belongs to acquisition k. By time, a series and an acquisition belong together when each is the
    other's nearest in time, and not further apart than the window. That is final as soon as nothing which may still be
    armed can be nearer: whatever is armed later starts after the newest exposure or row of what is there.

    Parameters
    ----------
    config
        Method, window and clock offset.

    Attributes
    ----------
    series, acquisitions
        Those that may still be asked for.
    """

    def __init__(self, config: PairingConfig) -> None:
        self.config = config
        self.series: Armed[Series] = Armed()
        self.acquisitions: Armed[Acquisition] = Armed()
        self._frames_over = 0
        offset = config.clock_offset_s
        self._offset_s = 0.0 if offset == "measured" else float(offset)

    def add_series(self, series: Series) -> None:
        """Take note of an armed series.

        Raises
        ------
        ClockError
            If matching by time is asked for and the series has no absolute time.
        """
        epoch_s = series.start.epoch_s
        if epoch_s is None and self.config.match == "time":
            raise ClockError(
                f"series {series.start.series} has no absolute time, which pairing.match: time needs: "
                "use a stream that has one (DECTRIS Stream V2), or set pairing.match: order"
            )
        self.series.add(series, math.nan if epoch_s is None else epoch_s)

    def add_acquisition(self, acquisition: Acquisition) -> None:
        """Take note of an acquisition.

        Raises
        ------
        ClockError
            If matching by time is asked for and the acquisition has no absolute time.
        """
        epoch_s = acquisition.epoch_s
        if epoch_s is None and self.config.match == "time":
            raise ClockError(
                f"acquisition {acquisition.start.acquisition} has no absolute time, which pairing.match: time needs: "
                "update the PandABox server to 3.0 or later, or set pairing.match: order"
            )
        self.acquisitions.add(acquisition, math.nan if epoch_s is None else epoch_s - self._offset_s)

    def end_series(self, series: Series) -> None:
        """Take note that a series, the oldest that was not, is over."""
        self.series.end(series)
        self._frames_over += series.frames_sent

    def end_acquisition(self, acquisition: Acquisition) -> None:
        """Take note that no frame will ask for the rows of an acquisition any more."""
        self.acquisitions.end(acquisition)

    def frames_before(self, series: Series) -> int | None:
        """Return how many frames the series before took, None while that may change."""
        frames = self._frames_over
        for order in range(series.order - 1, -1, -1):
            other = self.series.at(order)
            if other is None or other.closed:
                break
            if other.start.n_frames is None:
                return None
            frames += other.frames_sent
        return frames

    def find(self, series: Series, *, nothing_follows: bool = False) -> Verdict:
        """Return the acquisition of a series, "none" when it provably has none, or "undecided".

        `nothing_follows` says that no series and no acquisition will be armed any more.
        """
        method = self._method()
        if method is None:
            return _undecided(nothing_follows)
        if method == "time":
            return self._find_by_time(series, nothing_follows)
        order = series.order if method == "order" else 0
        if order >= self.acquisitions.count:
            return _undecided(nothing_follows)
        return _if_kept(self.acquisitions.at(order))

    def _method(self) -> Literal["time", "order", "first"] | None:
        if self.config.one_acquisition:
            return "first"
        if self.config.match != "auto":
            return self.config.match
        if not self.series.count or not self.acquisitions.count:
            return None
        both = math.isfinite(self.series.first_s) and math.isfinite(self.acquisitions.first_s)
        return "time" if both else "order"

    def _find_by_time(self, series: Series, nothing_follows: bool) -> Verdict:
        here_s = self.series.time_of_s(series)
        if not math.isfinite(here_s):
            return "none"
        nearest = self.acquisitions.nearest(here_s)
        there_s = math.inf if nearest is None else self.acquisitions.time_of_s(nearest)
        apart_s = abs(there_s - here_s)
        later_s = math.inf if nothing_follows else self._next_acquisition_after_s()
        if nearest is None or apart_s > self.config.match_window_s:
            return "none" if later_s > here_s + self.config.match_window_s else "undecided"
        if later_s < here_s + apart_s:
            return "undecided"
        if self.series.nearest(there_s) is not series:
            return "none"
        later_s = math.inf if nothing_follows else self._next_series_after_s()
        return _if_kept(nearest) if later_s >= there_s + apart_s else "undecided"

    def _next_acquisition_after_s(self) -> float:
        newest = self.acquisitions.newest
        return -math.inf if newest is None else self.acquisitions.newest_s + max(newest.newest_time_s, 0.0)

    def _next_series_after_s(self) -> float:
        newest = self.series.newest
        return -math.inf if newest is None else self.series.newest_s + newest.newest_exposure_s


def _undecided(nothing_follows: bool) -> Verdict:
    return "none" if nothing_follows else "undecided"


def _if_kept(acquisition: Acquisition | None) -> Verdict:
    return "none" if acquisition is None or acquisition.over else acquisition
