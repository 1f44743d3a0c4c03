"""Noisy projections of spheres: a sample whose projections are known exactly, made fast enough for large volumes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamptycho.messages import Array

SPHERES = 60
NOISE = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Spheres:
    """`projections` (K, Z, X) float32 of a cube at `angles_deg` (K,), and its middle slice `truth` (Y, X)."""

    projections: Array
    angles_deg: Array
    truth: Array


def spheres(side: int, angles: int, rows: int | None = None) -> Spheres:
    """Return the spheres of a cube of an edge, or of `rows` layers about its middle."""
    rng = np.random.default_rng(4)
    radius = rng.uniform(0.03, 0.12, SPHERES) * side
    azimuth, reach = rng.uniform(0, 2 * np.pi, SPHERES), np.sqrt(rng.uniform(0, 1, SPHERES)) * 0.35 * side
    x, y, z = reach * np.cos(azimuth), reach * np.sin(azimuth), rng.uniform(-0.4, 0.4, SPHERES) * side
    density = rng.uniform(0.2, 1.0, SPHERES)
    axis = np.arange(side, dtype=np.float64) - side // 2
    layers = axis if rows is None else np.arange(rows, dtype=np.float64) - rows // 2
    angles_deg = np.arange(angles) * 180.0 / angles
    truth = np.zeros((side, side))
    for k in range(SPHERES):
        truth += density[k] * ((axis[:, None] - y[k]) ** 2 + (axis[None, :] - x[k]) ** 2 + z[k] ** 2 < radius[k] ** 2)
    projections = np.zeros((angles, layers.size, side), np.float32)
    for projection, theta in zip(projections, np.radians(angles_deg), strict=True):
        for k in range(SPHERES):
            s = x[k] * np.cos(theta) + y[k] * np.sin(theta)
            rows_in = np.flatnonzero(np.abs(layers - z[k]) < radius[k])
            columns = np.flatnonzero(np.abs(axis - s) < radius[k])
            if not rows_in.size or not columns.size:
                continue
            height = (radius[k] ** 2 - (layers[rows_in] - z[k]) ** 2).astype(np.float32)
            across = ((axis[columns] - s) ** 2).astype(np.float32)
            length = np.sqrt(np.maximum(height[:, None] - across[None, :], 0))
            box = projection[rows_in[0] : rows_in[-1] + 1, columns[0] : columns[-1] + 1]
            box += np.float32(2 * density[k]) * length
    level = np.float32(NOISE * projections.max())
    for projection in projections:
        projection += level * rng.standard_normal(projection.shape, dtype=np.float32)
    return Spheres(projections, angles_deg, truth)


def error_inside(found: Array, truth: Array) -> float:
    """Return the relative error of a slice (Y, X) inside the circle that all projections see."""
    side = len(truth)
    axis = np.arange(side) - side // 2
    inside = np.hypot(axis[:, None], axis[None, :]) < side // 2 - 2
    return float(np.linalg.norm((found - truth)[inside]) / np.linalg.norm(truth[inside]))
