"""The eight ways in which the axes of a stage can lie to those of the frames."""

from __future__ import annotations

import numpy as np

from streamptycho.config import ORIENTATIONS, Orientation
from streamptycho.messages import Array


class OrientationError(ValueError):
    """A name that is none of the eight orientations."""


def orient(xy_m: Array, orientation: Orientation) -> Array:
    """Return positions in the axes of the frames: swapped first where the name says so, then flipped about zero.

    Parameters
    ----------
    xy_m
        (M, 2) float64 positions in the axes of the stage, metres.
    orientation
        One of `streamptycho.config.ORIENTATIONS`.

    Returns
    -------
    (M, 2) float64
        A new array.

    Raises
    ------
    OrientationError
        If the name is unknown.
    """
    if orientation not in ORIENTATIONS:
        raise OrientationError(f"orientation must be one of {', '.join(ORIENTATIONS)}, got {orientation!r}")
    turned = np.array(xy_m[:, ::-1] if orientation.startswith("swap_xy") else xy_m, dtype=np.float64)
    flips = orientation.removeprefix("swap_xy").removeprefix("_")
    if flips in ("flip_x", "flip_xy"):
        turned[:, 0] *= -1.0
    if flips in ("flip_y", "flip_xy"):
        turned[:, 1] *= -1.0
    return turned
