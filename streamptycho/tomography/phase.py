"""From a reconstructed complex object to a phase whose air is zero."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.ndimage
from skimage.restoration import unwrap_phase

from streamptycho.messages import Array
from streamptycho.tomography.air import AirFit, fit_air
from streamptycho.tomography.bent_air import bend_of_air

RELIABLE_COVERAGE = 0.4
EDGE_PX = 4.0
MIN_RELIABLE_PX = 16
MIN_RELIABLE_EDGE_PX = 3


class PhaseError(ValueError):
    """An object from which no phase can be taken."""


@dataclass(frozen=True, slots=True, eq=False)
class ProjectionPhase:
    """The phase of one projection, of the shape of its object (H, W).

    `phase_rad` float32: air 0, matter negative, 0 where `weight` is 0. `magnitude` float32: air 1. `weight` float32:
    1 in the reliable area, falling to 0 over a few pixels at its edge. `ramp_rad_per_px` is the (row, column) phase
    ramp that was removed, `air_fraction` the share of the reliable area that served as air, `noise_rad` the standard
    deviation of the phase in it, `residues` the number of phase vortices in the reliable area (0 for smooth data).
    """

    phase_rad: Array
    magnitude: Array
    weight: Array
    ramp_rad_per_px: tuple[float, float]
    air_fraction: float
    noise_rad: float
    residues: int


def reliable_area(coverage: Array) -> Array:
    """Return where (H, W) bool the object is well lit: the largest connected part, without holes.

    At the straight edge of a scan the coverage is half of that inside; the threshold is a little below.
    """
    lit = coverage > 0
    if not lit.any():
        return lit
    bright = float(np.percentile(coverage[lit], 99))
    typical = float(np.median(coverage[coverage > 0.1 * bright]))
    labels, count = scipy.ndimage.label(coverage > RELIABLE_COVERAGE * typical)
    if count == 0:
        return np.zeros_like(lit)
    largest = 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return np.asarray(scipy.ndimage.binary_fill_holes(labels == largest))


def projection_phase(
    projection: Array, coverage: Array, *, unwrap: bool = True, air: Array | None = None
) -> ProjectionPhase:
    """Return the phase of a complex object (H, W) with the summed illumination `coverage` (H, W).

    A linear phase ramp and an offset, which ptychography leaves undetermined, are fitted to the air and removed; the
    magnitude is divided by that of the air. The air is searched from the left and right margins of the reliable area
    (see `fit_air`), or is given as `air` (H, W) bool. `unwrap` False keeps the phase within one turn.

    Raises
    ------
    PhaseError
        If the shapes differ, a value in the reliable area is not finite, or almost nothing is reliable.

    References
    ----------
    Unwrapping: M. A. Herraez et al., Applied Optics 41, 7437 (2002). doi:10.1364/AO.41.007437
    """
    _check(projection, coverage, air)
    area = reliable_area(coverage)
    if np.count_nonzero(area) < MIN_RELIABLE_PX:
        raise PhaseError(
            f"only {np.count_nonzero(area)} object pixels are well lit, at least {MIN_RELIABLE_PX} are needed: "
            "wait for more frames"
        )
    box = scipy.ndimage.find_objects(area.astype(np.uint8))[0]
    inside = area[box]
    if min(inside.shape) < MIN_RELIABLE_EDGE_PX:
        raise PhaseError(
            f"the well lit area is only {inside.shape[0]} x {inside.shape[1]} pixels: wait for more frames"
        )
    view = np.where(inside, projection[box], 0).astype(np.complex64)
    if not np.isfinite(view).all():
        raise PhaseError("the object is not finite in its reliable area: the reconstruction has diverged")
    modulus = np.abs(view)
    if not modulus[inside].any():
        raise PhaseError("the object is zero in its reliable area: nothing was reconstructed")

    fit, phase = _without_ramp(view, inside, None if air is None else air[box])
    bend = bend_of_air(phase, inside, fit) if unwrap else None
    if bend is not None:
        phase = np.where(inside, phase - bend, 0.0)
    if not unwrap:
        phase = np.angle(np.exp(1j * phase))
    scale = float(np.median(modulus[fit.air])) if fit.air.any() else 0.0
    scale = scale if scale > 0 else float(np.median(modulus[inside]))
    scale = scale if scale > 0 else 1.0
    distance = scipy.ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    whole = ProjectionPhase(
        phase_rad=np.zeros(area.shape, np.float32),
        magnitude=np.ones(area.shape, np.float32),
        weight=np.zeros(area.shape, np.float32),
        ramp_rad_per_px=fit.ramp_rad_per_px,
        air_fraction=float(np.count_nonzero(fit.air) / np.count_nonzero(inside)),
        noise_rad=fit.noise_rad,
        residues=_residues(view, inside),
    )
    whole.phase_rad[box] = np.where(inside, phase, 0)
    whole.magnitude[box] = np.where(inside, modulus / scale, 1)
    whole.weight[box] = np.clip(distance / EDGE_PX, 0, 1)
    return whole


def _check(projection: Array, coverage: Array, air: Array | None) -> None:
    if projection.ndim != 2 or projection.shape != coverage.shape:
        raise PhaseError(f"object and coverage must have one shape (H, W), got {projection.shape} and {coverage.shape}")
    if air is not None and air.shape != projection.shape:
        raise PhaseError(f"air must have the shape of the object {projection.shape}, got {air.shape}")
    if not np.isfinite(coverage).all():
        raise PhaseError("the coverage is not finite: the probe of the reconstruction has diverged")


def _without_ramp(view: Array, inside: Array, air: Array | None) -> tuple[AirFit, Array]:
    ramp = _steepest_common_ramp(view, inside)
    for _ in range(2):
        plane = _plane(view.shape, ramp)
        wrapped = np.ma.masked_array(np.angle(view * np.exp(-1j * plane)), mask=~inside)
        unwrapped = np.where(inside, np.ma.getdata(_unwrap(wrapped)), 0.0)
        fit = fit_air(unwrapped, inside, air)
        rest = fit.ramp_rad_per_px
        ramp = (ramp[0] + rest[0], ramp[1] + rest[1])
        phase = unwrapped - fit.offset_rad - _plane(view.shape, rest)
        if max(abs(rest[0]), abs(rest[1])) < 0.3:
            break
    total = AirFit(air=fit.air, ramp_rad_per_px=ramp, offset_rad=fit.offset_rad, noise_rad=fit.noise_rad)
    return total, np.where(inside, phase, 0.0)


def _unwrap(wrapped: Array) -> Array:
    unwrap: Callable[..., Array] = unwrap_phase
    return unwrap(wrapped, rng=0)


def _steepest_common_ramp(view: Array, inside: Array) -> tuple[float, float]:
    """Return the ramp under which most of the unit phasors agree: only a start, it keeps unwrapping from aliasing."""
    modulus = np.abs(view)
    phasor = np.where(inside & (modulus > 0), view / np.where(modulus > 0, modulus, 1), 0)
    peak = np.unravel_index(int(np.argmax(np.abs(np.fft.fft2(phasor)))), phasor.shape)
    row, column = (2 * np.pi * float(np.fft.fftfreq(n)[p]) for n, p in zip(phasor.shape, peak, strict=True))
    return row, column


def _plane(shape: tuple[int, ...], ramp: tuple[float, float]) -> Array:
    return np.asarray(ramp[0] * np.arange(shape[0])[:, None] + ramp[1] * np.arange(shape[1])[None, :])


def _residues(view: Array, inside: Array) -> int:
    down = np.angle(view[1:] * np.conj(view[:-1]))
    right = np.angle(view[:, 1:] * np.conj(view[:, :-1]))
    turn = right[:-1] + down[:, 1:] - right[1:] - down[:, :-1]
    valid = inside[1:, 1:] & inside[1:, :-1] & inside[:-1, 1:] & inside[:-1, :-1]
    return int(np.count_nonzero(np.rint(turn[valid] / (2 * np.pi))))
