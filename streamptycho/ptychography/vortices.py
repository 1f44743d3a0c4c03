"""Phase vortices that a reconstruction runs into, found and taken out.

Where the phase of an object rises by several turns, the first visits may get a whole turn wrong on one side of some
line. The line ends in a pair of vortices, points about which the phase winds by a turn. Further visits only drag them
along the line, slowly or not at all, for modulus and phase fit everywhere else. Without its vortices the same object is
wrong by a smooth phase, which a few visits put right.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft

from streamptycho.messages import Array

SWEEPS_BETWEEN = 3
LIT = 0.1


def winding(image: Any, lit: Any, xp: Any) -> Any:
    """Return how often the phase of an image winds about the middle of each four pixels, (H - 1, W - 1) int8.

    Parameters
    ----------
    image
        (H, W) complex64.
    lit
        (H, W) bool: 0 is returned where not all four pixels are.
    xp
        NumPy or CuPy, where both lie.
    """
    right = xp.angle(image[:, 1:] * image[:, :-1].conj())
    down = xp.angle(image[1:] * image[:-1].conj())
    turns = xp.rint((right[:-1] + down[:, 1:] - right[1:] - down[:, :-1]) / (2 * np.pi))
    return xp.where(lit[:-1, :-1] & lit[:-1, 1:] & lit[1:, :-1] & lit[1:, 1:], turns, 0).astype(xp.int8)


def unwinding(turns: Array) -> Array:
    """Return a phase factor (H, W) complex64 that takes vortices out of an image and is otherwise as smooth as can be.

    Its phase is the field of the vortices within the image: the difference of phase from pixel to pixel is that of the
    stream function between them, whose Laplacian is minus the winding and which is 0 at the rim.

    Parameters
    ----------
    turns
        From `winding`, (H - 1, W - 1).
    """
    rows, columns = turns.shape
    down, right = (4 * np.sin(0.5 * np.pi * np.arange(1, n + 1) / (n + 1)) ** 2 for n in (rows, columns))
    spectrum = scipy.fft.dstn((2 * np.pi * turns).astype(np.float32), type=1)
    spectrum /= (down[:, None] + right[None, :]).astype(np.float32)
    stream = scipy.fft.idstn(spectrum, type=1, overwrite_x=True)
    phase = np.zeros((rows + 1, columns + 1), np.float32)
    phase[0, 1:] = np.cumsum(stream[0])
    phase[1:] = -np.diff(stream, axis=1, prepend=0, append=0)
    np.cumsum(phase, axis=0, out=phase)
    return np.exp(-1j * phase)


class VortexWatch:
    """Says when to look for vortices, and whether to take out those that were found.

    They arise in the first sweeps, and when frames come. An object may have vortices of its own, as where a step of
    half a turn is not resolved: those come back at once, and are then left in peace.
    """

    def __init__(self) -> None:
        self._looked_after = 0
        self._frames = 0
        self._found: int | None = None
        self._at_rest = False

    def due(self, sweeps: int, frames: int) -> bool:
        """Whether to look after so many sweeps over so many frames."""
        if frames != self._frames:
            self._frames, self._found, self._at_rest = frames, None, False
        if self._at_rest or sweeps - self._looked_after < SWEEPS_BETWEEN:
            return False
        self._looked_after = sweeps
        return True

    def removes(self, found: int) -> bool:
        """Whether to take them out, of which so many were found when they were due."""
        came_back = self._found is not None and found >= self._found
        self._found, self._at_rest = found, found == 0 or came_back
        return not self._at_rest
