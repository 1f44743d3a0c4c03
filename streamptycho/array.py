"""NumPy or CuPy, chosen once, by configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft

from streamptycho.messages import Array


class DeviceError(RuntimeError):
    """The device that was asked for cannot be used here."""


@dataclass(frozen=True, slots=True)
class Backend:
    """An array library and its FFT, so that numerical code is written once.

    `xp` is the numpy or cupy module, `fft` its FFT module (single precision stays single).
    """

    name: str
    xp: Any
    fft: Any

    def to_device(self, array: Array) -> Any:
        """Return the array on the device (no copy on the CPU)."""
        return self.xp.asarray(array)

    def to_host(self, array: Any) -> Array:
        """Return the array as a NumPy array (no copy on the CPU)."""
        return np.asarray(array) if self.xp is np else self.xp.asnumpy(array)


def backend(device: str) -> Backend:
    """Return the backend of a device: "cpu" or "gpu".

    Raises
    ------
    DeviceError
        If "gpu" is asked for and CuPy is not installed or sees no device.
    """
    if device == "cpu":
        return Backend("cpu", np, scipy.fft)
    if device == "gpu":
        try:
            import cupy
            import cupyx.scipy.fft
        except ImportError as error:
            raise DeviceError(
                f"device 'gpu' needs CuPy, which cannot be imported here ({error}): "
                "install streamptycho[gpu], or set device: cpu"
            ) from None
        if not cupy.is_available():
            raise DeviceError("device 'gpu' was asked for and CuPy sees no GPU: check the driver, or set device: cpu")
        return Backend("gpu", cupy, cupyx.scipy.fft)
    raise DeviceError(f"device must be 'cpu' or 'gpu', got {device!r}")
