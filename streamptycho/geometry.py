"""Far-field geometry of a ptychographic measurement, in SI units."""

from __future__ import annotations

import math
from dataclasses import dataclass

PLANCK_TIMES_C_EV_M = 1.239841984332003e-6
CLASSICAL_ELECTRON_RADIUS_M = 2.8179403205e-15


class GeometryError(ValueError):
    """A geometry that no measurement can have."""


def wavelength_from_energy_m(energy_ev: float) -> float:
    """Return the photon wavelength in metres for an energy in electron volts."""
    return PLANCK_TIMES_C_EV_M / energy_ev


@dataclass(frozen=True, slots=True)
class Geometry:
    """What fixes the scale of a far-field reconstruction.

    Parameters
    ----------
    energy_ev
        Photon energy.
    distance_m
        Sample to detector.
    detector_pixel_m
        Pitch of the (square) pixels of the frames, after any binning.
    shape
        Rows and columns of the frames, after any crop. Square.

    Raises
    ------
    GeometryError
        If a length or the energy is not finite and positive, or the frame is not square.
    """

    energy_ev: float
    distance_m: float
    detector_pixel_m: float
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        for name in ("energy_ev", "distance_m", "detector_pixel_m"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise GeometryError(f"{name} must be finite and positive, got {value!r}")
        rows, columns = self.shape
        if rows != columns or rows < 2:
            raise GeometryError(
                f"frames must be square and at least 2 x 2 pixels, got {rows} x {columns}: "
                "choose a square region of the detector"
            )

    @property
    def wavelength_m(self) -> float:
        """Photon wavelength in metres."""
        return wavelength_from_energy_m(self.energy_ev)

    @property
    def object_pixel_m(self) -> float:
        """Pixel of the reconstructed object: wavelength x distance / (pixels x pitch)."""
        return self.wavelength_m * self.distance_m / (self.shape[0] * self.detector_pixel_m)
