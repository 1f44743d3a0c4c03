"""The scan of the source paper with known truth: a fly scan of heavily overlapping exposures, partially coherent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamptycho.config import BeamConfig, ProbeConfig, SampleConfig, SimulationConfig, TrajectoryConfig
from streamptycho.geometry import Geometry
from streamptycho.messages import Array
from streamptycho.simulation.beam import make_probe
from streamptycho.simulation.diffraction import CountingDetector, Scatterer
from streamptycho.simulation.sample import make_sample
from streamptycho.simulation.trajectory import make_trajectory
from streamptycho.simulation.window import window

SIDE_PX = 128
DIAMETER_M = 3.5e-6
DEFOCUS_M = 6.1e-3
WRONG_DEFOCUS = 1.05
ROUGHNESS_RAD = 0.25
START_PROBE = ProbeConfig(diameter_m=DIAMETER_M, defocus_m=DEFOCUS_M * WRONG_DEFOCUS)


@dataclass(frozen=True, slots=True, eq=False)
class KnownScan:
    """Frames with the positions that encoders gave, and everything that a measurement never tells.

    `counts` (N, n, n) uint16 or uint32; `xy_m` (N, 2) as known to the reconstruction; `true_xy_m` (N, 2);
    `transmission` (R, C) complex64, pixel [R // 2, C // 2] at position (0, 0); `probe` (modes, n, n);
    `noise_floor` is the normalised amplitude error of the truth.
    """

    counts: Array
    xy_m: Array
    true_xy_m: Array
    geometry: Geometry
    transmission: Array
    probe: Array
    pixel_m: float
    noise_floor: float


def known_scan(*, photons: float, modes: int = 4, position_error_m: float = 0.0, seed: int = 5) -> KnownScan:
    """Return a snake fly scan with steps of 0.15 um along and 0.5 um across the lines, 1080 exposures.

    Cipiccia et al. 2024, doi 10.1140/epjp/s13360-024-05224-w, on a smaller field.

    Parameters
    ----------
    photons
        Per frame.
    modes
        Of the beam; of four, the first has three quarters of the power.
    position_error_m
        Standard deviation of what the encoders do not see, in each direction.
    seed
        Of counting and of the position errors.
    """
    simulation = SimulationConfig(
        energy_ev=11000,
        distance_m=5.1,
        detector_pixel_m=75e-6,
        detector_shape=(SIDE_PX, SIDE_PX),
        rate_hz=2874,
        exposure_fraction=0.977,
        sample=SampleConfig(phantom="bone", size_m=11e-6, delta=3.5e-6, beta=3e-8, seed=7),
        beam=BeamConfig(
            photons_per_frame=photons,
            diameter_m=DIAMETER_M,
            defocus_m=DEFOCUS_M,
            modes=modes,
            coherence=1.0 if modes == 1 else 0.75,
        ),
        trajectory=TrajectoryConfig(width_m=9e-6, height_m=9e-6, step_x_m=0.15e-6, step_y_m=0.5e-6, jitter_m=2e-8),
    )
    view = window(simulation)
    path = make_trajectory(simulation.trajectory, simulation.rate_hz, simulation.exposure_fraction, seed=3)
    rng = np.random.default_rng(seed)
    xy_m = path.mean_xy_m(path.start_s, path.stop_s)
    true_xy_m = xy_m + rng.normal(0.0, 1.0, xy_m.shape) * position_error_m
    smooth = make_sample(simulation.sample, view.pixel_m).transmission(0.0, view.wavelength_m)
    inside = np.abs(np.angle(smooth)) > 0.1
    transmission = (smooth * np.exp(1j * ROUGHNESS_RAD * inside * _texture(smooth.shape))).astype(np.complex64)
    probe = make_probe(simulation.beam, view)
    scatterer = Scatterer(transmission, probe, view)
    detector = CountingDetector(view, "uint16" if photons < 5e6 else "uint32", 0.0, 0)
    frames, misfit = [], 0.0
    for first in range(0, len(xy_m), 32):
        intensities = scatterer.intensities(true_xy_m[first : first + 32])
        counts = detector.expose(intensities, rng)
        misfit += float(((np.sqrt(intensities) - np.sqrt(counts, dtype=np.float64)) ** 2).sum())
        frames.append(counts)
    counts = np.concatenate(frames)
    geometry = Geometry(simulation.energy_ev, simulation.distance_m, simulation.detector_pixel_m, (SIDE_PX, SIDE_PX))
    floor = misfit / float(counts.sum(dtype=np.float64))
    return KnownScan(counts, xy_m, true_xy_m, geometry, transmission, probe, view.pixel_m, floor)


def _texture(shape: tuple[int, ...]) -> Array:
    """Return a random image with detail at every scale down to the pixel, standard deviation 1.

    Bone of this thickness alone is so smooth that any reconstruction resolves all there is.
    """
    spectrum = np.fft.fft2(np.random.default_rng(11).normal(size=shape))
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None])
    texture = np.fft.ifft2(spectrum / np.maximum(frequency, 1 / 40)).real
    return np.asarray(texture / texture.std())
