"""How well object and probe explain the counts."""

from __future__ import annotations

import numpy as np

from streamptycho.array import backend
from streamptycho.messages import Array
from streamptycho.ptychography.engine import EngineError
from streamptycho.ptychography.frames import measured, storable
from streamptycho.ptychography.probe import checked_probe
from streamptycho.ptychography.update import probe_updater


def amplitude_error(
    counts: Array,
    xy_m: Array,
    obj: Array,
    probe: Array,
    *,
    pixel_m: float,
    origin_xy_m: Array,
    device: str = "cpu",
) -> float:
    """Return sum((|F| - sqrt(I))**2) / sum(I) over all measured pixels, with object and probe fixed.

    Parameters
    ----------
    counts
        (N, n, n), zero frequency at [n // 2, n // 2].
    xy_m
        Positions, (N, 2).
    obj, probe
        (H, W) and (modes, n, n) complex, as in `ObjectUpdate`.
    pixel_m
        Object pixel.
    origin_xy_m
        Position of the object's first row and column, (2,) as (x, y).
    device
        "cpu" or "gpu".

    Raises
    ------
    EngineError
        If a frame lies outside the object, or the counts hold no photon.
    """
    device_arrays = backend(device)
    n = probe.shape[-1]
    updater = probe_updater(checked_probe(probe, counts.shape[-1]), device_arrays)
    image = device_arrays.xp.array(obj, np.complex64, order="C")
    centre_px = (np.asarray(xy_m) - origin_xy_m)[:, ::-1] / pixel_m
    whole = np.rint(centre_px).astype(np.int64)
    corners = whole - n // 2
    if (corners < 0).any() or (corners + n > np.array(obj.shape)).any():
        raise EngineError("a frame lies outside the object: give the origin and pixel that belong to it")
    residual = total = 0.0
    for k, (row, column) in enumerate(corners.tolist()):
        frame = counts[k]
        valid = measured(frame)
        total += float(np.where(valid, frame, 0).sum(dtype=np.float64))
        shifted = device_arrays.to_device(np.fft.ifftshift(storable(frame)))
        fraction = tuple((centre_px[k] - whole[k]).tolist())
        patch = image[row : row + n, column : column + n]
        residual += float(updater.misfit(patch, fraction, shifted, not valid.all()))
    if total <= 0:
        raise EngineError("the counts hold no photon: an error cannot be normalised")
    return residual / total
