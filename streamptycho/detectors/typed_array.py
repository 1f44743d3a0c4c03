"""Arrays inside CBOR messages: typed arrays, their dimensions, and DECTRIS' tag for compressed content.

References
----------
RFC 8746, doi:10.17487/RFC8746 (typed arrays).
DECTRIS, CBOR tag 56500: https://github.com/dectris/documentation/blob/main/cbor/dectris-compression-tag.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from streamptycho.detectors.cbor import Tag
from streamptycho.detectors.compression import Buffer, Encoding

_ROW_MAJOR, _COLUMN_MAJOR, _COMPRESSED = 40, 1040, 56500
_DTYPES = {64: "u1", 65: ">u2", 66: ">u4", 68: "u1", 69: "<u2", 70: "<u4"}
_ENCODINGS: dict[str, Encoding] = {"bslz4": "bslz4", "lz4": "lz4"}


class TypedArrayError(ValueError):
    """An item that is not a two-dimensional array of unsigned integers in a known compression."""


@dataclass(frozen=True, slots=True)
class TypedArray:
    """A two-dimensional array as it stands in the message, not decompressed. `shape` is (rows, columns)."""

    payload: Buffer
    encoding: Encoding
    dtype: np.dtype[Any]
    shape: tuple[int, int]
    column_major: bool


def typed_array(item: Any) -> TypedArray:
    """Return the array that a CBOR item describes.

    Raises
    ------
    TypedArrayError
        If it does not describe one.
    """
    if not isinstance(item, Tag) or item.number not in (_ROW_MAJOR, _COLUMN_MAJOR):
        raise TypedArrayError(f"expected an array with dimensions (tag 40 or 1040), got {_what(item)}")
    match item.value:
        case [[int() as rows, int() as columns], Tag() as typed] if rows >= 0 and columns >= 0:
            pass
        case _:
            raise TypedArrayError("expected two dimensions and a typed array behind them")
    if typed.number not in _DTYPES:
        raise TypedArrayError(f"typed array of tag {typed.number}, expected one of {sorted(_DTYPES)}")
    dtype = np.dtype(_DTYPES[typed.number])
    payload, encoding = _content(typed.value, dtype)
    return TypedArray(payload, encoding, dtype, (rows, columns), item.number == _COLUMN_MAJOR)


def _content(content: Any, dtype: np.dtype[Any]) -> tuple[Buffer, Encoding]:
    if isinstance(content, memoryview):
        return content, "raw"
    if not isinstance(content, Tag) or content.number != _COMPRESSED:
        raise TypedArrayError(f"expected bytes or compressed bytes (tag 56500), got {_what(content)}")
    match content.value:
        case [str() as algorithm, int() as element_bytes, memoryview() as payload]:
            pass
        case _:
            raise TypedArrayError("expected algorithm, element size and bytes in tag 56500")
    if algorithm not in _ENCODINGS:
        raise TypedArrayError(f"compression {algorithm[:32]!r} is not one of {', '.join(_ENCODINGS)}")
    if algorithm == "bslz4" and element_bytes != dtype.itemsize:
        raise TypedArrayError(f"shuffled as elements of {element_bytes} bytes, the array has {dtype.itemsize}")
    return payload, _ENCODINGS[algorithm]


def _what(item: Any) -> str:
    return f"tag {item.number}" if isinstance(item, Tag) else type(item).__name__
