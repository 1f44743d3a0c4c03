"""Resolution from the correlation of two independent reconstructions, ring by ring or shell by shell.

References
----------
van Heel and Schatz 2005, doi 10.1016/j.jsb.2005.05.009.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft

from streamptycho.messages import Array

_REGISTRATION_BAND = 0.25
_FIRST_JUDGED_RING = 2


class ResolutionError(ValueError):
    """Arrays that cannot be compared ring by ring."""


@dataclass(frozen=True, slots=True, eq=False)
class CorrelationCurve:
    """Correlation of two images or volumes by spatial frequency.

    `frequency` (K,) in units of the Nyquist frequency, 0 to 1; `correlation` (K,); `independent` (K,) is the number of
    independent coefficients in each ring or shell.
    """

    frequency: Array
    correlation: Array
    independent: Array

    def half_bit(self) -> Array:
        """Return the 1/2-bit threshold, (K,)."""
        root = 1 / np.sqrt(np.maximum(self.independent, 1e-9))
        return np.asarray(np.minimum((0.2071 + 1.9102 * root) / (1.2071 + 0.9102 * root), 1.0))

    def one_seventh(self) -> Array:
        """Return the fixed threshold 1/7 (0.143), (K,)."""
        return np.full(self.frequency.shape, 1 / 7)

    def one_quarter(self) -> Array:
        """Return the fixed threshold 1/4, for two independent measurements of full dose each, (K,)."""
        return np.full(self.frequency.shape, 1 / 4)

    def columns(self, pixel_m: float) -> dict[str, list[float]]:
        """Return the curve of arrays with this pixel and its thresholds as lists, as `ObjectUpdate.frc` has them."""
        columns = {
            "frequency_per_m": self.frequency * 0.5 / pixel_m,
            "correlation": self.correlation,
            "half_bit": self.half_bit(),
            "one_seventh": self.one_seventh(),
            "one_quarter": self.one_quarter(),
        }
        return {name: [float(value) for value in values] for name, values in columns.items()}


def hann_window(shape: tuple[int, ...], flat: float = 0.0) -> Array:
    """Return a separable window that falls to zero at the edges like a cosine; the middle part `flat` of it is 1."""
    window = np.ones(shape)
    for axis, size in enumerate(shape):
        outward = np.abs((np.arange(size) + 0.5) / size * 2 - 1)
        fall = np.clip((outward - flat) / max(1 - flat, 1e-9), 0, 1)
        profile = 0.5 * (1 + np.cos(np.pi * fall))
        window = window * profile.reshape([-1 if k == axis else 1 for k in range(len(shape))])
    return window


def fourier_correlation(first: Array, second: Array, *, flat: float = 0.0) -> CorrelationCurve:
    """Return the Fourier ring (2-D) or shell (3-D) correlation, after removing the mean and apodising the edges.

    Rings are one frequency step of the longest edge wide. Coefficients count as independent in proportion to the
    area that the window leaves; those of real arrays come in equal pairs and count half.

    Parameters
    ----------
    first, second
        Real or complex, of equal shape, (H, W) or (D, H, W), at least 8 along each edge.
    flat
        Fraction of each edge in the middle that the window leaves at 1.

    Raises
    ------
    ResolutionError
        If the shapes differ, are too small or have another number of dimensions, or values are not finite.
    """
    if first.shape != second.shape or first.ndim not in (2, 3) or min(first.shape) < 8:
        raise ResolutionError(
            "correlation needs two arrays of equal shape, 2-D or 3-D, at least 8 along each edge, "
            f"got {first.shape} and {second.shape}"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ResolutionError("the arrays to compare have values that are not finite")
    window = hann_window(first.shape, flat)
    spectra = []
    for array in (first, second):
        mean = (array * window).sum() / window.sum()
        spectra.append(scipy.fft.fftn((array - mean) * window))
    cross = (spectra[0] * spectra[1].conj()).real
    power = [np.abs(s) ** 2 for s in spectra]
    longest = max(first.shape)
    rings = longest // 2
    axes = np.meshgrid(*[np.fft.fftfreq(size) for size in first.shape], indexing="ij", sparse=True)
    radius = np.sqrt(sum(axis**2 for axis in axes))
    ring = np.rint(radius * longest).astype(np.int64).ravel()

    def summed(values: Array) -> Array:
        return np.bincount(ring, values.ravel(), minlength=rings + 1)[1 : rings + 1]

    number = np.bincount(ring, minlength=rings + 1)[1 : rings + 1]
    scale = np.sqrt(summed(power[0]) * summed(power[1]))
    correlation = np.divide(summed(cross), scale, out=np.zeros(rings), where=scale > 0)
    kept = float((window**2).sum() ** 2 / (window**4).sum() / window.size)
    paired = 1.0 if np.iscomplexobj(first) or np.iscomplexobj(second) else 0.5
    return CorrelationCurve(np.arange(1, rings + 1) * 2 / longest, correlation, number * kept * paired)


def resolution_m(curve: CorrelationCurve, pixel_m: float, threshold: Array | None = None) -> float | None:
    """Return the half-period resolution: half the wavelength of the frequency at which the curve meets the threshold.

    A curve that stays above gives the pixel; None when it starts below, so that nothing can be said.

    Parameters
    ----------
    curve
        From `fourier_correlation`.
    pixel_m
        Of the arrays that were compared.
    threshold
        (K,), by default the 1/2-bit one.
    """
    limit = curve.half_bit() if threshold is None else threshold
    margin = (curve.correlation - limit)[_FIRST_JUDGED_RING:]
    frequency = curve.frequency[_FIRST_JUDGED_RING:]
    below = np.flatnonzero(margin < 0)
    if margin.size == 0 or margin[0] < 0:
        return None
    if below.size == 0:
        return pixel_m
    k = int(below[0])
    share = margin[k - 1] / (margin[k - 1] - margin[k])
    crossing = frequency[k - 1] + share * (frequency[k] - frequency[k - 1])
    return float(pixel_m / crossing)


def resolutions_m(curve: CorrelationCurve, pixel_m: float) -> dict[str, float]:
    """Return the half-period resolution by every threshold that the curve meets, by the name of the threshold."""
    limits = {"half_bit": curve.half_bit(), "one_seventh": curve.one_seventh(), "one_quarter": curve.one_quarter()}
    found = {name: resolution_m(curve, pixel_m, limit) for name, limit in limits.items()}
    return {name: value for name, value in found.items() if value is not None}


def without_ramp(image: Array, reference: Array) -> Array:
    """Return a complex image with the phase offset and linear phase ramp against a reference taken away."""
    relative = image * reference.conj()
    steps = [np.vdot(relative[:-1], relative[1:]), np.vdot(relative[:, :-1], relative[:, 1:])]
    down, right = (np.angle(s) for s in steps)
    rows, columns = np.arange(image.shape[0])[:, None], np.arange(image.shape[1])[None, :]
    level = image * np.exp(-1j * (down * rows + right * columns))
    offset = np.angle(np.vdot(reference, level))
    return np.asarray(level * np.exp(-1j * offset))


def registered(image: Array, reference: Array) -> Array:
    """Return a complex image moved onto a reference, to a fraction of a pixel.

    The whole-pixel shift is the peak of the cross-correlation; the rest is the slope of the phase of the cross spectrum
    over low frequencies, weighted by its modulus.
    """
    window = hann_window(image.shape)
    mean, reference_mean = image.mean(), reference.mean()
    cross = scipy.fft.fft2((image - mean) * window) * scipy.fft.fft2((reference - reference_mean) * window).conj()
    if not np.any(cross):
        return image
    peak = np.unravel_index(int(np.argmax(np.abs(scipy.fft.ifft2(cross)))), cross.shape)
    rows, columns = (np.fft.fftfreq(size) for size in image.shape)
    v, u = rows[:, None], columns[None, :]
    whole = [p - size if p > size // 2 else p for p, size in zip(peak, cross.shape, strict=True)]
    cross = cross * np.exp(2j * np.pi * (v * whole[0] + u * whole[1]))
    low = (np.abs(v) < _REGISTRATION_BAND / 2) & (np.abs(u) < _REGISTRATION_BAND / 2)
    weight = np.where(low, np.abs(cross), 0)
    phase = np.angle(cross * np.exp(-1j * np.angle(cross[low].sum())))
    normal = np.array(
        [[(weight * v * v).sum(), (weight * v * u).sum()], [(weight * v * u).sum(), (weight * u * u).sum()]]
    )
    slope = np.array([(weight * v * phase).sum(), (weight * u * phase).sum()])
    rest = np.linalg.lstsq(normal, slope, rcond=None)[0] / (-2 * np.pi)
    down, right = whole[0] + rest[0], whole[1] + rest[1]
    moved = scipy.fft.ifft2(scipy.fft.fft2(image - mean) * np.exp(2j * np.pi * (v * down + u * right)))
    return np.asarray(moved + mean)


def half_image_correlation(first: Array, second: Array) -> CorrelationCurve | None:
    """Return the ring correlation of two complex images of halves of the data, None when they are too small.

    The second is freed of phase offset and ramp against the first and registered on it before the correlation.
    """
    if first.shape != second.shape or min(first.shape) < 16:
        return None
    level = without_ramp(second, first)
    aligned = without_ramp(registered(level, first), first)
    return fourier_correlation(first, aligned)
