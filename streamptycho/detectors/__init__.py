"""Frame sources: bytes of a detector in, typed messages out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from streamptycho.config import DetectorConfig
from streamptycho.memory import ReusedMemory
from streamptycho.messages import Anomaly, Array, FrameBlock, SeriesEnd, SeriesStart
from streamptycho.registry import Registry

if TYPE_CHECKING:
    from streamptycho.detectors.encode_open import OpenEncoder
    from streamptycho.detectors.encode_stream1 import Stream1Encoder
    from streamptycho.detectors.encode_stream2 import Stream2Encoder

DetectorMessage = SeriesStart | FrameBlock | SeriesEnd | Anomaly


class FrameDecoder(Protocol):
    """Turns what a detector sends into messages. One per stream; knows no socket and no clock."""

    def feed(self, parts: Sequence[bytes], received_ns: int) -> Iterator[DetectorMessage]:
        """Take one message as it arrived and yield what follows from it. Bad bytes become an `Anomaly`."""

    def connected(self) -> None:
        """Say that the connection is new: what was begun and not finished will not be continued."""

    def flush(self) -> Iterator[DetectorMessage]:
        """Yield what was held back, at the end of the input."""


@runtime_checkable
class BlockDecoder(Protocol):
    """A `FrameDecoder` that takes many messages at once."""

    def feed_block(self, data: Array, spans: Array, received_ns: Array) -> Iterator[DetectorMessage]:
        """Take messages `data[begin:end]` of one part each, for the rows of `spans` (N, 2), as `feed` would in turn."""


@runtime_checkable
class HoldingDecoder(Protocol):
    """A `FrameDecoder` that holds messages back for a while."""

    def pass_time(self, now_ns: int) -> Iterator[DetectorMessage]:
        """Yield what has been held for long enough at `now_ns`, on the clock of the receive times."""


@runtime_checkable
class PlacingDecoder(Protocol):
    """A `FrameDecoder` that says where frames lie."""

    def place_in(self, memory: ReusedMemory) -> None:
        """Put the frames that come from now on into this memory."""


def _stream1() -> Callable[[DetectorConfig], FrameDecoder]:
    from streamptycho.detectors.dectris_stream1 import Stream1Decoder

    return Stream1Decoder


def _stream2() -> Callable[[DetectorConfig], FrameDecoder]:
    from streamptycho.detectors.dectris_stream2 import Stream2Decoder

    return Stream2Decoder


def _open() -> Callable[[DetectorConfig], FrameDecoder]:
    from streamptycho.detectors.open_protocol import OpenDecoder

    return OpenDecoder


DECODERS: Registry[Callable[[DetectorConfig], FrameDecoder]] = Registry(
    "detectors", {"dectris_stream1": _stream1, "dectris_stream2": _stream2, "open": _open}
)


def decoder(config: DetectorConfig, memory: ReusedMemory | None = None) -> FrameDecoder:
    """Return a new decoder of the protocol that the configuration names, whose frames lie in `memory` if it can.

    Raises
    ------
    UnknownPluginError
        If no plugin has that name.
    GlimpseError
        If several connections are configured and the decoder cannot bring in order what they carry.
    """
    made = DECODERS.get(config.protocol)(config)
    if memory is not None and isinstance(made, PlacingDecoder):
        made.place_in(memory)
    if config.receivers == 1:
        return made
    from streamptycho.detectors.series_order import SeriesOrder

    return SeriesOrder(made)


def _encoder1() -> type[Stream1Encoder]:
    from streamptycho.detectors.encode_stream1 import Stream1Encoder

    return Stream1Encoder


def _encoder2() -> type[Stream2Encoder]:
    from streamptycho.detectors.encode_stream2 import Stream2Encoder

    return Stream2Encoder


def _encoder_open() -> type[OpenEncoder]:
    from streamptycho.detectors.encode_open import OpenEncoder

    return OpenEncoder


ENCODERS: Registry[type[Stream1Encoder] | type[Stream2Encoder] | type[OpenEncoder]] = Registry(
    "detector_encoders", {"dectris_stream1": _encoder1, "dectris_stream2": _encoder2, "open": _encoder_open}
)


def encoder(protocol: str, **settings: Any) -> Stream1Encoder | Stream2Encoder | OpenEncoder:
    """Return the encoder of a protocol that streamptycho can send. The settings are those of its class.

    Raises
    ------
    UnknownPluginError
        If there is none of that name.
    """
    return ENCODERS.get(protocol)(**settings)
