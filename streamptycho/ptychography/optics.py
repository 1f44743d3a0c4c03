"""The wave that an optic makes at the sample."""

from __future__ import annotations

import numpy as np

from streamptycho.config import ProbeConfig
from streamptycho.messages import Array


def propagated(wave: Array, distance_m: float, pixel_m: float, wavelength_m: float) -> Array:
    """Return a wave (..., n, n) complex128 a distance downstream, by the Fresnel transfer function.

    Parameters
    ----------
    wave
        (..., n, n) complex.
    distance_m
        Negative for upstream.
    pixel_m
        Of the wave.
    wavelength_m
        Of the photons.
    """
    square = np.fft.fftfreq(wave.shape[-1], pixel_m) ** 2
    phase = np.pi * wavelength_m * distance_m * (square[:, None] + square[None, :])
    return np.asarray(np.fft.ifft2(np.fft.fft2(wave.astype(np.complex128)) * np.exp(-1j * phase)))


def optic_probe(config: ProbeConfig, defocus_m: float, n: int, pixel_m: float, wavelength_m: float) -> Array:
    """Return the wave of the configured zone plate or pinhole, (n, n) complex128, `defocus_m` downstream of its focus
    or of the hole.

    A zone plate of diameter D and outermost zone w focuses rays up to the angle wavelength / (2 w), without those that
    its central stop keeps back: an annulus of spatial frequencies up to 1 / (2 w).
    """
    if config.start == "pinhole":
        assert config.diameter_m is not None
        axis = (np.arange(n) - n // 2) * pixel_m
        edge = config.diameter_m / 2 - np.hypot(axis[:, None], axis[None, :])
        hole = np.clip(edge / pixel_m + 0.5, 0, 1).astype(np.complex128)
        return propagated(hole, defocus_m, pixel_m, wavelength_m)
    assert config.zone_plate_diameter_m is not None
    assert config.outermost_zone_m is not None
    frequency = np.fft.fftfreq(n, pixel_m)
    radius = np.hypot(frequency[:, None], frequency[None, :])
    outer = 1 / (2 * config.outermost_zone_m)
    inner = outer * config.central_stop_m / config.zone_plate_diameter_m
    step = frequency[1]
    pupil = np.clip((outer - radius) / step + 0.5, 0, 1) * np.clip((radius - inner) / step + 0.5, 0, 1)
    if inner == 0:
        pupil[0, 0] = 1
    focus = np.fft.fftshift(np.fft.ifft2(pupil))
    return propagated(focus, defocus_m, pixel_m, wavelength_m)
