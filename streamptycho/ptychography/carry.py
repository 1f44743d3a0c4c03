"""Whether the probe of one projection may light the next."""

from __future__ import annotations

import math

import numpy as np

from streamptycho.messages import Array

_CLEARLY_WORSE = 2.0


class ProbeCarry:
    """Keeps the probe that a projection began with, for when the projection spoils it.

    It is spoiled when it is not finite, or when the projection ends with an error clearly over that of the one before.
    Two such projections in a row are no accident: the second one's probe counts.
    """

    def __init__(self) -> None:
        self._before: Array | None = None
        self._usual_error: float | None = None

    @property
    def before(self) -> Array | None:
        """The probe (modes, n, n) that the projection began with, None when it started from the data."""
        return self._before

    def begin(self, probe: Array | None) -> None:
        """Remember the probe (modes, n, n) that a projection begins with, None when it starts from the data."""
        self._before = probe

    def end(self, probe: Array, error: float | None) -> Array | None:
        """Return the probe for the next projection, None to start again from the data.

        Parameters
        ----------
        probe
            That of the end, (modes, n, n).
        error
            Of the last sweep, None when there was no complete one.
        """
        usual = self._usual_error
        if error is not None and math.isfinite(error):
            self._usual_error = error
        spoiled = not np.isfinite(probe).all() or (error is not None and not math.isfinite(error))
        if not spoiled and error is not None and usual is not None:
            spoiled = error > _CLEARLY_WORSE * usual
        return self._before if spoiled else probe
