"""Pictures of results for people: a page per projection, a sheet of all projections, the orthoslices of the volume."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from streamptycho.appearance import (
    QUANTITIES,
    LitPart,
    complex_to_rgb,
    lit_part,
    relative_to_air,
    robust_range,
    shown_phase,
)
from streamptycho.messages import Array, ObjectUpdate, VolumeUpdate
from streamptycho.recording.drawing import colour_wheel, format_length, show_image
from streamptycho.recording.hdf5 import ResultError
from streamptycho.recording.projection_file import read_projection
from streamptycho.recording.result_file import result_kind
from streamptycho.recording.volume_file import read_slices

_DPI = 110
_MAX_MODES = 4
_MAX_POINTS = 20_000
_SHEET_COLUMNS = 8
_MAX_SHEET = 64
_MAX_PAGES = 4
_SUFFIXES = {".h5", ".hdf5", ".nxs"}


def draw_projection(update: ObjectUpdate, path: Path) -> Path:
    """Draw a page about one projection and return its path.

    Phase and magnitude where the sample was lit, the coverage with the scan positions, the probe modes (hue is the
    phase) and the error of every sweep.

    Raises
    ------
    ResultError
        If the picture cannot be written.
    """
    figure = Figure(figsize=(17.0, 8.4), dpi=_DPI, layout="constrained")
    figure.suptitle(_projection_title(update), fontsize=13, x=0.01, ha="left", fontweight="bold")
    modes = update.probe[:_MAX_MODES]
    grid = figure.add_gridspec(2, 4, height_ratios=(1.0, 0.85))
    phase_axes, magnitude_axes, coverage_axes, error_axes = (
        figure.add_subplot(grid[cell]) for cell in (np.s_[:, :2], np.s_[0, 2], np.s_[0, 3], np.s_[1, 3])
    )
    side = 1 if len(modes) == 1 else 2
    mosaic = grid[1, 2].subgridspec(side, side)
    probe_axes = [figure.add_subplot(mosaic[divmod(number, side)]) for number in range(len(modes))]

    part = _shown(update)
    field, air = _relative_to_air(update, part)
    phase, wraps = shown_phase(field, part.well_lit)
    for axes, image, title, unit in (
        (phase_axes, phase, "Phase, air = 0, slope removed", "rad"),
        (magnitude_axes, np.abs(field), "Magnitude, air = 1", "relative to air"),
    ):
        wrapped = wraps and axes is phase_axes
        limits = (-np.pi, np.pi) if wrapped else robust_range(image[part.well_lit])
        seen = np.where(part.lit, image, np.nan)
        cmap = "twilight" if wrapped else "gray"
        show_image(axes, seen, update.pixel_m, title=title, limits=limits, unit=unit, cmap=cmap)
    _draw_coverage(coverage_axes, update, part.window, air)
    _draw_probe(probe_axes, modes, update)
    _draw_errors(error_axes, update)
    return _save(figure, path)


def draw_sheet(updates: Sequence[ObjectUpdate], path: Path) -> Path:
    """Draw the phases of many projections on one page, at most 64 of them evenly chosen, and return its path.

    All have one scale, zero in air, so that they can be compared.

    Raises
    ------
    ResultError
        If there is nothing to draw or the picture cannot be written.
    """
    if not updates:
        raise ResultError("there are no projections to draw")
    chosen = [updates[i] for i in np.unique(np.linspace(0, len(updates) - 1, _MAX_SHEET).astype(int))]
    columns = min(_SHEET_COLUMNS, max(3, len(chosen)))
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(1.9 * columns + 1.0, 2.1 * rows + 0.9), dpi=_DPI, layout="constrained")
    of = f"{len(chosen)} of {len(updates)}" if len(chosen) < len(updates) else f"{len(updates)}"
    title = f"{updates[0].scan_id}: phase of {of} projections, air = 0, slope removed"
    figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    grid = np.atleast_1d(figure.subplots(rows, columns)).reshape(-1)
    for axes in grid[len(chosen) :]:
        axes.set_axis_off()
    parts = [_shown(update) for update in chosen]
    fields = [_relative_to_air(update, part)[0] for update, part in zip(chosen, parts, strict=True)]
    phases, wraps = zip(*map(shown_phase, fields, (part.well_lit for part in parts)), strict=True)
    inside = np.concatenate([phase[part.well_lit] for phase, part in zip(phases, parts, strict=True)])
    limits = (-np.pi, np.pi) if any(wraps) else robust_range(inside)
    for axes, update, part, phase in zip(grid, chosen, parts, phases, strict=False):
        wrapped = np.angle(np.exp(1j * phase)) if any(wraps) else phase
        label = f"No. {update.projection}" + ("" if update.angle_deg is None else f": {update.angle_deg:.1f}°")
        image = np.where(part.lit, wrapped, np.nan)
        cmap = "twilight" if any(wraps) else "gray"
        drawn = show_image(axes, image, update.pixel_m, title=label, limits=limits, cmap=cmap, bar_pt=6)
    bar = figure.colorbar(drawn, ax=list(grid), shrink=0.9 if rows > 1 else 0.7, pad=0.01, aspect=12 * rows)
    bar.set_label("rad")
    bar.outline.set_visible(False)
    return _save(figure, path)


def draw_volume(update: VolumeUpdate, path: Path) -> Path:
    """Draw the three central slices of a volume with one contrast, and return the path.

    Raises
    ------
    ResultError
        If the picture cannot be written.
    """
    name, unit = QUANTITIES.get(update.quantity, (update.quantity, ""))
    figure = Figure(figsize=(15.0, 5.4), dpi=_DPI, layout="constrained")
    parts = [update.scan_id, f"{update.projections_used} projections", f"voxel {format_length(update.voxel_m)}"]
    if update.resolution_m is not None:
        parts.append(f"resolution {format_length(update.resolution_m)} (half period)")
    if not update.final:
        parts.append("unfinished")
    figure.suptitle(f"{name}  ·  " + "  ·  ".join(parts), fontsize=13, x=0.01, ha="left", fontweight="bold")
    slices = {
        "xy: across the rotation axis": update.slice_z,
        "xz: along the rotation axis": update.slice_y,
        "yz: along the rotation axis": update.slice_x,
    }
    limits = robust_range(np.concatenate([image.reshape(-1) for image in slices.values()]), 0.2, 99.8)
    panels = figure.subplots(1, 3)
    for axes, (title, image) in zip(panels, slices.items(), strict=True):
        drawn = show_image(axes, image, update.voxel_m, title=title, limits=limits)
    bar = figure.colorbar(drawn, ax=list(panels), fraction=0.025, pad=0.01)
    bar.set_label(unit)
    return _save(figure, path)


def show_result(path: Path, out: Path | None = None) -> list[Path]:
    """Draw what a result file or an output folder holds, and return the paths of the pictures.

    Parameters
    ----------
    path
        A projection or volume file, or a folder with such files (up to one level down).
    out
        Folder for the pictures, or the name of a .png for a single file; None draws beside the results.

    Raises
    ------
    ResultError
        If there is nothing to show; says what was looked for.
    """
    path = Path(path)
    if path.is_dir():
        return _show_folder(path, path if out is None else Path(out))
    if not path.exists():
        raise ResultError(f"there is no result {path}")
    kind = result_kind(path)
    if kind is None:
        raise ResultError(f"{path} is neither a projection nor a volume written by streamptycho")
    target = path.with_suffix(".png")
    if out is not None:
        target = Path(out) if Path(out).suffix == ".png" else Path(out) / target.name
    if kind == "volume":
        return [draw_volume(read_slices(path), target)]
    return [draw_projection(read_projection(path), target)]


def _show_folder(folder: Path, out: Path) -> list[Path]:
    files = sorted(f for pattern in ("*", "*/*") for f in folder.glob(pattern) if f.suffix in _SUFFIXES)
    kinds = {file: result_kind(file) for file in files}
    pictures = [draw_volume(read_slices(f), out / f"{f.stem}.png") for f, kind in kinds.items() if kind == "volume"]
    projections = [file for file, kind in kinds.items() if kind == "projection"]
    if not pictures and not projections:
        raise ResultError(f"{folder} has no results: no projection or volume among {len(files)} HDF5 files")
    if len(projections) > 1:
        step = max(1, -(-len(projections) // _MAX_SHEET))
        updates = sorted((read_projection(f) for f in projections[::step]), key=lambda u: u.projection)
        pictures.append(draw_sheet(updates, out / "projections.png"))
    if len(projections) > _MAX_PAGES:
        projections = [projections[0], projections[len(projections) // 2], projections[-1]]
    pictures += [draw_projection(read_projection(f), out / f"{f.stem}.png") for f in projections]
    return pictures


def _projection_title(update: ObjectUpdate) -> str:
    parts = [update.scan_id, f"projection {update.projection}"]
    if update.angle_deg is not None:
        parts.append(f"{update.angle_deg:.2f}°")
    parts.append(f"{len(update.index)} frames")
    if update.error is not None:
        parts.append(f"error {update.error:.3g} after {update.sweeps:.3g} sweeps")
    parts.append(f"pixel {format_length(update.pixel_m)}")
    if update.resolution_m is not None:
        parts.append(f"resolution {format_length(update.resolution_m)} (half period)")
    if not update.final:
        parts.append("unfinished")
    return "  ·  ".join(parts)


def _shown(update: ObjectUpdate) -> LitPart:
    part = lit_part(update.object, update.coverage)
    if part is not None:
        return part
    everything = np.ones(update.object.shape, bool)
    return LitPart(np.s_[:, :], everything, everything)


def _relative_to_air(update: ObjectUpdate, part: LitPart) -> tuple[Array, float]:
    """Return the object (h, w) with air as 1 and without slope, and the magnitude that air had before."""
    patch = update.object[part.window]
    finite = np.where(part.lit & np.isfinite(patch), patch, 0)
    field = relative_to_air(finite, part.well_lit)
    ratio = float(np.median(np.abs(finite[part.well_lit]))) / max(float(np.median(np.abs(field[part.well_lit]))), 1e-30)
    return field, ratio


def _draw_coverage(axes: Axes, update: ObjectUpdate, window: tuple[slice, slice], air: float) -> None:
    # the power of the probe counts photons once the object is 1 in air
    photons = update.coverage[window] * air**2
    title = f"Photons on the sample, {len(update.xy_m)} positions"
    unit = f"photons / pixel of {format_length(update.pixel_m)}"
    show_image(axes, photons, update.pixel_m, title=title, cmap="cividis", limits=robust_range(photons), unit=unit)
    step = max(1, len(update.xy_m) // _MAX_POINTS)
    points = (update.xy_m[::step] - update.origin_xy_m) / update.pixel_m - [window[1].start or 0, window[0].start or 0]
    size = float(np.clip(2000.0 / max(1, len(points)), 0.3, 5.0))
    axes.scatter(points[:, 0], points[:, 1], s=size, color="white", alpha=0.8, linewidths=0)
    axes.set_xlim(-0.5, photons.shape[1] - 0.5)
    axes.set_ylim(photons.shape[0] - 0.5, -0.5)


def _draw_probe(panels: Sequence[Axes], modes: Array, update: ObjectUpdate) -> None:
    power = np.array([float(np.sum(np.abs(mode) ** 2, dtype=np.float64)) for mode in update.probe])
    share = 100 * power / power.sum() if power.sum() > 0 else power
    for number, (axes, mode) in enumerate(zip(panels, modes, strict=True)):
        show_image(axes, complex_to_rgb(mode), update.pixel_m, title=f"Probe {number + 1}: {share[number]:.1f} %")
    if len(panels):
        colour_wheel(panels[0])


def _draw_errors(axes: Axes, update: ObjectUpdate) -> None:
    errors = np.asarray(update.errors, np.float64)
    shown = np.isfinite(errors) & (errors > 0)
    sweeps = np.arange(1, len(errors) + 1)[shown]
    axes.set_title("Normalised amplitude error", fontsize=10, loc="left")
    axes.set_xlabel("sweep", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(True, which="both", alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if len(sweeps):
        axes.semilogy(sweeps, errors[shown], color="#1f5a91", marker="o", markersize=3)
    else:
        axes.text(0.5, 0.5, "no sweep finished yet", ha="center", va="center", transform=axes.transAxes)


def _save(figure: Figure, path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", metadata={"Software": "streamptycho"})
    except OSError as error:
        raise ResultError(f"cannot write the picture {path}: {error.strerror or error}") from None
    return path
