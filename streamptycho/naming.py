"""Names that tell apart what instruments call the same."""

from __future__ import annotations

KNOWN_NAMES = 1 << 13


class UniqueNames:
    """Makes the names of series or acquisitions differ: instruments restart their count, and clocks stand still.

    The newest `KNOWN_NAMES` are remembered.
    """

    def __init__(self) -> None:
        self._times: dict[str, int] = {}

    def unique(self, name: str) -> str:
        """Return the name, or one made from it if something was called so before."""
        times = self._times.pop(name, 0) + 1
        self._times[name] = times
        if len(self._times) > KNOWN_NAMES:
            del self._times[next(iter(self._times))]
        return name if times == 1 else f"{name}#{times}"
