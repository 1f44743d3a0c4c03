"""Simulate: an instrument that speaks the real protocols, over real sockets."""

from __future__ import annotations

import threading
from collections.abc import Callable

from streamptycho.config import Config


def simulate(config: Config, should_stop: Callable[[], bool]) -> None:
    """Run the simulated instrument until its scan is over or it is told to stop."""
    raise NotImplementedError
