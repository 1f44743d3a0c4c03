"""Payloads of DECTRIS streams: raw, LZ4 and bit-shuffled LZ4, compressed and back.

The framing of LZ4 blocks is that of the HDF5 filters 32004 (lz4) and 32008 (bitshuffle): decompressed size (u64,
big-endian), block size in bytes (u32), then every block with its length in front.

References
----------
K. Masui et al., Astronomy and Computing 12 (2015) 181, doi:10.1016/j.ascom.2015.07.002 (bitshuffle).
"""

from __future__ import annotations

import struct
from typing import Any, Literal, get_args

import lz4.block
import numpy as np

from streamptycho.detectors import kernels
from streamptycho.detectors.lz4_kernel import SLACK_BYTES, decode_lz4_at
from streamptycho.messages import Array

Encoding = Literal["raw", "lz4_block", "lz4", "bslz4"]

Buffer = bytes | bytearray | memoryview

FRAME_HEADER = struct.Struct(">QI")
BLOCK_LENGTH = struct.Struct(">I")
BLOCK_BYTES = 8192
_NATIVE = {1: np.uint8, 2: np.uint16, 4: np.uint32}


class CompressionError(ValueError):
    """A payload that does not hold the frame that its message declares."""


class TruncatedPayloadError(CompressionError):
    """A payload that ends too early."""


def decompress(
    payload: Buffer,
    encoding: Encoding,
    dtype: np.dtype[Any],
    shape: tuple[int, int],
    rows: slice | None = None,
) -> Array:
    """Return a frame, or some of its rows, from a payload. Only the blocks that hold these rows are decoded.

    Parameters
    ----------
    payload
        As it came in the message.
    encoding
        "raw"; "lz4_block": one bare LZ4 block (Stream V1); "lz4" and "bslz4": framed blocks.
    dtype
        Of the elements, in the byte order of the payload.
    shape
        Rows and columns of the whole frame. The caller bounds them.
    rows
        Consecutive rows to return; None for all.

    Returns
    -------
    Array
        (rows, W), in the byte order of this machine. A view of a raw payload, else new.

    Raises
    ------
    CompressionError
        If the payload does not decode to exactly the declared shape. `TruncatedPayloadError` if it is too short.
    """
    height, width = shape
    size = dtype.itemsize
    start, stop, _ = (rows or slice(None)).indices(height)
    total, first, last = height * width, start * width, max(stop, start) * width
    source = np.frombuffer(payload, np.uint8)
    if encoding == "raw":
        data = _raw(source, total * size)[first * size : last * size]
    elif encoding == "lz4_block":
        data = _bare(source, total * size, last * size)[first * size :]
    elif encoding in ("lz4", "bslz4"):
        if size not in _NATIVE:
            raise CompressionError(f"elements must have 1, 2 or 4 bytes, got {size}")
        data = _framed(source, encoding == "bslz4", dtype, shape, slice(start, max(stop, start)))
    else:
        raise CompressionError(f"encoding must be one of {', '.join(get_args(Encoding))}, got {encoding!r}")
    return data.view(dtype).astype(dtype.newbyteorder("="), copy=False).reshape(-1, width)


def _raw(source: Array, total: int) -> Array:
    if source.size < total:
        raise TruncatedPayloadError(f"payload has {source.size} bytes, the frame needs {total}")
    if source.size > total:
        raise CompressionError(f"payload has {source.size} bytes, the frame needs {total}")
    return source


def _bare(source: Array, total: int, last: int) -> Array:
    data = np.empty(last + SLACK_BYTES, np.uint8)[:last]
    if last == total:
        decoded = decode_lz4_at(source.ctypes.data, source.size, data.ctypes.data, last)
    else:
        decoded = kernels.decode_lz4_block(source, 0, source.size, data, last, False)
    if not decoded:
        raise CompressionError(f"LZ4 block of {source.size} bytes does not decode to {total} bytes")
    return data


def _framed(source: Array, shuffled: bool, dtype: np.dtype[Any], shape: tuple[int, int], rows: slice) -> Array:
    """Return some rows, as native unsigned integers with the bytes as they came."""
    if source.size < FRAME_HEADER.size:
        raise TruncatedPayloadError(f"payload has {source.size} bytes, its header alone {FRAME_HEADER.size}")
    size, total, width = dtype.itemsize, shape[0] * shape[1], shape[1]
    declared, block_bytes = FRAME_HEADER.unpack_from(source.data)
    if (declared, block_bytes) == (0, 0):
        # Some senders leave the header empty, as common readers step over it: the message gives the size anyway.
        declared, block_bytes = total * size, BLOCK_BYTES
    if declared != total * size:
        raise CompressionError(f"payload declares {declared} bytes, the frame needs {total * size}")
    if block_bytes == 0 or (shuffled and block_bytes % (8 * size)):
        raise CompressionError(f"payload declares blocks of {block_bytes} bytes for elements of {size}")
    data = np.empty((rows.stop - rows.start, width), _NATIVE[size])
    if not data.size:
        return data
    begin, end = FRAME_HEADER.size, source.size
    if shuffled:
        status = kernels.decode_bslz4(source, begin, end, 0, total, block_bytes // size, rows.start, (0, width), data)
    else:
        flat = data.reshape(-1).view(np.uint8)
        status = kernels.decode_lz4(source, begin, end, 0, total * size, block_bytes, rows.start * width * size, flat)
    if status == kernels.FRAME_TRUNCATED:
        raise TruncatedPayloadError(f"payload of {source.size} bytes ends before its {declared} decoded bytes do")
    if status != kernels.FRAME_OK:
        raise CompressionError(f"a block of the payload ({source.size} bytes) is not LZ4 of its length")
    return data


def compress_bslz4(array: Array) -> bytes:
    """Return the bytes of an array (1, 2 or 4 bytes per element) bit-shuffled and LZ4-compressed, framed."""
    flat = np.ascontiguousarray(array).reshape(-1)
    size = flat.itemsize
    data = flat.view(np.uint8)
    shuffled_bytes = data.size - data.size % (8 * size)
    shuffled = np.empty(shuffled_bytes, np.uint8)
    kernels.shuffle_blocks(data, shuffled, size, BLOCK_BYTES)
    parts = [FRAME_HEADER.pack(data.size, BLOCK_BYTES)]
    for begin in range(0, shuffled_bytes, BLOCK_BYTES):
        block = _lz4(shuffled[begin : begin + BLOCK_BYTES])
        parts += [BLOCK_LENGTH.pack(len(block)), block]
    parts.append(data[shuffled_bytes:].tobytes())
    return b"".join(parts)


def compress_lz4(array: Array) -> bytes:
    """Return the bytes of an array LZ4-compressed, framed. Blocks that do not shrink are stored."""
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    parts = [FRAME_HEADER.pack(data.size, BLOCK_BYTES)]
    for begin in range(0, data.size, BLOCK_BYTES):
        plain = data[begin : begin + BLOCK_BYTES]
        block = _lz4(plain)
        if len(block) >= plain.size:
            block = plain.tobytes()
        parts += [BLOCK_LENGTH.pack(len(block)), block]
    return b"".join(parts)


def compress_lz4_block(array: Array) -> bytes:
    """Return the bytes of an array as one bare LZ4 block, without sizes (Stream V1, encoding "lz4<")."""
    return _lz4(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def _lz4(data: Array) -> bytes:
    block: bytes = lz4.block.compress(data, store_size=False)
    return block
