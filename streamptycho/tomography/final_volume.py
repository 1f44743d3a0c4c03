"""The ways to the volume of all projections, in slabs, so that a large one need never be held whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from streamptycho.config import TomographyConfig
from streamptycho.messages import Array
from streamptycho.tomography.backprojection import SLAB_ROWS, IncrementalBackProjection
from streamptycho.tomography.gridrec import gridrec
from streamptycho.tomography.interface import ProjectionStack
from streamptycho.tomography.placed_projection import DARKEST
from streamptycho.tomography.sirt import sirt
from streamptycho.tomography.total_variation import noise_of, total_variation

TV_MARGIN_ROWS = 8


def slabs(
    config: TomographyConfig, sums: IncrementalBackProjection, stack: Callable[[], ProjectionStack], factor: np.float32
) -> Iterator[Array]:
    """Return the volume (Z, Y, X) float32 from top to bottom in slabs (n, Y, X), as `final_volume` says.

    Parameters
    ----------
    config
        Way, filter, quantity.
    sums
        What filtered back-projection takes.
    stack
        Gives the projections to the other ways, if they are asked.
    factor
        From line integrals per voxel to the quantity.
    """
    if config.final_volume == "fbp":
        for slab in sums.slabs():
            slab *= factor
            yield slab
        return
    projections = stack()
    angles_deg, sign = projections.angles_deg, np.sign(factor)
    smooth = config.final_volume == "tv"
    noise = noise_of(_line_integrals(config, projections, slice(None))) if smooth else 0.0
    for first in range(0, sums.shape[0], SLAB_ROWS):
        above = min(first, TV_MARGIN_ROWS if smooth else 0)
        below = TV_MARGIN_ROWS if smooth else 0
        last = min(first + SLAB_ROWS, sums.shape[0])
        rays = _line_integrals(config, projections, slice(first - above, last + below))
        if config.final_volume == "gridrec":
            made = gridrec(rays * sign, angles_deg, config.filter)
        elif config.final_volume == "sirt":
            made = sirt(rays * sign, angles_deg, rounds=config.sirt_rounds)
        else:
            rounds, strength = config.tv_rounds, config.tv_strength
            made = total_variation(rays * sign, angles_deg, strength=strength, rounds=rounds, noise=noise)
        yield made[above : above + last - first] * (factor * sign)


def _line_integrals(config: TomographyConfig, stack: ProjectionStack, rows: slice) -> Array:
    if config.quantity == "beta":
        return np.asarray(-np.log(np.maximum(stack.magnitude[:, rows], DARKEST)), np.float32)
    return stack.phase_rad[:, rows]
