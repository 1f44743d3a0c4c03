"""Messages of a made-up scan that look like those of a real one, and a server that shows them."""

from __future__ import annotations

import time

import numpy as np

from streamptycho.geometry import Geometry
from streamptycho.messages import (
    FramePreview,
    Message,
    ObjectUpdate,
    PathPreview,
    ProjectionStart,
    Quality,
    ServiceStatus,
    VolumeUpdate,
)

PIXEL_M = 25e-9
GEOMETRY = Geometry(energy_ev=6200.0, distance_m=2.0, detector_pixel_m=75e-6, shape=(256, 256))


def star(shape: tuple[int, int], spokes: int = 18, turn: float = 0.0) -> np.ndarray:
    """Phase (H, W) in radians of a Siemens star with rings."""
    y, x = np.indices(shape, float)
    y, x = y - shape[0] / 2, x - shape[1] / 2
    radius = np.hypot(x, y) / (0.46 * min(shape))
    spoke = np.sin(spokes * (np.arctan2(y, x) + turn)) > 0
    gaps = np.abs((radius * 4) % 1 - 0.5) > 0.46
    return np.where((radius > 0.06) & (radius < 1) & spoke & ~gaps, -0.7, 0.0)


def probe(n: int = 128, modes: int = 3) -> np.ndarray:
    y, x = np.mgrid[-n / 2 : n / 2, -n / 2 : n / 2]
    radius = np.hypot(x, y) / (n * 0.3)
    wave = np.exp(-(radius**4)) * (1 - 0.85 * np.exp(-((radius / 0.35) ** 4))) * np.exp(5j * radius**2)
    factors = [1.0, 0.35 * x / (n * 0.2), 0.22 * y / (n * 0.2), 0.1 * x * y / (n * 0.15) ** 2][:modes]
    return np.stack([wave * f for f in factors]).astype(np.complex64)


def frame(index: int, n: int = 256, seed: int = 1) -> FramePreview:
    rng = np.random.default_rng(seed + index)
    y, x = np.mgrid[-n // 2 : n // 2, -n // 2 : n // 2]
    radius = np.hypot(x, y)
    patch = np.exp(1j * star((n, n), turn=0.05 * index)[::-1]) * np.pad(probe(128, 1)[0], (n - 128) // 2)
    wave = np.abs(np.fft.fftshift(np.fft.fft2(patch))) ** 2
    counts = rng.poisson(wave / wave.sum() * 3e6 + 0.02 * np.exp(-radius / 60)).astype(np.uint16)
    counts[(n // 2 + 36) : (n // 2 + 40)] = 65535
    counts[:, (n // 2 - 60) : (n // 2 - 58)] = 65535
    return FramePreview(series="17", index=index, counts=counts)


def object_update(
    projection: int, sweeps: int = 12, frames: int = 182, *, angle_deg: float = 63.9, final: bool = False
) -> ObjectUpdate:
    shape = (420, 520)
    rng = np.random.default_rng(projection)
    y, x = np.indices(shape)
    edge = np.minimum.reduce([y, x, shape[0] - 1 - y, shape[1] - 1 - x]) / 50
    done = np.clip((frames / 252 * shape[0] - y) / 20, 0, 1)
    coverage = (np.clip(edge, 0, 1) ** 2 * done * (1 + 0.1 * np.sin(x / 9) * np.sin(y / 9))).astype(np.float32)
    phase = star(shape, turn=0.03 * projection) + rng.normal(0, 0.6 / (1 + sweeps), shape)
    amplitude = np.exp(0.25 * star(shape, turn=0.03 * projection)) + rng.normal(0, 0.02, shape)
    wave = amplitude * np.exp(1j * (phase + 0.004 * x - 0.002 * y + 1.3))
    path = snake(frames)
    return ObjectUpdate(
        scan_id="i13-1_0042",
        projection=projection,
        angle_deg=angle_deg,
        object=np.where(coverage > 0, wave, 1).astype(np.complex64),
        probe=probe(),
        coverage=coverage,
        pixel_m=PIXEL_M,
        energy_ev=6200.0,
        origin_xy_m=np.zeros(2),
        index=np.arange(frames),
        xy_m=path,
        errors=(0.028 + 0.35 * np.exp(-np.arange(sweeps) / 2.5) + 0.002 * projection / 31).astype(np.float32),
        sweeps=float(sweeps),
        resolution_m=62e-9,
        frc=halves_correlation(62e-9, 20e6) if final else {},
        last_frame_ns=time.time_ns() - 1_900_000_000 - 40_000_000 * projection,
        final=final,
    )


def snake(n: int = 182) -> np.ndarray:
    rng = np.random.default_rng(5)
    k = np.arange(n)
    column, line = k % 18, k // 18
    x = np.where(line % 2, 17 - column, column) * 0.5e-6
    return np.stack([x, line * 0.5e-6], axis=1) + rng.normal(0, 2e-8, (n, 2))


def path(projection: int, n: int = 182) -> PathPreview:
    quality = np.full(n, Quality.MEASURED, np.uint8)
    quality[17::18] = quality[18::18] = Quality.TURNAROUND
    quality[40:46] = Quality.INTERPOLATED
    quality[100:102] = Quality.EXTRAPOLATED
    quality[120:121] = Quality.MISSING
    return PathPreview(scan_id="i13-1_0042", projection=projection, xy_m=snake(n).astype(np.float32), quality=quality)


def volume(used: int, n: int = 200) -> VolumeUpdate:
    rng = np.random.default_rng(9)
    axis = np.linspace(-1, 1, n)
    z, y, x = np.meshgrid(axis, axis, axis[: n // 1], indexing="ij", sparse=True)

    def density(z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        result = 0.42 * (x**2 / 0.72 + y**2 / 0.55 + 0 * z < 1)
        for cx, cy, cz, r in rng_spheres:
            result = np.where((x - cx) ** 2 + (y - cy) ** 2 + ((z - cz) * 0.8) ** 2 < r**2, 0.05, result)
        return result

    rng_spheres = np.column_stack([rng.uniform(-0.6, 0.6, (28, 2)), rng.uniform(-1, 1, 28), rng.uniform(0.06, 0.2, 28)])
    noise = 0.12 / np.sqrt(used)

    def noisy(image: np.ndarray) -> np.ndarray:
        return (image + rng.normal(0, noise, image.shape)).astype(np.float32)

    return VolumeUpdate(
        scan_id="i13-1_0042",
        slice_z=noisy(density(np.zeros(()), y[0], x[0])),
        slice_y=noisy(density(z[:, 0], np.zeros(()), x[0])),
        slice_x=noisy(density(z[:, 0], axis[None, :], np.zeros(()))),
        voxel_m=PIXEL_M * 2,
        quantity="electron_density_per_A3",
        projections_used=used,
        resolution_m=110e-9,
        figures={
            "resolution_half_bit_m": 110e-9,
            "wanted_resolution_m": 100e-9,
            "wanted_resolution_reached": 0.0,
            "largest_gap_deg": 180.0 / used,
            "photons_per_m2": 2.33e20,
            "dose_gy": 2.775e6,
            "matter_electron_density_per_A3": 0.42,
            "air_noise_electron_density_per_A3": noise,
        },
        fsc=halves_correlation(110e-9, 10e6),
    )


def halves_correlation(resolution_m: float, highest_per_m: float, shells: int = 60) -> dict[str, list[float]]:
    """A curve that falls below the half-bit threshold at about the given half period."""
    frequency = np.linspace(highest_per_m / 100, highest_per_m, shells)
    root = 0.9 / np.arange(1, shells + 1)
    half_bit = np.minimum((0.2071 + 1.9102 * root) / (1.2071 + 0.9102 * root), 1)
    correlation = 1 / (1 + (frequency * 2 * resolution_m) ** 8 * (1 / 0.2 - 1))
    return {
        "frequency_per_m": frequency.tolist(),
        "correlation": correlation.tolist(),
        "half_bit": half_bit.tolist(),
        "one_seventh": [1 / 7] * shells,
        "one_quarter": [1 / 4] * shells,
    }


def statuses(step: int = 0) -> list[Message]:
    return [
        ServiceStatus(
            service="record",
            state="running",
            text="stream.log, 1.8 GB written",
            counters={"records": 61_204 + step},
            rates={"mb_per_s": 31.2},
        ),
        ServiceStatus(
            service="ingest",
            state="running",
            text="series 17 with acquisition 17",
            counters={"received": 2954 + step, "paired": 2951 + step},
            dropped={"missing": 2, "unpaired": 1},
            anomalies={"reordered": 14, "saturated": 3},
            rates={"frames_per_s": 498.0 + 10 * np.sin(step).item()},
            queue=3,
            lag_s=0.1,
        ),
        ServiceStatus(
            service="reconstruct",
            state="running",
            text="projection 12, sweep 12",
            rates={"frames_per_s": 2140.0, "sweeps_per_s": 8.5},
            queue=2,
            lag_s=0.4,
        ),
        ServiceStatus(
            service="tomography",
            state="waiting",
            text="11 of 31 projections in the volume",
            rates={"projections_per_s": 0.6},
        ),
    ]


def scan(projection: int = 11) -> list[Message]:
    """Return what arrives until projection number `projection` is being reconstructed."""
    past = [object_update(k, 30, 252, angle_deg=k * 180 / 31, final=True) for k in range(projection)]
    start = ProjectionStart(
        scan_id="i13-1_0042", projection=projection, angle_deg=63.9, n_frames=252, geometry=GEOMETRY
    )
    return [
        *past,
        start,
        frame(182),
        path(projection),
        object_update(projection),
        volume(projection),
        *statuses(),
    ]
