"""The shapes of the phantoms: densities from 0 (air) to about 1, drawn from signed distances.

Lengths are in units of the box edge, so that a shape does not depend on the voxel. Edges are linear ramps of one
voxel, which is what averaging over a voxel gives.
"""

from __future__ import annotations

import math

import numpy as np

from streamptycho.messages import Array

_RADIUS = 0.40
_HALF_HEIGHT = 0.37
_GRAIN_RADIUS = 0.44
_SEAM = 0.05
_GRAIN_HALF_HEIGHT = 0.42


def bone(size_px: int, voxel: float, seed: int) -> Array:
    """Return a piece of compact bone with a canal along z, lacunae and the canaliculi between them.

    Parameters
    ----------
    size_px
        Edge of the cube in voxels.
    voxel
        Edge of a voxel in box edges.
    seed
        Chooses the piece.

    Returns
    -------
    Array
        (size_px, size_px, size_px) float32, zero outside a cylinder around z that fits the box.
    """
    rng = np.random.default_rng(seed)
    z, y, x = _grid(size_px, voxel)
    return _with_cells(_inside(_outline(rng, z, y, x), voxel) * _mineral(rng, z, y, x), rng, voxel)


def bone_fragment(size_px: int, voxel: float, seed: int) -> Array:
    """Return bone as `bone` does, in a rounded grain under a seam of osteoid, whose mineral rises inwards.

    Its phase rises by less than pi per pixel at the pixels and densities of the field, as that of a larger grain does.
    """
    rng = np.random.default_rng(seed)
    z, y, x = _grid(size_px, voxel)
    seam = np.clip(-_grain(rng, z, y, x) / _SEAM, 0, 1)
    return _with_cells(seam * _mineral(rng, z, y, x), rng, voxel)


def _with_cells(density: Array, rng: np.random.Generator, voxel: float) -> Array:
    """Return the density with a canal, lacunae and canaliculi carved out of it."""
    z, y, x = _grid(density.shape[0], voxel)
    lean, swing, turn = rng.uniform(-0.06, 0.06), 0.03, rng.uniform(0, 2 * math.pi)
    canal_x = 0.10 + lean * z / _HALF_HEIGHT + swing * np.sin(6 * z + turn)
    canal_y = -0.06 + swing * np.cos(5 * z + turn)
    canal = np.hypot(x - canal_x, y - canal_y) - 0.085 - 0.012 * np.sin(9 * z)
    density *= 1 - _inside(canal, voxel)
    centres = _lacuna_centres(rng)
    for centre in centres:
        _carve_lacuna(density, rng, centre, voxel)
    for start in centres:
        for _ in range(5):
            azimuth, climb = rng.uniform(0, 2 * math.pi), rng.normal(0, 0.5)
            heading = np.array([climb, math.sin(azimuth), math.cos(azimuth)])
            _carve_canaliculus(density, rng, start, heading / np.linalg.norm(heading), voxel)
    return density.astype(np.float32)


def spheres(size_px: int, voxel: float, seed: int) -> Array:
    """Return spheres of several densities that do not touch, (size_px, size_px, size_px) float32."""
    rng = np.random.default_rng(seed)
    density = np.zeros((size_px, size_px, size_px), np.float32)
    placed: list[tuple[Array, float]] = []
    for _ in range(400):
        radius = rng.uniform(0.05, 0.13)
        centre = np.array([rng.uniform(-0.32, 0.32), *_in_disc(rng, 0.44 - radius)])
        if any(np.linalg.norm(centre - other) < radius + size + 2 * voxel for other, size in placed):
            continue
        placed.append((centre, radius))
        box, (z, y, x) = _around(size_px, voxel, centre - radius, centre + radius)
        distance = np.sqrt((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2) - radius
        density[box] += np.float32(rng.uniform(0.4, 1.0)) * _inside(distance, voxel)
        if len(placed) == 24:
            break
    return density


def _outline(rng: np.random.Generator, z: Array, y: Array, x: Array) -> Array:
    azimuth = np.arctan2(y, x)
    radius = np.full(np.broadcast_shapes(z.shape, azimuth.shape), 0.90, np.float32)
    top, bottom = np.float32(1.0), np.float32(1.0)
    for order in range(2, 7):
        amplitude = 0.10 / order
        radius += amplitude * np.cos(order * azimuth + rng.uniform(-3, 3) * z + rng.uniform(0, 2 * math.pi))
        slope = rng.uniform(-3.0, 3.0, 2) * order / 2
        top = top - 0.05 * (1 + np.sin(slope[0] * x + slope[1] * y + order))
        bottom = bottom - 0.03 * (1 + np.sin(slope[1] * x - slope[0] * y - order))
    side = np.hypot(x, y) - _RADIUS * np.minimum(radius, 1.1)
    lid = np.where(z < 0, -z - _HALF_HEIGHT * top, z - _HALF_HEIGHT * bottom)
    outline: Array = np.maximum(side, lid)
    return outline


def _grain(rng: np.random.Generator, z: Array, y: Array, x: Array) -> Array:
    azimuth = np.arctan2(y, x)
    radius = np.full(np.broadcast_shapes(z.shape, azimuth.shape), _GRAIN_RADIUS, np.float32)
    for order in range(2, 5):
        radius += 0.03 / order * np.cos(order * azimuth + rng.uniform(-2, 2) * z + rng.uniform(0, 2 * math.pi))
    level: Array = (np.sqrt((np.hypot(x, y) / radius) ** 2 + (z / _GRAIN_HALF_HEIGHT) ** 2) - 1) * _GRAIN_HALF_HEIGHT
    return level


def _mineral(rng: np.random.Generator, z: Array, y: Array, x: Array) -> Array:
    """Return a mineral density that varies by a few per cent in lamellae around the canal."""
    radius = np.hypot(x - 0.1, y + 0.06)
    lamellae = 0.03 * np.sin(2 * math.pi * radius / 0.09 + 2 * np.sin(3 * z + rng.uniform(0, 6)))
    patches = 0.03 * np.sin(7 * x + rng.uniform(0, 6)) * np.sin(6 * y + rng.uniform(0, 6)) * np.cos(5 * z)
    mineral: Array = (0.94 + lamellae + patches).astype(np.float32)
    return mineral


def _lacuna_centres(rng: np.random.Generator) -> list[Array]:
    centres: list[Array] = []
    for _ in range(200):
        centre = np.array([rng.uniform(-0.24, 0.24), *_in_disc(rng, 0.29)])
        clear_of_canal = math.hypot(centre[2] - 0.1, centre[1] + 0.06) > 0.17
        if clear_of_canal and all(np.linalg.norm(centre - other) > 0.17 for other in centres):
            centres.append(centre)
        if len(centres) == 8:
            break
    return centres


def _carve_lacuna(density: Array, rng: np.random.Generator, centre: Array, voxel: float) -> None:
    axes = np.array([rng.uniform(0.055, 0.08), rng.uniform(0.03, 0.045), rng.uniform(0.03, 0.06)])
    box, (z, y, x) = _around(density.shape[0], voxel, centre - 0.1, centre + 0.1)
    turn = rng.uniform(0, math.pi)
    u = (x - centre[2]) * math.cos(turn) + (y - centre[1]) * math.sin(turn)
    v = (y - centre[1]) * math.cos(turn) - (x - centre[2]) * math.sin(turn)
    level = np.sqrt(((z - centre[0]) / axes[0]) ** 2 + (u / axes[2]) ** 2 + (v / axes[1]) ** 2)
    density[box] *= 1 - 0.85 * _inside((level - 1) * axes.min(), voxel)


def _carve_canaliculus(density: Array, rng: np.random.Generator, start: Array, heading: Array, voxel: float) -> None:
    point, radius, step = start, rng.uniform(0.008, 0.014), 0.03
    for _ in range(int(rng.integers(5, 10))):
        heading = heading + rng.normal(0, 0.25, 3)
        heading /= np.linalg.norm(heading)
        after = point + step * heading
        box, grid = _around(density.shape[0], voxel, np.minimum(point, after) - 0.04, np.maximum(point, after) + 0.04)
        offset = [axis - origin for axis, origin in zip(grid, point, strict=True)]
        share = np.clip(sum(o * h for o, h in zip(offset, heading, strict=True)) / step, 0, 1) * step
        distance = np.sqrt(sum((o - share * h) ** 2 for o, h in zip(offset, heading, strict=True))) - radius
        # the minimum, not the product: neighbouring segments overlap and would be carved twice
        density[box] = np.minimum(density[box], 1 - 0.9 * _inside(distance, voxel))
        point = after


def _grid(size_px: int, voxel: float) -> tuple[Array, Array, Array]:
    axis = ((np.arange(size_px) - size_px // 2) * voxel).astype(np.float32)
    return axis[:, None, None], axis[None, :, None], axis[None, None, :]


def _around(
    size_px: int, voxel: float, low: Array, high: Array
) -> tuple[tuple[slice, slice, slice], tuple[Array, Array, Array]]:
    first = np.clip(np.floor(low / voxel).astype(int) - 1 + size_px // 2, 0, size_px)
    last = np.clip(np.ceil(high / voxel).astype(int) + 2 + size_px // 2, 0, size_px)
    axis = ((np.arange(size_px) - size_px // 2) * voxel).astype(np.float32)
    cut = tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    z, y, x = (axis[part] for part in cut)
    return (cut[0], cut[1], cut[2]), (z[:, None, None], y[None, :, None], x[None, None, :])


def _inside(distance: Array, voxel: float) -> Array:
    """Return the covered share of each voxel for a signed distance, negative inside."""
    share: Array = np.clip(0.5 - distance / voxel, 0, 1).astype(np.float32)
    return share


def _in_disc(rng: np.random.Generator, radius: float) -> tuple[float, float]:
    azimuth, distance = rng.uniform(0, 2 * math.pi), radius * math.sqrt(rng.uniform())
    return distance * math.sin(azimuth), distance * math.cos(azimuth)
