"""Simulated ptychographic scans whose truth is known, for the engine."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from streamptycho.config import BeamConfig, ProbeConfig, SampleConfig, SimulationConfig, TrajectoryConfig
from streamptycho.geometry import Geometry
from streamptycho.messages import Array, DiffractionBatch, ProjectionStart, Quality
from streamptycho.simulation.beam import make_probe
from streamptycho.simulation.diffraction import CountingDetector, Scatterer
from streamptycho.simulation.sample import make_sample
from streamptycho.simulation.trajectory import make_trajectory
from streamptycho.simulation.window import window

DIAMETER_M = 1.8e-6
DEFOCUS_M = 1e-3
PROBE = ProbeConfig(diameter_m=DIAMETER_M, defocus_m=DEFOCUS_M)


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """Frames (N, n, n) uint16 with their positions. `noise_floor` is the normalised amplitude error of the truth."""

    counts: Array
    xy_m: Array
    geometry: Geometry
    noise_floor: float

    def start(self) -> ProjectionStart:
        return ProjectionStart(
            scan_id="scan", projection=0, angle_deg=None, n_frames=len(self.counts), geometry=self.geometry
        )

    def batch(self, first: int = 0, stop: int | None = None) -> DiffractionBatch:
        some = slice(first, len(self.counts) if stop is None else stop)
        counts = self.counts[some].copy()
        return DiffractionBatch(
            scan_id="scan",
            projection=0,
            index=np.arange(first, first + len(counts)),
            counts=counts,
            xy_m=self.xy_m[some],
            quality=np.full(len(counts), Quality.MEASURED, np.uint8),
        )


@functools.cache
def scan(side: int, modes: int, *, whole_pixels: bool = False, wide: bool = False) -> Scan:
    """Return a snake scan of a piece of bone, 1e6 photons a frame, neighbours overlapping by 83 % of the beam.

    `whole_pixels` True rounds the positions to object pixels before the frames are made. `wide` True is a sample of
    twice the size and 841 frames instead of 234.
    """
    width_m, height_m, size_m = (8.99e-6, 8.99e-6, 9e-6) if wide else (5.58e-6, 4.03e-6, 5e-6)
    simulation = SimulationConfig(
        energy_ev=6200,
        distance_m=1.3,
        detector_pixel_m=75e-6,
        detector_shape=(side, side),
        sample=SampleConfig(size_m=size_m, delta=1.11e-5, beta=3.5e-7, seed=7),
        beam=BeamConfig(diameter_m=DIAMETER_M, defocus_m=DEFOCUS_M, modes=modes, coherence=1.0 if modes == 1 else 0.75),
        trajectory=TrajectoryConfig(width_m=width_m, height_m=height_m, step_x_m=0.31e-6, step_y_m=0.31e-6),
    )
    view = window(simulation)
    path = make_trajectory(simulation.trajectory, simulation.rate_hz, simulation.exposure_fraction, seed=3)
    xy_m = path.mean_xy_m(path.start_s, path.stop_s)
    if whole_pixels:
        xy_m = np.rint(xy_m / view.pixel_m) * view.pixel_m
    transmission = make_sample(simulation.sample, view.pixel_m).transmission(0.0, view.wavelength_m)
    scatterer = Scatterer(transmission, make_probe(simulation.beam, view), view)
    detector = CountingDetector(view, "uint16", 0.0, 0)
    rng = np.random.default_rng(5)
    frames, misfit = [], 0.0
    for first in range(0, len(xy_m), 32):
        intensities = scatterer.intensities(xy_m[first : first + 32])
        counts = detector.expose(intensities, rng)
        misfit += float(((np.sqrt(intensities) - np.sqrt(counts, dtype=np.float64)) ** 2).sum())
        frames.append(counts)
    counts = np.concatenate(frames)
    geometry = Geometry(simulation.energy_ev, simulation.distance_m, simulation.detector_pixel_m, (side, side))
    return Scan(counts, xy_m, geometry, misfit / float(counts.sum(dtype=np.float64)))
