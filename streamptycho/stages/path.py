"""The newest positions of a projection, for people to look at."""

from __future__ import annotations

from collections import deque

import numpy as np

from streamptycho.messages import Array


class Path:
    """Keeps the last `points` positions and how well each is known."""

    def __init__(self, points: int) -> None:
        self._points = points
        self._pieces: deque[tuple[Array, Array]] = deque()
        self._held = 0

    def __len__(self) -> int:
        return min(self._held, self._points)

    def add(self, xy_m: Array, quality: Array) -> None:
        """Append positions (N, 2) and their qualities (N,)."""
        self._pieces.append((xy_m, quality))
        self._held += len(quality)
        while self._held - len(self._pieces[0][1]) >= self._points:
            self._held -= len(self._pieces.popleft()[1])

    def newest(self) -> tuple[Array, Array]:
        """Return positions (N, 2) float32 and qualities (N,) uint8."""
        if not self._pieces:
            return np.zeros((0, 2), np.float32), np.zeros(0, np.uint8)
        xy_m = np.concatenate([piece for piece, _ in self._pieces])[-self._points :]
        quality = np.concatenate([piece for _, piece in self._pieces])[-self._points :]
        return xy_m.astype(np.float32), quality.astype(np.uint8)

    def clear(self) -> None:
        """Forget all."""
        self._pieces.clear()
        self._held = 0
