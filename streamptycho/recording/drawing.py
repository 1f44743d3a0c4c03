"""Parts of pictures: images with a scale bar and a colour bar, the legend of complex colours."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from streamptycho.appearance import complex_to_rgb
from streamptycho.messages import Array

BACKGROUND = "#d8dadd"
_BAR_FRACTION = 0.22
_PREFIXES = ((1e-3, "mm"), (1e-6, "µm"), (1e-9, "nm"))


def format_length(length_m: float) -> str:
    """Return a length with a fitting unit and three digits."""
    unit_m, unit = next((p for p in _PREFIXES if length_m >= p[0]), _PREFIXES[-1])
    return f"{length_m / unit_m:.3g} {unit}"


def scale_bar_length_m(width_m: float) -> float:
    """Return the largest of 1, 2, 5 x 10^k metres that is at most about a fifth of a width."""
    wanted = width_m * _BAR_FRACTION
    decade = 10.0 ** math.floor(math.log10(wanted))
    return next(step for step in (5 * decade, 2 * decade, decade) if step <= wanted)


def colour_wheel(axes: Axes) -> None:
    """Draw the legend of `complex_to_rgb` into the lower right corner of a picture."""
    inset = axes.inset_axes((0.80, 0.02, 0.18, 0.18))
    y, x = np.mgrid[1:-1:64j, -1:1:64j]
    radius = np.hypot(x, y)
    wheel = complex_to_rgb(np.where(radius <= 1, radius * np.exp(1j * np.arctan2(y, x)), 0))
    inset.imshow(np.dstack([wheel, np.where(radius <= 1, 255, 0).astype(np.uint8)]), interpolation="bilinear")
    inset.set_axis_off()


def show_image(
    axes: Axes,
    image: Array,
    pixel_m: float,
    *,
    title: str,
    cmap: str = "gray",
    limits: tuple[float, float] | None = None,
    unit: str | None = None,
    bar_pt: float = 9,
) -> Any:
    """Draw an image with a scale bar and, when `unit` is given, a colour bar. Values that are NaN stay empty.

    `bar_pt` is the size of the words of the scale bar, in points.
    """
    axes.set_facecolor(BACKGROUND)
    low, high = limits if limits is not None else (None, None)
    drawn = axes.imshow(image, cmap=cmap, vmin=low, vmax=high, interpolation="nearest")
    axes.set_title(title, fontsize=10, loc="left")
    axes.xaxis.set_visible(False)
    axes.yaxis.set_visible(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    add_scale_bar(axes, image.shape[:2], pixel_m, bar_pt)
    if unit is not None and axes.figure is not None:
        bar = axes.figure.colorbar(drawn, ax=axes, fraction=0.046, pad=0.02)
        bar.set_label(unit, fontsize=9)
        bar.ax.tick_params(labelsize=8)
        bar.outline.set_visible(False)
    return drawn


def add_scale_bar(axes: Axes, shape: tuple[int, ...], pixel_m: float, size_pt: float = 9) -> None:
    """Draw a bar of a round length into the lower left corner of an image, its words of `size_pt` points."""
    height, width = shape
    length_m = scale_bar_length_m(width * pixel_m)
    x, y = 0.04 * width, height - 0.05 * height
    outline = [withStroke(linewidth=0.7 * size_pt, foreground="black", alpha=0.8)]
    axes.plot(
        [x, x + length_m / pixel_m],
        [y, y],
        color="white",
        linewidth=size_pt / 3,
        solid_capstyle="butt",
        path_effects=outline,
        scalex=False,
        scaley=False,
    )
    axes.text(
        x,
        y - 0.02 * height,
        format_length(length_m),
        color="white",
        fontsize=size_pt,
        fontweight="bold",
        ha="left",
        va="bottom",
        path_effects=[withStroke(linewidth=size_pt / 3, foreground="black", alpha=0.8)],
    )
