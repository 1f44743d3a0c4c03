"""How far out of focus the sample lies, found from a few frames."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from streamptycho.array import Backend
from streamptycho.messages import Array
from streamptycho.ptychography.canvas import Canvas
from streamptycho.ptychography.frames import FrameStore
from streamptycho.ptychography.update import probe_updater
from streamptycho.ptychography.visits import UpdateRule, Visits

FRAMES = 48
_SWEEPS = 6
_SHARES = (1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12)
_NEARER = (0.85, 0.92, 1.09, 1.18)


def farthest_defocus_m(mean_counts: Array, pixel_m: float, n: int, wavelength_m: float) -> float:
    """Return the defocus at which a beam would fill the array of the probe.

    Parameters
    ----------
    mean_counts
        (m, m), zero frequency at [0, 0]: the spread of the beam over angles.
    pixel_m, n
        Of the probe.
    wavelength_m
        Of the photons.
    """
    frequency = np.fft.fftfreq(len(mean_counts), pixel_m)
    square = frequency[:, None] ** 2 + frequency[None, :] ** 2
    angle = wavelength_m * np.sqrt(2 * (mean_counts * square).sum() / mean_counts.sum())
    return float(0.5 * n * pixel_m / max(angle, 1e-12))


def best_start(
    store: FrameStore,
    corners: Array,
    fractions_px: Array,
    probe_at: Callable[[float], Array],
    farthest_m: float,
    backend: Backend,
    rule: UpdateRule,
) -> float:
    """Return the defocus, within +- `farthest_m`, whose start probe explains a few frames best after a few sweeps.

    Distances are tried in steps of about 1.4, on both sides of the focus and in it, then more closely about the best.

    Parameters
    ----------
    store
        The frames.
    corners, fractions_px
        Their places, (N, 2) int64 and (N, 2).
    probe_at
        Returns the start probe (modes, n, n) for a defocus in metres.
    farthest_m
        Of the distances to try.
    backend
        Where to compute.
    rule
        How to update.
    """
    distance = np.abs(corners - np.median(corners, axis=0)).max(axis=1)
    chosen = np.sort(np.argsort(distance, kind="stable")[:FRAMES])

    def error(defocus_m: float) -> float:
        probe = probe_at(defocus_m)
        updater = probe_updater(probe, backend, rule)
        canvas = Canvas(backend, probe.shape[-1], 0, 2**31)
        canvas.include(corners[chosen])
        random = np.random.default_rng(0)
        residual = np.inf
        for sweep in range(_SWEEPS):
            order = random.permutation(chosen)
            step = 0.3 if sweep >= 2 else 0.0
            visits = Visits.of(order, corners[order], fractions_px[order], object_step=0.9, probe_step=step)
            residual = float(updater.visit(canvas, store, visits).residual.sum())
        return residual if np.isfinite(residual) else np.inf

    candidates = [0.0, *(side * share * farthest_m for side in (1, -1) for share in _SHARES)]
    errors = {distance_m: error(distance_m) for distance_m in candidates}
    best = min(errors, key=errors.__getitem__)
    errors.update({best * factor: error(best * factor) for factor in _NEARER})
    return min(errors, key=errors.__getitem__)
