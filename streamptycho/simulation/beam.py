"""The beam at the sample: a zone plate out of focus or a pinhole, fully or partially coherent."""

from __future__ import annotations

import math

import numpy as np
import scipy.fft

from streamptycho.config import BeamConfig
from streamptycho.messages import Array
from streamptycho.simulation.errors import SimulationError
from streamptycho.simulation.window import Window

CENTRAL_STOP = 0.35
_LARGEST_PUPIL = 0.92
_LARGEST_BEAM = 0.7
_SOURCE_POINTS = 7


def make_probe(config: BeamConfig, window: Window) -> Array:
    """Return the modes of the beam, (modes, n, n) complex64, in order of power.

    The modes are orthogonal; their summed intensity is `photons_per_frame`, and the same in the far field with an
    orthonormal Fourier transform. The beam is centred on pixel [n // 2, n // 2].

    Raises
    ------
    SimulationError
        If the beam does not fit the window or its angles do not fit the detector, or if so many modes cannot have so
        low a coherence.
    """
    if config.diameter_m > _LARGEST_BEAM * window.size_px * window.pixel_m:
        raise SimulationError(
            f"beam.diameter_m {config.diameter_m:g} does not fit the window of {window.size_px * window.pixel_m:g} m "
            "(wavelength x distance / pitch): reduce it, or increase distance_m"
        )
    field = _zone_plate(config, window) if config.optic == "zone_plate" else _pinhole(config, window)
    field /= np.sqrt(np.sum(np.abs(field) ** 2))
    modes = field[None] if config.modes == 1 else _modes(field, config, window)
    return (modes * math.sqrt(config.photons_per_frame)).astype(np.complex64)


def numerical_aperture(config: BeamConfig, window: Window) -> float:
    """Return the half-angle of the zone plate that gives the configured diameter at the configured defocus.

    The diameter d combines the geometric cone 2 NA f and the diffraction-limited spot 1.22 wavelength / NA in
    quadrature. The steeper of the two solutions is taken when the detector sees its angles.
    """
    cone, spot = 2 * abs(config.defocus_m), 1.22 * window.wavelength_m
    limit = _LARGEST_PUPIL * window.max_angle_rad
    square = config.diameter_m**2
    root = square**2 - 4 * (cone * spot) ** 2
    solutions = [spot / config.diameter_m]
    if cone > 0:
        signs = (1, -1) if root >= 0 else ()
        solutions = [math.sqrt((square + sign * math.sqrt(root)) / 2) / cone for sign in signs]
    for aperture in solutions:
        if aperture <= limit:
            return aperture
    raise SimulationError(
        f"a beam of diameter_m {config.diameter_m:g} at defocus_m {config.defocus_m:g} does not fit the detector, "
        f"which sees angles to {window.max_angle_rad:.2g} rad: "
        + ("increase defocus_m, or reduce diameter_m" if solutions else "increase diameter_m, or reduce defocus_m")
    )


def _zone_plate(config: BeamConfig, window: Window) -> Array:
    aperture = numerical_aperture(config, window)
    angle = np.hypot(*_angles(window))
    edge = window.wavelength_m / (window.size_px * window.pixel_m)
    pupil = _step(aperture - angle, edge) * _step(angle - CENTRAL_STOP * aperture, edge)
    return _centred_inverse(pupil * _propagator(config.defocus_m, window))


def _pinhole(config: BeamConfig, window: Window) -> Array:
    axis = (np.arange(window.size_px) - window.size_px // 2) * window.pixel_m
    disc = _step(config.diameter_m / 2 - np.hypot(axis[:, None], axis[None, :]), window.pixel_m)
    spectrum = scipy.fft.fftshift(scipy.fft.fft2(scipy.fft.ifftshift(disc), norm="ortho"))
    return _centred_inverse(spectrum * _propagator(config.defocus_m, window))


def _modes(field: Array, config: BeamConfig, window: Window) -> Array:
    """Return the coherent modes of the field of an extended Gaussian source.

    Every source point gives the same field, displaced; the eigenvectors of their mutual coherence are the modes
    (Wolf 1982, doi 10.1364/JOSA.72.000343). The size of the source is chosen so that the first mode has the wanted
    share of the kept power. The source is twice as wide as high.
    """
    count, coherence = config.modes, config.coherence
    nodes, weights = np.polynomial.hermite_e.hermegauss(_SOURCE_POINTS)
    share = np.sqrt(np.outer(weights, weights)).ravel() / weights.sum()
    spectrum = scipy.fft.fftshift(scipy.fft.fft2(scipy.fft.ifftshift(field), norm="ortho"))
    power_spectrum = np.abs(spectrum) ** 2
    waves = 2j * math.pi / window.wavelength_m * _angles(window)[0].ravel()

    def ramps(size_m: float) -> tuple[Array, Array]:
        return np.exp(-np.outer(nodes * size_m / 2, waves)), np.exp(-np.outer(nodes * size_m, waves))

    def decompose(size_m: float) -> tuple[Array, Array]:
        """Return shares of power and mixing of the displaced fields, whose overlaps are a Fourier transform."""
        down, across = ((ramp[:, None] * ramp[None].conj()).reshape(_SOURCE_POINTS**2, -1) for ramp in ramps(size_m))
        overlap = (down @ power_spectrum @ across.T).reshape((_SOURCE_POINTS,) * 4).transpose(0, 2, 1, 3)
        gram = overlap.reshape(_SOURCE_POINTS**2, -1) * np.outer(share, share)
        power, mixing = np.linalg.eigh(gram)
        power, mixing = power[::-1][:count], mixing[:, ::-1][:, :count]
        return power / power.sum(), mixing

    low, high = 0.0, 0.5 * config.diameter_m
    for _ in range(14):
        middle = (low + high) / 2
        if decompose(middle)[0][0] > coherence:
            low = middle
        else:
            high = middle
    size_m = (low + high) / 2
    power, mixing = decompose(size_m)
    if abs(power[0] - coherence) > 0.02:
        raise SimulationError(
            f"beam.coherence {coherence:g} cannot be reached with {count} modes, the least is {power[0]:.2f}: "
            "increase modes or coherence"
        )
    down, across = ramps(size_m)
    weighted = (mixing.conj() * share[:, None]).T.reshape(count, _SOURCE_POINTS, _SOURCE_POINTS)
    modes = np.array([_centred_inverse(spectrum * (down.T @ weight @ across)) for weight in weighted])
    return np.asarray(modes / np.sqrt(np.sum(np.abs(modes) ** 2)))


def _angles(window: Window) -> tuple[Array, Array]:
    axis = (np.arange(window.size_px) - window.size_px // 2) * (window.wavelength_m / (window.size_px * window.pixel_m))
    return axis[:, None], axis[None, :]


def _propagator(distance_m: float, window: Window) -> Array:
    """Return the paraxial free-space propagator over the angles of the window."""
    rows, columns = _angles(window)
    return np.asarray(np.exp(-1j * math.pi * distance_m / window.wavelength_m * (rows**2 + columns**2)))


def _step(distance: Array, width: float) -> Array:
    return np.asarray(np.clip(0.5 + distance / width, 0, 1))


def _centred_inverse(spectrum: Array) -> Array:
    return np.asarray(scipy.fft.fftshift(scipy.fft.ifft2(scipy.fft.ifftshift(spectrum), norm="ortho")))
