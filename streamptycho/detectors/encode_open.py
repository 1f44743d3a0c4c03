"""Messages of the open protocol, as the simulated detector and imported data send them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from streamptycho.detectors import compression as compressed
from streamptycho.messages import Array


class OpenEncoder:
    """What a detector says in the open protocol, see docs/open-protocol.md.

    Parameters
    ----------
    shape
        Rows and columns of the frames.
    dtype
        "uint8", "uint16" or "uint32".
    compression
        "bslz4", "lz4" or "none".
    mask
        (H, W), not zero where a pixel is masked. Masked pixels are sent as the largest value of the dtype.
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
        self._dtype = np.dtype(dtype)
        self._compression = compression
        self._masked = None if mask is None else np.asarray(mask) != 0
        top = int(np.iinfo(self._dtype).max)
        self._shape = shape
        self._form = {"shape": list(shape), "dtype": self._dtype.name}
        self._header = {
            "energy_ev": energy_ev,
            "distance_m": distance_m,
            "pixel_m": detector_pixel_m,
            "center_px": [shape[0] / 2, shape[1] / 2],
            "saturation": top - 1 if saturation is None else saturation,
            "exposure_s": exposure_s,
            "period_s": period_s,
        }

    def start(self, *, series: int, n_frames: int, epoch_s: float, labels: Mapping[str, Any]) -> list[list[bytes]]:
        """Return the messages that begin a series. `epoch_s` is the Unix time of arming."""
        known = {"frames": n_frames, "epoch_s": epoch_s, "labels": dict(labels)}
        message = [_json({"type": "start", "version": 1, "series": series, **known, **self._form, **self._header})]
        return [message if self._masked is None else [*message, self._masked.astype(np.uint8).tobytes()]]

    def image(self, *, series: int, index: int, counts: Array, start_s: float, stop_s: float) -> list[list[bytes]]:
        """Return the messages of one frame, `counts` (H, W). The times count from the epoch of the series.

        Raises
        ------
        ValueError
            If the counts do not have the shape and the dtype of this detector.
        """
        return self.images(series=series, first=index, counts=counts[np.newaxis], start_s=[start_s], stop_s=[stop_s])

    def images(
        self, *, series: int, first: int, counts: Array, start_s: list[float], stop_s: list[float]
    ) -> list[list[bytes]]:
        """Return one message with several frames that follow each other, `counts` (N, H, W).

        Raises
        ------
        ValueError
            If the counts do not have the shape and the dtype of this detector.
        """
        if counts.shape[1:] != self._shape or counts.dtype != self._dtype:
            raise ValueError(
                f"frames of this detector are {self._shape} {self._dtype}, got {counts.shape[1:]} {counts.dtype}"
            )
        if self._masked is not None:
            counts = np.where(self._masked, self._dtype.type(np.iinfo(self._dtype).max), counts)
        where = {"series": series, "first": first, "count": len(counts), "start_s": start_s, "stop_s": stop_s}
        encoding, buffers = self._compress(counts)
        return [[_json({"type": "frames", **where, **self._form, "encoding": encoding}), *buffers]]

    def end(self, *, series: int) -> list[list[bytes]]:
        """Return the messages that end a series."""
        return [[_json({"type": "end", "series": series})]]

    def _compress(self, counts: Array) -> tuple[str, list[bytes]]:
        if self._compression == "bslz4":
            return "bslz4", [compressed.compress_bslz4(frame) for frame in counts]
        if self._compression == "lz4":
            return "lz4", [compressed.compress_lz4(frame) for frame in counts]
        return "raw", [np.ascontiguousarray(counts).tobytes()]


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
