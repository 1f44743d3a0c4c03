"""A cheap resolution of one projection: two halves of its frames, reconstructed apart and compared."""

from __future__ import annotations

import numpy as np

from streamptycho.array import Backend
from streamptycho.config import ReconstructionConfig
from streamptycho.messages import Array
from streamptycho.ptychography.canvas import Canvas, coverage
from streamptycho.ptychography.frames import FrameStore
from streamptycho.ptychography.update import probe_updater
from streamptycho.ptychography.visits import UpdateRule, Visits
from streamptycho.resolution import CorrelationCurve, half_image_correlation

SPLIT_SWEEPS = 4
MAX_FRAMES = 500
MIN_FRAMES = 16
_LIT = 0.1


def split_correlation(
    store: FrameStore,
    corners: Array,
    fractions: Array,
    probe: Array,
    config: ReconstructionConfig,
    backend: Backend,
    rule: UpdateRule,
) -> CorrelationCurve | None:
    """Return the Fourier ring correlation of two halves of a projection, None when it cannot be judged.

    Even and odd frames (of at most `MAX_FRAMES` nearest to the middle) each give an object from 1 in `SPLIT_SWEEPS`
    sweeps with the probe fixed; the two are compared over the largest middle square that both halves lit well. Each
    half has half the dose, so the estimate is a cautious one; the common probe is not independent.

    Parameters
    ----------
    store
        The frames.
    corners
        Their top left lattice pixels, (N, 2) int64.
    fractions
        Of a pixel, down and right, (N, 2).
    probe
        (modes, n, n) complex64.
    config
        Gives object step, seed and canvas limits.
    backend
        Where to compute.
    rule
        How to update.
    """
    if len(corners) < MIN_FRAMES:
        return None
    middle = np.median(corners, axis=0)
    distance = np.abs(corners - middle).max(axis=1)
    chosen = np.sort(np.argsort(distance, kind="stable")[:MAX_FRAMES])
    n = probe.shape[-1]
    updater = probe_updater(probe, backend, rule)
    intensity = backend.to_device((np.abs(probe) ** 2).sum(axis=0))
    low = corners[chosen].min(axis=0)
    height, width = (int(v) for v in corners[chosen].max(axis=0) + n - low)
    origin = (int(low[0]), int(low[1]))
    images, lit = [], []
    random = np.random.default_rng(config.seed)
    for half in (chosen[0::2], chosen[1::2]):
        canvas = Canvas(backend, n, 0, max(height, width))
        canvas.include(corners[chosen])
        for _ in range(SPLIT_SWEEPS):
            order = random.permutation(half)
            step = config.object_step
            updater.visit(canvas, store, Visits.of(order, corners[order], fractions[order], object_step=step))
        images.append(backend.to_host(canvas.cropped()[0]))
        lit.append(backend.to_host(coverage(corners[half], intensity, origin, (height, width), backend)))
    square = _middle_square(np.minimum(*lit), middle - low + n / 2)
    if square is None:
        return None
    return half_image_correlation(images[0][square], images[1][square])


def _middle_square(lit: Array, middle: Array) -> tuple[slice, slice] | None:
    """Return the largest square about the middle whose every row and column is mostly well lit."""
    good = lit > _LIT * np.median(lit[lit > 0.01 * lit.max()])
    row, column = (int(v) for v in np.rint(middle))
    best = None
    for half in range(8, min(row, column, lit.shape[0] - row, lit.shape[1] - column) + 1, 2):
        square = slice(row - half, row + half), slice(column - half, column + half)
        if good[square].mean() < 0.98:
            break
        best = square
    return best
