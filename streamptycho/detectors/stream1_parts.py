"""What the JSON parts of Stream V1 mean."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from streamptycho.detectors.compression import Encoding
from streamptycho.detectors.fields import (
    DTYPES,
    FrameError,
    center_from,
    check_size,
    count,
    distance_from,
    energy_from,
    positive,
    square_pixel,
)
from streamptycho.detectors.labels import labels_from
from streamptycho.detectors.series import SeriesHeader
from streamptycho.messages import Array, Reason

Settings = dict[str, Any]

_ENCODING = re.compile(r"(?:bs(?P<bits>8|16|32)-?)?(?P<lz4>lz4)?(?P<order>[<>]?)")
_TRIGGER_PER_IMAGE = ("inte", "exte")


def header_from(series: str, settings: Settings, masked: Array | None, appendix: bytes) -> SeriesHeader:
    """Return what the settings of a detector say, with the labels of the control system in the appendix."""
    columns, rows = count(settings.get("x_pixels_in_detector")), count(settings.get("y_pixels_in_detector"))
    distance_m = positive(settings.get("detector_distance"))
    return SeriesHeader(
        series=series,
        n_frames=_frames(settings),
        energy_ev=energy_from(settings.get("photon_energy"), settings.get("wavelength")),
        distance_m=distance_m or distance_from(settings.get("detector_translation")),
        pixel_m=square_pixel(settings.get("x_pixel_size"), settings.get("y_pixel_size")),
        shape=(rows, columns) if rows and columns else None,
        center_px=center_from(settings.get("beam_center_y"), settings.get("beam_center_x")),
        masked=masked,
        saturation=count(settings.get("countrate_correction_count_cutoff")) or None,
        labels=labels_from(appendix),
    )


def mask_from(table: tuple[Settings, bytes] | None, max_pixels: int) -> tuple[Array | None, str]:
    """Return which pixels are masked (H, W), or None and why that is not known. No table is no error."""
    if table is None:
        return None, ""
    description, blob = table
    try:
        shape = shape_of(description)
        check_size(shape, max_pixels)
    except FrameError as error:
        return None, str(error)
    dtype = DTYPES.get(str(description.get("type")))
    if dtype is None or len(blob) != shape[0] * shape[1] * dtype.itemsize:
        return None, f"{len(blob)} bytes for {shape[0]} x {shape[1]} of {str(description.get('type'))[:32]}"
    return np.frombuffer(blob, dtype).reshape(shape) != 0, ""


def htype_of(content: Settings | None) -> str:
    """Return what a part says it is, empty if it does not."""
    htype = content.get("htype") if content else None
    return htype[:64] if isinstance(htype, str) else ""


def shape_of(form: Settings) -> tuple[int, int]:
    """Return (rows, columns) from [width, height] or [width, height, 1].

    Raises
    ------
    FrameError
        If it is neither.
    """
    match form.get("shape"):
        case [int() as columns, int() as rows, *rest] if rows > 0 and columns > 0 and rest in ([], [1]):
            return rows, columns
        case other:
            raise FrameError(Reason.CORRUPT, f"shape {str(other)[:64]}, expected [width, height]")


def encoding_of(form: Settings) -> tuple[Encoding, np.dtype[Any]]:
    """Return encoding and dtype of a blob.

    Raises
    ------
    FrameError
        If the two are not known, or do not fit each other.
    """
    said, name = form.get("encoding"), form.get("type")
    dtype = DTYPES.get(name) if isinstance(name, str) else None
    match = _ENCODING.fullmatch(said) if isinstance(said, str) else None
    if dtype is None or match is None:
        raise FrameError(Reason.CORRUPT, f"type {str(name)[:32]!r} in encoding {str(said)[:32]!r} is not known")
    if match["order"] == ">":
        dtype = dtype.newbyteorder(">")
    if match["bits"] is None:
        return ("lz4_block" if match["lz4"] else "raw"), dtype
    if not match["lz4"] or int(match["bits"]) != 8 * dtype.itemsize:
        raise FrameError(Reason.CORRUPT, f"{name} cannot come in encoding {said!r}")
    return "bslz4", dtype


def _frames(settings: Settings) -> int | None:
    """Return how many frames are expected: with one exposure per trigger, as many as triggers."""
    images, triggers = count(settings.get("nimages")), count(settings.get("ntrigger"))
    if settings.get("trigger_mode") in _TRIGGER_PER_IMAGE:
        return triggers or None
    if images is None:
        return None
    return images * (triggers or 1) or None
