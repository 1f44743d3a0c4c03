"""How the axes of the stage lie to those of the detector, found from the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from streamptycho.config import ORIENTATIONS, Orientation, ProbeConfig
from streamptycho.geometry import Geometry
from streamptycho.messages import Array
from streamptycho.positions.orientation import orient
from streamptycho.ptychography.batch import Reconstruction, reconstruct
from streamptycho.ptychography.engine import EngineError

TWIN: dict[Orientation, Orientation] = {
    "identity": "flip_xy",
    "flip_xy": "identity",
    "flip_x": "flip_y",
    "flip_y": "flip_x",
    "swap_xy": "swap_xy_flip_xy",
    "swap_xy_flip_xy": "swap_xy",
    "swap_xy_flip_x": "swap_xy_flip_y",
    "swap_xy_flip_y": "swap_xy_flip_x",
}
_CLEAR_ERROR_RATIO = 1.1
_CLEAR_CORRELATION = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class OrientationResult:
    """The orientation that explains the data best.

    `errors` is the normalised amplitude error of each orientation. An orientation and its `twin`, turned by 180
    degrees, explain far fields equally well with conjugate, turned object and probe. `twin_decided_by` says what told
    them apart: the start probe, or that matter both absorbs and delays; None when nothing does, and then both are to
    be tried.
    """

    best: Orientation
    errors: dict[Orientation, float]
    twin: Orientation
    twin_decided_by: Literal["probe", "absorption"] | None


def find_orientation(
    counts: Array,
    xy_m: Array,
    geometry: Geometry,
    *,
    probe: Array | None = None,
    modes: int = 1,
    sweeps: int = 6,
    max_frames: int = 600,
    device: Literal["cpu", "gpu"] = "cpu",
    seed: int = 0,
    probe_start: ProbeConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> OrientationResult:
    """Return which of the eight orientations of the positions fits the frames.

    Every orientation is reconstructed in a few sweeps, from the frames nearest to the middle of the scan. The least
    error wins, up to the twin. The twin is decided by the errors when a start probe, or its defocus, is given and they
    differ clearly; otherwise by the sign of the phase: where matter absorbs more it also delays more, so the gradients
    of log modulus and phase of the object go together, and in the twin they are opposite.

    Parameters
    ----------
    counts, xy_m, geometry, probe, modes, device, seed, probe_start
        As in `reconstruct`; positions in the axes of the stage.
    sweeps
        Of each trial.
    max_frames
        Of each trial.
    progress
        Called with (trials done, trials).
    settings
        Any other key of `ReconstructionConfig`, as in `reconstruct`.

    Raises
    ------
    EngineError
        If no frame can be used, or see `reconstruct`.
    """
    if len(counts) == 0 or np.shape(xy_m) != (len(counts), 2):
        raise EngineError(f"orientation needs frames and (N, 2) positions, got {len(counts)} and {np.shape(xy_m)}")
    chosen = _middle_frames(np.asarray(xy_m, np.float64), max_frames)
    results: dict[Orientation, Reconstruction] = {}
    for done, name in enumerate(ORIENTATIONS, 1):
        results[name] = reconstruct(
            counts[chosen],
            orient(np.asarray(xy_m, np.float64)[chosen], name),
            geometry,
            probe=probe,
            modes=modes,
            sweeps=sweeps,
            probe_delay_sweeps=0 if probe is None else min(1, sweeps - 1),
            device=device,
            seed=seed,
            probe_start=probe_start,
            **settings,
        )
        if progress is not None:
            progress(done, len(ORIENTATIONS))
    errors: dict[Orientation, float] = {name: result.error for name, result in results.items()}
    best = min(ORIENTATIONS, key=errors.__getitem__)
    twin = TWIN[best]
    decided: Literal["probe", "absorption"] | None = None
    if (probe is not None or _is_curved(probe_start)) and errors[twin] > _CLEAR_ERROR_RATIO * errors[best]:
        decided = "probe"
    else:
        agreement = absorption_agrees_with_delay(results[best])
        if abs(agreement) > _CLEAR_CORRELATION:
            decided = "absorption"
            if agreement < 0:
                best, twin = twin, best
    return OrientationResult(best=best, errors=errors, twin=twin, twin_decided_by=decided)


def _is_curved(probe_start: ProbeConfig | None) -> bool:
    """Whether a start probe that is made from the data has a phase that is not symmetric under conjugation."""
    return probe_start is not None and probe_start.start != "file" and probe_start.defocus_m not in (0.0, "auto")


def absorption_agrees_with_delay(result: Reconstruction) -> float:
    """Return the correlation, -1 to 1, of the gradients of log modulus and phase where the object was lit well."""
    obj = result.object
    lit = result.coverage > 0.3 * np.percentile(result.coverage, 90)
    products = power_modulus = power_phase = 0.0
    for axis in (0, 1):
        here, there = (np.take(obj, range(*span), axis) for span in ((0, obj.shape[axis] - 1), (1, obj.shape[axis])))
        both = np.take(lit, range(obj.shape[axis] - 1), axis) & np.take(lit, range(1, obj.shape[axis]), axis)
        modulus = np.log(np.maximum(np.abs(there), 1e-6) / np.maximum(np.abs(here), 1e-6))[both]
        phase = np.angle(there * here.conj())[both]
        products += float((modulus * phase).sum())
        power_modulus += float((modulus**2).sum())
        power_phase += float((phase**2).sum())
    scale = np.sqrt(power_modulus * power_phase)
    return products / scale if scale > 0 else 0.0


def _middle_frames(xy_m: Array, limit: int) -> Array:
    finite = np.isfinite(xy_m).all(axis=1)
    if not finite.any():
        raise EngineError("no position is finite: an orientation cannot be found")
    distance = np.abs(xy_m - np.median(xy_m[finite], axis=0)).max(axis=1)
    return np.sort(np.argsort(np.where(finite, distance, np.inf), kind="stable")[:limit])
