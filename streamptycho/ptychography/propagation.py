"""Between sample and detector, and the sub-pixel shift that goes with it.

The far field of an exit wave is its discrete Fourier transform, scaled to keep the sum of squares. Detector arrays
have the zero frequency at [0, 0] inside the engine, so that nothing is rolled per frame.
"""

from __future__ import annotations

from typing import Any

import numpy as np

WHOLE_PIXEL = 1e-3


def far_field(wave: Any, fft: Any) -> Any:
    """Return the unitary Fourier transform over the last two axes. The input may be overwritten."""
    return fft.fft2(wave, axes=(-2, -1), norm="ortho", overwrite_x=True)


def near_field(wave: Any, fft: Any) -> Any:
    """Return the inverse, which is also the adjoint, of `far_field`. The input may be overwritten."""
    return fft.ifft2(wave, axes=(-2, -1), norm="ortho", overwrite_x=True)


class ShiftRamps:
    """Phase ramps that move an image of n x n pixels by a fraction of a pixel: unitary, so the adjoint is the inverse.

    Parameters
    ----------
    n
        Pixels along one edge.
    xp
        numpy or cupy.
    """

    def __init__(self, n: int, xp: Any) -> None:
        self._xp = xp
        self._phase_per_px = xp.asarray((-2j * np.pi * np.fft.fftfreq(n)).astype(np.complex64))

    def __call__(self, down_px: float, right_px: float, out: Any) -> Any:
        """Write the factor (n, n) for the spectrum of an image that is to move down and right."""
        down = self._xp.exp(self._phase_per_px * np.float32(down_px))
        right = self._xp.exp(self._phase_per_px * np.float32(right_px))
        return self._xp.multiply(down[:, None], right[None, :], out=out)
