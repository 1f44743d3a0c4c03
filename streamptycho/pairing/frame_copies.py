"""Copying frames that lie apart into one piece. Releases the GIL."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from streamptycho.native import copy_bytes


@njit(cache=True, nogil=True)
def copy_frames(addresses: Any, frame_bytes: Any, out: Any) -> None:
    """Copy the frames at `addresses` (N,) int64, each of `frame_bytes`, one behind the other to address `out`."""
    for k in range(len(addresses)):
        copy_bytes(out + k * frame_bytes, addresses[k], frame_bytes)


def load() -> None:
    """Load the compiled loop now."""
    copy_frames(np.zeros(0, np.int64), 0, 0)
