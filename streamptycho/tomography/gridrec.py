"""The final volume by tomopy's gridrec, where tomopy is installed (conda-forge; it is not on the package index)."""

from __future__ import annotations

import importlib.util
import itertools
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from streamptycho.messages import Array
from streamptycho.tomography.backprojection import filtered_back_projection
from streamptycho.tomography.filtering import FilterName

TOMOPY_FILTERS: dict[FilterName, str] = {
    "hamming": "hamming",
    "ram-lak": "ramlak",
    "shepp-logan": "shepp",
    "hann": "hann",
}


class TomopyMissingError(RuntimeError):
    """Gridrec was asked for and tomopy is not installed."""


class GridrecError(RuntimeError):
    """Gridrec gave something that is not the volume of the projections."""


def tomopy_available() -> bool:
    """Whether tomopy is installed."""
    return importlib.util.find_spec("tomopy") is not None


def gridrec(line_integrals: Array, angles_deg: Array, filter_name: FilterName = "hamming") -> Array:
    """Return the volume (Z, X, X) float32 of `line_integrals` (K, Z, X) at `angles_deg` (K,), by gridrec.

    The rotation axis is column X // 2; orientation and scale are those of `filtered_back_projection`.

    Raises
    ------
    TomopyMissingError
        If tomopy cannot be imported.

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
    turn = _axes(tomopy, even=line_integrals.shape[-1] % 2 == 0)
    volume = turn.applied(_recon(tomopy, line_integrals, angles_deg, filter_name))
    return np.ascontiguousarray(volume, dtype=np.float32)


def _recon(tomopy: ModuleType, line_integrals: Array, angles_deg: Array, filter_name: FilterName) -> Array:
    return np.asarray(
        tomopy.recon(
            np.ascontiguousarray(line_integrals, dtype=np.float32),
            np.radians(np.asarray(angles_deg, dtype=np.float32)),
            center=float(line_integrals.shape[-1] // 2),
            sinogram_order=False,
            algorithm="gridrec",
            filter_name=TOMOPY_FILTERS[filter_name],
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


def _axes(tomopy: ModuleType, even: bool) -> _Turn:
    """Return the turn that makes a lopsided sample the same in both; one pixel may come of mirroring an even side."""
    size, angles = 32 if even else 33, np.arange(0.0, 180.0, 5.0)
    x, y, width = np.array([7.0, -3.0]), np.array([2.0, 8.0]), 1.5
    theta = np.radians(angles)[:, None, None]
    s = np.arange(size) - size // 2
    rows = np.exp(-((s - x[:, None] * np.cos(theta) - y[:, None] * np.sin(theta)) ** 2) / (2 * width**2))
    sinogram = (rows * np.array([[1.0], [0.6]])).sum(axis=1)[:, None, :].repeat(2, axis=1)
    ours = filtered_back_projection(sinogram, angles)[0]
    theirs = _recon(tomopy, sinogram, angles, "hamming")[0]

    def agreement(turn: _Turn) -> float:
        return float(np.corrcoef(turn.applied(theirs).ravel(), ours.ravel())[0, 1])

    steps = (0, -1, 1)
    best = max(itertools.starmap(_Turn, itertools.product((False, True), range(4), steps, steps)), key=agreement)
    if not agreement(best) > 0.8:
        raise GridrecError(
            f"gridrec of tomopy {getattr(tomopy, '__version__', '?')} does not give back a known sample "
            f"(correlation {agreement(best):.2f}): use the built-in filtered back-projection"
        )
    return best
