"""Ellipsoids whose projections are known exactly."""

from dataclasses import dataclass

import numpy as np

from streamptycho.messages import ObjectUpdate


@dataclass(frozen=True)
class Ellipsoid:
    center_xyz: tuple[float, float, float]
    axes_xyz: tuple[float, float, float]
    value: float


SAMPLE = (
    Ellipsoid((0, 0, 0), (30, 22, 34), 0.02),
    Ellipsoid((10, 5, 5), (6, 6, 8), -0.02),
    Ellipsoid((-12, -4, -15), (5, 8, 6), 0.015),
    Ellipsoid((4, -8, 18), (4, 4, 4), 0.02),
)


def volume(depth, side, sample=SAMPLE, shift_zyx=(0.0, 0.0, 0.0)):
    z = np.arange(depth)[:, None, None] - depth // 2 - shift_zyx[0]
    y = np.arange(side)[None, :, None] - side // 2 - shift_zyx[1]
    x = np.arange(side)[None, None, :] - side // 2 - shift_zyx[2]
    total = np.zeros((depth, side, side))
    for part in sample:
        (cx, cy, cz), (a, b, c) = part.center_xyz, part.axes_xyz
        total += part.value * (((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 + ((z - cz) / c) ** 2 < 1)
    return total


def line_integrals(angle_deg, shape, axis_px=None, middle_px=None, sample=SAMPLE):
    """Integrals at s = x cos(theta) + y sin(theta), the volume's centre at column `axis_px` and row `middle_px`."""
    cosine, sine = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    z = np.arange(shape[0])[:, None] - (shape[0] // 2 if middle_px is None else middle_px)
    s = np.arange(shape[1])[None, :] - (shape[1] // 2 if axis_px is None else axis_px)
    total = np.zeros(shape)
    for part in sample:
        (cx, cy, cz), (a, b, c) = part.center_xyz, part.axes_xyz
        r2 = (a * cosine) ** 2 + (b * sine) ** 2
        inside = 1 - ((z - cz) / c) ** 2 - (s - cx * cosine - cy * sine) ** 2 / r2
        total += part.value * 2 * a * b / np.sqrt(r2) * np.sqrt(np.clip(inside, 0, None))
    return total


def center_of_mass_xyz(sample=SAMPLE):
    masses = np.array([part.value * np.prod(part.axes_xyz) for part in sample])
    return masses @ np.array([part.center_xyz for part in sample]) / masses.sum()


PIXEL_M = 30e-9
ENERGY_EV = 6200.0


def object_update(
    projection,
    angle_deg,
    *,
    rng=None,
    strength=10.0,
    moved_px=(0.0, 0.0),
    noise_rad=0.0,
    shape=(128, 128),
    sample=SAMPLE,
    **changes,
):
    """A reconstruction of the sample at stage position 0, displaced by `moved_px` (down, right), on its canvas."""
    rng = rng or np.random.default_rng(projection)
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    middle, axis = shape[0] // 2, shape[1] // 2
    truth = line_integrals(angle_deg, shape, axis + moved_px[1], middle + moved_px[0], sample)
    ramp = rng.uniform(-0.1, 0.1, 2)
    phase = -strength * truth + noise_rad * rng.standard_normal(shape)
    phase = phase + ramp[0] * rows + ramp[1] * columns + rng.uniform(-3, 3)
    out = (
        np.maximum(np.abs(rows - middle) - middle + 10, 0) ** 2 + np.maximum(np.abs(columns - axis) - axis + 10, 0) ** 2
    )
    coverage = 50 * np.exp(-out / 30)
    garbage = 1 + 1j * rng.standard_normal(shape)
    fields = {
        "scan_id": "scan",
        "projection": projection,
        "angle_deg": float(angle_deg),
        "object": np.where(coverage > 15, 0.8 * np.exp(1j * phase), garbage).astype(np.complex64),
        "probe": np.ones((1, 8, 8), np.complex64),
        "coverage": coverage.astype(np.float32),
        "pixel_m": PIXEL_M,
        "energy_ev": ENERGY_EV,
        "origin_xy_m": np.array([-axis * PIXEL_M, -middle * PIXEL_M]),
        "index": np.arange(3),
        "xy_m": np.zeros((3, 2)),
        "errors": np.array([0.1], np.float32),
        "sweeps": 10.0,
        "final": True,
    }
    return ObjectUpdate(**{**fields, **changes})
