"""Iterative reconstruction for few projections.

References
----------
P. Gilbert, J. Theor. Biol. 36, 105 (1972). doi:10.1016/0022-5193(72)90180-4
"""

from __future__ import annotations

import numpy as np

from streamptycho.messages import Array
from streamptycho.tomography.back_projector import back_project, project, upright
from streamptycho.tomography.backprojection import checked_columns


def sirt(line_integrals: Array, angles_deg: Array, *, rounds: int = 100, non_negative: bool = True) -> Array:
    """Return the volume (Z, X, X) float32 of `line_integrals` (K, Z, X) at `angles_deg` (K,) by SIRT.

    Each round takes the weighted mean of all differences between the projections and those of the volume so far;
    `non_negative` then cuts off what is below zero. Slower than filtered back-projection, and better with few angles.

    Raises
    ------
    ProjectionError, VolumeTooLargeError
        If shapes do not fit, a value is not finite, or the volume would be too large.
    """
    measured = checked_columns(line_integrals, angles_deg)
    rows, side = line_integrals.shape[1:]
    ones = np.ones(len(measured))
    flat = (side, side, 1)
    lengths = project(np.ones(flat, np.float32), angles_deg)
    per_ray = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 1e-3)
    hits = np.zeros(flat, np.float32)
    back_project(hits, np.ones((len(measured), side, 1), np.float32), angles_deg, ones, (0, 0, 0))
    per_voxel = np.divide(1, hits, out=np.zeros_like(hits), where=hits > 1e-3)
    volume = np.zeros((side, side, rows), np.float32)
    step = np.empty_like(volume)
    for _ in range(rounds):
        step[...] = 0
        back_project(step, (measured - project(volume, angles_deg)) * per_ray, angles_deg, ones, (0, 0, 0))
        volume += step * per_voxel
        if non_negative:
            np.maximum(volume, 0, out=volume)
    return upright(volume, 1.0)
