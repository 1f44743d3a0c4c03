"""A run: the services as processes, started and watched together, from the first frame to the volume."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from streamptycho.config import Config, dump
from streamptycho.messages import Anomaly, Message, ProjectionEnd, ServiceStatus
from streamptycho.runtime.sockets import SubSource, free_ports, status_endpoint
from streamptycho.runtime.supervisor import Exit, StopSignal, Supervisor
from streamptycho.stages.folder import RunFolder

PIPELINE = ("record", "ingest", "reconstruct", "tomography")
AFTER_INSTRUMENT_S = 2.0
STOP_EACH_S = 20.0
POLL_S = 0.1


class RunView(Protocol):
    """What shows a run to the operator."""

    def started(self, config: Config, folder: RunFolder) -> None:
        """The services are starting."""

    def see(self, message: Message) -> None:
        """A service published something."""

    def say(self, text: str) -> None:
        """Something happened that the operator must know."""


@dataclass(slots=True)
class RunResult:
    """How a run ended: `failures` are sentences for the operator, empty when all went well."""

    failures: list[str] = field(default_factory=list)
    stopped_by_operator: bool = False
    duration_s: float = 0.0
    service_pids: dict[str, int] = field(default_factory=dict)


def with_ports(config: Config) -> Config:
    """Return the configuration with a free port wherever it says 0."""
    pipeline = config.pipeline
    needed = [(name, key) for name in PIPELINE for key in ("port", "status_port")]
    chosen = iter(free_ports(len(needed), pipeline.bind))
    updates: dict[str, dict[str, Any]] = {}
    for name, key in needed:
        port = next(chosen)
        if getattr(getattr(pipeline, name), key) == 0:
            updates.setdefault(name, {})[key] = port
    addresses = {name: getattr(pipeline, name).model_copy(update=values) for name, values in updates.items()}
    return config.model_copy(update={"pipeline": pipeline.model_copy(update=addresses)})


class PipelineRun:
    """Runs the services of a pipeline and ends when the volume is finished, a service dies or the operator stops it.

    Parameters
    ----------
    config
        The beamline.
    folder
        Where results go.
    view
        Who shows it.
    replay, speed
        A log to read instead of the instrument, and how fast.
    simulate
        Start the simulated instrument as well.
    monitor
        Start the page.
    """

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        view: RunView,
        *,
        replay: Path | None = None,
        speed: float | None = None,
        simulate: bool = False,
        monitor: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = with_ports(config)
        self._folder, self._view, self._clock = folder, view, clock
        self._replay, self._speed = replay, speed
        self._services = [*reversed(PIPELINE), *(["monitor"] if monitor else []), *(["simulate"] if simulate else [])]
        self._result = RunResult()
        self._said: dict[str, str] = {}
        self._record_stopped = False
        self._drain_until: float | None = None

    def run(self) -> RunResult:
        """Run to the end and return how it went."""
        began = self._clock()
        stop = StopSignal()
        self._folder.create()
        self._folder.configuration.write_text(dump(self.config))
        supervisor = Supervisor(self._folder.service_logs)
        addresses = self.config.pipeline
        endpoints = [status_endpoint(getattr(addresses, name)) for name in PIPELINE]
        source = SubSource(endpoints, (ServiceStatus, ProjectionEnd, Anomaly))
        self._view.started(self.config, self._folder)
        try:
            for name in self._services:
                self._result.service_pids[name] = supervisor.start(name, self._command(name))
            self._watch(supervisor, source, stop)
        finally:
            supervisor.close()
            source.close()
        self._result.duration_s = self._clock() - began
        return self._result

    def _command(self, name: str) -> list[str]:
        command = [sys.executable, "-m", "streamptycho", "service", name]
        command += ["--config", str(self._folder.configuration), "--out", str(self._folder.path)]
        command += ["--parent", str(os.getpid())]
        if self._replay is not None:
            command += ["--replay", str(self._replay)]
            command += ["--speed", str(self._speed)] if self._speed is not None else []
        return command

    def _watch(self, supervisor: Supervisor, source: SubSource, stop: StopSignal) -> None:
        stop_record_at: float | None = None
        ended_early = False  # a recorder that was stopped before it began has no end of the stream to hand on
        while supervisor.running("tomography"):
            message = source.get(POLL_S)
            while message is not None:
                if isinstance(message, ServiceStatus) and message.state == "failed":
                    self._said[message.service] = message.text
                self._view.see(message)
                message = source.get(0)
            for ended in supervisor.poll():
                if ended.name == "simulate":
                    stop_record_at = self._clock() + AFTER_INSTRUMENT_S
                if ended.failed:
                    self._fail(ended, supervisor)
                elif ended.name == "record" and ended.code != 0:
                    ended_early = True
            if ended_early:
                break
            if stop.count and not self._result.stopped_by_operator:
                self._result.stopped_by_operator = True
                self._view.say("Stopping: what was measured is being finished. Press Ctrl-C again to stop at once.")
                stop_record_at = self._clock()
            if stop_record_at is not None and self._clock() >= stop_record_at:
                self._end_stream(supervisor)
                stop_record_at = None
            if self._drain_until is not None and (self._clock() > self._drain_until or stop.count > 1):
                self._note_what_is_unfinished(stop)
                break
        self._stop_in_order(supervisor, stop)
        for ended in supervisor.poll():
            if ended.failed:
                self._fail(ended, supervisor)

    def _end_stream(self, supervisor: Supervisor) -> None:
        """Let the recorder close the log; everything behind it then finishes by itself."""
        if not self._record_stopped:
            self._record_stopped = True
            supervisor.terminate("record")
            self._drain_until = self._clock() + self.config.pipeline.drain_timeout_s

    def _note_what_is_unfinished(self, stop: StopSignal) -> None:
        if stop.count > 1 or self._result.failures:
            return
        sentence = (
            f"the services did not finish within {self.config.pipeline.drain_timeout_s:g} s after the stream ended "
            "(pipeline.drain_timeout_s): replay the log to reconstruct the rest"
        )
        self._result.failures.append(sentence)
        self._view.say(sentence)

    def _fail(self, ended: Exit, supervisor: Supervisor) -> None:
        written = self._folder.read_statuses().get(ended.name, {})
        words = self._said.get(ended.name) or (written.get("text", "") if written.get("state") == "failed" else "")
        words = words or supervisor.last_words(ended.name, 1)
        what = "the simulated instrument" if ended.name == "simulate" else f"the service {ended.name}"
        sentence = f"{what} {ended.how}" + (f": {words}" if words else "")
        self._result.failures.append(sentence)
        self._view.say(sentence)
        if ended.name == "monitor":
            self._view.say("The scan goes on without its page.")
        elif ended.name != "simulate":
            self._record_stopped = True
            self._drain_until = self._clock()

    def _stop_in_order(self, supervisor: Supervisor, stop: StopSignal) -> None:
        """Stop the services along the data flow, each after what it had was handed on."""
        for name in (*PIPELINE, "simulate", "monitor"):
            if supervisor.running(name):
                supervisor.terminate(name)
                if name == "record" and not supervisor.wait(name, 2.0):
                    supervisor.terminate(name)
                supervisor.wait(name, 0.5 if stop.count > 1 else STOP_EACH_S)
