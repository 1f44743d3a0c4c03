"""Reconstruction of few, noisy projections: the volume of least total variation that fits them.

References
----------
E. Y. Sidky, J. H. Joergensen, X. Pan, Phys. Med. Biol. 57, 3065 (2012). doi:10.1088/0031-9155/57/10/3065
T. Pock, A. Chambolle, IEEE International Conference on Computer Vision, 1762 (2011). doi:10.1109/ICCV.2011.6126441
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from streamptycho.messages import Array
from streamptycho.tomography.back_projector import back_project, project, upright
from streamptycho.tomography.backprojection import checked_columns

HALF = np.float32(0.5)
SHORTEST_RAY_PX = 1e-3
MAX_DIFFERENCES = 20_000_000


def noise_of(line_integrals: Array) -> float:
    """Return the standard deviation of noise in projections (K, Z, X), from pixels beside and below each other.

    What is exactly equal, as around the area that a projection has seen, says nothing of noise.
    """
    step = max(1, line_integrals.size // MAX_DIFFERENCES)
    some = line_integrals[::step]
    if some.shape[1] > 1:
        some = (some[:, 1:] - some[:, :-1]) / np.sqrt(np.float32(2))
    differences = (some[..., 1:] - some[..., :-1]) / np.sqrt(np.float32(2))
    differences = np.abs(differences[differences != 0])
    return float(1.4826 * np.median(differences)) if differences.size else 0.0


def total_variation(
    line_integrals: Array, angles_deg: Array, *, strength: float = 0.5, rounds: int = 150, noise: float | None = None
) -> Array:
    """Return the volume (Z, X, X) float32 of `line_integrals` (K, Z, X) at `angles_deg` (K,), nothing of it negative.

    It minimises half of the squared misfit plus `strength` x `noise` x sqrt(K) times the sum of its gradients, so that
    steps stay and noise and the streaks of few angles go. Memory: 24 bytes per voxel.

    Parameters
    ----------
    line_integrals, angles_deg
        Projections; matter is positive.
    strength
        Of the smoothing in units of what the noise does to the gradient of the misfit.
    rounds
        Each costs as much as one of SIRT and half as much again.
    noise
        Standard deviation of a pixel of the projections, None finds it.

    Raises
    ------
    ProjectionError, VolumeTooLargeError
        If shapes do not fit, a value is not finite, or the volume would be too large.
    """
    measured = checked_columns(line_integrals, angles_deg)
    rows, side = line_integrals.shape[1:]
    found = noise_of(np.asarray(line_integrals, np.float32)) if noise is None else noise
    least = 1e-9 * float(np.abs(measured).max(initial=0.0)) + 1e-30
    level = np.float32(max(strength * found * np.sqrt(len(measured)), least))
    ones = np.ones(len(measured))
    per_ray = np.float32(1) / np.maximum(project(np.ones((side, side, 1), np.float32), angles_deg), SHORTEST_RAY_PX)
    hits = np.zeros((side, side, 1), np.float32)
    back_project(hits, np.ones((len(measured), side, 1), np.float32), angles_deg, ones, (0, 0, 0))
    # Each voxel is in two differences along each of three axes, weighed by a half as the slopes are.
    per_voxel = np.where(hits[..., 0] > 0, 1 / (hits[..., 0] + np.float32(6)), 0).astype(np.float32)
    volume, ahead, back = (np.zeros((side, side, rows), np.float32) for _ in range(3))
    slopes = np.zeros((3, side, side, rows), np.float32)
    misfit = np.zeros_like(measured)
    for _ in range(rounds):
        misfit += per_ray * (project(ahead, angles_deg) - measured)
        misfit /= 1 + per_ray
        back[...] = 0
        back_project(back, misfit, angles_deg, ones, (0, 0, 0))
        _in_bands(lambda a, b: _pull(ahead, slopes, level, a, b), side)
        _in_bands(lambda a, b: _step(volume, ahead, slopes, back, per_voxel, a, b), side)
    return upright(volume, 1.0)


def _in_bands(work: Callable[[int, int], None], rows: int) -> None:
    threads = max(1, min(numba.get_num_threads(), rows))
    edges = np.linspace(0, rows, threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, int(a), int(b)) for a, b in itertools.pairwise(edges)]:
            done.result()


@numba.njit(cache=True, nogil=True)
def _pull(ahead, slopes, level, first, last):  # type: ignore[no-untyped-def]
    """Move the slopes (3, Y, X, Z) towards those of a volume, none longer than `level`."""
    height, width, depth = ahead.shape
    for row in range(first, last):
        below = min(row + 1, height - 1)
        for column in range(width):
            right = min(column + 1, width - 1)
            for z in range(depth):
                here = ahead[row, column, z]
                down = slopes[0, row, column, z] + HALF * (ahead[below, column, z] - here)
                across = slopes[1, row, column, z] + HALF * (ahead[row, right, z] - here)
                deep = slopes[2, row, column, z] + HALF * (ahead[row, column, min(z + 1, depth - 1)] - here)
                length = np.sqrt(down * down + across * across + deep * deep)
                share = level / max(length, level)
                slopes[0, row, column, z] = share * down
                slopes[1, row, column, z] = share * across
                slopes[2, row, column, z] = share * deep


@numba.njit(cache=True, nogil=True)
def _step(volume, ahead, slopes, back, per_voxel, first, last):  # type: ignore[no-untyped-def]
    """Move the volume (Y, X, Z) along what misfit and slopes want, and look as far ahead once more."""
    _, width, depth = volume.shape
    for row in range(first, last):
        for column in range(width):
            share = per_voxel[row, column]
            for z in range(depth):
                wanted = slopes[0, row, column, z] + slopes[1, row, column, z] + slopes[2, row, column, z]
                if row > 0:
                    wanted -= slopes[0, row - 1, column, z]
                if column > 0:
                    wanted -= slopes[1, row, column - 1, z]
                if z > 0:
                    wanted -= slopes[2, row, column, z - 1]
                before = volume[row, column, z]
                after = max(before + share * (wanted - back[row, column, z]), np.float32(0))
                volume[row, column, z] = after
                ahead[row, column, z] = after + after - before
