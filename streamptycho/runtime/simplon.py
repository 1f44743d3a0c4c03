"""The REST interface of a DECTRIS detector, as far as it is needed: its pixel mask.

References
----------
DECTRIS, EIGER2 SIMPLON API 1.8.0, section 4.2 (arrays in JSON).
"""

from __future__ import annotations

import base64
import binascii
import json
import time
import urllib.error
import urllib.request
from typing import Any

import numpy as np

from streamptycho.detectors.mask import MaskError, mask_of
from streamptycho.messages import Array

TIMEOUT_S = 30.0
WAIT_S = 10.0
CHUNK_BYTES = 1 << 20
BYTES_PER_PIXEL = 6
_ENVELOPE_BYTES = 1 << 16
_TYPES = {"<u4": "<u4", "<u2": "<u2", "<u1": "u1", "|u1": "u1"}


def fetch_pixel_mask(url: str, max_pixels: int, *, timeout_s: float = TIMEOUT_S) -> Array:
    """Return which pixels the detector masks, (H, W) bool.

    Parameters
    ----------
    url
        http://HOST/detector/api/VERSION/config/pixel_mask.
    max_pixels
        How many pixels a mask may have; a longer answer is not read to its end.
    timeout_s
        How long the whole answer may take.

    Raises
    ------
    MaskError
        If the detector does not answer in time, or with something else than a mask.
    """
    if not url.startswith("http://"):
        raise MaskError(f"detector.mask: {url} is not an address that begins with http://")
    most = BYTES_PER_PIXEL * max_pixels + _ENVELOPE_BYTES
    try:
        content = _get(url, most, time.monotonic() + timeout_s, min(WAIT_S, timeout_s))
    except (OSError, ValueError, urllib.error.URLError) as error:
        raise MaskError(
            f"detector.mask: {url} cannot be fetched ({error}): check the address and that the detector is on"
        ) from None
    return mask_of(_array(url, content), f"detector.mask: {url}", max_pixels)


def _get(url: str, most: int, deadline_s: float, wait_s: float) -> bytes:
    request = urllib.request.Request(url, headers={"Accept": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    content = bytearray()
    with opener.open(request, timeout=wait_s) as answer:
        while chunk := answer.read1(CHUNK_BYTES):
            content += chunk
            if len(content) > most:
                raise ValueError(f"its answer has more than {most} bytes")
            if time.monotonic() > deadline_s:
                raise TimeoutError("its answer takes too long")
    return bytes(content)


def _array(url: str, content: bytes) -> Array:
    """Return the array in an answer: ``{"value": {"type": "<u4", "shape": [rows, columns], "data": base64}}``."""
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        raise MaskError(f"detector.mask: {url} does not answer in JSON") from None
    value: Any = answer.get("value") if isinstance(answer, dict) else None
    match value:
        case {"type": str() as kind, "shape": [int() as rows, int() as columns], "data": str() as text}:
            dtype = np.dtype(_TYPES.get(kind, "V1"))
        case _:
            dtype = np.dtype("V1")
    if dtype.kind != "u":
        raise MaskError(f"detector.mask: {url} does not answer with an array of whole numbers in two dimensions")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MaskError(f"detector.mask: {url} answers with an array that is not base64") from None
    if rows <= 0 or columns <= 0 or len(data) != rows * columns * dtype.itemsize:
        raise MaskError(f"detector.mask: {url} declares {rows} x {columns} of {kind} and sends {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(rows, columns)
