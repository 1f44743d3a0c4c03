"""From messages to pictures: 8-bit pixels with what they mean, and their form on the wire. Pure."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from streamptycho.messages import Array
from streamptycho.monitor.colours import colour_table

MAX_PICTURE_PX = 512
MAX_HEADER_BYTES = 65_536


class PictureError(ValueError):
    """Something that is not a picture."""


class NothingToShowError(PictureError):
    """A sound message without anything to see in it yet."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """Pixels for people to look at, and what they mean.

    `pixels` is (H, W) uint8, where 0 is not measured and 1 to 255 run from `lo` to `hi` in `unit`, or (H, W, 3) uint8
    ready colours. `scale` "log10" means that `lo` and `hi` are log10(1 + value). `pixel_m` is the edge of one pixel
    of the picture, after `pooling` blocks of k x k. `note` is written below, `detail` told when asked for. `tiles`
    are pictures beside each other in one.
    """

    name: str
    label: str
    pixels: Array
    lo: float | None = None
    hi: float | None = None
    unit: str = ""
    scale: str = "linear"
    colours: str = "gray"
    pixel_m: float | None = None
    pooling: int = 1
    note: str = ""
    detail: str = ""
    tiles: list[dict[str, Any]] = field(default_factory=list)
    version: int = 0

    def header(self) -> dict[str, Any]:
        """Return everything but the pixels, for JSON."""
        rows, columns = self.pixels.shape[:2]
        return {
            "kind": "picture",
            "name": self.name,
            "label": self.label,
            "width": columns,
            "height": rows,
            "channels": 1 if self.pixels.ndim == 2 else 3,
            "lo": self.lo,
            "hi": self.hi,
            "unit": self.unit,
            "scale": self.scale,
            "colours": self.colours,
            "pixel_m": self.pixel_m,
            "pooling": self.pooling,
            "note": self.note,
            "detail": self.detail,
            "tiles": self.tiles,
            "version": self.version,
        }

    def payload(self) -> bytes:
        """Return the pixels, row by row."""
        return np.ascontiguousarray(self.pixels, np.uint8).tobytes()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PathPlot:
    """Positions of a projection: `xy_m` (N, 2) float32 relative to `centre_xy_m`, and `quality` (N,) uint8.

    `counts` has the number of frames of each quality flag before every `every`-th point was kept.
    """

    name: str
    label: str
    xy_m: Array
    quality: Array
    centre_xy_m: tuple[float, float]
    counts: dict[str, int]
    every: int = 1
    note: str = ""
    version: int = 0

    def header(self) -> dict[str, Any]:
        """Return everything but the points, for JSON."""
        return {
            "kind": "path",
            "name": self.name,
            "label": self.label,
            "points": len(self.quality),
            "centre_xy_m": list(self.centre_xy_m),
            "counts": self.counts,
            "every": self.every,
            "note": self.note,
            "version": self.version,
        }

    def payload(self) -> bytes:
        """Return x, y as little-endian float32 for every point, then one byte of quality for every point."""
        return np.ascontiguousarray(self.xy_m, "<f4").tobytes() + np.ascontiguousarray(self.quality, np.uint8).tobytes()


Drawable = Picture | PathPlot


def encode(drawable: Drawable) -> bytes:
    """Return one binary WebSocket message: header length (uint32, little-endian), JSON header, payload."""
    header = json.dumps(drawable.header(), separators=(",", ":"), allow_nan=False).encode()
    return struct.pack("<I", len(header)) + header + drawable.payload()


def decode(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header and the payload of what `encode` made.

    Raises
    ------
    PictureError
        If the bytes are not such a message.
    """
    if len(data) < 4:
        raise PictureError(f"a picture message has at least 4 bytes, got {len(data)}")
    (size,) = struct.unpack_from("<I", data)
    if size > min(MAX_HEADER_BYTES, len(data) - 4):
        raise PictureError(f"header of {size} bytes does not fit a message of {len(data)} bytes")
    try:
        header = json.loads(data[4 : 4 + size])
    except ValueError as error:
        raise PictureError(f"header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise PictureError(f"header must be a mapping, got {type(header).__name__}")
    return header, data[4 + size :]


def to_rgb(picture: Picture) -> Array:
    """Return the picture in colours, (H, W, 3) uint8."""
    return picture.pixels if picture.pixels.ndim == 3 else colour_table(picture.colours)[picture.pixels]


def to_png(picture: Picture) -> bytes:
    """Return the picture in colours as a PNG file, its meaning in the text fields."""
    buffer = io.BytesIO()
    image = Image.fromarray(to_rgb(picture))
    image.save(buffer, "png", compress_level=3)
    return buffer.getvalue()


def to_levels(values: Array, valid: Array, lo: float, hi: float) -> Array:
    """Return values (H, W) as levels uint8: 1 to 255 between `lo` and `hi`, 0 where not `valid` or not finite."""
    usable = valid & np.isfinite(values)
    span = hi - lo if hi > lo else 1.0
    scaled = np.clip((np.where(usable, values, lo) - lo) / span, 0.0, 1.0)
    return np.where(usable, 1 + np.round(scaled * 254), 0).astype(np.uint8)


def with_version(drawable: Drawable, version: int) -> Drawable:
    """Return the same with the number by which viewers know that it is new."""
    return replace(drawable, version=version)
