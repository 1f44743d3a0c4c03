"""DECTRIS Stream V1 ("legacy"): JSON parts and blobs, read part by part, however they are cut into messages.

References
----------
DECTRIS, EIGER2 SIMPLON API 1.8.0, section 5.4.3 (stream, legacy format).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from streamptycho.config import DetectorConfig
from streamptycho.detectors import DetectorMessage
from streamptycho.detectors.fields import FrameError, count, positive
from streamptycho.detectors.glimpse import Glimpse
from streamptycho.detectors.labels import json_object
from streamptycho.detectors.series import Image, SeriesAssembler, SeriesHeader, Unit
from streamptycho.detectors.stream1_parts import Settings, encoding_of, header_from, htype_of, mask_from, shape_of
from streamptycho.messages import Anomaly, Reason

_TOP = ("dheader-", "dimage-", "dseries_end-")
_PARTS_OF_AN_IMAGE = 3
_OF_IMAGES = ("dimage_d-", "dconfig-")


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

    def glimpse(self, parts: Sequence[bytes]) -> Glimpse | None:
        """Return what a message is; None for parts of one that came as messages of their own."""
        content = json_object(parts[0]) if parts else None
        htype = htype_of(content)
        if content is None or not htype.startswith(_TOP):
            return None
        number = count(content.get("series"))
        if htype.startswith("dseries_end-"):
            return Glimpse("end", number, number)
        if htype.startswith("dheader-"):
            whole = len(parts) > 1 or content.get("header_detail") == "none"
            return Glimpse("start", number, number) if whole else None
        index = count(content.get("frame"))
        whole = len(parts) >= _PARTS_OF_AN_IMAGE
        return Glimpse("image", number, number, () if index is None else (index,)) if whole else None

    def feed(self, parts: Sequence[bytes], received_ns: int) -> Iterator[DetectorMessage]:
        """Take one message of one or more parts. Parts that do not fit become an `Anomaly`."""
        yield from self._pay()
        if self._expect is _Expect.RESYNC and (len(parts) > 1 or not self._split):
            self._expect = _Expect.TOP
        self._split = len(parts) == 1
        begun_here = False
        for position, part in enumerate(parts):
            content = self._json(part)
            htype = htype_of(content)
            if content is not None and htype.startswith(_TOP):
                yield from self._interrupt(received_ns)
                yield from self._top(htype, content)
                begun_here = begun_here or self._header is not None
            elif self._header is not None and not htype.startswith(_OF_IMAGES):
                self._header_part(self._header, part, content, htype)
            elif self._parts is not None:
                yield from self._image_part(self._parts, part, content, htype, received_ns)
            else:
                if self._header is not None:
                    yield from self._interrupt(received_ns)
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
            if "pixelmask" in htype_of(header.table):
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
        masked, mask_error = mask_from(header.mask, self._config.max_frame_pixels)
        name = self._assembler.unique(str(header.number))
        yield from self._assembler.begin(header_from(name, settings, masked, header.appendix), received_ns)
        yield from self._pay()
        if mask_error:
            text = f"the pixel mask of the header cannot be used: {mask_error}"
            yield self._loss(Reason.CORRUPT, text, "messages")

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
        encoding, dtype = encoding_of(form)
        shape = shape_of(form)
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
