"""Stream V1 messages of a DECTRIS detector, as the simulated detector and imported data send them.

References
----------
DECTRIS, EIGER2 SIMPLON API 1.8.0, section 5.4.3 (stream, legacy format).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from streamptycho.detectors import compression
from streamptycho.detectors.encoding import Encoder
from streamptycho.geometry import wavelength_from_energy_m
from streamptycho.messages import Array


class Stream1Encoder(Encoder):
    """What a detector says in Stream V1: JSON parts and blobs, with the header in all detail."""

    def start(self, *, series: int, n_frames: int, epoch_s: float, labels: Mapping[str, Any]) -> list[list[bytes]]:
        """Return the messages that the detector sends when it is armed. `epoch_s` is the Unix time of arming."""
        rows, columns = self._shape
        bits = 8 * self._dtype.itemsize
        settings = {
            "auto_summation": True,
            "beam_center_x": columns / 2,
            "beam_center_y": rows / 2,
            "bit_depth_image": bits,
            "bit_depth_readout": min(bits, 16),
            "compression": self._compression,
            "count_time": self._exposure_s,
            "countrate_correction_applied": False,
            "countrate_correction_count_cutoff": self._saturation,
            "data_collection_date": datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds"),
            "description": "streamptycho simulated detector",
            "detector_distance": self._distance_m,
            "detector_number": "SIM-0001",
            "detector_readout_time": max(self._period_s - self._exposure_s, 0.0),
            "detector_translation": [0.0, 0.0, self._distance_m],
            "eiger_fw_version": "simulated",
            "flatfield_correction_applied": False,
            "frame_time": self._period_s,
            "nimages": n_frames,
            "ntrigger": 1,
            "number_of_excluded_pixels": 0 if self._masked is None else int(self._masked.sum()),
            "photon_energy": self._energy_ev,
            "pixel_mask_applied": self._masked is not None,
            "sensor_material": "Si",
            "sensor_thickness": 450e-6,
            "software_version": "1.8.0",
            "threshold_energy": self._energy_ev / 2,
            "trigger_mode": "exts",
            "virtual_pixel_correction_applied": False,
            "wavelength": wavelength_from_energy_m(self._energy_ev) * 1e10,
            "x_pixel_size": self._pixel_m,
            "x_pixels_in_detector": columns,
            "y_pixel_size": self._pixel_m,
            "y_pixels_in_detector": rows,
        }
        countrate = np.array([[0.0, 1.0], [0.0, 1.0]], np.float32)
        return [
            [
                _json({"header_detail": "all", "htype": "dheader-1.0", "series": series}),
                _json(settings),
                *_table("dflatfield-1.0", np.ones(self._shape, np.float32)),
                *_table("dpixelmask-1.0", self._mask),
                *_table("dcountrate_table-1.0", countrate, shape=[2, 2]),
                _json(dict(labels)),
            ]
        ]

    def image(self, *, series: int, index: int, counts: Array, start_s: float, stop_s: float) -> list[list[bytes]]:
        """Return the messages of one frame, `counts` (H, W). The times count from the epoch of the series.

        Raises
        ------
        ValueError
            If the counts do not have the shape and the dtype of this detector.
        """
        counts = self._as_sent(counts)
        encoding, blob = self._compress(counts)
        digest = hashlib.md5(blob, usedforsecurity=False).hexdigest()
        start_ns, stop_ns = round(start_s * 1e9), round(stop_s * 1e9)
        rows, columns = self._shape
        return [
            [
                _json({"frame": index, "hash": digest, "htype": "dimage-1.0", "series": series}),
                _json(
                    {
                        "encoding": encoding,
                        "htype": "dimage_d-1.0",
                        "shape": [columns, rows],
                        "size": len(blob),
                        "type": self._dtype.name,
                    }
                ),
                blob,
                _json(
                    {
                        "htype": "dconfig-1.0",
                        "real_time": stop_ns - start_ns,
                        "start_time": start_ns,
                        "stop_time": stop_ns,
                    }
                ),
            ]
        ]

    def end(self, *, series: int) -> list[list[bytes]]:
        """Return the messages that the detector sends when it is disarmed."""
        return [[_json({"htype": "dseries_end-1.0", "series": series})]]

    def _compress(self, counts: Array) -> tuple[str, bytes]:
        if self._compression == "bslz4":
            return f"bs{8 * counts.itemsize}-lz4<", compression.compress_bslz4(counts)
        if self._compression == "lz4":
            return "lz4<", compression.compress_lz4_block(counts)
        return "<", np.ascontiguousarray(counts).tobytes()


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def _table(htype: str, array: Array, shape: list[int] | None = None) -> list[bytes]:
    """Return the two parts of a header table. DECTRIS gives shapes as [width, height]."""
    return [
        _json({"htype": htype, "shape": shape or list(array.shape[::-1]), "type": array.dtype.name}),
        array.tobytes(),
    ]
