"""Whether the air of a tomogram is empty, as it must be."""

from __future__ import annotations

from streamptycho.messages import VolumeUpdate
from streamptycho.tomography.refractive_index import UNITS


def air_is_off(update: VolumeUpdate) -> bool:
    """Whether the mean of the air is further from zero than its noise: then all densities are off by as much."""
    mean, noise = (update.figures.get(f"air_{what}_{update.quantity}") for what in ("mean", "noise"))
    return mean is not None and noise is not None and abs(mean) > noise


def air_text(update: VolumeUpdate) -> str:
    """Return the noise of the air, and its mean where that is no longer nothing; empty if unknown."""
    mean, noise = (update.figures.get(f"air_{what}_{update.quantity}") for what in ("mean", "noise"))
    unit = UNITS.get(update.quantity, "") or update.quantity
    if noise is None:
        return ""
    text = f"noise of the air {noise:.2g} {unit}"
    if not air_is_off(update):
        return text
    return f"{text}, WARNING: its mean is {mean:.2g}, not 0, and densities are off by as much"
