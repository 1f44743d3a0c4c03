"""The loop of a service: messages in, messages out, a word to the operator twice a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from streamptycho.messages import Message, ServiceStatus
from streamptycho.runtime.ports import Sink, Source, Stage, is_worth_a_look, travels_as_data

STATUS_EVERY_NS = 500_000_000
IDLE_WAIT_S = 0.02
BLOCKED_WAIT_S = 0.1
LAST_MESSAGES_NS = 5_000_000_000
MESSAGES_PER_SLICE = 32

Tap = Callable[[Message], None]


class ServiceLoop:
    """Drives one stage between its ports until it is finished or told to stop.

    Parameters
    ----------
    stage
        What the service does.
    source
        Where its messages come from, None when it makes them itself.
    data
        Where data go; a full queue blocks the stage, while its status is still published.
    look
        Where everything that people look at goes, and the status.
    taps
        Called with every message that leaves, before it leaves (to write result files).
    should_stop
        Asked between two messages.
    nobody_takes
        Asked before data are sent: from when it is True on, data end at the taps.
    remark
        Said in every status besides what the stage says.
    """

    def __init__(
        self,
        stage: Stage,
        source: Source | None,
        data: Sink | None,
        look: Sink | None,
        *,
        taps: Iterable[Tap] = (),
        should_stop: Callable[[], bool] = lambda: False,
        nobody_takes: Callable[[], bool] = lambda: False,
        remark: str = "",
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._stage, self._source, self._data, self._look = stage, source, data, look
        self._taps = tuple(taps)
        self._should_stop, self._nobody_takes, self._clock_ns = should_stop, nobody_takes, clock_ns
        self._remark = remark
        self._next_status_ns = 0

    def run(self) -> None:
        """Run until the stage is finished or `should_stop`, then publish a last status."""
        stage = self._stage
        self.publish_status(force=True)
        while not stage.finished and not self._should_stop():
            moved = self.step()
            if not moved and not stage.busy:
                time.sleep(IDLE_WAIT_S if self._source is None else 0)
        if not stage.finished:
            self._take_what_waits()
            self._deliver(stage.stop(self._clock_ns()))
        self.publish_status(force=True)

    def step(self) -> bool:
        """Take what is waiting (bounded), do one slice of work; whether a message was taken."""
        stage, taken = self._stage, 0
        while self._source is not None and stage.accepts and not stage.finished and taken < MESSAGES_PER_SLICE:
            message = self._source.get(0 if stage.busy or taken else IDLE_WAIT_S)
            if message is None:
                break
            taken += 1
            self._deliver(stage.handle(message, self._clock_ns()))
            if self._should_stop():
                return True
        self._deliver(stage.work(self._clock_ns()))
        self.publish_status()
        return taken > 0

    def _take_what_waits(self) -> None:
        """Take what was sent before the service was told to stop."""
        until_ns = self._clock_ns() + LAST_MESSAGES_NS
        while self._source is not None and self._stage.accepts and self._clock_ns() < until_ns:
            message = self._source.get(IDLE_WAIT_S)
            if message is None or self._stage.finished:
                return
            self._deliver(self._stage.handle(message, self._clock_ns()))

    def publish_status(self, *, force: bool = False, failure: str | None = None) -> None:
        """Publish the status when it is due, at once when forced or when the service failed."""
        now_ns = self._clock_ns()
        if not (force or failure) and now_ns < self._next_status_ns:
            return
        self._next_status_ns = now_ns + STATUS_EVERY_NS
        status: ServiceStatus = self._stage.status(now_ns)
        if self._remark:
            status = replace(status, text="; ".join(filter(None, (status.text, self._remark))))
        if failure is not None:
            status = replace(status, state="failed", text=failure)
        for tap in self._taps:
            tap(status)
        if self._look is not None:
            self._look.put(status, 0.0)

    def _deliver(self, messages: Iterable[Message]) -> None:
        for message in messages:
            for tap in self._taps:
                tap(message)
            if self._look is not None and is_worth_a_look(message):
                self._look.put(message, 0.0)
            if self._data is not None and travels_as_data(message):
                while not self._nobody_takes() and not self._data.put(message, BLOCKED_WAIT_S):
                    self.publish_status()
                    if self._should_stop():
                        return
