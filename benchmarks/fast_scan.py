"""The 110 kHz scan of the source paper with known truth: few photons, and positions a tenth as often as frames."""

from __future__ import annotations

import numpy as np

from benchmarks.known_scan import KnownScan, exposed
from streamptycho.config import BeamConfig, ProbeConfig, SampleConfig, SimulationConfig, TrajectoryConfig
from streamptycho.messages import Quality
from streamptycho.positions.interpolation import interpolate
from streamptycho.simulation.trajectory import make_trajectory

SIDE_PX = 32
UPSAMPLING = 2
DIAMETER_M = 3.0e-6
DEFOCUS_M = 5.5e-3
WRONG_DEFOCUS = 1.05
START_PROBE = ProbeConfig(diameter_m=DIAMETER_M, defocus_m=DEFOCUS_M * WRONG_DEFOCUS)
ROWS_HZ = 10e3
EXPOSURE_S = 7e-6
RATE_HZ = 110e3
MODES = 2


def fast_scan(*, photons: float = 1.4e3, line_error_m: float = 6e-8, seed: int = 9) -> KnownScan:
    """Return a snake fly scan with steps of 7 nm along and 1 um across the lines, 32 x 32 binned pixels.

    Cipiccia et al. 2024, doi 10.1140/epjp/s13360-024-05224-w, on a smaller field: 6 lines of 857 exposures. The beam
    is wider than the window of a binned pixel allows, hence upsampling. Positions are means over 100 us, interpolated
    to the exposures.

    Parameters
    ----------
    photons
        Per frame.
    line_error_m
        Standard deviation of what the encoders do not see, in each direction, the same for all of a line.
    seed
        Of counting and of the position errors.
    """
    simulation = SimulationConfig(
        energy_ev=11100,
        distance_m=5.1,
        detector_pixel_m=200e-6,
        detector_shape=(SIDE_PX, SIDE_PX),
        oversampling=UPSAMPLING,
        rate_hz=RATE_HZ,
        exposure_fraction=EXPOSURE_S * RATE_HZ,
        sample=SampleConfig(phantom="bone", size_m=8e-6, delta=3.5e-6, beta=3e-8, seed=7),
        beam=BeamConfig(
            photons_per_frame=photons, diameter_m=DIAMETER_M, defocus_m=DEFOCUS_M, modes=MODES, coherence=0.85
        ),
        trajectory=TrajectoryConfig(
            width_m=6e-6, height_m=6e-6, step_x_m=7e-9, step_y_m=1e-6, jitter_m=1e-8, turn_s=1e-3
        ),
    )
    path = make_trajectory(simulation.trajectory, RATE_HZ, EXPOSURE_S * RATE_HZ, seed=3)
    row_start_s = np.arange(np.floor(path.duration_s * ROWS_HZ)) / ROWS_HZ
    rows_xy_m = path.mean_xy_m(row_start_s, row_start_s + 1 / ROWS_HZ)
    middle_s = (path.start_s + path.stop_s) / 2
    xy_m, quality = interpolate(middle_s, row_start_s + 0.5 / ROWS_HZ, rows_xy_m)
    rng = np.random.default_rng(seed)
    lines = round(simulation.trajectory.height_m / simulation.trajectory.step_y_m)
    line = np.arange(len(xy_m)) // (len(xy_m) // lines)
    true_xy_m = path.mean_xy_m(path.start_s, path.stop_s) + rng.normal(0.0, line_error_m, (lines, 2))[line]
    use = np.isin(quality, (Quality.MEASURED, Quality.INTERPOLATED))
    return exposed(simulation, xy_m[use], true_xy_m[use], "uint8", seed)
