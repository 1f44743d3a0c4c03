"""A simulated scan with everything that a measurement never tells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamptycho.config import SimulationConfig
from streamptycho.geometry import Geometry
from streamptycho.messages import Array
from streamptycho.simulation.beam import make_probe
from streamptycho.simulation.diffraction import CountingDetector, Scatterer
from streamptycho.simulation.sample import make_sample
from streamptycho.simulation.window import window

ROUGHNESS_RAD = 0.25
AT_ONCE = 32


@dataclass(frozen=True, slots=True, eq=False)
class KnownScan:
    """Frames with the positions that encoders gave, and everything that a measurement never tells.

    `counts` (N, m, m) uint8, uint16 or uint32; `xy_m` (N, 2) as known to the reconstruction; `true_xy_m` (N, 2);
    `transmission` (R, C) complex64, pixel [R // 2, C // 2] at position (0, 0); `probe` (modes, n, n), n = m times
    `upsampling`; `noise_floor` is the normalised amplitude error of the truth.
    """

    counts: Array
    xy_m: Array
    true_xy_m: Array
    geometry: Geometry
    transmission: Array
    probe: Array
    pixel_m: float
    upsampling: int
    noise_floor: float


def exposed(simulation: SimulationConfig, xy_m: Array, true_xy_m: Array, dtype: str, seed: int) -> KnownScan:
    """Return the scan of a bone-like sample with detail down to the pixel, exposed at the true positions.

    Bone of this thickness alone is so smooth that any reconstruction resolves all there is.
    """
    view = window(simulation)
    rng = np.random.default_rng(seed)
    smooth = make_sample(simulation.sample, view.pixel_m).transmission(0.0, view.wavelength_m)
    inside = np.abs(np.angle(smooth)) > 0.1
    transmission = (smooth * np.exp(1j * ROUGHNESS_RAD * inside * _texture(smooth.shape))).astype(np.complex64)
    probe = make_probe(simulation.beam, view)
    scatterer = Scatterer(transmission, probe, view)
    detector = CountingDetector(view, dtype, 0.0, 0)
    frames, misfit = [], 0.0
    for first in range(0, len(xy_m), AT_ONCE):
        intensities = scatterer.intensities(true_xy_m[first : first + AT_ONCE])
        counts = detector.expose(intensities, rng)
        misfit += float(((np.sqrt(intensities) - np.sqrt(counts, dtype=np.float64)) ** 2).sum())
        frames.append(counts)
    counts = np.concatenate(frames)
    geometry = Geometry(
        simulation.energy_ev, simulation.distance_m, simulation.detector_pixel_m, simulation.detector_shape
    )
    floor = misfit / float(counts.sum(dtype=np.float64))
    return KnownScan(
        counts, xy_m, true_xy_m, geometry, transmission, probe, view.pixel_m, simulation.oversampling, floor
    )


def _texture(shape: tuple[int, ...]) -> Array:
    """Return a random image with detail at every scale down to the pixel, standard deviation 1."""
    spectrum = np.fft.fft2(np.random.default_rng(11).normal(size=shape))
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None])
    texture = np.fft.ifft2(spectrum / np.maximum(frequency, 1 / 40)).real
    return np.asarray(texture / texture.std())
