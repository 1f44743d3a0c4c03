"""What the detector counts: far-field intensities of beam times object, and photon statistics."""

from __future__ import annotations

import numpy as np
import scipy.fft

from streamptycho.messages import Array
from streamptycho.simulation.errors import SimulationError
from streamptycho.simulation.window import Window


class Scatterer:
    """The wave behind one projection of a sample, for any position of the beam.

    Parameters
    ----------
    transmission
        (R, C) complex64, pixel [R // 2, C // 2] at position (0, 0), surrounded by air.
    probe
        (modes, n, n) complex64, centred on [n // 2, n // 2].
    window
        Its pixel is that of both arrays.
    """

    def __init__(self, transmission: Array, probe: Array, window: Window) -> None:
        if probe.shape[1:] != (window.size_px, window.size_px):
            raise SimulationError(f"the probe must be {window.size_px} pixels wide, got shape {probe.shape}")
        self._window = window
        self._transmission = transmission
        self._spectrum = scipy.fft.fft2(probe)
        frequency = scipy.fft.fftfreq(window.size_px).astype(np.float32)
        self._frequency = frequency

    def intensities(self, xy_m: Array) -> Array:
        """Return the mean photons per detector pixel at positions (N, 2) or (N, B, 2), averaged over B.

        (N, m, m) float32, m detector pixels; zero frequency is at [m // 2, m // 2]. The beam is placed between object
        pixels by shifting it in Fourier space.
        """
        positions = xy_m[:, None, :] if xy_m.ndim == 2 else xy_m
        total = np.zeros((len(positions), self._window.size_px, self._window.size_px), np.float32)
        for sample in range(positions.shape[1]):
            self._add(total, positions[:, sample])
        total /= positions.shape[1]
        return np.asarray(scipy.fft.fftshift(_integrated(total, self._window.oversampling), axes=(-2, -1)))

    def _add(self, total: Array, xy_m: Array) -> None:
        pixels = xy_m / self._window.pixel_m
        whole = np.rint(pixels).astype(np.int64)
        part = (pixels - whole).astype(np.float32)
        shift_x = np.exp(-2j * np.pi * part[:, 0, None] * self._frequency).astype(np.complex64)
        shift_y = np.exp(-2j * np.pi * part[:, 1, None] * self._frequency).astype(np.complex64)
        patches = self._patches(whole)
        for spectrum in self._spectrum:
            beam = scipy.fft.ifft2(
                spectrum[None] * shift_y[:, :, None] * shift_x[:, None, :], axes=(-2, -1), overwrite_x=True
            )
            beam *= patches
            wave = scipy.fft.fft2(beam, axes=(-2, -1), norm="ortho", overwrite_x=True)
            total += wave.real**2 + wave.imag**2

    def _patches(self, whole: Array) -> Array:
        """Return the object around each whole pixel (x, y), (N, n, n) complex64, air outside the sample."""
        size = self._window.size_px
        rows, columns = self._transmission.shape
        patches = np.ones((len(whole), size, size), np.complex64)
        for patch, (x, y) in zip(patches, whole, strict=True):
            top, left = rows // 2 + int(y) - size // 2, columns // 2 + int(x) - size // 2
            y0, y1 = max(top, 0), min(top + size, rows)
            x0, x1 = max(left, 0), min(left + size, columns)
            if y0 < y1 and x0 < x1:
                patch[y0 - top : y1 - top, x0 - left : x1 - left] = self._transmission[y0:y1, x0:x1]
        return patches


class CountingDetector:
    """A photon-counting detector: Poisson statistics, saturation, dead pixels, its own shape.

    The largest value of the dtype is never a count: it marks dead pixels. Counts above `saturation`, the value below
    it, read as `saturation`.
    """

    def __init__(self, window: Window, dtype: str, dead_pixels: float, seed: int) -> None:
        self.window = window
        self.dtype = np.dtype(dtype)
        self.marker = int(np.iinfo(self.dtype).max)
        self.saturation = self.marker - 1
        self.mask: Array | None = None
        if dead_pixels > 0:
            self.mask = np.random.default_rng(seed).random(window.shape) < dead_pixels

    def expose(self, intensities: Array, rng: np.random.Generator) -> Array:
        """Return counts (N, H, W) for mean photons (N, m, m); zero frequency goes to [H // 2, W // 2]."""
        counts = np.minimum(rng.poisson(intensities), self.saturation).astype(self.dtype)
        frames = self._fit(counts)
        if self.mask is not None:
            frames[:, self.mask] = self.marker
        return frames

    def _fit(self, counts: Array) -> Array:
        size, (rows, columns) = self.window.detector_px, self.window.shape
        if (rows, columns) == (size, size):
            return counts
        frames = np.zeros((len(counts), rows, columns), self.dtype)
        top, left = rows // 2 - size // 2, columns // 2 - size // 2
        y0, x0 = max(top, 0), max(left, 0)
        y1, x1 = min(top + size, rows), min(left + size, columns)
        frames[:, y0:y1, x0:x1] = counts[:, y0 - top : y1 - top, x0 - left : x1 - left]
        return frames


def _integrated(intensity: Array, samples: int) -> Array:
    """Sum samples over the detector pixels around them, zero frequency at [0, 0]; samples on an edge are shared."""
    if samples == 1:
        return intensity
    reach = samples // 2
    weights = {k: np.float32(1.0) for k in range(-reach, reach + 1)}
    if samples % 2 == 0:
        weights[-reach] = weights[reach] = np.float32(0.5)
    rows = np.sum([w * np.roll(intensity, -k, -2)[:, ::samples] for k, w in weights.items()], axis=0)
    return np.asarray(np.sum([w * np.roll(rows, -k, -1)[:, :, ::samples] for k, w in weights.items()], axis=0))
