"""Messages of the open protocol, as the simulated detector and imported data send them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from streamptycho.detectors import compression as compressed
from streamptycho.detectors.encoding import Encoder
from streamptycho.messages import Array


class OpenEncoder(Encoder):
    """What a detector says in the open protocol, see docs/open-protocol.md."""

    def __init__(self, **facts: Any) -> None:
        super().__init__(**facts)
        self._form = {"shape": list(self._shape), "dtype": self._dtype.name}
        self._header = {
            "energy_ev": self._energy_ev,
            "distance_m": self._distance_m,
            "pixel_m": self._pixel_m,
            "center_px": [self._shape[0] / 2, self._shape[1] / 2],
            "saturation": self._saturation,
            "exposure_s": self._exposure_s,
            "period_s": self._period_s,
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
        counts = self._as_sent(counts)
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
