"""The pulse of a service: it is told to be at work while one long step keeps it from saying so itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from streamptycho.messages import Message, ServiceStatus
from streamptycho.runtime.ports import Sink

SILENT_S = 1.5
AT_WORK = 0.1


class Pulse:
    """Publishes through a sink, and repeats the last status while the process computes without publishing another.

    A process that hangs has no pulse: only time in which it used the processor counts as work.

    Parameters
    ----------
    sink
        Where everything goes; used by one thread at a time.
    silent_s
        How long the service says nothing before its last status is repeated, and how often then.
    cpu_s
        Processor time that the process has used.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        silent_s: float = SILENT_S,
        clock: Callable[[], float] = time.monotonic,
        cpu_s: Callable[[], float] = time.process_time,
    ) -> None:
        self._sink, self._silent_s, self._clock, self._cpu_s = sink, silent_s, clock, cpu_s
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._last: ServiceStatus | None = None
        self._said = clock()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)
        self._thread.start()

    def put(self, message: Message, timeout_s: float) -> bool:
        """Publish a message."""
        with self._lock:
            if isinstance(message, ServiceStatus):
                self._last, self._said = message, self._clock()
            return self._sink.put(message, timeout_s)

    def close(self) -> None:
        """Stop the pulse and close the sink."""
        self._closed.set()
        self._thread.join()
        self._sink.close()

    def _beat(self) -> None:
        used = self._cpu_s()
        while not self._closed.wait(self._silent_s):
            before, used = used, self._cpu_s()
            with self._lock:
                silent_s = self._clock() - self._said
                last = self._last if silent_s >= self._silent_s else None
                if last is None or last.state in ("finished", "failed") or used - before < AT_WORK * self._silent_s:
                    continue
                working = f"at work for {silent_s:.0f} s"
                self._sink.put(replace(last, text="; ".join(filter(None, (last.text, working)))), 0.0)
