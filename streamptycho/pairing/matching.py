"""Which acquisition holds the positions of which series, decided by content and never by arrival."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from streamptycho.config import PairingConfig
from streamptycho.messages import Array
from streamptycho.pairing.errors import ClockError
from streamptycho.pairing.frames import Series
from streamptycho.pairing.rows import Acquisition

Verdict = Acquisition | Literal["none", "undecided"]


class Matcher:
    """Knows all series and acquisitions of a scan, in the order in which they were armed.

    By order, series k belongs to acquisition k. By time, a series and an acquisition belong together when each is the
    other's nearest in time, and not further apart than the window. That is final as soon as nothing which may still be
    armed can be nearer: whatever is armed later starts after the newest exposure or row of what is there.

    Parameters
    ----------
    config
        Method, window and clock offset.
    """

    def __init__(self, config: PairingConfig) -> None:
        self.config = config
        self.series: list[Series] = []
        self.acquisitions: list[Acquisition] = []
        self._series_s = np.zeros(0)
        self._acquisitions_s = np.zeros(0)
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
        self.series.append(series)
        self._series_s = np.append(self._series_s, math.nan if epoch_s is None else epoch_s)

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
        self.acquisitions.append(acquisition)
        time_s = math.nan if epoch_s is None else epoch_s - self._offset_s
        self._acquisitions_s = np.append(self._acquisitions_s, time_s)

    def find(self, series: Series, *, nothing_follows: bool = False) -> Verdict:
        """Return the acquisition of a series, "none" when it provably has none, or "undecided".

        `nothing_follows` says that no series and no acquisition will be armed any more.
        """
        if self.config.one_acquisition:
            return self.acquisitions[0] if self.acquisitions else _undecided(nothing_follows)
        method = self._method()
        if method is None:
            return _undecided(nothing_follows)
        if method == "order":
            if series.order < len(self.acquisitions):
                return self.acquisitions[series.order]
            return _undecided(nothing_follows)
        return self._find_by_time(series, nothing_follows)

    def _method(self) -> Literal["time", "order"] | None:
        if self.config.match != "auto":
            return self.config.match
        if not self.series or not self.acquisitions:
            return None
        both = math.isfinite(self._series_s[0]) and math.isfinite(self._acquisitions_s[0])
        return "time" if both else "order"

    def _find_by_time(self, series: Series, nothing_follows: bool) -> Verdict:
        here_s = float(self._series_s[series.order])
        nearest = _nearest(self._acquisitions_s, here_s)
        if not math.isfinite(here_s):
            return "none"
        later_s = math.inf if nothing_follows else self._next_acquisition_after_s()
        apart_s = math.inf if nearest is None else abs(float(self._acquisitions_s[nearest]) - here_s)
        if nearest is None or apart_s > self.config.match_window_s:
            return "none" if later_s > here_s + self.config.match_window_s else "undecided"
        if later_s < here_s + apart_s:
            return "undecided"
        there_s = float(self._acquisitions_s[nearest])
        if _nearest(self._series_s, there_s) != series.order:
            return "none"
        later_s = math.inf if nothing_follows else self._next_series_after_s()
        return self.acquisitions[nearest] if later_s >= there_s + apart_s else "undecided"

    def _next_acquisition_after_s(self) -> float:
        if not self.acquisitions:
            return -math.inf
        return float(self._acquisitions_s[-1]) + max(self.acquisitions[-1].newest_time_s, 0.0)

    def _next_series_after_s(self) -> float:
        return float(self._series_s[-1]) + self.series[-1].newest_exposure_s


def _nearest(times_s: Array, value_s: float) -> int | None:
    distance = np.abs(times_s - value_s)
    if not np.isfinite(distance).any():
        return None
    return int(np.nanargmin(distance))


def _undecided(nothing_follows: bool) -> Verdict:
    return "none" if nothing_follows else "undecided"
