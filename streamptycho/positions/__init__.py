"""From the bytes of a position source to numbered, timed positions in the axes of the frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, Protocol

from streamptycho.config import PositionsConfig
from streamptycho.messages import AcquisitionEnd, AcquisitionStart, Anomaly, PositionBlock
from streamptycho.registry import Registry

PositionMessage = AcquisitionStart | PositionBlock | AcquisitionEnd | Anomaly


class PositionDecoder(Protocol):
    """Turns what a position source sends into messages. No input makes it fail or wait.

    Within one acquisition: one `AcquisitionStart`, blocks of rows in ascending order, one `AcquisitionEnd`. An
    acquisition outlives its connection: after the next one its rows go on where the counter of the source says, which
    may be before rows that came already.
    """

    @property
    def transport(self) -> Literal["tcp", "zmq_sub"]:
        """How the bytes come: in a stream that is cut anywhere, or as whole messages of a PUB."""

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
        """Take note of a lost connection, and yield what was held back."""

    def flush(self) -> Iterator[PositionMessage]:
        """Take note that nothing follows: an acquisition in progress ends incomplete."""


class ColumnMissingError(LookupError):
    """A configured column that the position source does not capture."""


def _pandabox() -> Callable[[PositionsConfig], PositionDecoder]:
    from streamptycho.positions.pandabox import PandaBoxDecoder

    return PandaBoxDecoder


def _panda_json() -> Callable[[PositionsConfig], PositionDecoder]:
    from streamptycho.positions.panda_json import PandaJsonDecoder

    return PandaJsonDecoder


DECODERS: Registry[Callable[[PositionsConfig], PositionDecoder]] = Registry(
    "positions", {"pandabox": _pandabox, "panda_json": _panda_json}
)


def decoder(config: PositionsConfig) -> PositionDecoder:
    """Return a new decoder of the protocol that the configuration names; its rows are those of frames.

    Raises
    ------
    UnknownPluginError
        If no such protocol is known.
    """
    source = DECODERS.get(config.protocol)(config)
    if config.rows_per_frame == 1:
        return source
    from streamptycho.positions.averaging import AveragingDecoder

    return AveragingDecoder(source, config.rows_per_frame)
