"""Alignment of projections on the reprojections of their own volume.

References
----------
D. Guersoy et al., Scientific Reports 7, 11818 (2017). doi:10.1038/s41598-017-12141-9
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.ndimage

from streamptycho.messages import Array
from streamptycho.tomography.back_projector import project
from streamptycho.tomography.backprojection import ProjectionError, volume_columns

MAX_STEP_PX = 2.0
SETTLED_PX = 0.01
MAX_ROUNDS = 20
MAX_VOXELS = 24_000_000
BORDER_PX = 2
UNTRUSTED_MISFIT = 3.5
UNTRUSTED_SPREADS = 8.0
UNTRUSTED_SHARE = 20
STOPPED_PX = 0.5
PATIENCE_ROUNDS = 8
DIVERGING = 1.1


@dataclass(frozen=True, slots=True, eq=False)
class Refined:
    """What a round of refinement came to.

    `moves_px` (K, 2) float64 (down, right) is what to add to the shifts, `misfit_rad` (K,) float64 the root mean square
    difference of each projection from its reprojection, `trusted` (K,) bool where that is not far above all others':
    only those make the volume. `binned` (K, Z', X') float32 are the reprojections, mass (phase, positive), in the
    pixels that were refined; `reprojection` gives them in those that were given. `moved_px` is how far the last round
    went, `settled` whether that was next to nothing.
    """

    moves_px: Array
    misfit_rad: Array
    trusted: Array
    binned: Array
    binning: int
    shape: tuple[int, int]
    moved_px: float
    settled: bool

    def reprojection(self, k: int) -> Array:
        """Return one of them, (Z, X) float32."""
        if self.binning == 1:
            return np.asarray(self.binned[k])
        wide = self.binned[k].repeat(self.binning, axis=0).repeat(self.binning, axis=1)
        return np.asarray(np.pad(wide, [(0, n - m) for n, m in zip(self.shape, wide.shape, strict=True)], mode="edge"))


class Refinement:
    """Joint reconstruction and reprojection, one round at a time.

    A projection is left out when it stays far from its reprojection after it has stopped moving, far for its slopes:
    what is steep cannot agree as well. One in twenty at most: where more of them are far off, it is the sample that
    looks so different from its sides.

    A round reconstructs the volume without its negative part, projects it, and moves every projection by the least
    squares shift between the two. The volume as a whole stays where it is: the mean of the vertical moves, and the
    part of the horizontal ones that turns like a fixed point of the volume, are taken out. What remains includes the
    error of the rotation axis.

    Parameters
    ----------
    mass_rad
        (K, Z, X) float32, or one (Z, X) after the other: phase shifts by matter, positive, at their present places;
        zero outside the sample. Large ones are binned as they come, so that they are never here all at once.
    angles_deg
        (K,).

    Raises
    ------
    ProjectionError
        If the shapes do not fit or a value is not finite.
    """

    def __init__(self, mass_rad: Array | Iterable[Array], angles_deg: Array) -> None:
        self._bin, self._whole_shape, binned = _taken(mass_rad, len(angles_deg))
        self._shape = binned.shape
        self._padded = tuple(scipy.fft.next_fast_len(n + 8, real=True) for n in binned.shape[1:])
        self._spectra = scipy.fft.rfft2(binned, s=self._padded)
        self._angles = np.asarray(angles_deg, np.float64)
        self._moves: Array = np.zeros((len(binned), 2))
        self._trusted: Array = np.ones(len(binned), bool)
        self._best: tuple[float, Array] = np.inf, self._moves
        self._last = False
        self.rounds = 0

    def step(self) -> Refined:
        """Do one round."""
        here = self._moved()
        volume, scale = volume_columns(here[self._trusted], self._angles[self._trusted], "hamming")
        np.maximum(volume, 0, out=volume)
        volume *= np.float32(scale)
        again = np.ascontiguousarray(project(volume, self._angles).transpose(0, 2, 1))
        found, misfit, structure = _least_squares_moves(here, again)
        typical = float(np.median(misfit))
        relative = misfit / _expected(typical, structure)
        middle = float(np.median(relative))
        spread = 1.4826 * float(np.median(np.abs(relative - middle)))
        far = relative > max(UNTRUSTED_MISFIT * middle, middle + UNTRUSTED_SPREADS * spread)
        found = _with_leaps(found, here, again, np.flatnonzero(far))
        moving = far & (np.abs(found).max(axis=1) > STOPPED_PX) & (self.rounds < PATIENCE_ROUNDS)
        self._trusted = ~_worst(far & ~moving, relative)
        diverging = typical > DIVERGING * self._best[0]
        if typical < self._best[0]:
            self._best = typical, self._moves
        found = self._without_translation(found)
        self._moves = self._best[1] if diverging else self._moves + found
        self.rounds += 1
        moved = float(np.sqrt((found[self._trusted] ** 2).sum(axis=1).mean())) * self._bin
        return Refined(
            moves_px=self._moves * self._bin,
            misfit_rad=misfit,
            trusted=self._trusted,
            binned=again,
            binning=self._bin,
            shape=self._whole_shape,
            moved_px=moved,
            settled=(moved < SETTLED_PX and not moving.any()) or self.rounds >= MAX_ROUNDS or self._last or diverging,
        )

    def cut_short(self) -> None:
        """Let the round that is being done be the last; may be called from another thread."""
        self._last = True

    def run(self) -> Refined:
        """Do rounds until nothing moves any more, or until there were many."""
        while True:
            result = self.step()
            if result.settled:
                return result

    def _moved(self) -> Array:
        rows, columns = self._padded
        v = scipy.fft.fftfreq(rows).astype(np.float32)[None, :, None]
        u = scipy.fft.rfftfreq(columns).astype(np.float32)[None, None, :]
        down, right = (self._moves[:, axis].astype(np.float32)[:, None, None] for axis in (0, 1))
        phase = np.exp(np.complex64(-2j * np.pi) * (v * down)) * np.exp(np.complex64(-2j * np.pi) * (u * right))
        moved = scipy.fft.irfft2(self._spectra * phase, s=self._padded)
        return np.ascontiguousarray(moved[:, : self._shape[1], : self._shape[2]], np.float32)

    def _without_translation(self, moves: Array) -> Array:
        theta = np.radians(self._angles)
        turning = np.stack([np.cos(theta), np.sin(theta)], axis=1)
        system = np.column_stack([turning, np.ones_like(theta)])
        use = self._trusted
        if np.linalg.cond(system[use]) < 1e3:
            fitted = np.linalg.lstsq(system[use], moves[use, 1], rcond=None)[0]
            right = moves[:, 1] - turning @ fitted[:2]
        else:
            right = moves[:, 1] - moves[use, 1].mean()
        return np.column_stack([moves[:, 0] - moves[use, 0].mean(), right])


def _least_squares_moves(here: Array, again: Array) -> tuple[Array, Array, Array]:
    """Return moves (K, 2), and root mean squares (K,) of what they leave and of the slopes that they follow."""
    inner = np.s_[:, BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX]
    down, right = np.gradient(again, axis=(1, 2))

    def total(a: Array, b: Array) -> Array:
        return np.asarray(np.einsum("kzx,kzx->k", a, b, dtype=np.float64))

    # A volume of few or limited angles has another contrast than its projections.
    contrast = np.clip(total(here, again) / np.maximum(total(again, again), 1e-30), 0.2, 5.0)
    scale = contrast.astype(np.float32)[:, None, None]
    down, right, rest = scale * down[inner], scale * right[inner], (here - scale * again)[inner]
    # Whole turns are errors of unwrapping: they are not to move a projection, nor to make it a stranger.
    rest = rest - np.float32(2 * np.pi) * np.rint(rest / np.float32(2 * np.pi))
    dd, rr, dr = total(down, down), total(right, right), total(down, right)
    ds, rs = total(down, rest), total(right, rest)
    determinant = dd * rr - dr**2
    enough = determinant > 1e-6 * np.maximum(dd * rr, 1e-30)
    safe = np.where(enough, determinant, 1.0)
    moves = np.stack([rr * ds - dr * rs, dd * rs - dr * ds], axis=1) / safe[:, None]
    moves[~enough] = 0.0
    # Near 45 degrees the grid of voxels makes stripes of 2.4 pixels in a reprojection: no fault of the projection.
    seen = 0.5 * rest[:, :, 1:-1] + 0.25 * (rest[:, :, :-2] + rest[:, :, 2:])
    misfit, structure = np.sqrt(total(seen, seen) / seen[0].size), np.sqrt((dd + rr) / rest[0].size)
    return np.clip(moves, -MAX_STEP_PX, MAX_STEP_PX), misfit, structure


def _expected(typical_rad: float, structure: Array) -> Array:
    """Return the misfit (K,) that a good projection may have.

    What is left of shifts and of the grid of voxels makes a misfit in proportion to the slopes of the projection: a
    plate seen from its edge has many times those of all others.
    """
    steepness = structure / max(float(np.median(structure)), 1e-30)
    return np.asarray(typical_rad * np.maximum(1.0, steepness) + 1e-9)


def _worst(far: Array, misfit: Array) -> Array:
    """Return those (K,) bool of the projections that are far off which are to be left out."""
    most = max(1, len(far) // UNTRUSTED_SHARE)
    worst = np.argsort(np.where(far, -misfit, np.inf), kind="stable")[:most]
    out = np.zeros_like(far)
    out[worst] = far[worst]
    return out


def _with_leaps(moves: Array, here: Array, again: Array, far: Array) -> Array:
    """Return the moves, where least squares cannot reach those of best correlation for the `far` ones."""
    moves = moves.copy()
    rows, columns = here.shape[1:]
    size = (scipy.fft.next_fast_len(2 * rows, real=True), scipy.fft.next_fast_len(2 * columns, real=True))
    for k in far:
        spectrum = scipy.fft.rfft2(again[k] - again[k].mean(), s=size) * scipy.fft.rfft2(here[k], s=size).conj()
        correlation = scipy.fft.irfft2(spectrum, s=size)
        peak = np.unravel_index(int(np.argmax(correlation)), size)
        leap = np.array([at - n if at > n // 2 else at for at, n in zip(peak, size, strict=True)], np.float64)
        if np.abs(leap).max() > MAX_STEP_PX and (np.abs(leap) < np.array([rows, columns]) / 4).all():
            moves[k] = leap
    return moves


def _taken(mass_rad: Iterable[Array], count: int) -> tuple[int, tuple[int, int], Array]:
    """Return binning, shape (Z, X) and binned projections (K, Z', X') float32."""
    binning, shape = 1, (0, 0)
    binned: list[Array] = []
    for image in mass_rad:
        if image.ndim != 2 or (binned and image.shape != shape) or not np.isfinite(image).all():
            raise ProjectionError(f"refinement needs finite projections (K, Z, X), got one of shape {image.shape}")
        if not binned:
            shape = (image.shape[0], image.shape[1])
            binning = _binning(*shape)
        binned.append(_binned(np.asarray(image, np.float32), binning))
    if not binned or len(binned) != count:
        raise ProjectionError(f"refinement needs finite projections and as many angles, got {len(binned)} and {count}")
    return binning, shape, np.stack(binned)


def _binning(rows: int, columns: int) -> int:
    binning = 1
    while rows * columns**2 / binning**3 > MAX_VOXELS:
        binning += 1
    return binning


def _binned(image: Array, binning: int) -> Array:
    """Return block means about the axis, so that pixel n // 2 stays on pixel n' // 2 to half of the binning."""
    if binning == 1:
        return image
    rows, columns = (n // binning for n in image.shape)
    blocks = image[: rows * binning, : columns * binning].reshape(rows, binning, columns, binning)
    return np.asarray(blocks.mean(axis=(1, 3)), np.float32)
