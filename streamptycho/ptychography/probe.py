"""The probe before the first update, and its modes in order afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from streamptycho.array import Backend
from streamptycho.config import ProbeConfig
from streamptycho.geometry import Geometry
from streamptycho.messages import Array
from streamptycho.ptychography.frames import measured
from streamptycho.ptychography.optics import propagated

SAMPLE_FRAMES = 128
_SIDE_MODE_POWER = 0.1
_SUPPORT_ROUNDS = 10


class ProbeError(ValueError):
    """A start probe that cannot be used."""


def read_probe(config: ProbeConfig) -> Array | None:
    """Return the configured probe array, None when it starts from the data.

    Raises
    ------
    ProbeError
        If the file cannot be read or holds no such array.
    """
    if config.start != "file":
        return None
    if config.file is None:
        raise ProbeError("probe.start: file needs probe.file, an .npy or .npz file with the complex array")
    if config.file.suffix not in (".npy", ".npz"):
        raise ProbeError(f"the engine reads a probe from .npy or .npz, got {config.file}: convert it, or pass an array")
    return _read_numpy(config.file, config.key)


def _read_numpy(path: Path, key: str) -> Array:
    try:
        loaded: Any = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            if key not in loaded:
                raise ProbeError(f"{path} has no array {key!r}; it has {', '.join(loaded.files)}")
            return np.asarray(loaded[key])
    except (OSError, ValueError, EOFError) as error:
        if isinstance(error, ProbeError):
            raise
        raise ProbeError(f"cannot read the probe {path}: {error}") from None


def checked_probe(probe: Array, n: int | None = None) -> Array:
    """Return a supplied probe as (modes, n, n) complex64. Leading axes of length 1 are dropped.

    Raises
    ------
    ProbeError
        If it is not square, not finite, dark, or not of n x n pixels.
    """
    array = np.asarray(probe)
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.shape[1] != array.shape[2] or array.dtype.kind not in "cfiu":
        raise ProbeError(f"a probe is (n, n) or (modes, n, n) numbers, got {array.shape} {array.dtype}")
    if n is not None and array.shape[-1] != n:
        raise ProbeError(f"the frames are {n} x {n} pixels and the probe is {array.shape[1]} x {array.shape[2]}")
    array = array.astype(np.complex64)
    if not np.isfinite(array).all() or not np.any(array):
        raise ProbeError("the probe has values that are not finite, or is zero everywhere")
    return array


def scaled_to(probe: Array, power: float) -> Array:
    """Return the probe with its summed intensity set to `power`, the counts of a mean frame."""
    now = float(np.sum(np.abs(probe).astype(np.float64) ** 2))
    return np.asarray(probe * np.sqrt(power / now), dtype=np.complex64)


def with_modes(probe: Array, modes: int) -> Array:
    """Return `modes` incoherent modes, (modes, n, n) complex64, of the same total power.

    Missing modes are the first one times growing powers of x and y about its centre, made orthogonal, with a small
    share of the power each: a start that distinguishes them without noise. Modes too many are left out, weakest first.
    """
    if len(probe) >= modes:
        kept = orthogonal_modes(probe)[:modes] if len(probe) > modes else probe
        return scaled_to(kept, float(np.sum(np.abs(probe) ** 2)))
    main = probe[0]
    intensity = np.abs(main).astype(np.float64) ** 2
    axis = np.arange(main.shape[0], dtype=np.float64)
    row = (intensity.sum(axis=1) * axis).sum() / intensity.sum()
    column = (intensity.sum(axis=0) * axis).sum() / intensity.sum()
    y, x = (axis - row)[:, None], (axis - column)[None, :]
    spread = np.sqrt((intensity * (x**2 + y**2)).sum() / intensity.sum() / 2) or 1.0
    orders = [(total - k, k) for total in range(modes) for k in range(total + 1)]
    basis = [m.astype(np.complex128) for m in probe]
    main_norm = np.linalg.norm(main)
    for order_x, order_y in orders[1:]:
        if len(basis) == modes:
            break
        mode = main * (x / spread) ** order_x * (y / spread) ** order_y
        for other in basis:
            mode = mode - other * (np.vdot(other, mode) / np.vdot(other, other))
        norm = np.linalg.norm(mode)
        if norm > 1e-6 * main_norm:
            basis.append(mode * (np.sqrt(_SIDE_MODE_POWER) * main_norm / norm))
    while len(basis) < modes:
        basis.append(np.roll(main, len(basis), axis=1) * np.sqrt(_SIDE_MODE_POWER))
    return scaled_to(np.array(basis), float(np.sum(np.abs(probe) ** 2)))


def orthogonal_modes(probe: Array) -> Array:
    """Return modes of equal mutual intensity that are orthogonal, strongest first.

    References
    ----------
    Thibault and Menzel 2013, doi 10.1038/nature11806.
    """
    if len(probe) == 1:
        return probe
    flat = probe.reshape(len(probe), -1).astype(np.complex128)
    _, vectors = np.linalg.eigh(flat.conj() @ flat.T)
    return np.asarray((vectors[:, ::-1].T @ flat).reshape(probe.shape), dtype=np.complex64)


def probe_from_data(
    frames: Any,
    geometry: Geometry,
    config: ProbeConfig,
    backend: Backend,
    *,
    upsampling: int = 1,
    defocus_m: float | None = None,
) -> Array:
    """Return a first probe, (1, n, n) complex64, from frames (K, m, m) with zero frequency at [0, 0], n = upsampling m.

    Its far field has the mean modulus of the data. With a defocus (`defocus_m`, or else that of the configuration) it
    is the wave of that modulus in the pupil, which comes to a focus so far upstream of the sample. With `diameter_m` a
    few rounds between the far field and a disc of that diameter at the sample make both agree. Without either, the disc
    has the diameter that the exit waves seem to have (see `_estimated_diameter_px`).
    """
    if defocus_m is None:
        assert config.defocus_m != "auto"
        defocus_m = config.defocus_m
    intensity, mean = _mean_counts(backend.to_host(frames))
    finer = np.repeat(np.repeat(mean, upsampling, axis=0), upsampling, axis=1) / upsampling**2
    modulus = np.sqrt(finer)
    n, pixel_m = upsampling * geometry.shape[0], geometry.object_pixel_m
    probe: Array
    disc: Array | None = None
    if config.diameter_m is not None:
        disc = _disc(n, config.diameter_m / pixel_m)
    elif not defocus_m:
        disc = _disc(n, _estimated_diameter_px(intensity))
    if disc is not None and not defocus_m:
        probe = disc.astype(np.complex128)
    else:
        focus = np.fft.fftshift(np.fft.ifft2(modulus, norm="ortho"))
        probe = propagated(focus, defocus_m, pixel_m, geometry.wavelength_m)
    if disc is not None:
        for _ in range(_SUPPORT_ROUNDS):
            field = np.fft.fft2(probe * disc, norm="ortho")
            probe = np.fft.ifft2(modulus * field / np.maximum(np.abs(field), 1e-30), norm="ortho")
    return scaled_to(probe[None], float(mean.sum()))


def probe_from_near_field(frames: Any, transfer: Array, backend: Backend) -> Array:
    """Return a first probe, (1, n, n) complex64: the mean modulus of near-field frames (K, n, n), taken back."""
    _, mean = _mean_counts(backend.to_host(frames))
    probe = np.fft.ifft2(np.fft.fft2(np.sqrt(mean)) * transfer.conj())
    return scaled_to(probe[None], float(mean.sum()))


def mean_counts(frames: Any, backend: Backend) -> Array:
    """Return the mean of frames (K, m, m) over those that measured a pixel, (m, m) float64."""
    return _mean_counts(backend.to_host(frames))[1]


def _mean_counts(counts: Array) -> tuple[Array, Array]:
    valid = measured(counts)
    intensity = np.where(valid, counts, 0).astype(np.float64)
    return intensity, intensity.sum(axis=0) / np.maximum(valid.sum(axis=0), 1)


def _disc(n: int, diameter_px: float) -> Array:
    axis = np.arange(n) - n // 2
    radius_px = np.clip(diameter_px, 3.0, 0.9 * n) / 2
    return np.asarray(np.clip(radius_px - np.hypot(axis[:, None], axis[None, :]) + 0.5, 0, 1))


def _estimated_diameter_px(intensity: Array) -> float:
    """Return the diameter of the uniform disc whose pairs of points are as far apart as those of the exit waves.

    The Fourier transform of the counts is the autocorrelation of the exit wave. What varies from frame to frame in it
    comes from pairs of points all over the probe; over a disc of radius R their mean squared distance is R squared.
    """
    n = intensity.shape[-1]
    correlation = np.fft.ifft2(intensity)
    spread = np.mean(np.abs(correlation) ** 2, axis=0) - np.abs(correlation.mean(axis=0)) ** 2
    if len(intensity) == 1:
        spread = np.abs(correlation[0]) ** 2
    lag = np.fft.fftfreq(n, 1 / n)
    square = lag[:, None] ** 2 + lag[None, :] ** 2
    noise = np.median(spread[square > (0.45 * n) ** 2])
    weight = np.maximum(spread - 2 * noise, 0)
    weight[0, 0] = 0
    if weight.sum() <= 0:
        return float(n / 4)
    return float(2 * np.sqrt((weight * square).sum() / weight.sum()))
