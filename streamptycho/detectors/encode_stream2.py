"""Stream V2 messages of a DECTRIS detector, as the simulated detector and imported data send them.

References
----------
DECTRIS, Stream V2: https://github.com/dectris/documentation/tree/main/stream_v2.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import cbor2
import numpy as np

from streamptycho.detectors import compression
from streamptycho.detectors.encoding import Encoder
from streamptycho.geometry import wavelength_from_energy_m
from streamptycho.messages import Array

CHANNEL = "threshold_1"
CLOCK_HZ = 50_000_000
_SELF_DESCRIBED = 55799
_DATE_TIME = 0
_ROW_MAJOR = 40
_COMPRESSED = 56500
_TYPED_ARRAYS = {"uint8": 64, "uint16": 69, "uint32": 70, "float32": 85}


class Stream2Encoder(Encoder):
    """What a detector says in Stream V2, one CBOR message per part list."""

    def __init__(self, **facts: Any) -> None:
        super().__init__(**facts)
        self._epoch: dict[int, float] = {}

    def start(self, *, series: int, n_frames: int, epoch_s: float, labels: Mapping[str, Any]) -> list[list[bytes]]:
        """Return the messages that the detector sends when it is armed. `epoch_s` is the Unix time of arming."""
        self._epoch = {series: epoch_s}
        rows, columns = self._shape
        center_x, center_y = columns / 2, rows / 2
        message = {
            "type": "start",
            **self._identity(series),
            "arm_date": _date(epoch_s),
            "beam_center_x": center_x,
            "beam_center_y": center_y,
            "channels": [CHANNEL],
            "count_time": self._exposure_s,
            "countrate_correction_enabled": False,
            "countrate_correction_lookup_table": _typed(np.arange(2, dtype=np.uint32), "none"),
            "detector_description": "streamptycho simulated detector",
            "detector_serial_number": "SIM-0001",
            "detector_translation": [center_x * self._pixel_m, center_y * self._pixel_m, -self._distance_m],
            "flatfield": {CHANNEL: _typed(np.ones(self._shape, np.float32), self._compression)},
            "flatfield_enabled": False,
            "frame_time": self._period_s,
            "goniometer": {"omega": {"start": 0.0, "increment": 0.0}},
            "image_dtype": self._dtype.name,
            "image_size_x": columns,
            "image_size_y": rows,
            "incident_energy": self._energy_ev,
            "incident_wavelength": wavelength_from_energy_m(self._energy_ev) * 1e10,
            "number_of_images": n_frames,
            "pixel_mask": {CHANNEL: _typed(self._mask, self._compression)},
            "pixel_mask_enabled": self._masked is not None,
            "pixel_size_x": self._pixel_m,
            "pixel_size_y": self._pixel_m,
            "saturation_value": self._saturation,
            "sensor_material": "Si",
            "sensor_thickness": 450e-6,
            "threshold_energy": {CHANNEL: self._energy_ev / 2},
            "user_data": dict(labels),
            "virtual_pixel_interpolation_enabled": False,
        }
        return [[_pack(message)]]

    def image(self, *, series: int, index: int, counts: Array, start_s: float, stop_s: float) -> list[list[bytes]]:
        """Return the messages of one frame, `counts` (H, W). The times count from the epoch of the series.

        Raises
        ------
        ValueError
            If the counts do not have the shape and the dtype of this detector.
        """
        counts = self._as_sent(counts)
        start, stop = round(start_s * CLOCK_HZ), round(stop_s * CLOCK_HZ)
        message = {
            "type": "image",
            **self._identity(series),
            "image_id": index,
            "real_time": [stop - start, CLOCK_HZ],
            "series_date": _date(self._epoch.get(series, 0.0)),
            "start_time": [start, CLOCK_HZ],
            "stop_time": [stop, CLOCK_HZ],
            "user_data": {},
            "data": {CHANNEL: _typed(counts, self._compression)},
        }
        return [[_pack(message)]]

    def end(self, *, series: int) -> list[list[bytes]]:
        """Return the messages that the detector sends when it is disarmed."""
        return [[_pack({"type": "end", **self._identity(series)})]]

    def _identity(self, series: int) -> dict[str, Any]:
        armed_ms = int(self._epoch.get(series, 0.0) * 1e3)
        return {"series_id": series, "series_unique_id": f"{armed_ms:016d}{series:010d}"}


def _pack(message: dict[str, Any]) -> bytes:
    packed: bytes = cbor2.dumps(cbor2.CBORTag(_SELF_DESCRIBED, message))
    return packed


def _date(unix_s: float) -> Any:
    text = datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="microseconds")
    return cbor2.CBORTag(_DATE_TIME, text)


def _typed(array: Array, algorithm: str) -> Any:
    """Return an array as a typed array, inside a multi-dimensional one unless it is flat."""
    content: Any
    if algorithm == "bslz4":
        content = cbor2.CBORTag(_COMPRESSED, ["bslz4", array.itemsize, compression.compress_bslz4(array)])
    elif algorithm == "lz4":
        content = cbor2.CBORTag(_COMPRESSED, ["lz4", 0, compression.compress_lz4(array)])
    else:
        content = np.ascontiguousarray(array).tobytes()
    typed = cbor2.CBORTag(_TYPED_ARRAYS[array.dtype.name], content)
    return typed if array.ndim == 1 else cbor2.CBORTag(_ROW_MAJOR, [list(array.shape), typed])
