"""What all encoders of the simulated detector have in common."""

from __future__ import annotations

import numpy as np

from streamptycho.messages import Array


class Encoder:
    """Facts of a detector that sends frames.

    Parameters
    ----------
    shape
        Rows and columns of the frames.
    dtype
        "uint8", "uint16" or "uint32".
    compression
        "bslz4", "lz4" or "none".
    mask
        (H, W), not zero where a pixel is masked; bits as DECTRIS defines them. Masked pixels are sent as the largest
        value of the dtype.
    saturation
        Largest count that is valid; None takes the second largest value of the dtype.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, int],
        dtype: str,
        energy_ev: float,
        distance_m: float,
        detector_pixel_m: float,
        compression: str = "bslz4",
        mask: Array | None = None,
        saturation: int | None = None,
        exposure_s: float = 1e-3,
        period_s: float = 1e-3,
    ) -> None:
        self._shape = shape
        self._dtype = np.dtype(dtype)
        self._top = int(np.iinfo(self._dtype).max)
        self._energy_ev = energy_ev
        self._distance_m = distance_m
        self._pixel_m = detector_pixel_m
        self._compression = compression
        self._mask = np.zeros(shape, np.uint32) if mask is None else np.asarray(mask).astype(np.uint32)
        self._masked = None if mask is None else self._mask != 0
        self._saturation = self._top - 1 if saturation is None else saturation
        self._exposure_s = exposure_s
        self._period_s = period_s

    def _as_sent(self, counts: Array) -> Array:
        """Return frames (..., H, W) with masked pixels at the largest value.

        Raises
        ------
        ValueError
            If they do not have the shape and the dtype of this detector.
        """
        if counts.shape[-2:] != self._shape or counts.dtype != self._dtype:
            raise ValueError(
                f"frames of this detector are {self._shape} {self._dtype}, got {counts.shape[-2:]} {counts.dtype}"
            )
        return counts if self._masked is None else np.where(self._masked, self._dtype.type(self._top), counts)
