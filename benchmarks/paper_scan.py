"""The 3 kHz scan of the source paper with known truth: heavily overlapping exposures, partially coherent."""

from __future__ import annotations

import numpy as np

from benchmarks.known_scan import KnownScan, exposed
from streamptycho.config import BeamConfig, ProbeConfig, SampleConfig, SimulationConfig, TrajectoryConfig
from streamptycho.simulation.trajectory import make_trajectory

SIDE_PX = 128
DIAMETER_M = 3.5e-6
DEFOCUS_M = 6.1e-3
WRONG_DEFOCUS = 1.05
START_PROBE = ProbeConfig(diameter_m=DIAMETER_M, defocus_m=DEFOCUS_M * WRONG_DEFOCUS)


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
    path = make_trajectory(simulation.trajectory, simulation.rate_hz, simulation.exposure_fraction, seed=3)
    rng = np.random.default_rng(seed)
    xy_m = path.mean_xy_m(path.start_s, path.stop_s)
    true_xy_m = xy_m + rng.normal(0.0, 1.0, xy_m.shape) * position_error_m
    return exposed(simulation, xy_m, true_xy_m, "uint16" if photons < 5e6 else "uint32", seed)
