"""The open protocol: a JSON header and raw buffers, for any detector (docs/open-protocol.md)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from streamptycho.config import DetectorConfig
from streamptycho.detectors import DetectorMessage
from streamptycho.detectors.compression import Buffer, Encoding
from streamptycho.detectors.fields import DTYPES, FrameError, center_from, check_size, count, positive
from streamptycho.detectors.glimpse import Glimpse
from streamptycho.detectors.labels import json_object, labels_from
from streamptycho.detectors.series import Image, SeriesAssembler, SeriesHeader
from streamptycho.messages import Array, Reason

MAX_FRAMES_PER_MESSAGE = 10_000

Entries = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Form:
    """How the frames of a message lie in its buffers."""

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    encoding: Encoding


class OpenDecoder:
    """Decodes messages of the open protocol; see `FrameDecoder`."""

    def __init__(self, config: DetectorConfig) -> None:
        self._config = config
        self._assembler = SeriesAssembler(config)
        self._said: str | None = None
        self._header: Entries = {}

    def connected(self) -> None:
        """Take note of a new connection: nothing to do, as every message is whole."""

    def glimpse(self, parts: Sequence[bytes]) -> Glimpse | None:
        """Return what a message is."""
        header = json_object(parts[0]) if parts else None
        if header is None:
            return None
        series, number = _series(header), count(header.get("series"))
        match header.get("type"):
            case "start":
                return Glimpse("start", series, number)
            case "end":
                return Glimpse("end", series, number)
            case "frames":
                try:
                    return Glimpse("image", series, number, _indices(header))
                except FrameError:
                    return None
        return None

    def feed(self, parts: Sequence[bytes], received_ns: int) -> Iterator[DetectorMessage]:
        """Take one message. What is none becomes an `Anomaly`."""
        header = json_object(parts[0]) if parts else None
        kind = header.get("type") if header is not None else None
        if header is not None and kind == "start":
            yield from self._start(header, parts[1:], received_ns)
        elif header is not None and kind == "frames":
            yield from self._frames(header, parts[1:], received_ns)
        elif header is not None and kind == "end":
            said = _series(header)
            name = self._assembler.series if said == self._said else None
            yield from self._assembler.end(name or said)
        else:
            text = "expected a JSON header whose type is start, frames or end"
            yield self._assembler.anomaly(Reason.CORRUPT, text, "messages")

    def flush(self) -> Iterator[DetectorMessage]:
        """Yield what was held back."""
        yield from self._assembler.flush()

    def _start(self, header: Entries, buffers: Sequence[bytes], received_ns: int) -> Iterator[DetectorMessage]:
        self._said, self._header = _series(header), header
        shape = _shape(header)
        masked, problem = self._mask(shape, buffers)
        center = header.get("center_px")
        row, column = center if isinstance(center, list) and len(center) == 2 else (None, None)
        yield from self._assembler.begin(
            SeriesHeader(
                series=self._assembler.unique(self._said),
                n_frames=count(header.get("frames")) or None,
                energy_ev=positive(header.get("energy_ev")),
                distance_m=positive(header.get("distance_m")),
                pixel_m=positive(header.get("pixel_m")),
                shape=shape,
                center_px=center_from(row, column),
                masked=masked,
                saturation=count(header.get("saturation")) or None,
                epoch_s=_time(header.get("epoch_s")),
                labels=labels_from(header.get("labels")),
            ),
            received_ns,
        )
        if problem:
            text = f"the pixel mask of the header cannot be used: {problem}"
            yield self._assembler.anomaly(Reason.CORRUPT, text, "messages")

    def _mask(self, shape: tuple[int, int] | None, buffers: Sequence[bytes]) -> tuple[Array | None, str]:
        if not buffers:
            return None, ""
        try:
            check_size(shape or (0, 0), self._config.max_frame_pixels)
        except FrameError as error:
            return None, str(error)
        if shape is None or len(buffers[0]) != shape[0] * shape[1]:
            return None, f"{len(buffers[0])} bytes for a byte per pixel of {shape}"
        return np.frombuffer(buffers[0], np.uint8).reshape(shape) != 0, ""

    def _frames(self, header: Entries, buffers: Sequence[bytes], received_ns: int) -> Iterator[DetectorMessage]:
        try:
            index = _indices(header)
        except FrameError as error:
            yield self._assembler.anomaly(error.reason, str(error), "messages")
            return
        series = _series(header)
        mine = series == self._said
        try:
            form = self._form(header, inherit=mine)
            payloads = _payloads(buffers, form, len(index))
        except FrameError as error:
            if mine or self._said is None:
                yield self._assembler.anomaly(error.reason, f"{_named(index)}: {error}", count=len(index))
            else:
                yield from (self._assembler.stray(series, k) for k in index)
            return
        if self._said is None and not self._assembler.needs_header:
            begun = SeriesHeader(series=self._assembler.unique(series), shape=form.shape)
            yield from self._assembler.begin(begun, received_ns)
            self._said, mine = series, True
        if not mine:
            yield from (self._assembler.stray(series, k) for k in index)
            return
        yield from self._assembler.images(self._images(header, index, form, payloads), received_ns)
        lost = len(index) - len(payloads)
        if lost:
            text = f"{_named(index[len(payloads) :])}: the buffers end before these frames do"
            yield self._assembler.anomaly(Reason.TRUNCATED, text, count=lost)

    def _form(self, header: Entries, *, inherit: bool) -> _Form:
        said = {**self._header, **header} if inherit else header
        shape, name, encoding = _shape(said), said.get("dtype"), header.get("encoding", "raw")
        if shape is None:
            raise FrameError(Reason.CORRUPT, f"shape {str(said.get('shape'))[:64]}, expected [rows, columns]")
        check_size(shape, self._config.max_frame_pixels)
        dtype = DTYPES.get(name) if isinstance(name, str) else None
        if dtype is None:
            raise FrameError(Reason.CORRUPT, f"dtype {str(name)[:32]!r} is not one of {', '.join(DTYPES)}")
        for known in get_args(Encoding):
            if encoding == known and known != "lz4_block":
                return _Form(shape, dtype.newbyteorder("<"), known)
        raise FrameError(Reason.CORRUPT, f"encoding {str(encoding)[:32]!r} is not one of raw, lz4, bslz4")

    def _images(self, header: Entries, index: list[int], form: _Form, payloads: list[Buffer]) -> Iterator[Image]:
        period_s = positive(self._header.get("period_s")) or 0.0
        exposure_s = positive(self._header.get("exposure_s")) or 0.0
        starts, stops = _times(header, "start_s", len(index)), _times(header, "stop_s", len(index))
        for at, payload in enumerate(payloads):
            start_s = index[at] * period_s if starts is None else starts[at]
            yield Image(
                index=index[at],
                start_s=start_s,
                stop_s=start_s + exposure_s if stops is None else stops[at],
                payload=payload,
                encoding=form.encoding,
                dtype=form.dtype,
                shape=form.shape,
            )


def _series(header: Entries) -> str:
    said = header.get("series")
    return said[:128] if isinstance(said, str) else str(count(said))


def _shape(header: Entries) -> tuple[int, int] | None:
    match header.get("shape"):
        case [int() as rows, int() as columns] if rows > 0 and columns > 0:
            return rows, columns
        case _:
            return None


def _indices(header: Entries) -> list[int]:
    """Return the numbers of the frames of a message.

    Raises
    ------
    FrameError
        If it does not say them, or names more than a message may hold.
    """
    said = header.get("index")
    if isinstance(said, list) and 0 < len(said) <= MAX_FRAMES_PER_MESSAGE and all(count(k) is not None for k in said):
        return said
    first, frames = count(header.get("first")), count(header.get("count", 1))
    if said is None and first is not None and frames and frames <= MAX_FRAMES_PER_MESSAGE:
        return list(range(first, first + frames))
    text = f"frames need first and count, or a list index, of at most {MAX_FRAMES_PER_MESSAGE} frames"
    raise FrameError(Reason.CORRUPT, text)


def _payloads(buffers: Sequence[bytes], form: _Form, frames: int) -> list[Buffer]:
    """Return what there is of one payload per frame: one buffer each, or one with all raw frames."""
    frame_bytes = form.shape[0] * form.shape[1] * form.dtype.itemsize
    if len(buffers) > frames:
        raise FrameError(Reason.CORRUPT, f"{len(buffers)} buffers for {frames} frames")
    if form.encoding != "raw" or len(buffers) != 1:
        return list(buffers)
    view = memoryview(buffers[0])
    if len(view) > frames * frame_bytes:
        raise FrameError(Reason.CORRUPT, f"{len(view)} bytes for {frames} frames of {frame_bytes}")
    whole = len(view) // frame_bytes
    return [view[k * frame_bytes : (k + 1) * frame_bytes] for k in range(whole)]


def _times(header: Entries, key: str, frames: int) -> list[float] | None:
    """Return a time per frame; None where the message says none that can be used."""
    said = header.get(key)
    if not isinstance(said, list) or len(said) != frames:
        return None
    usable = all(type(t) in (int, float) and abs(t) < 1e15 and math.isfinite(t) for t in said)
    return [float(t) for t in said] if usable else None


def _time(said: Any) -> float | None:
    usable = type(said) in (int, float) and abs(said) < 1e12
    return float(said) if usable else None


def _named(index: list[int]) -> str:
    return f"frame {index[0]}" if len(index) == 1 else f"frames {index[0]} to {index[-1]}"
