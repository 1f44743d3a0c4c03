"""The real-space window that a far-field detector sees, and its pixel."""

from __future__ import annotations

from dataclasses import dataclass

from streamptycho.config import Config, SimulationConfig
from streamptycho.geometry import wavelength_from_energy_m
from streamptycho.simulation.errors import SimulationError

MAX_WINDOW_PX = 256


@dataclass(frozen=True, slots=True)
class Window:
    """Square of the sample plane whose discrete Fourier transform has the pitch of the detector.

    Its edge is wavelength x distance / pitch for any number of pixels, times `oversampling` far-field samples per
    detector pixel. A detector larger than the far field gets no photons outside; a smaller or rectangular one is cut
    out of the middle.
    """

    size_px: int
    pixel_m: float
    wavelength_m: float
    shape: tuple[int, int]
    oversampling: int = 1

    @property
    def detector_px(self) -> int:
        """Width of the far field in detector pixels."""
        return self.size_px // self.oversampling

    @property
    def max_angle_rad(self) -> float:
        """Largest scattering angle along an axis that the window can carry."""
        return self.wavelength_m / (2 * self.pixel_m)


def window(simulation: SimulationConfig) -> Window:
    """Return the window of a simulated detector."""
    rows, columns = simulation.detector_shape
    size = min(max(rows, columns), MAX_WINDOW_PX)
    size += size % 2
    wavelength_m = wavelength_from_energy_m(simulation.energy_ev)
    pixel_m = wavelength_m * simulation.distance_m / (size * simulation.detector_pixel_m)
    samples = simulation.oversampling
    return Window(size * samples, pixel_m, wavelength_m, (rows, columns), samples)


def simulation_of(config: Config) -> SimulationConfig:
    """Return the simulation section of a configuration.

    Raises
    ------
    SimulationError
        If there is none.
    """
    if config.simulation is None:
        raise SimulationError("the configuration has no section 'simulation': add one, 'simulation: {}' takes defaults")
    return config.simulation


def reconstructed_pixel_m(config: Config) -> float:
    """Return the object pixel that a reconstruction of the configured detector region has."""
    simulation = simulation_of(config)
    region = config.detector.region
    size = region.size_px or min(simulation.detector_shape)
    size -= size % region.binning
    wavelength_m = wavelength_from_energy_m(simulation.energy_ev)
    return wavelength_m * simulation.distance_m / (size * simulation.detector_pixel_m)
