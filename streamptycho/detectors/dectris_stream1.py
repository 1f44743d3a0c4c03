"""DECTRIS Stream V1 ("legacy"): JSON parts and blobs, read part by part, however they are cut into messages.

References
----------
DECTRIS, EIGER2 SIMPLON API 1.8.0, section 5.4.3 (stream, legacy format).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import numpy as np

from streamptycho.config import DetectorConfig
from streamptycho.detectors import DetectorMessage
from streamptycho.detectors.compression import Encoding
from streamptycho.detectors.labels import json_object, labels_from
from streamptycho.detectors.series import (
    DTYPES,
    FrameError,
    Image,
    SeriesAssembler,
    SeriesHeader,
    Unit,
    check_size,
    count,
    energy_from,
    positive,
    square_pixel,
)
from streamptycho.messages import Anomaly, Array, Reason

_TOP = ("dheader-", "dimage-", "dseries_end-")
_ENCODING = re.compile(r"(?:bs(?P<bits>8|16|32)-?)?(?P<lz4>lz4)?(?P<order>[<>]?)")
_TRIGGER_PER_IMAGE = ("inte", "exte")

Settings = dict[str, Any]


class _Expect(Enum):
    """What the next part should be."""

    TOP = auto()
    APPENDIX_OR_TOP = auto()
    SETTINGS = auto()
    TABLE = auto()
    TABLE_BLOB = auto()
    IMAGE_FORM = auto()
    IMAGE_BLOB = auto()
    IMAGE_TIMES = auto()
    RESYNC = auto()


@dataclass(slots=True)
class _Header:
    number: int
    detail: str
    settings: Settings = field(default_factory=dict)
    table: Settings = field(default_factory=dict)
    mask: tuple[Settings, bytes] | None = None
    appendix: bytes = b""


@dataclass(slots=True)
class _Parts:
    """The parts of an image so far."""

    number: int | None
    index: int
    form: Settings = field(default_factory=dict)
    blob: bytes | None = None
    times: Settings = field(default_factory=dict)


class Stream1Decoder:
    """Decodes Stream V1 parts; see `FrameDecoder`. A part that does not fit costs its image, not the next one."""

    def __init__(self, config: DetectorConfig) -> None:
        self._config = config
        self._assembler = SeriesAssembler(config)
        self._expect = _Expect.TOP
        self._header: _Header | None = None
        self._parts: _Parts | None = None
        self._split = False
        self._number: int | None = None
        self._settings: Settings = {}
        self._origin_ns: int | None = None
        self._owed: list[Anomaly] = []

    def connected(self) -> None:
        """Forget the image that was not complete; it is counted with the next message."""
        if self._parts is not None and self._parts.blob is None:
            self._owed.append(self._lost_image(Reason.TRUNCATED, "the connection ended before its blob came"))
            self._parts = None
            self._expect = _Expect.TOP

    def feed(self, parts: Sequence[bytes], received_ns: int) -> Iterator[DetectorMessage]:
        """Take one message of one or more parts. Parts that do not fit become an `Anomaly`."""
        yield from self._pay()
        if self._expect is _Expect.RESYNC and not self._split:
            self._expect = _Expect.TOP
        self._split = len(parts) == 1
        begun_here = False
        for position, part in enumerate(parts):
            content = self._json(part)
            htype = _htype(content)
            if content is not None and htype.startswith(_TOP):
                yield from self._interrupt(received_ns)
                yield from self._top(htype, content)
                begun_here = begun_here or self._header is not None
            elif self._header is not None:
                self._header_part(self._header, part, content, htype)
            elif self._parts is not None:
                yield from self._image_part(self._parts, part, content, htype, received_ns)
            else:
                yield from self._loose_part(position, len(parts), htype)
        if begun_here and self._header is not None and (len(parts) > 1 or self._header.detail == "none"):
            yield from self._interrupt(received_ns)

    def flush(self) -> Iterator[DetectorMessage]:
        """Yield what was held back, with what is there of it."""
        yield from self._pay()
        yield from self._interrupt(0)
        yield from self._assembler.flush()

    def _pay(self) -> Iterator[DetectorMessage]:
        owed, self._owed = self._owed, []
        yield from owed

    def _json(self, part: bytes) -> Settings | None:
        """Return a part as JSON. Where a blob is due, only what names its type is taken for JSON."""
        blob_due = self._expect in (_Expect.TABLE_BLOB, _Expect.IMAGE_BLOB)
        if blob_due and not (part[:1] == b"{" and b'"htype"' in part[:4096]):
            return None
        return json_object(part)

    def _interrupt(self, received_ns: int) -> Iterator[DetectorMessage]:
        """Finish what is open with what is there of it, as something new begins."""
        header, parts = self._header, self._parts
        self._header = self._parts = None
        if self._expect is not _Expect.RESYNC:
            self._expect = _Expect.TOP
        if header is not None:
            yield from self._begin(header, received_ns)
        elif parts is not None and parts.blob is not None:
            yield from self._finish_image(parts, received_ns)
        elif parts is not None:
            yield self._loss(Reason.TRUNCATED, f"frame {parts.index}: the next message began before its blob came")

    def _top(self, htype: str, content: Settings) -> Iterator[DetectorMessage]:
        number = count(content.get("series"))
        if htype.startswith("dheader-"):
            detail = content.get("header_detail")
            self._header = _Header(number if number is not None else -1, detail if isinstance(detail, str) else "")
            self._expect = _Expect.TABLE if detail == "none" else _Expect.SETTINGS
        elif htype.startswith("dimage-"):
            index = count(content.get("frame"))
            if index is None:
                yield self._loss(Reason.CORRUPT, "an image without a frame number")
                self._expect = _Expect.RESYNC
                return
            self._parts = _Parts(number, index)
            self._expect = _Expect.IMAGE_FORM
        else:
            self._expect = _Expect.APPENDIX_OR_TOP
            name = self._assembler.series if number == self._number else None
            yield from self._assembler.end(name or str(number))

    def _header_part(self, header: _Header, part: bytes, content: Settings | None, htype: str) -> None:
        if self._expect is _Expect.TABLE_BLOB:
            if "pixelmask" in _htype(header.table):
                header.mask = (header.table, part)
            self._expect = _Expect.TABLE
        elif htype and content is not None:
            header.table = content
            self._expect = _Expect.TABLE_BLOB
        elif self._expect is _Expect.SETTINGS and content is not None:
            header.settings = content
            self._expect = _Expect.TABLE
        elif self._expect is _Expect.SETTINGS:
            text = "the settings in the header of a series are not JSON"
            self._owed.append(self._loss(Reason.CORRUPT, text, "messages"))
            self._expect = _Expect.TABLE
        else:
            header.appendix = part

    def _image_part(
        self, parts: _Parts, part: bytes, content: Settings | None, htype: str, received_ns: int
    ) -> Iterator[DetectorMessage]:
        if self._expect is _Expect.IMAGE_FORM and content is not None and htype.startswith("dimage_d-"):
            parts.form = content
            self._expect = _Expect.IMAGE_BLOB
        elif self._expect is _Expect.IMAGE_BLOB and not htype:
            parts.blob = part
            self._expect = _Expect.IMAGE_TIMES
        elif self._expect is _Expect.IMAGE_TIMES:
            parts.times = content if content is not None and htype.startswith("dconfig-") else {}
            self._parts = None
            self._expect = _Expect.APPENDIX_OR_TOP
            yield from self._finish_image(parts, received_ns)
        else:
            yield self._lost_image(Reason.CORRUPT, f"unexpected part {htype or 'without a type'}")
            self._parts = None
            self._expect = _Expect.RESYNC

    def _loose_part(self, position: int, parts: int, htype: str) -> Iterator[DetectorMessage]:
        """Take a part that nothing is waiting for: an appendix, or what is left of something unreadable."""
        if self._expect is _Expect.RESYNC:
            return
        appendix = position > 0 or self._split
        if self._expect is _Expect.APPENDIX_OR_TOP and appendix and not htype:
            self._expect = _Expect.TOP
            return
        unit: Unit = "frames" if parts >= 3 or htype.startswith("dimage_d-") else "messages"
        yield self._loss(Reason.CORRUPT, f"a part {htype or 'without a type'} that nothing announced", unit)
        self._expect = _Expect.RESYNC

    def _begin(self, header: _Header, received_ns: int) -> Iterator[DetectorMessage]:
        settings = header.settings
        self._number = header.number
        self._settings = settings
        self._origin_ns = None
        masked, mask_error = self._mask(header.mask)
        columns, rows = count(settings.get("x_pixels_in_detector")), count(settings.get("y_pixels_in_detector"))
        center = positive(settings.get("beam_center_y")), positive(settings.get("beam_center_x"))
        yield from self._assembler.begin(
            SeriesHeader(
                series=self._assembler.unique(str(header.number)),
                n_frames=_frames(settings),
                energy_ev=energy_from(settings.get("photon_energy"), settings.get("wavelength")),
                distance_m=_distance(settings),
                pixel_m=square_pixel(settings.get("x_pixel_size"), settings.get("y_pixel_size")),
                shape=(rows, columns) if rows and columns else None,
                center_px=(center[0], center[1]) if center[0] and center[1] else None,
                masked=masked,
                saturation=count(settings.get("countrate_correction_count_cutoff")) or None,
                labels=labels_from(header.appendix),
            ),
            received_ns,
        )
        yield from self._pay()
        if mask_error:
            text = f"the pixel mask of the header cannot be used: {mask_error}"
            yield self._loss(Reason.CORRUPT, text, "messages")

    def _mask(self, table: tuple[Settings, bytes] | None) -> tuple[Array | None, str]:
        if table is None:
            return None, ""
        description, blob = table
        try:
            shape = _shape(description)
            check_size(shape, self._config.max_frame_pixels)
        except FrameError as error:
            return None, str(error)
        dtype = DTYPES.get(str(description.get("type")))
        if dtype is None or len(blob) != shape[0] * shape[1] * dtype.itemsize:
            return None, f"{len(blob)} bytes for {shape[0]} x {shape[1]} of {str(description.get('type'))[:32]}"
        return np.frombuffer(blob, dtype).reshape(shape) != 0, ""

    def _finish_image(self, parts: _Parts, received_ns: int) -> Iterator[DetectorMessage]:
        try:
            image = self._image(parts)
        except FrameError as error:
            if parts.number != self._number:
                yield self._assembler.stray(str(parts.number), parts.index)
                return
            yield self._loss(error.reason, f"frame {parts.index}: {error}")
            return
        if self._number is None and parts.number is not None and not self._assembler.needs_header:
            header = SeriesHeader(series=self._assembler.unique(str(parts.number)), shape=image.shape)
            yield from self._assembler.begin(header, received_ns)
            self._number = parts.number
        if parts.number != self._number:
            yield self._assembler.stray(str(parts.number), parts.index)
            return
        yield from self._assembler.image(image, received_ns)

    def _image(self, parts: _Parts) -> Image:
        form, blob = parts.form, parts.blob or b""
        encoding, dtype = _encoding(form)
        shape = _shape(form)
        announced = count(form.get("size"))
        if announced is not None and len(blob) < announced:
            raise FrameError(Reason.TRUNCATED, f"{len(blob)} of {announced} bytes")
        start_s, stop_s = self._exposure(parts)
        return Image(
            index=parts.index,
            start_s=start_s,
            stop_s=stop_s,
            payload=blob,
            encoding=encoding,
            dtype=dtype,
            shape=shape,
        )

    def _exposure(self, parts: _Parts) -> tuple[float, float]:
        """Return start and stop in seconds since frame 0 began: the detector counts from its initialisation.

        Where frame 0 is not the first to come, its start is taken to be as many frame times earlier.
        """
        period_s = positive(self._settings.get("frame_time")) or 0.0
        exposure_s = positive(self._settings.get("count_time")) or 0.0
        start_ns, stop_ns = count(parts.times.get("start_time")), count(parts.times.get("stop_time"))
        if start_ns is None:
            nominal = parts.index * period_s
            return nominal, nominal + exposure_s
        if parts.number == self._number and self._origin_ns is None:
            self._origin_ns = start_ns - round(parts.index * period_s * 1e9)
        origin_ns = start_ns if self._origin_ns is None else self._origin_ns
        start_s = (start_ns - origin_ns) * 1e-9
        return start_s, start_s + exposure_s if stop_ns is None else (stop_ns - origin_ns) * 1e-9

    def _lost_image(self, reason: Reason, text: str) -> Anomaly:
        index = self._parts.index if self._parts is not None else "?"
        return self._loss(reason, f"frame {index}: {text}")

    def _loss(self, reason: Reason, text: str, unit: Unit = "frames") -> Anomaly:
        return self._assembler.anomaly(reason, text[:300], unit)


def _htype(content: Settings | None) -> str:
    htype = content.get("htype") if content else None
    return htype[:64] if isinstance(htype, str) else ""


def _shape(form: Settings) -> tuple[int, int]:
    """Return (rows, columns) from [width, height] or [width, height, 1]."""
    match form.get("shape"):
        case [int() as columns, int() as rows, *rest] if rows > 0 and columns > 0 and rest in ([], [1]):
            return rows, columns
        case other:
            raise FrameError(Reason.CORRUPT, f"shape {str(other)[:64]}, expected [width, height]")


def _encoding(form: Settings) -> tuple[Encoding, np.dtype[Any]]:
    said, name = form.get("encoding"), form.get("type")
    dtype = DTYPES.get(name) if isinstance(name, str) else None
    match = _ENCODING.fullmatch(said) if isinstance(said, str) else None
    if dtype is None or match is None:
        raise FrameError(Reason.CORRUPT, f"type {str(name)[:32]!r} in encoding {str(said)[:32]!r} is not known")
    if match["order"] == ">":
        dtype = dtype.newbyteorder(">")
    if match["bits"] is None:
        return ("lz4_block" if match["lz4"] else "raw"), dtype
    if not match["lz4"] or int(match["bits"]) != 8 * dtype.itemsize:
        raise FrameError(Reason.CORRUPT, f"{name} cannot come in encoding {said!r}")
    return "bslz4", dtype


def _frames(settings: Settings) -> int | None:
    """Return how many frames are expected: with one exposure per trigger, as many as triggers."""
    images, triggers = count(settings.get("nimages")), count(settings.get("ntrigger"))
    if settings.get("trigger_mode") in _TRIGGER_PER_IMAGE:
        return triggers or None
    if images is None:
        return None
    return images * (triggers or 1) or None


def _distance(settings: Settings) -> float | None:
    distance = positive(settings.get("detector_distance"))
    translation = settings.get("detector_translation")
    if distance is None and isinstance(translation, list) and len(translation) == 3:
        along = translation[2]
        return positive(abs(along)) if isinstance(along, int | float) else None
    return distance
