"""What came over several connections, series by series again.

A detector that pushes to N connections gives each message to one of them, and one connection may be far behind
another. Each keeps its own order. So an image may come before the start of its series, an end before the last images,
and the next series before the end of the one before.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from streamptycho.detectors import BlockDecoder, DetectorMessage, FrameDecoder
from streamptycho.detectors.glimpse import BlockGlimpsingDecoder, Glimpse, GlimpsingDecoder, together
from streamptycho.messages import Anomaly, Array, FrameBlock, Reason, SeriesStart

HOLD_S = 1.0
HOLD_BYTES = 512 << 20
MAX_IMAGES = 1 << 26

_BYTES_BESIDE = 1024
_KNOWN_MARKS = 256


@dataclass(frozen=True, slots=True)
class _Single:
    """A message by itself."""

    parts: Sequence[bytes]
    received_ns: int

    @property
    def size(self) -> int:
        return sum(map(len, self.parts)) + _BYTES_BESIDE

    def kept(self) -> _Single:
        return _Single([bytes(part) for part in self.parts], self.received_ns)

    def through(self, decoder: FrameDecoder) -> Iterator[DetectorMessage]:
        return decoder.feed(self.parts, self.received_ns)


@dataclass(frozen=True, slots=True)
class _Run:
    """Messages of one part each, that follow each other."""

    data: Array
    spans: Array
    times_ns: Array

    @property
    def size(self) -> int:
        return int((self.spans[:, 1] - self.spans[:, 0]).sum()) + _BYTES_BESIDE

    @property
    def received_ns(self) -> int:
        return int(self.times_ns[-1])

    def kept(self) -> _Run:
        begin, end = int(self.spans.min()), int(self.spans.max())
        return _Run(self.data[begin:end].copy(), self.spans - begin, self.times_ns.copy())

    def through(self, decoder: FrameDecoder) -> Iterator[DetectorMessage]:
        assert isinstance(decoder, BlockDecoder)
        return decoder.feed_block(self.data, self.spans, self.times_ns)


_Held = _Single | _Run


@dataclass(eq=False)
class _Series:
    """What is known of a series, and what of it is held."""

    key: Hashable
    number: int | None
    first_ns: int
    last_ns: int = 0
    start: _Single | None = None
    started: bool = False
    begun: bool = False
    end: _Single | None = None
    items: list[_Held] = field(default_factory=list)
    size: int = 0
    named: bool = False
    announced: int | None = None
    count: int = 0
    seen: Array = field(default_factory=lambda: np.zeros(0, np.bool_))

    @property
    def complete(self) -> bool:
        """Whether all images that were announced came."""
        return self.announced is not None and self.count >= self.announced

    @property
    def has_first(self) -> bool:
        """Whether image 0 came."""
        return bool(len(self.seen) and self.seen[0])

    def announce(self, start: SeriesStart) -> None:
        """Take note of how many images there are; a second start begins to count them anew."""
        if self.named:
            self.seen, self.count = np.zeros(0, np.bool_), 0
        self.named, self.announced = True, start.n_frames

    def see(self, index: Sequence[int] | Array) -> int:
        """Take note of images; return how many bytes more that takes."""
        numbers = np.asarray(index, np.int64)
        numbers = numbers[(numbers >= 0) & (numbers < MAX_IMAGES)]
        if not len(numbers):
            return 0
        top, before = int(numbers.max()) + 1, len(self.seen)
        if top > len(self.seen):
            grown = np.zeros(max(2 * len(self.seen), top), np.bool_)
            grown[: len(self.seen)] = self.seen
            self.seen = grown
        fresh = np.unique(numbers[~self.seen[numbers]])
        self.seen[fresh] = True
        self.count += len(fresh)
        return len(self.seen) - before


class GlimpseError(TypeError):
    """A decoder that cannot say what a message is, where that is needed."""


class SeriesOrder:
    """A `FrameDecoder` that gives the messages of one series after the other to the decoder behind it.

    Series come in the order of their numbers. Of each come its start, image 0, then its images as they arrive (they
    carry their numbers, and pairing brings them in order), then its end. What comes before its turn is held for at
    most `HOLD_S` (in receive times) and `HOLD_BYTES`; then it has its turn, and the decoder counts what cannot be used.
    A series is over when all images that it announced came, or when none came for `HOLD_S` and its end or the start of
    another did. The first series of a run has to send at least one message over every connection; of later ones that
    were not heard of yet the gap in the numbers tells.

    Each message of a detector has to be whole: parts of Stream V1 that were sent as messages of their own cannot be
    put together any more, and are counted as corrupt. Stream V1 and the open protocol tell two series of the same
    number apart only when `HOLD_S` lies between them.

    Parameters
    ----------
    decoder
        What takes the messages.

    Raises
    ------
    GlimpseError
        If the decoder is not a `GlimpsingDecoder`.
    """

    def __init__(self, decoder: FrameDecoder) -> None:
        if not isinstance(decoder, GlimpsingDecoder):
            raise GlimpseError(
                f"{type(decoder).__name__} cannot tell to which series a message belongs (it has no method glimpse): "
                "set detector.receivers to 1"
            )
        self._decoder: FrameDecoder = decoder
        self._glimpsing: GlimpsingDecoder = decoder
        self._current: _Series | None = None
        self._waiting: dict[Hashable, _Series] = {}
        self._over: dict[Hashable, int] = {}
        self._marks: dict[int, Glimpse] = {}
        self._last_number: int | None = None
        self._held_bytes = 0
        self._now_ns = 0

    @property
    def held_bytes(self) -> int:
        """How much is held."""
        return self._held_bytes

    def connected(self) -> None:
        """Say that one of the connections is new."""
        self._decoder.connected()

    def feed(self, parts: Sequence[bytes], received_ns: int) -> Iterator[DetectorMessage]:
        """Take one message."""
        self._now_ns = max(self._now_ns, received_ns)
        told = self._glimpsing.glimpse(parts)
        yield from self._take(told, _Single(parts, received_ns))

    def feed_block(self, data: Array, spans: Array, received_ns: Array) -> Iterator[DetectorMessage]:
        """Take messages `data[begin:end]` of one part each, for the rows of `spans` (N, 2)."""
        marks, index = np.zeros(len(spans), np.uint64), np.zeros(len(spans), np.int64)
        if isinstance(self._decoder, BlockGlimpsingDecoder):
            marks, index = self._decoder.glimpse_block(data, spans)
        for begin, end in together(marks):
            first = data[spans[begin, 0] : spans[begin, 1]]
            if not marks[begin]:
                yield from self.feed([first.tobytes()], int(received_ns[begin]))
                continue
            self._now_ns = max(self._now_ns, int(received_ns[begin:end].max()))
            told = self._of_mark(int(marks[begin]), first)
            if told is not None:
                told = replace(told, index=index[begin:end])
            yield from self._take(told, _Run(data, spans[begin:end], received_ns[begin:end]))

    def pass_time(self, now_ns: int) -> Iterator[DetectorMessage]:
        """Give up what did not come in time."""
        self._now_ns = max(self._now_ns, now_ns)
        yield from self._advance()

    def flush(self) -> Iterator[DetectorMessage]:
        """Yield all that is held."""
        while self._current is not None or self._waiting:
            yield from self._force()
        yield from self._decoder.flush()

    def _of_mark(self, mark: int, message: Array) -> Glimpse | None:
        told = self._marks.get(mark)
        if told is None:
            told = self._glimpsing.glimpse([message.tobytes()])
            if len(self._marks) >= _KNOWN_MARKS:
                self._marks.clear()
            if told is not None:
                self._marks[mark] = told
        return told

    def _take(self, told: Glimpse | None, message: _Held) -> Iterator[DetectorMessage]:
        if told is None:
            yield from self._pass(message)
            return
        series = self._current
        if series is None or told.series != series.key:
            if told.kind != "start" and self._was_just_over(told.series):
                yield from self._pass(message)
            else:
                self._over.pop(told.series, None)
                self._hold(told, message)
        elif told.kind == "image":
            series.last_ns = self._now_ns
            series.see(told.index)
            if series.begun:
                yield from self._pass(message)
            else:
                self._keep(series, message)
        elif told.kind == "end":
            series.last_ns, series.end = self._now_ns, _single(message)
            self._count(series, message.size)
        else:
            yield from self._again(series, message)
        yield from self._advance()

    def _was_just_over(self, key: Hashable) -> bool:
        over_ns = self._over.get(key)
        return over_ns is not None and not self._is_overdue(over_ns)

    def _again(self, series: _Series, message: _Held) -> Iterator[DetectorMessage]:
        """Take a start of the current series: late, once more, or of another series with the same number."""
        if series.started and series.end is not None:
            yield from self._release(series)
            end, series.end = series.end, None
            yield from self._pass(end)
        series.last_ns, series.started = self._now_ns, True
        yield from self._pass(message)

    def _hold(self, told: Glimpse, message: _Held) -> None:
        """Keep what does not belong to the current series."""
        series = self._waiting.get(told.series)
        if series is None:
            series = self._waiting[told.series] = _Series(told.series, told.number, self._now_ns)
        series.last_ns = self._now_ns
        if told.kind == "start" and series.start is None:
            series.start = _single(message)
            self._count(series, message.size)
        elif told.kind == "end":
            series.end = _single(message)
            self._count(series, message.size)
        else:
            self._count(series, series.see(told.index))
            self._keep(series, message)

    def _keep(self, series: _Series, message: _Held) -> None:
        series.items.append(message.kept())
        self._count(series, message.size)

    def _count(self, series: _Series, size: int) -> None:
        series.size += size
        self._held_bytes += size

    def _advance(self) -> Iterator[DetectorMessage]:
        """Go as far as it goes with what is there."""
        while True:
            series = self._current
            if series is not None:
                if not series.begun and series.items and (series.has_first or self._is_overdue(series.first_ns)):
                    yield from self._release(series)
                if not self._is_over(series):
                    break
                yield from self._close(series)
            following = self._following()
            if following is None:
                break
            yield from self._open(following)
        yield from self._pass_headless()
        if self._held_bytes > HOLD_BYTES:
            yield self._overflow()
            while self._held_bytes > HOLD_BYTES:
                yield from self._force()

    def _is_overdue(self, since_ns: int) -> bool:
        return (self._now_ns - since_ns) * 1e-9 > HOLD_S

    def _is_over(self, series: _Series) -> bool:
        another = any(other.start is not None for other in self._waiting.values())
        if series.end is None and not another:
            return False
        return series.complete or self._is_overdue(series.last_ns)

    def _following(self) -> _Series | None:
        """Return the series whose turn it is, None while it is not certain which, or its start is missing."""
        if not self._waiting:
            return None
        series, last = self._lowest(), self._last_number
        is_next = last is None or series.number is None or series.number <= last + 1
        return series if (series.start is not None and is_next) or self._is_overdue(series.first_ns) else None

    def _lowest(self) -> _Series:
        return min(self._waiting.values(), key=lambda one: (one.number is None, one.number or 0))

    def _pass_headless(self) -> Iterator[DetectorMessage]:
        """Give up images whose start did not come while another series goes on."""
        if self._current is None:
            return
        for series in [one for one in self._waiting.values() if one.start is None]:
            if self._is_overdue(series.first_ns):
                del self._waiting[series.key]
                yield from self._release(series)
                yield from self._end(series)

    def _force(self) -> Iterator[DetectorMessage]:
        """Take the next step without what is missing for it."""
        series = self._current
        if series is None:
            yield from self._open(self._lowest())
        elif not series.begun and series.items:
            yield from self._release(series)
        else:
            yield from self._close(series)

    def _open(self, series: _Series) -> Iterator[DetectorMessage]:
        del self._waiting[series.key]
        self._current = series
        if series.start is None:
            yield from self._release(series)
            return
        # Time counts from when its turn came: it could not begin earlier.
        series.first_ns = series.last_ns = self._now_ns
        start, series.start, series.started = series.start, None, True
        self._count(series, -start.size)
        yield from self._pass(start)

    def _release(self, series: _Series) -> Iterator[DetectorMessage]:
        items, series.items = series.items, []
        series.begun = True
        self._held_bytes -= series.size
        series.size = 0
        for item in items:
            for out in self._pass(item):
                if isinstance(out, FrameBlock) and out.received_ns is None:
                    yield replace(out, received_ns=np.full(len(out.index), item.received_ns))
                else:
                    yield out

    def _close(self, series: _Series) -> Iterator[DetectorMessage]:
        yield from self._release(series)
        yield from self._end(series)
        self._current = None
        if series.number is not None and (series.started or self._last_number is None):
            self._last_number = series.number

    def _end(self, series: _Series) -> Iterator[DetectorMessage]:
        if series.end is not None:
            yield from self._pass(series.end)
        self._over = {key: then_ns for key, then_ns in self._over.items() if not self._is_overdue(then_ns)}
        self._over[series.key] = self._now_ns

    def _pass(self, message: _Held) -> Iterator[DetectorMessage]:
        for out in message.through(self._decoder):
            if isinstance(out, SeriesStart) and self._current is not None:
                self._current.announce(out)
            yield out

    def _overflow(self) -> Anomaly:
        text = f"more than {HOLD_BYTES >> 20} MB came before what is missing of the series in progress: it is given up"
        key = self._current.key if self._current is not None else None
        return Anomaly(source="detector", reason=Reason.OVERFLOW, unit="messages", detail=f"{text} ({key})"[:300])


def _single(message: _Held) -> _Single:
    assert isinstance(message, _Single)
    return message.kept()
