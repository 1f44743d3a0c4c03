"""From the bytes of a position source to numbered, timed positions in the axes of the frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from streamptycho.config import PositionsConfig
from streamptycho.messages import AcquisitionEnd, AcquisitionStart, Anomaly, PositionBlock
from streamptycho.registry import Registry

PositionMessage = AcquisitionStart | PositionBlock | AcquisitionEnd | Anomaly


class PositionDecoder(Protocol):
    """Turns what a position source sends into messages. No input makes it fail or wait.

    Within one acquisition: one `AcquisitionStart`, blocks of rows in ascending order, one `AcquisitionEnd`.
    """

    def request(self) -> bytes:
        """Return what a client sends after connecting."""

    def connected(self) -> None:
        """Take note of a new connection: what follows is its beginning."""

    def feed(self, data: bytes, received_ns: int) -> Iterator[PositionMessage]:
        """Take the next bytes of the connection, cut anywhere, and return what they complete.

        Raises
        ------
        ColumnMissingError
            If the source does not capture a column that the configuration names.
        """

    def disconnected(self) -> Iterator[PositionMessage]:
        """Take note of a lost connection: an acquisition in progress ends incomplete."""


class ColumnMissingError(LookupError):
    """A configured column that the position source does not capture."""


def _pandabox() -> Callable[[PositionsConfig], PositionDecoder]:
    from streamptycho.positions.pandabox import PandaBoxDecoder

    return PandaBoxDecoder


DECODERS: Registry[Callable[[PositionsConfig], PositionDecoder]] = Registry("positions", {"pandabox": _pandabox})


def decoder(config: PositionsConfig) -> PositionDecoder:
    """Return a new decoder of the protocol that the configuration names.

    Raises
    ------
    UnknownPluginError
        If no such protocol is known.
    """
    return DECODERS.get(config.protocol)(config)
