"""Whether the arrays of a message fit together, so that drawing them can be trusted to work. Pure."""

from __future__ import annotations

import numpy as np

from streamptycho.messages import (
    Array,
    FramePreview,
    Message,
    ObjectUpdate,
    PathPreview,
    ProjectionEnd,
    ProjectionStart,
    ScanEnd,
    VolumeUpdate,
)

MAX_PIXELS = 256_000_000
_WHOLE = (int, np.integer)
_REAL = (int, float, np.integer, np.floating)
_SCALARS: dict[str, tuple[type, ...]] = {
    "projection": _WHOLE,
    "n_frames": _WHOLE,
    "frames_sent": _WHOLE,
    "frames_paired": _WHOLE,
    "last_frame_ns": _WHOLE,
    "projections_used": _WHOLE,
    "angle_deg": _REAL,
    "pixel_m": _REAL,
    "voxel_m": _REAL,
    "sweeps": _REAL,
}


def misfit(message: Message) -> str | None:
    """Return what is wrong with a message that is to be shown, None when it is sound."""
    match message:
        case FramePreview():
            if not isinstance(message.index, _WHOLE):
                return f"index must be a whole number, got {type(message.index).__name__}"
            return _image("counts", message.counts, "uifb")
        case PathPreview():
            return _label(message) or _path(message)
        case ObjectUpdate():
            return _label(message) or _object(message)
        case VolumeUpdate():
            slices = ((name, getattr(message, name)) for name in ("slice_z", "slice_y", "slice_x"))
            return _label(message) or next((w for name, a in slices if (w := _image(name, a, "f"))), None)
        case ProjectionStart() | ProjectionEnd() | ScanEnd():
            return _label(message)
        case _:
            return None


def _label(
    message: ProjectionStart | ProjectionEnd | ScanEnd | PathPreview | ObjectUpdate | VolumeUpdate,
) -> str | None:
    if not isinstance(message.scan_id, str):
        return "scan_id must be text"
    for name, kinds in _SCALARS.items():
        value = getattr(message, name, None)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
            return f"{name} must be a number, got {type(value).__name__}"
    return None


def _path(message: PathPreview) -> str | None:
    shape = message.xy_m.shape
    if len(shape) != 2 or shape[1] != 2 or message.xy_m.dtype.kind != "f":
        return f"xy_m must be real (N, 2), got {message.xy_m.dtype} {shape}"
    if message.quality.shape != shape[:1] or message.quality.dtype.kind not in "ui":
        return f"quality must be whole numbers ({shape[0]},), got {message.quality.dtype} {message.quality.shape}"
    return None


def _object(message: ObjectUpdate) -> str | None:
    if message.coverage.shape != message.object.shape:
        return f"coverage {message.coverage.shape} must have the shape of the object {message.object.shape}"
    if message.probe.ndim != 3 or message.probe.dtype.kind != "c" or not message.probe.size:
        return f"probe must be complex (modes, n, n), got {message.probe.dtype} {message.probe.shape}"
    if message.errors.ndim != 1 or message.errors.dtype.kind != "f" or message.index.ndim != 1:
        return f"errors and index must be lists of numbers, got {message.errors.shape} and {message.index.shape}"
    return _image("object", message.object, "c") or _image("coverage", message.coverage, "f")


def _image(name: str, array: Array, kinds: str) -> str | None:
    if array.ndim != 2 or not 0 < array.size <= MAX_PIXELS or array.dtype.kind not in kinds:
        return f"{name} must be an image (H, W) of at most {MAX_PIXELS:,} pixels, got {array.dtype} {array.shape}"
    return None
