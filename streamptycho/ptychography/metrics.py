"""How well object and probe explain the counts."""

from __future__ import annotations

import numpy as np

from streamptycho.array import backend
from streamptycho.messages import Array
from streamptycho.ptychography.canvas import Canvas
from streamptycho.ptychography.engine import EngineError
from streamptycho.ptychography.frames import FrameStore
from streamptycho.ptychography.probe import checked_probe
from streamptycho.ptychography.update import probe_updater
from streamptycho.ptychography.visits import UpdateRule, Visits

_AT_ONCE = 256


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
        Far-field frames, (N, m, m), zero frequency at [m // 2, m // 2]; m is n, or an integer fraction of it where the
        probe was reconstructed with upsampling.
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
    side = counts.shape[-1]
    upsampling = n // side if n % side == 0 else 1
    rule = UpdateRule(upsampling=upsampling)
    updater = probe_updater(checked_probe(probe, upsampling * side), device_arrays, rule)
    canvas = Canvas.holding(device_arrays, obj, n)
    centre_px = (np.asarray(xy_m) - origin_xy_m)[:, ::-1] / pixel_m
    whole = np.rint(centre_px).astype(np.int64)
    corners = whole - n // 2
    if (corners < 0).any() or (corners + n > np.array(obj.shape)).any():
        raise EngineError("a frame lies outside the object: give the origin and pixel that belong to it")
    residual = total = 0.0
    for first in range(0, len(counts), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        store = FrameStore(device_arrays, (side, side))
        store.add_counts(counts[some])
        visits = Visits.of(np.arange(len(store)), corners[some], (centre_px - whole)[some])
        residual += float(updater.misfit(canvas, store, visits).residual.sum())
        total += float(store.totals.sum())
    if total <= 0:
        raise EngineError("the counts hold no photon: an error cannot be normalised")
    return residual / total
