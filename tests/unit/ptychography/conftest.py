"""A small measurement whose truth is known, made by a forward model of its own in double precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from streamptycho.geometry import Geometry
from streamptycho.messages import Array, DiffractionBatch, ProjectionStart


@dataclass
class Measurement:
    counts: Array
    xy_m: Array
    geometry: Geometry
    probe: Array
    obj: Array
    noise_floor: float

    def start(self, projection: int = 0) -> ProjectionStart:
        return ProjectionStart(
            scan_id="s", projection=projection, angle_deg=None, n_frames=len(self.counts), geometry=self.geometry
        )

    def batch(self, first: int = 0, stop: int | None = None, projection: int = 0) -> DiffractionBatch:
        stop = len(self.counts) if stop is None else stop
        return make_batch(self.counts[first:stop], self.xy_m[first:stop], first, projection)


def make_batch(counts: Array, xy_m: Array, first: int = 0, projection: int = 0) -> DiffractionBatch:
    return DiffractionBatch(
        scan_id="s",
        projection=projection,
        index=np.arange(first, first + len(counts)),
        counts=counts,
        xy_m=xy_m,
        quality=np.zeros(len(counts), np.uint8),
    )


def _smooth_noise(shape: tuple[int, int], length_px: float, random: np.random.Generator) -> Array:
    v, u = (np.fft.fftfreq(size) for size in shape)
    envelope = np.exp(-2 * (np.pi * length_px) ** 2 * (v[:, None] ** 2 + u[None, :] ** 2))
    field = np.fft.ifft2(np.fft.fft2(random.normal(size=shape)) * envelope).real
    return field / field.std()


def _measure(
    n: int = 32,
    side: int = 9,
    step_px: float = 3.3,
    modes: int = 1,
    photons: float = 3e5,
    seed: int = 0,
    binned: int = 1,
    flux: Array | None = None,
    blur_px: float = 0.0,
    near_field: bool = False,
) -> Measurement:
    """Simulate frames; `binned` detector pixels are summed, exposures move `blur_px` to the right, `flux` (N,)."""
    random = np.random.default_rng(seed)
    distance_m, detector_pixel_m = (0.002, 3e-7) if near_field else (2.0, 75e-6 * binned)
    geometry = Geometry(8000.0, distance_m, detector_pixel_m, (n // binned, n // binned))
    pixel_m = geometry.detector_pixel_m if near_field else geometry.object_pixel_m
    axis = np.arange(n) - n // 2
    radius = np.hypot(axis[:, None], axis[None, :])
    main = np.exp(-((radius / (n / 6)) ** 4)) * np.exp(1j * np.pi * radius**2 / (2.2 * n))
    probe = np.stack([main, 1.2 * main * axis[None, :] / (n / 6), 0.8 * main * axis[:, None] / (n / 6)][:modes])
    probe *= np.sqrt(photons / np.sum(np.abs(probe) ** 2))
    grid = np.arange(side) * step_px
    y, x = (a.ravel() for a in np.meshgrid(grid, grid, indexing="ij"))
    xy_px = np.stack([x, y], axis=1) + random.uniform(-1, 1, (side * side, 2))
    size = int(grid[-1]) + n + 8
    thickness = np.clip(_smooth_noise((size, size), 2.0, random) + 1, 0, 3)
    obj = np.exp(-(0.35j + 0.05) * thickness)
    v = np.fft.fftfreq(n)
    counts = np.empty((len(xy_px), n // binned, n // binned), np.uint16)
    flux = np.ones(len(xy_px)) if flux is None else flux
    square = np.fft.fftfreq(n, pixel_m) ** 2
    phase = np.pi * geometry.wavelength_m * geometry.distance_m * (square[:, None] + square[None, :])
    misfit = 0.0
    for k, (px, py) in enumerate(xy_px):
        intensity = np.zeros((n, n))
        moments = np.linspace(-0.5, 0.5, 9) * blur_px if blur_px else np.zeros(1)
        for moment in moments:
            column, row = round(px), round(py)
            ramp = np.exp(-2j * np.pi * (v[:, None] * (py - row) + v[None, :] * (px + moment - column)))
            patch = obj[row + 4 : row + 4 + n, column + 4 : column + 4 + n]
            wave = np.fft.ifft2(np.fft.fft2(probe) * ramp) * patch
            if near_field:
                field = np.fft.ifft2(np.fft.fft2(wave) * np.exp(-1j * phase))
            else:
                field = np.fft.fftshift(np.fft.fft2(wave, norm="ortho"), axes=(1, 2))
            intensity += (np.abs(field) ** 2).sum(axis=0) * flux[k] / len(moments)
        intensity = intensity.reshape(n // binned, binned, n // binned, binned).sum(axis=(1, 3))
        counts[k] = random.poisson(intensity)
        misfit += ((np.sqrt(intensity) - np.sqrt(counts[k])) ** 2).sum()
    offset_px = np.array([-17, 230])
    return Measurement(
        counts=counts,
        xy_m=(xy_px + offset_px) * pixel_m,
        geometry=geometry,
        probe=probe,
        obj=obj,
        noise_floor=float(misfit / counts.sum(dtype=np.float64)),
    )


@pytest.fixture(scope="session")
def measure() -> Callable[..., Measurement]:
    return _measure


@pytest.fixture(scope="session")
def measurement() -> Measurement:
    return _measure()


@pytest.fixture(scope="session")
def batch_of() -> Callable[..., DiffractionBatch]:
    return make_batch
