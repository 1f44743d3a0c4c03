"""The connection to both instruments that a configuration describes."""

from __future__ import annotations

from streamptycho import positions
from streamptycho.config import Config
from streamptycho.runtime.instrument_client import InstrumentClient


def instrument_client(config: Config) -> InstrumentClient:
    """Return a client that connects to detector and position source.

    Raises
    ------
    InstrumentError
        If an address cannot be one.
    """
    target, at, detector = positions.decoder(config.positions), config.positions, config.detector
    return InstrumentClient(
        detector.endpoint,
        at.host,
        at.port,
        target.request(),
        subscribe=target.transport == "zmq_sub",
        receivers=detector.receivers,
        more_endpoints=detector.more_endpoints,
    )
