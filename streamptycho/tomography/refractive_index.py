"""From phase per voxel to refractive index decrement and electron density."""

from __future__ import annotations

import math
from typing import Literal

from streamptycho.geometry import CLASSICAL_ELECTRON_RADIUS_M, wavelength_from_energy_m

Quantity = Literal["delta", "beta", "electron_density_per_A3", "mass_density_g_per_cm3"]

CUBIC_ANGSTROM_M3 = 1e-30
ELECTRONS_PER_A3_OF_ONE_MOLE_PER_CM3 = 0.602214076
UNITS: dict[str, str] = {
    "delta": "",
    "beta": "",
    "electron_density_per_A3": "1/angstrom^3",
    "mass_density_g_per_cm3": "g/cm^3",
}


def delta_per_radian(energy_ev: float, voxel_m: float) -> float:
    """Return the decrement delta of a voxel that shifts the phase by one radian.

    The refractive index is n = 1 - delta + i beta, matter shifts the phase by a negative angle:
    delta = -phase x wavelength / (2 pi voxel), so the factor is negative.

    References
    ----------
    M. Dierolf et al., Nature 467, 436 (2010). doi:10.1038/nature09419
    """
    return -wavelength_from_energy_m(energy_ev) / (2.0 * math.pi * voxel_m)


def electron_density_per_delta(energy_ev: float) -> float:
    """Return electrons per cubic angstrom for delta = 1: 2 pi / (r_e wavelength^2), far from absorption edges."""
    wavelength_m = wavelength_from_energy_m(energy_ev)
    return 2.0 * math.pi / (CLASSICAL_ELECTRON_RADIUS_M * wavelength_m**2) * CUBIC_ANGSTROM_M3


def mass_density_per_electron_density(a_over_z: float) -> float:
    """Return grams per cubic centimetre for one electron per cubic angstrom of matter of that A/Z (g/mol)."""
    return a_over_z / ELECTRONS_PER_A3_OF_ONE_MOLE_PER_CM3


def quantity_per_radian(quantity: Quantity, energy_ev: float, voxel_m: float, a_over_z: float = 2.0) -> float:
    """Return the factor from phase per voxel (radians, matter negative) to the quantity.

    For "beta" it is the factor from -ln |transmission| per voxel.
    """
    delta = delta_per_radian(energy_ev, voxel_m)
    if quantity == "delta":
        return delta
    if quantity == "beta":
        return -delta
    density = delta * electron_density_per_delta(energy_ev)
    return density if quantity == "electron_density_per_A3" else density * mass_density_per_electron_density(a_over_z)
