"""The final volume by tomopy's gridrec, where tomopy is installed (conda-forge; it is not on the package index).

Gridrec by itself pads rows no further than to the next power of two, leaves out the mean of the image and scales it by
about 1.1. Here rows are padded to twice their width, and scale, mean and axes come from a sample that is known.
"""

from __future__ import annotations

import importlib.util
import itertools
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from streamptycho.messages import Array
from streamptycho.tomography.angular_weights import angular_weights, total_to_pi
from streamptycho.tomography.filtering import FilterName, frequency_response

_KNOWN_ANGLES_DEG = np.arange(0.0, 180.0, 2.0)
_BLOBS = ((0.2, 0.06, 0.08, 1.0), (-0.1, 0.25, 0.08, 0.6), (-0.05, -0.05, 0.14, 3.0))
_LEAST_AGREEMENT = 0.95


class TomopyMissingError(RuntimeError):
    """Gridrec was asked for and tomopy is not installed."""


class GridrecError(RuntimeError):
    """Gridrec gave something that is not the volume of the projections."""


def tomopy_available() -> bool:
    """Whether tomopy is installed."""
    return importlib.util.find_spec("tomopy") is not None


def gridrec(line_integrals: Array, angles_deg: Array, filter_name: FilterName = "hamming") -> Array:
    """Return the volume (Z, X, X) float32 of `line_integrals` (K, Z, X) at `angles_deg` (K,), by gridrec.

    The rotation axis is column X // 2; orientation, scale and angular weights are those of `filtered_back_projection`.

    Raises
    ------
    TomopyMissingError
        If tomopy cannot be imported.
    GridrecError
        If it does not give back a sample that is known.

    References
    ----------
    D. Guersoy et al., J. Synchrotron Rad. 21, 1188 (2014). doi:10.1107/S1600577514013939
    """
    try:
        import tomopy
    except ImportError as error:
        raise TomopyMissingError(
            f"gridrec needs tomopy, which cannot be imported here ({error}): install it from conda-forge, "
            "or use the built-in filtered back-projection"
        ) from None
    return _gridrec_with(tomopy, line_integrals, angles_deg, filter_name)


def _gridrec_with(tomopy: ModuleType, line_integrals: Array, angles_deg: Array, filter_name: FilterName) -> Array:
    known = _known_sample(tomopy, line_integrals.shape[-1], filter_name)
    weights = angular_weights(angles_deg)
    weights *= total_to_pi(weights) * len(weights) / np.pi
    weighted = line_integrals * weights[:, None, None].astype(np.float32)
    volume = known.turn.applied(_recon(tomopy, weighted, angles_deg, filter_name))
    mass = weighted.sum(axis=-1, dtype=np.float64).mean(axis=0)
    return np.ascontiguousarray(volume * known.gain + np.float32(known.mean) * mass[:, None, None].astype(np.float32))


def _recon(tomopy: ModuleType, line_integrals: Array, angles_deg: Array, filter_name: FilterName) -> Array:
    side = line_integrals.shape[-1]
    padded = 1 << (2 * side - 1).bit_length()
    before = (padded - side) // 2
    edges = ((0, 0), (0, 0), (before, padded - side - before))
    return np.asarray(
        tomopy.recon(
            np.pad(np.asarray(line_integrals, dtype=np.float32), edges),
            np.radians(np.asarray(angles_deg, dtype=np.float32)),
            center=float(before + side // 2),
            sinogram_order=False,
            algorithm="gridrec",
            filter_name="custom",
            filter_par=2 * frequency_response(padded, filter_name)[: padded // 2].astype(np.float32),
            num_gridx=side,
            num_gridy=side,
        ),
        dtype=np.float32,
    )


@dataclass(frozen=True, slots=True)
class _Turn:
    """How the axes of another library become ours: mirror x, quarter turns, then whole pixels down and right."""

    flipped: bool
    quarters: int
    down: int
    right: int

    def applied(self, volume: Array) -> Array:
        turned = np.rot90(volume[..., ::-1] if self.flipped else volume, self.quarters, axes=(-2, -1))
        return np.roll(turned, (self.down, self.right), axis=(-2, -1))


@dataclass(frozen=True, slots=True)
class _Known:
    """What makes the slices of another library ours: axes, gain (X, X) float32, what the mass of a slice adds to it."""

    turn: _Turn
    gain: Array
    mean: float


def _known_sample(tomopy: ModuleType, side: int, filter_name: FilterName) -> _Known:
    """Find how the library shows smooth blobs, whose slice and projections have a formula."""
    axis = (np.arange(side) - side // 2) / side
    theta = np.radians(_KNOWN_ANGLES_DEG)[:, None]
    sinogram, truth = np.zeros((len(_KNOWN_ANGLES_DEG), side)), np.zeros((side, side))
    for x, y, width, mass in _BLOBS:
        sinogram += mass * side * _normal(axis - x * np.cos(theta) - y * np.sin(theta), width)
        truth += mass * _normal(axis - x, width) * _normal(axis[:, None] - y, width)
    theirs = _recon(tomopy, sinogram[:, None].repeat(2, axis=1), _KNOWN_ANGLES_DEG, filter_name)[0]
    inside = np.hypot(axis[:, None], axis) < 0.5 - 2 / side

    def agreement(turn: _Turn) -> float:
        return float(np.corrcoef(turn.applied(theirs)[inside], truth[inside])[0, 1])

    # One pixel may come of mirroring an even side.
    steps = (0, -1, 1)
    turn = max(itertools.starmap(_Turn, itertools.product((False, True), range(4), steps, steps)), key=agreement)
    if not agreement(turn) > _LEAST_AGREEMENT:
        raise GridrecError(
            f"gridrec of tomopy {getattr(tomopy, '__version__', '?')} does not give back a known sample "
            f"(correlation {agreement(turn):.2f}): use the built-in filtered back-projection"
        )
    xx, yy = np.broadcast_to(axis**2, (side, side)), np.broadcast_to(axis[:, None] ** 2, (side, side))
    shapes = np.stack([np.ones((side, side)), xx + yy, xx * yy, xx**2 + yy**2], axis=-1)
    seen = shapes[inside] * turn.applied(theirs)[inside, None]
    level = np.full((len(seen), 1), sinogram.sum(axis=-1).mean())
    found = np.linalg.lstsq(np.hstack([seen, level]), truth[inside], rcond=None)[0]
    return _Known(turn, (shapes @ found[:-1]).astype(np.float32), float(found[-1]))


def _normal(distance: Array, width: float) -> Array:
    """Return the normal distribution at a distance."""
    return np.asarray(np.exp(-0.5 * (distance / width) ** 2) / (width * np.sqrt(2 * np.pi)))
