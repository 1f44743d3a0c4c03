"""DECTRIS Stream V2: one CBOR message per start, image and end.

References
----------
DECTRIS, Stream V2: https://github.com/dectris/documentation/tree/main/stream_v2.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from streamptycho.config import DetectorConfig
from streamptycho.detectors import DetectorMessage, cbor
from streamptycho.detectors.cbor import Tag
from streamptycho.detectors.compression import CompressionError
from streamptycho.detectors.fields import (
    FrameError,
    center_from,
    check_size,
    count,
    distance_from,
    energy_from,
    positive,
    square_pixel,
)
from streamptycho.detectors.glimpse import Glimpse
from streamptycho.detectors.image_blocks import FrameCutter
from streamptycho.detectors.image_layout import ImageLayout, learn
from streamptycho.detectors.image_scan import glimpse_images
from streamptycho.detectors.labels import labels_from
from streamptycho.detectors.series import Image, SeriesAssembler, SeriesHeader
from streamptycho.detectors.typed_array import TypedArray, TypedArrayError, typed_array
from streamptycho.memory import ReusedMemory
from streamptycho.messages import Anomaly, Array, FrameBlock, Reason

_SELF_DESCRIBED = 55799

Entries = dict[Any, Any]


class Stream2Decoder:
    """Decodes Stream V2 messages; see `FrameDecoder`."""

    def __init__(self, config: DetectorConfig) -> None:
        self._config = config
        self._assembler = SeriesAssembler(config)
        self._key: tuple[Any, Any] | None = None
        self._header: Entries = {}
        self._armed: datetime | None = None
        self._mask_error = ""
        self._date: tuple[Any, datetime | None] = (None, None)
        self._cutter = FrameCutter(config.decode_threads)
        self._layout: ImageLayout | None = None
        self._shift_s = 0.0

    def place_in(self, memory: ReusedMemory) -> None:
        """Put the frames that come from now on into this memory."""
        self._cutter.place_in(memory)

    def connected(self) -> None:
        """Take note of a new connection: nothing to do, as no message has more than one part."""

    def glimpse(self, parts: Sequence[bytes]) -> Glimpse | None:
        """Return what a message is, also if it was cut behind the entries that say so."""
        if len(parts) != 1:
            return None
        try:
            message = cbor.loads(parts[0])
        except cbor.CborError as error:
            message = error.entries
        while isinstance(message, Tag) and message.number == _SELF_DESCRIBED:
            message = message.value
        kind = message.get("type") if isinstance(message, dict) else None
        if kind not in ("start", "image", "end"):
            return None
        index = count(message.get("image_id"))
        key = _key(message)
        return Glimpse(kind, key, key[1], () if index is None else (index,))

    def glimpse_block(self, data: Array, spans: Array) -> tuple[Array, Array]:
        """See `BlockGlimpsingDecoder`."""
        marks, index = np.empty(len(spans), np.uint64), np.empty(len(spans), np.int64)
        glimpse_images(data, spans, marks, index)
        return marks, index

    def feed(self, parts: Sequence[bytes], received_ns: int) -> Iterator[DetectorMessage]:
        """Take one message. Bytes that are none become an `Anomaly`."""
        for part in parts:
            yield from self._feed(part, received_ns, learn_from=False)

    def feed_block(self, data: Array, spans: Array, received_ns: Array) -> Iterator[DetectorMessage]:
        """Take messages `data[begin:end]`, one for each row of `spans` (N, 2), as `feed` would one after the other.

        Images that look alike are decoded together, in compiled code.
        """
        at = 0
        while at < len(spans):
            together = yield from self._feed_alike(data, spans[at:], received_ns[at:])
            at += together
            if not together:
                part = data[spans[at, 0] : spans[at, 1]].data
                yield from self._feed(part, int(received_ns[at]), learn_from=True)
                at += 1

    def _feed(self, part: bytes | memoryview, received_ns: int, *, learn_from: bool) -> Iterator[DetectorMessage]:
        try:
            message = cbor.loads(part)
        except cbor.CborError as error:
            yield self._unreadable(error)
            return
        while isinstance(message, Tag) and message.number == _SELF_DESCRIBED:
            message = message.value
        yield from self._message(message, received_ns)
        if learn_from and isinstance(message, dict) and message.get("type") == "image":
            self._learn(part, message)

    def _learn(self, part: bytes | memoryview, message: Entries) -> None:
        """Take an image as the pattern of those to come."""
        self._layout = None
        if self._key is None or _key(message) != self._key:
            return
        try:
            self._layout = learn(part, message, self._channel_in(message.get("data")))
        except (TypedArrayError, FrameError):
            return
        date = self._series_date(message)
        self._shift_s = (date - self._armed).total_seconds() if date and self._armed else 0.0

    def _feed_alike(self, data: Array, spans: Array, received_ns: Array) -> Generator[DetectorMessage, None, int]:
        """Take the first messages as far as they are images like the one learned from; return how many that were."""
        layout = self._layout
        cutter = None if layout is None else self._assembler.cutter_for(layout.shape)
        if layout is None or cutter is None:
            return 0
        scanned = layout.scan(data, spans[: self._cutter.frames_at_once(layout, cutter)])
        if not len(scanned.index):
            return 0
        frames = self._cutter.cut(data, scanned, layout, cutter)
        count = len(frames.counts)
        if not count:
            return 0
        start_s, stop_s = self._times_s(scanned.index[:count], scanned.times_s[:count])
        yield FrameBlock(
            series=str(self._assembler.series),
            index=scanned.index[:count],
            exposure_start_s=start_s,
            exposure_stop_s=stop_s,
            counts=frames.counts,
            received_ns=received_ns[:count],
        )
        for frame in np.flatnonzero(frames.saturated).tolist():
            yield from self._assembler.saturated(int(frames.saturated[frame]), int(received_ns[frame]))
        return count

    def _times_s(self, index: Array, times_s: Array) -> tuple[Array, Array]:
        """Return when exposures began and ended, (N,) each, from real, start and stop times (N, 3)."""
        real_s, start_s, stop_s = times_s.T
        nominal_s = index * (positive(self._header.get("frame_time")) or 0.0)
        exposure_s = np.where(real_s > 0, real_s, positive(self._header.get("count_time")) or 0.0)
        start_s = np.where(np.isnan(start_s), nominal_s, start_s)
        stop_s = np.where(np.isnan(stop_s), start_s + exposure_s, stop_s)
        return start_s + self._shift_s, stop_s + self._shift_s

    def flush(self) -> Iterator[DetectorMessage]:
        """Yield what was held back."""
        yield from self._assembler.flush()

    def _message(self, message: Any, received_ns: int) -> Iterator[DetectorMessage]:
        kind = message.get("type") if isinstance(message, dict) else None
        if kind == "start":
            yield from self._start(message, received_ns)
        elif kind == "image":
            yield from self._image(message, received_ns)
        elif kind == "end":
            current = self._assembler.series if _key(message) == self._key else None
            yield from self._assembler.end(current or _name(message))
        else:
            text = "expected a map whose type is start, image or end"
            yield self._assembler.anomaly(Reason.CORRUPT, text, "messages")

    def _unreadable(self, error: cbor.CborError) -> Anomaly:
        reason = Reason.TRUNCATED if isinstance(error, cbor.CutCborError) else Reason.CORRUPT
        entries = error.entries
        if entries.get("type") != "image":
            return self._assembler.anomaly(reason, str(error), "messages")
        return self._assembler.anomaly(reason, f"frame {count(entries.get('image_id'))}: {error}")

    def _start(self, message: Entries, received_ns: int) -> Iterator[DetectorMessage]:
        key = _key(message)
        if key == self._key and key[0] and self._header:
            yield self._assembler.anomaly(Reason.DUPLICATE, "the header of this series came again", "messages")
            return
        self._key, self._header, self._layout = key, message, None
        self._armed = _date_time(message.get("arm_date"))
        yield from self._assembler.begin(self._series_header(message), received_ns)
        channels = _channels(message)
        wanted = self._config.channel
        if wanted is not None and channels and wanted not in channels:
            yield self._assembler.anomaly(Reason.MISSING, _no_channel(wanted, channels), "messages")
        if "pixel_mask" in message and self._mask_error:
            text = f"the pixel mask of the header cannot be used: {self._mask_error}"
            yield self._assembler.anomaly(Reason.CORRUPT, text, "messages")

    def _series_header(self, message: Entries) -> SeriesHeader:
        rows, columns = count(message.get("image_size_y")), count(message.get("image_size_x"))
        masked, self._mask_error = self._mask(message)
        return SeriesHeader(
            series=self._assembler.unique(_name(message)),
            n_frames=count(message.get("number_of_images")) or None,
            energy_ev=energy_from(message.get("incident_energy"), message.get("incident_wavelength")),
            distance_m=distance_from(message.get("detector_translation")),
            pixel_m=square_pixel(message.get("pixel_size_x"), message.get("pixel_size_y")),
            shape=(rows, columns) if rows and columns else None,
            center_px=center_from(message.get("beam_center_y"), message.get("beam_center_x")),
            masked=masked,
            saturation=count(message.get("saturation_value")) or None,
            epoch_s=self._armed.timestamp() if self._armed else None,
            labels=labels_from(message.get("user_data")),
        )

    def _mask(self, message: Entries) -> tuple[Array | None, str]:
        """Return which pixels are masked in the channel that is read, or why that is not known."""
        masks = message.get("pixel_mask")
        if not isinstance(masks, dict) or not masks:
            return None, f"expected a map of channels, got {type(masks).__name__}"
        channel = self._config.channel or next(iter(_channels(message)), None)
        try:
            table = typed_array(masks.get(channel, next(iter(masks.values()))))
            check_size(table.shape, self._config.max_frame_pixels)
            return _image_of(table, 0, 0.0, 0.0).rows() != 0, ""
        except (TypedArrayError, CompressionError, FrameError) as error:
            return None, str(error)

    def _image(self, message: Entries, received_ns: int) -> Iterator[DetectorMessage]:
        index = count(message.get("image_id"))
        if index is None:
            yield self._assembler.anomaly(Reason.CORRUPT, "an image without image_id")
            return
        try:
            image = self._parsed(message, index)
        except TypedArrayError as error:
            yield self._assembler.anomaly(Reason.CORRUPT, f"frame {index}: {error}")
            return
        except FrameError as error:
            yield self._assembler.anomaly(error.reason, f"frame {index}: {error}")
            return
        key = _key(message)
        if self._key is None and not self._assembler.needs_header:
            date = self._series_date(message)
            name = self._assembler.unique(_name(message))
            header = SeriesHeader(series=name, shape=image.shape, epoch_s=date.timestamp() if date else None)
            yield from self._assembler.begin(header, received_ns)
            self._key = key
        if key != self._key:
            yield self._assembler.stray(_name(message), index)
            return
        yield from self._assembler.image(image, received_ns)

    def _parsed(self, message: Entries, index: int) -> Image:
        channel = self._channel_in(message.get("data"))
        nominal = index * (positive(self._header.get("frame_time")) or 0.0)
        start_s = _seconds(message.get("start_time"))
        stop_s = _seconds(message.get("stop_time"))
        exposure_s = _seconds(message.get("real_time")) or positive(self._header.get("count_time")) or 0.0
        start_s = nominal if start_s is None else start_s
        stop_s = start_s + exposure_s if stop_s is None else stop_s
        date = self._series_date(message)
        shift_s = (date - self._armed).total_seconds() if date and self._armed else 0.0
        return _image_of(typed_array(message["data"][channel]), index, start_s + shift_s, stop_s + shift_s)

    def _channel_in(self, data: Any) -> str:
        """Return the channel to read of those in the data of an image."""
        if not isinstance(data, dict) or not data:
            raise TypedArrayError("an image without data")
        channel = self._config.channel
        if channel is None:
            channel = next((c for c in _channels(self._header) if c in data), next(iter(data)))
        if channel not in data:
            raise FrameError(Reason.MISSING, _no_channel(channel, list(data)))
        return channel

    def _series_date(self, message: Entries) -> datetime | None:
        said = message.get("series_date")
        if self._date[0] != said:
            self._date = (said, _date_time(said))
        return self._date[1]


def _image_of(table: TypedArray, index: int, start_s: float, stop_s: float) -> Image:
    return Image(
        index=index,
        start_s=start_s,
        stop_s=stop_s,
        payload=table.payload,
        encoding=table.encoding,
        dtype=table.dtype,
        shape=table.shape,
        transposed=table.column_major,
    )


def _key(message: Entries) -> tuple[Any, Any]:
    unique, number = message.get("series_unique_id"), message.get("series_id")
    return (unique if isinstance(unique, str) else "", count(number))


def _name(message: Entries) -> str:
    unique, number = _key(message)
    return f"{unique[:64]}:{number}" if unique else str(number)


def _channels(message: Entries) -> list[str]:
    said = message.get("channels")
    return [c for c in said if isinstance(c, str)] if isinstance(said, list) else []


def _no_channel(wanted: str, present: Sequence[Any]) -> str:
    there = ", ".join(str(c)[:64] for c in present[:8])
    return f"channel {wanted!r} is not in the stream, which has {there}: set detector.channel"


def _date_time(item: Any) -> datetime | None:
    text = item.value if isinstance(item, Tag) else item
    if not isinstance(text, str):
        return None
    try:
        date = datetime.fromisoformat(text)
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        date.timestamp()
    except (ValueError, OverflowError):
        return None
    return date


def _seconds(rational: Any) -> float | None:
    match rational:
        case [int() as numerator, int() as denominator] if denominator > 0 and abs(numerator) < 1 << 63:
            return float(numerator / denominator)
        case int() | float() if np.isfinite(rational):
            return float(rational)
        case _:
            return None
