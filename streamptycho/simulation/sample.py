"""Three-dimensional phantoms with a known refractive index, and their projections.

A volume is (Z, Y, X) float32; index n // 2 of every axis is the origin. A projection at the angle theta has the
detector coordinate s = x cos(theta) + y sin(theta), z down the rows and the rotation axis at column n // 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse

from streamptycho.config import Config, SampleConfig
from streamptycho.messages import Array
from streamptycho.simulation.errors import SimulationError
from streamptycho.simulation.phantoms import bone, bone_fragment, spheres
from streamptycho.simulation.window import reconstructed_pixel_m, simulation_of

MAX_VOXELS = 1 << 28


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A phantom of one material of varying density.

    Parameters
    ----------
    density
        (Z, Y, X) float32, 1 where the refractive index is 1 - delta + i beta (its absorbing sign is in `transmission`).
    voxel_m
        Edge of a voxel.
    delta, beta
        Refractive index decrement and absorption index at density 1.
    """

    density: Array
    voxel_m: float
    delta: float
    beta: float

    @property
    def delta_volume(self) -> Array:
        """Refractive index decrement (Z, Y, X) float32."""
        return self.density * np.float32(self.delta)

    def thickness_m(self, angle_deg: float) -> Array:
        """Return the line integral of the density, (Z, S) float32 in metres, S = X."""
        depth, rows, columns = self.density.shape
        matrix = _ray_matrix(rows, columns, angle_deg)
        flat = self.density.reshape(depth, rows * columns)
        return np.ascontiguousarray((matrix @ flat.T).T * np.float32(self.voxel_m))

    def transmission(self, angle_deg: float, wavelength_m: float) -> Array:
        """Return exp(-i k (delta - i beta) t) of a projection, (Z, S) complex64: matter retards to negative phase."""
        thickness = self.thickness_m(angle_deg).astype(np.float64)
        wave_number = 2 * math.pi / wavelength_m
        return np.asarray(np.exp(-wave_number * (1j * self.delta + self.beta) * thickness), np.complex64)


def make_sample(config: SampleConfig, voxel_m: float) -> Sample:
    """Return the configured phantom, sampled at `voxel_m`.

    The phantom is defined by continuous shapes: another voxel samples the same object.

    Raises
    ------
    SimulationError
        If the volume would be too large or too coarse to mean anything.
    """
    size_px = 2 * (math.ceil(config.size_m / (2 * voxel_m)) + 1)
    if size_px < 12 or size_px**3 > MAX_VOXELS:
        raise SimulationError(
            f"a sample of {config.size_m:g} m with voxels of {voxel_m:g} m is {size_px} voxels wide: "
            f"choose sample.size_m or the detector geometry so that it is 12 to {round(MAX_VOXELS ** (1 / 3))}"
        )
    build = {"bone": bone, "bone_fragment": bone_fragment, "spheres": spheres}[config.phantom]
    density = build(size_px, voxel_m / config.size_m, config.seed)
    return Sample(density, voxel_m, config.delta, config.beta)


def truth(config: Config, voxel_m: float | None = None) -> tuple[Array, float]:
    """Return the true refractive index decrement (Z, Y, X) float32 and its voxel.

    `voxel_m` None takes the pixel of the reconstruction that the configuration describes.
    """
    voxel = reconstructed_pixel_m(config) if voxel_m is None else voxel_m
    return make_sample(simulation_of(config).sample, voxel).delta_volume, voxel


def _ray_matrix(rows: int, columns: int, angle_deg: float) -> Any:
    """Return the (columns, rows x columns) matrix that sums bilinear samples along the rays of one angle."""
    theta = math.radians(angle_deg)
    cosine, sine = math.cos(theta), math.sin(theta)
    s = np.arange(columns, dtype=np.float64) - columns // 2
    half = math.ceil(math.hypot(rows, columns) / 2)
    along = np.arange(-half, half + 1, dtype=np.float64)
    x = s[:, None] * cosine - along[None, :] * sine + columns // 2
    y = s[:, None] * sine + along[None, :] * cosine + rows // 2
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right_share, bottom_share = x - left, y - top
    ray = np.broadcast_to(np.arange(columns)[:, None], x.shape)
    entries: list[tuple[Array, Array, Array]] = []
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
        weight = (bottom_share if dy else 1 - bottom_share) * (right_share if dx else 1 - right_share)
        row, column = top + dy, left + dx
        inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns) & (weight > 0)
        entries.append((ray[inside], row[inside] * columns + column[inside], weight[inside]))
    ray_index, voxel_index, weights = (np.concatenate(part) for part in zip(*entries, strict=True))
    shape = (columns, rows * columns)
    return scipy.sparse.csr_matrix((weights.astype(np.float32), (ray_index, voxel_index)), shape=shape)
