"""Colour tables for the page and for PNG files, generated when they are first needed."""

from __future__ import annotations

from functools import lru_cache

import matplotlib
import numpy as np
from skimage.color import lab2rgb

from streamptycho.messages import Array

HUE_WHEEL = "hue"
NAMES = ("inferno", "viridis", "gray", "twilight", HUE_WHEEL)
NOT_MEASURED_RGB = (38, 44, 56)
_WHEEL_LIGHTNESS = 74.0
_WHEEL_CHROMA = 42.0


@lru_cache(maxsize=len(NAMES))
def colour_table(name: str) -> Array:
    """Return the table (256, 3) uint8 of a colour map.

    Entry 0 is the colour of what was not measured; entries 1 to 255 run from the lowest to the highest value.

    Raises
    ------
    LookupError
        If there is no such map.
    """
    if name not in NAMES:
        raise LookupError(f"no colour map is called {name!r}; known: {', '.join(NAMES)}")
    table = np.empty((256, 3), np.uint8)
    table[0] = NOT_MEASURED_RGB
    positions = np.linspace(0.0, 1.0, 255)
    colours = _wheel(positions) if name == HUE_WHEEL else matplotlib.colormaps[name](positions)[:, :3]
    table[1:] = np.round(colours * 255)
    table.flags.writeable = False
    return table


def complex_to_rgb(field: Array) -> Array:
    """Return a complex field (H, W) as (H, W, 3) uint8: hue is the phase, brightness the amplitude.

    The brightest pixel gets the full colour of the wheel; zero and not-finite pixels are black.
    """
    finite = np.where(np.isfinite(field), field, 0)
    amplitude = np.abs(finite)
    peak = float(amplitude.max(initial=0.0))
    if peak == 0.0:
        return np.zeros((*field.shape, 3), np.uint8)
    turn = np.angle(finite) / (2 * np.pi) % 1.0
    colours = colour_table(HUE_WHEEL)[1 + np.minimum((turn * 255).astype(np.intp), 254)]
    return np.asarray(np.round(colours * (amplitude / peak)[..., None]), np.uint8)


def _wheel(positions: Array) -> Array:
    """Return colours of one lightness and chroma round the hue circle of CIE L*a*b*."""
    angle = 2 * np.pi * positions
    lab = np.stack(
        [np.full_like(angle, _WHEEL_LIGHTNESS), _WHEEL_CHROMA * np.cos(angle), _WHEEL_CHROMA * np.sin(angle)], axis=-1
    )
    return np.asarray(np.clip(lab2rgb(lab), 0.0, 1.0))
