"""How each message of the pipeline is looked at: one function per picture on the page. Pure."""

from __future__ import annotations

import math

import numpy as np

from streamptycho.appearance import QUANTITIES, complex_to_rgb, lit_part, relative_to_air, robust_range, shown_phase
from streamptycho.messages import Array, FramePreview, ObjectUpdate, PathPreview, Quality, VolumeUpdate
from streamptycho.monitor.pictures import (
    MAX_PICTURE_PX,
    NothingToShowError,
    PathPlot,
    Picture,
    to_levels,
)
from streamptycho.monitor.pooling import pool_factor, pool_max, pool_mean
from streamptycho.monitor.wording import counted, number, text

MAX_PATH_POINTS = 20_000
MAX_MODES_SHOWN = 8
_SLICE_PLANES = {"slice_z": "across the axis", "slice_y": "along the axis", "slice_x": "along the axis"}


def frame_view(message: FramePreview) -> Picture:
    """Return the logarithm of one diffraction pattern. Pixels that were not measured stay out."""
    counts = message.counts
    measured = _measured(counts)
    k = pool_factor(counts.shape, MAX_PICTURE_PX)
    pooled, valid = pool_max(counts, measured, k)
    with np.errstate(invalid="ignore"):
        logged = np.log10(1.0 + np.maximum(pooled, 0).astype(np.float64))
    shown = logged[valid & np.isfinite(logged)]
    hi = max(float(np.percentile(shown, 99.98)), math.log10(2.0)) if shown.size else 1.0
    missing = int(measured.size - np.count_nonzero(measured))
    peak = f"peak {int(counts[measured].max()):,}" if missing < measured.size else "no measured pixel"
    return Picture(
        name="frame",
        label=f"frame {message.index}",
        pixels=to_levels(logged, valid, 0.0, hi),
        lo=0.0,
        hi=hi,
        unit="counts",
        scale="log10",
        colours="inferno",
        pooling=k,
        note=f"{peak} · {missing:,} px unmeasured" if missing else peak,
        detail=f"of series {text(message.series, 80)}",
    )


def phase_view(message: ObjectUpdate) -> Picture:
    """Return the phase of the object where it was lit, relative to air and without its slope, arbitrary as both are.

    The values wrap at ±π when the object shifts the phase by about one turn.
    """
    patch, lit, well_lit = _lit_part(message)
    k = pool_factor(patch.shape, MAX_PICTURE_PX)
    pooled, valid = pool_mean(relative_to_air(patch, well_lit), lit, k)
    _, inside = pool_mean(np.zeros(patch.shape, np.float32), well_lit, k)
    phase, wraps = shown_phase(pooled, inside & valid)
    lo, hi = (-math.pi, math.pi) if wraps else robust_range(phase[inside & valid]) or (-1.0, 1.0)
    return Picture(
        name="phase",
        label=_projection_label(message),
        pixels=to_levels(phase, valid, lo, hi),
        lo=lo,
        hi=hi,
        unit="rad",
        colours="twilight" if wraps else "viridis",
        pixel_m=_positive(message.pixel_m, k),
        pooling=k,
        note="wraps at ±π, air = 0, slope removed" if wraps else "air = 0, slope removed",
    )


def amplitude_view(message: ObjectUpdate) -> Picture:
    """Return the amplitude of the object where it was lit, relative to air."""
    patch, lit, well_lit = _lit_part(message)
    k = pool_factor(patch.shape, MAX_PICTURE_PX)
    amplitude, valid = pool_mean(np.abs(relative_to_air(patch, well_lit)), lit, k)
    _, inside = pool_mean(np.zeros(patch.shape, np.float32), well_lit, k)
    lo, hi = robust_range(amplitude[inside & valid]) or (0.0, 1.0)
    return Picture(
        name="amplitude",
        label=f"No. {message.projection}",
        pixels=to_levels(amplitude, valid, lo, hi),
        lo=lo,
        hi=hi,
        unit="air = 1",
        colours="gray",
        pixel_m=_positive(message.pixel_m, k),
        pooling=k,
    )


def probe_view(message: ObjectUpdate) -> Picture:
    """Return the probe modes beside each other: hue is phase, brightness amplitude, each mode to its own peak."""
    modes = np.where(np.isfinite(message.probe), message.probe, 0)
    power = np.sum(np.abs(modes).astype(np.float64) ** 2, axis=(1, 2))
    total = float(power.sum())
    shown = modes[:MAX_MODES_SHOWN]
    columns = math.ceil(math.sqrt(len(shown)))
    rows = math.ceil(len(shown) / columns)
    k = pool_factor(shown.shape[1:], MAX_PICTURE_PX // columns)
    small = [pool_mean(mode, np.ones(mode.shape, bool), k)[0] for mode in shown]
    height, width = small[0].shape
    sheet = np.zeros((rows * height, columns * width, 3), np.uint8)
    tiles = []
    for order, mode in enumerate(small):
        top, left = order // columns * height, order % columns * width
        sheet[top : top + height, left : left + width] = complex_to_rgb(mode)
        share = f"{100 * power[order] / total:.1f} %" if total > 0 else "no power"
        tiles.append({"x": left, "y": top, "label": f"{order + 1}: {share}" if len(modes) > 1 else share})
    hidden = len(modes) - len(shown)
    return Picture(
        name="probe",
        label=f"No. {message.projection}, {counted(len(modes), 'mode')}",
        pixels=sheet,
        lo=-math.pi,
        hi=math.pi,
        unit="rad",
        colours="hue",
        pixel_m=_positive(message.pixel_m, k),
        pooling=k,
        note=f"{hidden} weaker modes not shown" if hidden else "brightness: |P|",
        tiles=tiles,
    )


def slice_view(message: VolumeUpdate, name: str) -> Picture:
    """Return one orthoslice ("slice_z", "slice_y" or "slice_x"), all three with the same contrast."""
    values = np.concatenate([np.ravel(getattr(message, each)) for each in _SLICE_PLANES])
    lo, hi = robust_range(values) or (0.0, 1.0)
    image = getattr(message, name)
    k = pool_factor(image.shape, MAX_PICTURE_PX)
    pooled, valid = pool_mean(image, np.isfinite(image), k)
    return Picture(
        name=name,
        label=counted(message.projections_used, "projection"),
        pixels=to_levels(pooled, valid, lo, hi),
        lo=lo,
        hi=hi,
        unit=QUANTITIES.get(message.quantity, ("", text(message.quantity, 40)))[1],
        colours="gray",
        pixel_m=_positive(message.voxel_m, k),
        pooling=k,
        note=_SLICE_PLANES[name],
    )


def path_view(message: PathPreview, *, frames: int | None = None) -> PathPlot:
    """Return the positions of the projection that is being measured, thinned to what a screen can show.

    `frames` is how many it had in the end: the preview may have come before the last of them.
    """
    finite = np.isfinite(message.xy_m).all(axis=1)
    xy, quality = message.xy_m[finite].astype(np.float64), message.quality[finite]
    counts = {flag.name.lower(): int(np.count_nonzero(message.quality == flag)) for flag in Quality}
    centre = xy.min(axis=0) / 2 + xy.max(axis=0) / 2 if len(xy) else np.zeros(2)
    every = max(1, -(-len(xy) // MAX_PATH_POINTS))
    unplaced = int(np.count_nonzero(~finite))
    return PathPlot(
        name="path",
        label=f"No. {message.projection}{_begun(len(xy), frames)}",
        xy_m=(xy - centre)[::every].astype(np.float32),
        quality=quality[::every].astype(np.uint8),
        centre_xy_m=(float(centre[0]), float(centre[1])),
        counts=counts,
        every=every,
        note=f"{unplaced} without a position" if unplaced else "",
    )


def _begun(drawn: int, frames: int | None) -> str:
    return f", first {drawn} of {frames}" if frames is not None and drawn < frames else ""


def _measured(counts: Array) -> Array:
    if counts.dtype.kind == "f":
        return np.isfinite(counts)
    if counts.dtype.kind == "b":
        return np.ones(counts.shape, bool)
    return np.asarray(counts != np.iinfo(counts.dtype).max)


def _lit_part(message: ObjectUpdate) -> tuple[Array, Array, Array]:
    """Return the lit rectangle of the object, where it is lit at all, and where it is lit well."""
    part = lit_part(message.object, message.coverage)
    if part is None:
        raise NothingToShowError("no pixel of the object was lit yet")
    return np.where(part.lit, message.object[part.window], 0), part.lit, part.well_lit


def _projection_label(message: ObjectUpdate) -> str:
    angle, sweeps = number(message.angle_deg), number(message.sweeps)
    place = "" if angle is None else f" at {angle:.1f}°"
    progress = "final" if message.final else "in progress" if sweeps is None else f"{sweeps:.1f} sweeps"
    return f"No. {message.projection}{place}, {progress}"


def _positive(pixel_m: float, k: int) -> float | None:
    return pixel_m * k if math.isfinite(pixel_m) and pixel_m > 0 else None
