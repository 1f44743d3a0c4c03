"""Numbers that tell the operator how good a tomogram is: noise, motion of the sample, dose."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import scipy.ndimage

from streamptycho.messages import Array
from streamptycho.tomography.placed_projection import PlacedProjection
from streamptycho.tomography.refractive_index import (
    ELECTRONS_PER_A3_OF_ONE_MOLE_PER_CM3,
    delta_per_radian,
    electron_density_per_delta,
    mass_density_per_electron_density,
)

MATTER_LEVEL = 0.2
DENSE_LEVEL = 0.5
MIN_MATTER_PX = 16
MATTER_GROWTH_PX = 5
MIN_AIR_PX = 64
EDGE_PX = 4
ELEMENTARY_CHARGE_C = 1.602176634e-19


def air_noise(slices: Iterable[Array]) -> float | None:
    """Return the standard deviation of the air in orthoslices (A, B), None where there is too little of it.

    Air is what lies inside of the circle that all projections see and far from everything denser than a fifth of the
    dense matter. Of slices along the axis only the middle columns are sure to lie in it.
    """
    return air_figures(slices, "").get("air_noise_")


def air_figures(slices: Iterable[Array], quantity: str) -> dict[str, float]:
    """Return the mean of the air, which should be 0, and its standard deviation, by name; none of too little air."""
    found = [values for values in (_air_values(image) for image in slices) if values.size]
    values = np.concatenate(found) if found else np.zeros(0)
    if values.size < MIN_AIR_PX:
        return {}
    return {f"air_mean_{quantity}": float(np.mean(values)), f"air_noise_{quantity}": float(np.std(values))}


def _air_values(image: Array) -> Array:
    rows, columns = image.shape
    x = np.arange(columns) - columns // 2
    y = np.arange(rows) - rows // 2
    inside = np.abs(x)[None, :] < columns // 2 - EDGE_PX
    inside = inside & (np.hypot(x[None, :], y[:, None]) < columns // 2 - EDGE_PX) if rows == columns else inside
    inside = np.broadcast_to(inside, image.shape) & (np.abs(y)[:, None] < rows // 2 - EDGE_PX)
    smooth = scipy.ndimage.uniform_filter(image.astype(np.float64), 3)
    dense = float(np.percentile(smooth, 98))
    matter = scipy.ndimage.binary_opening(smooth > MATTER_LEVEL * dense) if dense > 0 else np.zeros(image.shape, bool)
    return np.asarray(image[inside & ~scipy.ndimage.binary_dilation(matter, iterations=MATTER_GROWTH_PX)], np.float64)


def matter_mean(image: Array) -> float | None:
    """Return the mean of what is dense in an orthoslice (A, B), away from its edges, None where nothing is."""
    smooth = scipy.ndimage.uniform_filter(image.astype(np.float64), 3)
    dense = float(np.percentile(smooth, 98))
    matter = scipy.ndimage.binary_erosion(smooth > DENSE_LEVEL * dense) if dense > 0 else np.zeros(image.shape, bool)
    return float(np.mean(image[matter], dtype=np.float64)) if np.count_nonzero(matter) >= MIN_MATTER_PX else None


def densities(mean: float, quantity: str, energy_ev: float, a_over_z: float) -> dict[str, float]:
    """Return the mean of dense matter in its quantity, as electron density and as mass density."""
    figures = {f"matter_{quantity}": mean}
    if quantity == "beta":
        return figures
    to_mass = mass_density_per_electron_density(a_over_z)
    electrons = {
        "delta": mean * electron_density_per_delta(energy_ev),
        "electron_density_per_A3": mean,
        "mass_density_g_per_cm3": mean / to_mass,
    }[quantity]
    figures["matter_electron_density_per_A3"] = electrons
    figures["matter_mass_density_g_per_cm3"] = electrons * to_mass
    return figures


def motion(projections: Mapping[int, PlacedProjection], pixel_m: float) -> dict[str, float]:
    """Return how the sample moved in metres beyond what the encoders said, by the numbers of the projections.

    Drift is how far the straight line through the positions goes from the first projection to the last, right across
    the rotation axis and down along it; jitter the root mean square about that line. A sample off the rotation axis
    goes round in circles, which is not motion and is taken out across the axis; the middle of the circle,
    `rotation_axis_m`, is how far right of the middle of the frame the axis was on the stage.
    """
    used = {key: item for key, item in sorted(projections.items()) if item.trusted and item.center_px is not None}
    if len(used) < 6:
        return {}
    moved = -pixel_m * np.array([item.shift_px for item in used.values()])
    order = np.array(list(used), dtype=np.float64)
    order = (order - order.mean()) / max(float(np.ptp(order)), 1.0)
    theta = np.radians([item.angle_deg for item in used.values()])
    figures = {}
    for axis, name in ((0, "along"), (1, "across")):
        columns = [np.ones_like(order), order] + ([np.cos(theta), np.sin(theta)] if axis == 1 else [])
        system = np.stack(columns, axis=1)
        if np.linalg.cond(system) > 1e4:
            continue
        fitted = np.linalg.lstsq(system, moved[:, axis], rcond=None)[0]
        if axis == 1:
            figures["rotation_axis_m"] = float(fitted[0])
        figures[f"sample_drift_{name}_rotation_axis_m"] = float(fitted[1])
        figures[f"sample_jitter_{name}_rotation_axis_rms_m"] = float(np.std(moved[:, axis] - system @ fitted))
    return figures


def angular_span_deg(angles_deg: Array) -> float:
    """Return the smallest range modulo 180 degrees that has all angles in it: 0 for one angle and its mirror image."""
    return 180.0 - largest_gap_deg(angles_deg)


def largest_gap_deg(angles_deg: Array) -> float:
    """Return the largest angle between neighbours modulo 180 degrees."""
    folded = np.sort(np.mod(angles_deg, 180.0))
    return float(np.max(np.diff(folded, append=folded[0] + 180.0))) if folded.size else 180.0


def dose_gy(
    projections: Iterable[PlacedProjection], energy_ev: float, pixel_m: float, a_over_z: float
) -> dict[str, float]:
    """Return photons per square metre and the absorbed dose of all projections together.

    Both follow from the measurement alone: the energy that the sample takes is the fluence times what is missing behind
    it, its mass what its phase shift says for the given A/Z. Photons are those that the detector counted.

    References
    ----------
    M. R. Howells et al., J. Electron Spectrosc. 170, 4 (2009). doi:10.1016/j.elspec.2008.10.008
    """
    photon_j = energy_ev * ELEMENTARY_CHARGE_C
    per_a3 = -delta_per_radian(energy_ev, pixel_m) * electron_density_per_delta(energy_ev)
    kg_per_m2 = per_a3 * a_over_z / ELECTRONS_PER_A3_OF_ONE_MOLE_PER_CM3 * 1e3 * pixel_m
    fluence, dose, judged = 0.0, 0.0, 0
    for item in projections:
        mass = float(item.profile.sum())
        if item.fluence_per_m2 is None or mass <= 0:
            continue
        judged += 1
        fluence += item.fluence_per_m2
        dose += item.fluence_per_m2 * photon_j * max(item.absorbed, 0.0) / (mass * kg_per_m2)
    if not judged or not math.isfinite(dose):
        return {}
    return {"photons_per_m2": fluence, "dose_gy": dose}
