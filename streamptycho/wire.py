"""Messages to ZeroMQ parts and back: one JSON header, then the arrays and bytes as raw buffers. Never pickle."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Any

import numpy as np

from streamptycho import messages
from streamptycho.geometry import Geometry
from streamptycho.messages import Array, Message

Buffer = bytes | bytearray | memoryview
Lend = Callable[[Array], dict[str, int] | None]
Borrow = Callable[[Any, int], Array]

SCHEMA_VERSION = 1
MAX_HEADER_BYTES = 4 << 20
MAX_PARTS = 4096
MAX_DIMENSIONS = 4
_DTYPE_KINDS = "uifcb"

MESSAGE_TYPES: dict[str, type[Message]] = {
    name: kind
    for name, kind in vars(messages).items()
    if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message
}
_FIELD_TYPES = {name: typing.get_type_hints(kind) for name, kind in MESSAGE_TYPES.items()}


class WireError(ValueError):
    """Parts that are not a message of this version of streamptycho."""


def encode(message: Message, lend: Lend | None = None) -> list[Any]:
    """Return the parts of a message. Arrays are not copied when they are contiguous.

    Of those for which `lend` returns a place, the place is told instead of the content.
    """
    plain: dict[str, Any] = {}
    arrays: dict[str, Any] = {}
    blobs: dict[str, int] = {}
    parts: list[Any] = [b""]
    for item in dataclasses.fields(message):
        value = getattr(message, item.name)
        if isinstance(value, np.ndarray):
            contiguous = np.ascontiguousarray(value)
            arrays[item.name] = [contiguous.dtype.str, list(value.shape)]
            place = None if lend is None else lend(contiguous)
            if place is not None:
                arrays[item.name].append(place)
                continue
            parts.append(contiguous.reshape(-1).view(np.uint8).data if value.size else b"")
        elif isinstance(value, Geometry):
            plain[item.name] = dataclasses.asdict(value)
        elif isinstance(value, tuple):
            blobs[item.name] = len(value)
            parts.extend(value)
        else:
            plain[item.name] = value
    header = {
        "v": SCHEMA_VERSION,
        "type": type(message).__name__,
        "fields": plain,
        "arrays": arrays,
        "blobs": blobs,
    }
    parts[0] = json.dumps(header, separators=(",", ":")).encode()
    return parts


def prefix(kind: type[Message]) -> bytes:
    """Return how the first part of every message of this type begins: what a subscriber filters by."""
    return f'{{"v":{SCHEMA_VERSION},"type":"{kind.__name__}"'.encode()


def decode(parts: Sequence[Buffer], borrow: Borrow | None = None) -> Message:
    """Return the message that the parts carry; `borrow` finds the bytes that lie elsewhere.

    Raises
    ------
    WireError
        If the parts are not a message, or of another schema version, or an array does not fit its declared shape.
    """
    if not parts or len(parts) > MAX_PARTS:
        raise WireError(f"a message has 1 to {MAX_PARTS} parts, got {len(parts)}")
    header_bytes = bytes(parts[0])
    if len(header_bytes) > MAX_HEADER_BYTES:
        raise WireError(f"header of {len(header_bytes)} bytes is over the limit of {MAX_HEADER_BYTES}")
    try:
        header = json.loads(header_bytes)
        version, name = header["v"], header["type"]
        values, arrays, blobs = dict(header["fields"]), dict(header["arrays"]), dict(header["blobs"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WireError(f"header is not that of a streamptycho message: {error}") from None
    if version != SCHEMA_VERSION:
        raise WireError(
            f"message schema {version!r} from the sender, {SCHEMA_VERSION} here: run one version everywhere"
        )
    kind = MESSAGE_TYPES.get(name) if isinstance(name, str) else None
    if kind is None:
        raise WireError(f"unknown message type {name!r}")
    hints = _FIELD_TYPES[name]
    buffers = iter(parts[1:])
    try:
        for item in dataclasses.fields(kind):
            if item.name in arrays:
                values[item.name] = _array(item.name, arrays.pop(item.name), buffers, borrow)
            elif item.name in blobs:
                values[item.name] = tuple(bytes(next(buffers)) for _ in range(int(blobs.pop(item.name))))
            elif item.name in values:
                values[item.name] = _restore(hints[item.name], values[item.name])
        if arrays or blobs or next(buffers, None) is not None:
            raise WireError(f"{name} has more parts than fields")
        message = kind(**values)
        message.check()
        return message
    except WireError:
        raise
    except (TypeError, ValueError, StopIteration, RuntimeError) as error:
        raise WireError(f"{name} does not fit its fields: {error}") from None


def _array(name: str, declared: list[Any], buffers: Iterator[Buffer], borrow: Borrow | None) -> Array:
    dtype_text, shape, *place = declared
    dtype = np.dtype(dtype_text)
    if dtype.kind not in _DTYPE_KINDS or len(shape) > MAX_DIMENSIONS or any(n < 0 for n in shape):
        raise WireError(f"{name} declares dtype {dtype_text!r} and shape {shape}")
    expected = dtype.itemsize * math.prod(shape)
    if place:
        if borrow is None:
            raise WireError(f"{name} lies in the memory of another process, which is not expected here")
        lent: Array = borrow(place[0], expected).view(dtype)
        return lent.reshape(shape)
    view = memoryview(next(buffers)).cast("B")
    if view.nbytes != expected:
        raise WireError(f"{name} declares {expected} bytes and carries {view.nbytes}")
    return np.frombuffer(view, dtype).reshape(shape)


def _restore(hint: Any, value: Any) -> Any:
    """Rebuild what JSON has no type for: enumerations and the geometry."""
    for option in _options(hint):
        if isinstance(option, type) and issubclass(option, Enum) and value is not None:
            return option(value)
        if option is Geometry and value is not None:
            return Geometry(**{**value, "shape": tuple(value["shape"])})
    return value


def _options(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
