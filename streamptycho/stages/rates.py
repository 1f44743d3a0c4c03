"""Rates for the operator."""

from __future__ import annotations

from collections import deque


class Rate:
    """Events per second over the last few seconds."""

    def __init__(self, window_s: float = 3.0) -> None:
        self._window_ns = int(window_s * 1e9)
        self._events: deque[tuple[int, int]] = deque()
        self._sum = 0

    def add(self, count: int, now_ns: int) -> None:
        """Count events that happen now. Events within a millisecond share one entry."""
        if self._events and now_ns - self._events[-1][0] < 1_000_000:
            then_ns, before = self._events.pop()
            self._events.append((then_ns, before + count))
        else:
            self._events.append((now_ns, count))
        self._sum += count
        self._forget(now_ns)

    def per_s(self, now_ns: int) -> float:
        """Return the rate over the window that ends now."""
        self._forget(now_ns)
        return self._sum / (self._window_ns * 1e-9)

    def _forget(self, now_ns: int) -> None:
        while self._events and now_ns - self._events[0][0] > self._window_ns:
            self._sum -= self._events.popleft()[1]
