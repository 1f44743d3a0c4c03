"""Simulate: an instrument that speaks the real protocols, over real sockets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from streamptycho.config import Config
from streamptycho.runtime.instrument import InstrumentReport, InstrumentServer
from streamptycho.simulation import Instrument

CONNECT_S = 60.0
ASK_S = 0.1


def simulate(
    config: Config,
    should_stop: Callable[[], bool],
    say: Callable[[str], None] = lambda text: None,
    when_over: Callable[[], None] | None = None,
) -> InstrumentReport:
    """Run the simulated instrument until its scan is over or it is told to stop.

    With `when_over` that is called when the scan is over, and the instrument stays until it is told to stop, as a real
    one does.

    Raises
    ------
    SimulationError
        If the configuration describes no possible measurement.
    ServingError
        If an address cannot be bound, or nobody connects.
    """
    instrument = Instrument(config)
    stop, over = threading.Event(), threading.Event()

    def watch() -> None:
        while not over.wait(ASK_S):
            if should_stop():
                stop.set()

    watcher = threading.Thread(target=watch, name="stop", daemon=True)
    watcher.start()
    try:
        with InstrumentServer.for_config(config, instrument.events(time.time())) as server:
            say(f"detector at {server.detector_endpoint}, PandABox data port {server.positions_port}; waiting")
            report = server.run(stop, CONNECT_S)
            if when_over is not None:
                when_over()
                stop.wait()
    finally:
        over.set()
        watcher.join()
    say(f"{report.frames_sent} frames and {report.rows_sent} position rows sent")
    return report
