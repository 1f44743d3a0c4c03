"""Between sample and detector, and the sub-pixel shift that goes with it.

The far field of an exit wave is its discrete Fourier transform, scaled to keep the sum of squares. Far-field arrays
have the zero frequency at [0, 0] inside the engine, so that nothing is rolled per frame. The near field is a Fresnel
propagation by a transfer function; its arrays lie as the exit wave does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamptycho.config import ReconstructionConfig
from streamptycho.geometry import Geometry
from streamptycho.messages import Array

WHOLE_PIXEL = 1e-3


def far_field(wave: Any, fft: Any) -> Any:
    """Return the unitary Fourier transform over the last two axes. The input may be overwritten."""
    return fft.fft2(wave, axes=(-2, -1), norm="ortho", overwrite_x=True)


def from_far_field(wave: Any, fft: Any) -> Any:
    """Return the inverse, which is also the adjoint, of `far_field`. The input may be overwritten."""
    return fft.ifft2(wave, axes=(-2, -1), norm="ortho", overwrite_x=True)


class Propagator:
    """Takes exit waves to the detector, and back by the adjoint, which is the inverse.

    Parameters
    ----------
    transfer
        (n, n) complex of modulus 1 on the device, zero frequency at [0, 0]: near field. None: far field.
    fft
        FFT module of the device.
    """

    def __init__(self, transfer: Any, fft: Any) -> None:
        self._transfer = transfer
        self._conjugate = None if transfer is None else transfer.conj()
        self._fft = fft

    def to_detector(self, waves: Any) -> Any:
        """Return fields at the detector, (modes, n, n). The input may be overwritten."""
        field = far_field(waves, self._fft)
        return field if self._transfer is None else self._filtered(field, self._transfer)

    def from_detector(self, fields: Any) -> Any:
        """Return the adjoint of `to_detector`. The input may be overwritten."""
        if self._conjugate is None:
            return from_far_field(fields, self._fft)
        return self._filtered(far_field(fields, self._fft), self._conjugate)

    def _filtered(self, spectrum: Any, transfer: Any) -> Any:
        spectrum *= transfer
        return from_far_field(spectrum, self._fft)


def magnification(geometry: Geometry, source_distance_m: float | None) -> float:
    """Return by how much a cone beam from a focus `source_distance_m` before the sample magnifies, 1 for None."""
    return 1.0 if source_distance_m is None else (source_distance_m + geometry.distance_m) / source_distance_m


def object_sampling(geometry: Geometry, config: ReconstructionConfig) -> tuple[int, float]:
    """Return the pixels along an edge of the probe, and their size on the sample, in metres."""
    if config.propagator == "far_field":
        return geometry.shape[0] * config.upsampling, geometry.object_pixel_m
    return geometry.shape[0], geometry.detector_pixel_m / magnification(geometry, config.source_distance_m)


def fresnel_transfer(geometry: Geometry, source_distance_m: float | None) -> Array:
    """Return the transfer function of Fresnel propagation to the detector, (n, n) complex64, zero frequency at [0, 0].

    A cone beam is as a parallel beam with the detector's pixel and distance both divided by the magnification.

    References
    ----------
    Paganin 2006, Coherent X-Ray Optics, doi 10.1093/acprof:oso/9780198567288.001.0001 (Fresnel scaling theorem).
    """
    enlarged = magnification(geometry, source_distance_m)
    pixel_m, distance_m = geometry.detector_pixel_m / enlarged, geometry.distance_m / enlarged
    square = np.fft.fftfreq(geometry.shape[0], pixel_m) ** 2
    phase = np.pi * geometry.wavelength_m * distance_m * (square[:, None] + square[None, :])
    return np.asarray(np.exp(-1j * phase), np.complex64)


class ShiftRamps:
    """Phase ramps that move an image of n x n pixels by a fraction of a pixel: unitary, so the adjoint is the inverse.

    Parameters
    ----------
    n
        Pixels along one edge.
    xp
        numpy or cupy.
    """

    def __init__(self, n: int, xp: Any) -> None:
        self._xp = xp
        self._phase_per_px = xp.asarray((-2j * np.pi * np.fft.fftfreq(n)).astype(np.complex64))

    def __call__(self, down_px: float, right_px: float, out: Any) -> Any:
        """Write the factor (n, n) for the spectrum of an image that is to move down and right."""
        down = self._xp.exp(self._phase_per_px * np.float32(down_px))
        right = self._xp.exp(self._phase_per_px * np.float32(right_px))
        return self._xp.multiply(down[:, None], right[None, :], out=out)
