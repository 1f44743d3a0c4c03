"""From the reconstruction of a projection to the projection that a volume takes."""

from __future__ import annotations

import numpy as np

from streamptycho.config import TomographyConfig
from streamptycho.messages import Array, ObjectUpdate
from streamptycho.tomography.phase import ProjectionPhase, projection_phase, reliable_area
from streamptycho.tomography.placed_projection import DARKEST, PlacedProjection


def phase_of(update: ObjectUpdate, config: TomographyConfig) -> ProjectionPhase:
    """Return the phase of a reconstruction, its air searched or where the configuration says.

    Raises
    ------
    PhaseError
        If it has no phase that could be used.
    """
    air = _given_air(update.coverage, config.air_columns_px)
    return projection_phase(update.object, update.coverage, unwrap=config.unwrap, air=air)


def placed(update: ObjectUpdate, phase: ProjectionPhase) -> PlacedProjection:
    """Return the projection at its place on the stage, with what its reconstruction says of itself."""
    assert update.angle_deg is not None
    item = PlacedProjection.of(phase, float(update.angle_deg), np.asarray(update.origin_xy_m), update.pixel_m)
    item.fluence_per_m2 = _fluence_per_m2(update, phase)
    item.error, item.noise_floor, item.resolution_m = update.error, update.noise_floor, update.resolution_m
    return item


def _given_air(coverage: Array, columns_px: tuple[int, int] | None) -> Array | None:
    if columns_px is None or coverage.ndim != 2 or not np.isfinite(coverage).all():
        return None
    area = reliable_area(coverage)
    left, right = np.cumsum(area, axis=1), np.cumsum(area[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(area & ((left <= columns_px[0]) | (right <= columns_px[1])))


def _fluence_per_m2(update: ObjectUpdate, phase: ProjectionPhase) -> float:
    lit = phase.weight >= 1
    if not lit.any():
        return 0.0
    air = float(np.median(np.abs(update.object[lit]) / np.maximum(phase.magnitude[lit], DARKEST)))
    return float(np.median(update.coverage[lit])) * air**2 / update.pixel_m**2
