"""Frame sources: bytes of a detector in, typed messages out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from streamptycho.config import DetectorConfig
from streamptycho.detectors.encode_stream1 import Stream1Encoder
from streamptycho.detectors.encode_stream2 import Stream2Encoder
from streamptycho.messages import Anomaly, FrameBlock, SeriesEnd, SeriesStart
from streamptycho.registry import Registry, UnknownPluginError

DetectorMessage = SeriesStart | FrameBlock | SeriesEnd | Anomaly


class FrameDecoder(Protocol):
    """Turns what a detector sends into messages. One per connection; knows no socket and no clock."""

    def feed(self, parts: Sequence[bytes], received_ns: int) -> Iterator[DetectorMessage]:
        """Take one multipart message as it arrived and yield what follows from it. Never raises on bad bytes."""

    def connected(self) -> None:
        """Say that the connection is new: what was begun and not finished will not be continued."""

    def flush(self) -> Iterator[DetectorMessage]:
        """Yield what was held back, at the end of the input."""


ENCODERS: dict[str, type[Stream1Encoder] | type[Stream2Encoder]] = {
    "dectris_stream1": Stream1Encoder,
    "dectris_stream2": Stream2Encoder,
}


def encoder(protocol: str, **settings: Any) -> Stream1Encoder | Stream2Encoder:
    """Return the encoder of a protocol that streamptycho can send. The settings are those of its class.

    Raises
    ------
    UnknownPluginError
        If there is none of that name.
    """
    if protocol not in ENCODERS:
        raise UnknownPluginError(f"no encoder for {protocol!r}. Known: {', '.join(sorted(ENCODERS))}")
    return ENCODERS[protocol](**settings)
