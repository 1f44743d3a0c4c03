"""Entries of headers and images, read with distrust: what is no sensible value becomes None or a `FrameError`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from streamptycho.geometry import PLANCK_TIMES_C_EV_M
from streamptycho.messages import Reason

MAX_SIDE_PX = 65_536
DTYPES = {name: np.dtype(name) for name in ("uint8", "uint16", "uint32")}


class FrameError(ValueError):
    """An image that cannot be used, and the reason under which it is counted."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def positive(value: Any) -> float | None:
    """Return a header entry as a finite positive number, None if it is not one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number > 0 else None


def count(value: Any) -> int | None:
    """Return a header entry as an integer from 0 to 2**62, None if it is not one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62 else None


def check_size(shape: tuple[int, int], max_pixels: int) -> None:
    """Refuse a shape before anything of it is allocated.

    Raises
    ------
    FrameError
        If it is empty, or has more than `max_pixels`, or consists of truth values, which Python takes for numbers.
    """
    height, width = shape
    if isinstance(height, bool) or isinstance(width, bool):
        raise FrameError(Reason.CORRUPT, f"{height} x {width} is not a number of pixels")
    if not (0 < height <= MAX_SIDE_PX and 0 < width <= MAX_SIDE_PX and height * width <= max_pixels):
        raise FrameError(Reason.OUT_OF_RANGE, f"{height} x {width} pixels, detector.max_frame_pixels is {max_pixels}")


def energy_from(energy_ev: Any, wavelength_angstrom: Any) -> float | None:
    """Return the photon energy in eV from header entries, None if neither is a positive number."""
    energy, wavelength = positive(energy_ev), positive(wavelength_angstrom)
    if energy is None and wavelength is not None:
        return positive(PLANCK_TIMES_C_EV_M * 1e10 / wavelength)
    return energy


def square_pixel(x_m: Any, y_m: Any) -> float | None:
    """Return the pitch of the pixels, None if it is not known or they are not square."""
    x, y = positive(x_m), positive(y_m)
    return x if x is not None and y is not None and math.isclose(x, y, rel_tol=1e-3) else None


def distance_from(translation: Any) -> float | None:
    """Return the distance in metres from the translation (3,) of the detector. Its sign differs between detectors."""
    if not isinstance(translation, list) or len(translation) != 3:
        return None
    along = translation[2]
    return positive(abs(along)) if isinstance(along, int | float) else None


def center_from(row_px: Any, column_px: Any) -> tuple[float, float] | None:
    """Return the beam centre (row, column), None where either is not positive: 0 stands for unknown."""
    row, column = positive(row_px), positive(column_px)
    return (row, column) if row is not None and column is not None else None
