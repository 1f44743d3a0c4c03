"""How long to let messages come together before they are taken: many at once cost little more than one."""

from __future__ import annotations

FIRST_S = 0.005
LONGEST_S = 0.05
MOST_RECORDS = 1500
MOST_BYTES = 12 << 20
TOO_MANY = 1.25


class Gathering:
    """Chooses pauses between two looks at the sockets, short enough that neither a queue nor a buffer fills.

    The first pauses after a silence are short: how much comes is not known yet.
    """

    def __init__(self) -> None:
        self._last_s = 0.0

    def pause_s(self, records: int, size: int, elapsed_s: float) -> float:
        """Return how long to wait after `records` of `size` bytes came in `elapsed_s`.

        Not at all where nothing came, and where so much came that more must be waiting.
        """
        if not records:
            self._last_s = 0.0
            return 0.0
        if records > TOO_MANY * MOST_RECORDS or size > TOO_MANY * MOST_BYTES:
            return 0.0
        growing_s = 2 * self._last_s if self._last_s else FIRST_S
        enough_s = elapsed_s * min(MOST_RECORDS / records, MOST_BYTES / max(size, 1))
        self._last_s = min(growing_s, enough_s, LONGEST_S)
        return self._last_s
