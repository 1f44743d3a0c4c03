"""Colour tables for the page and for PNG files, generated when they are first needed."""

from __future__ import annotations

from functools import lru_cache

import matplotlib
import numpy as np

from streamptycho.appearance import hue_wheel
from streamptycho.messages import Array

HUE_WHEEL = "hue"
NAMES = ("inferno", "viridis", "gray", "twilight", HUE_WHEEL)
NOT_MEASURED_RGB = (38, 44, 56)


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
    colours = hue_wheel(positions) if name == HUE_WHEEL else matplotlib.colormaps[name](positions)[:, :3]
    table[1:] = np.round(colours * 255)
    table.flags.writeable = False
    return table
