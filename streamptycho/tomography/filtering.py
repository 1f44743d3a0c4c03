"""Filters of filtered back-projection."""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy.fft

from streamptycho.messages import Array

FilterName = Literal["hamming", "ram-lak", "shepp-logan", "hann"]
FILTERS: tuple[FilterName, ...] = FilterName.__args__  # type: ignore[attr-defined]


class FilterError(ValueError):
    """A filter that is not known."""


def frequency_response(size: int, name: FilterName) -> Array:
    """Return the filter at the `size // 2 + 1` frequencies of a real FFT, float64.

    The ramp is the transform of the band-limited kernel (1/4 at zero, -1/(pi n)^2 at odd n, zero at even n), which
    unlike the sampled |frequency| keeps the mean of the image.

    Raises
    ------
    FilterError
        If the name is not one of `FILTERS`.

    References
    ----------
    A. C. Kak, M. Slaney, Principles of Computerized Tomographic Imaging, chapter 3. doi:10.1137/1.9780898719277
    """
    if name not in FILTERS:
        raise FilterError(f"filter must be one of {', '.join(FILTERS)}, got {name!r}")
    distance = np.minimum(np.arange(size), size - np.arange(size))
    kernel = np.zeros(size)
    kernel[0] = 0.25
    odd = distance % 2 == 1
    kernel[odd] = -1.0 / (np.pi * distance[odd]) ** 2
    response = scipy.fft.rfft(kernel).real
    frequency = scipy.fft.rfftfreq(size)
    if name == "hamming":
        response = response * (0.54 + 0.46 * np.cos(2.0 * np.pi * frequency))
    elif name == "hann":
        response = response * (0.5 + 0.5 * np.cos(2.0 * np.pi * frequency))
    elif name == "shepp-logan":
        response = response * np.sinc(frequency)
    return np.asarray(response)


def filter_taps(width: int, name: FilterName) -> Array:
    """Return the weights (width + 3,) float64 of pixels 0, 1, 2 ... away, of which the last three are never needed."""
    padded = padded_width(width)
    taps = scipy.fft.irfft(frequency_response(padded, name), n=padded)
    return np.asarray(np.concatenate([taps[:width], np.zeros(3)]))


def padded_width(width: int) -> int:
    """Return how many pixels a row is padded to against wrap-around."""
    return int(scipy.fft.next_fast_len(2 * width, real=True))


def filter_rows(line_integrals: Array, name: FilterName, *, workers: int = 1) -> Array:
    """Return the filtered rows (..., X) float32 of `line_integrals` (..., X), zero-padded against wrap-around."""
    width = line_integrals.shape[-1]
    padded = padded_width(width)
    spectrum = scipy.fft.rfft(np.asarray(line_integrals, dtype=np.float32), n=padded, axis=-1, workers=workers)
    spectrum *= frequency_response(padded, name).astype(np.float32)
    filtered = scipy.fft.irfft(spectrum, n=padded, axis=-1, workers=workers)
    return np.ascontiguousarray(filtered[..., :width], dtype=np.float32)
