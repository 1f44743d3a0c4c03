"""A ptychographic measurement in memory, as every importer gives it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamptycho.geometry import Geometry
from streamptycho.messages import Array

_LARGEST_COUNT = 2**32 - 2
_PROBABLE_ROUNDING = 1e-3


class ImportDataError(ValueError):
    """Existing data that cannot be brought in: says what was expected, what is there and what to do."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Frames with the positions at which they were taken.

    `counts` (N, H, W) unsigned, zero frequency near [H // 2, W // 2], the largest value of the dtype marks a pixel
    that was not measured. `xy_m` (N, 2) float64 is the position of the beam on the sample, x along the columns of the
    object. `geometry` is that of the central square of the frames. `probe` (modes, n, n) complex64 or None. `mask`
    (H, W) uint32 or None, not zero where a pixel is bad.
    """

    counts: Array
    xy_m: Array
    geometry: Geometry
    probe: Array | None = None
    mask: Array | None = None

    def __post_init__(self) -> None:
        if self.counts.ndim != 3 or 0 in self.counts.shape:
            raise ImportDataError(f"frames must be (frames, rows, columns) and not empty, got {self.counts.shape}")
        if self.xy_m.shape != (len(self.counts), 2):
            raise ImportDataError(
                f"{len(self.counts)} frames need as many positions (x, y), got an array of shape {self.xy_m.shape}: "
                "check which datasets were taken as frames and as positions"
            )
        if not np.all(np.isfinite(self.xy_m)):
            bad = int(np.sum(~np.isfinite(self.xy_m).all(axis=1)))
            raise ImportDataError(f"{bad} of {len(self.xy_m)} positions are not finite numbers: repair or remove them")


def to_counts(data: Array, mask: Array | None = None, photons_per_unit: float | None = None) -> Array:
    """Return photon counts in the smallest unsigned type that holds them and still has its largest value free.

    Parameters
    ----------
    data
        (N, H, W) of any real type. Negative numbers and NaN mark pixels that were not measured.
    mask
        (H, W), not zero where a pixel is bad, or None.
    photons_per_unit
        Factor from values to photons, for data that are not counts; None demands counts.

    Raises
    ------
    ImportDataError
        If the data are not whole numbers (and no factor is given), or too large to be counts.
    """
    if data.dtype.kind not in "uif":
        raise ImportDataError(f"frames must be real numbers, got {data.dtype}: intensities are needed")
    top = np.iinfo(data.dtype).max if data.dtype.kind == "u" else None
    if top is not None and photons_per_unit is None:
        absent = data == top
    else:
        absent = ~(data >= 0) | (np.isinf(data) if data.dtype.kind == "f" else False)
    if mask is not None:
        absent |= mask != 0
    values = np.where(absent, 0, data)
    if photons_per_unit is not None:
        values = np.rint(values * photons_per_unit)
    elif data.dtype.kind == "f":
        rounded = np.rint(values)
        if np.any(np.abs(rounded - values) > _PROBABLE_ROUNDING):
            raise ImportDataError(
                "frames are not whole numbers, so they are not photon counts: say how many photons one unit is "
                "(photons_per_unit)"
            )
        values = rounded
    largest = int(values.max(initial=0))
    if largest > _LARGEST_COUNT:
        raise ImportDataError(f"the largest value is {largest}, photon counts go up to {_LARGEST_COUNT}")
    dtype = next(t for t in (np.uint8, np.uint16, np.uint32) if largest < np.iinfo(t).max)
    counts: Array = values.astype(dtype)
    counts[absent] = np.iinfo(dtype).max
    return counts


def central_geometry(shape: tuple[int, int], energy_ev: float, distance_m: float, detector_pixel_m: float) -> Geometry:
    """Return the geometry of the largest central square of frames of this shape."""
    side = min(shape)
    return Geometry(energy_ev, distance_m, detector_pixel_m, (side, side))
