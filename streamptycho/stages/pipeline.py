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
RECORDED = "What is measured is recorded as before"
AGAIN = {
    "ingest": "ingest is started again, and reads from the log what it missed",
    "reconstruct": "reconstruct is started again, and gets from the log all that has no result yet",
    "tomography": "tomography is started again, with the projections that have files",
}
WITHOUT = {
    "ingest": "frames are neither counted nor reconstructed any more",
    "reconstruct": "frames are still paired and counted, but not reconstructed any more",
    "tomography": "projections are still reconstructed, but the volume does not grow any more",
}


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
    """Runs the services of a pipeline and ends when the volume is finished or the operator stops it.

    When a service behind the recorder dies, recording goes on until the stream ends, the operator stops it or all
    projections are here. Each is started again once. Ingest then reads the log from its beginning up to what comes now,
    and gives every projection that has no result yet, from its first frame; for reconstruct it is started again as
    well, since what was sent to the dead process is lost. Tomography takes the projections that have files. For a
    service that stays dead, those before it go on without handing on, and those behind it finish what they have.

    After the end of the stream the services may take as long as they need while they report progress.

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
        self._ended: set[str] = set()
        self._lost: set[str] = set()
        self._again: set[str] = set()
        self._closing = False
        self._to_finish: list[str] = []
        self._record_stopped = False
        self._draining = False
        self._give_up = False
        self._heard: dict[str, tuple[object, ...]] = {}
        self._moved = clock()

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
        instrument_over = False
        ended_early = False  # a recorder that was stopped before it began has no end of the stream to hand on
        while self._goes_on():
            self._listen(source)
            for ended in supervisor.poll():
                self._moved = self._clock()
                self._ended.add(ended.name)
                if ended.name == "simulate" and not instrument_over:
                    instrument_over, stop_record_at = True, self._clock() + AFTER_INSTRUMENT_S
                if ended.failed:
                    self._fail(ended, supervisor)
                elif ended.name == "record" and ended.code != 0:
                    ended_early = True
            if ended_early:
                break
            self._finish_what_gets_no_more(supervisor)
            if stop.count and not self._result.stopped_by_operator:
                self._result.stopped_by_operator = True
                self._view.say("Stopping: what was measured is being finished. Press Ctrl-C again to stop at once.")
                stop_record_at = self._clock()
            if not instrument_over and self._folder.is_finished("simulate"):
                instrument_over, stop_record_at = True, self._clock() + AFTER_INSTRUMENT_S
            if self._again and "ingest" in self._ended:
                # its last message may have gone to the process that died
                self._begin_to_drain()
            if stop_record_at is not None and self._clock() >= stop_record_at:
                self._end_stream(supervisor)
                stop_record_at = None
            if self._give_up or (self._draining and (self._silent_s > self._patience_s or stop.count > 1)):
                self._note_what_is_unfinished(stop)
                break
        self._closing = True
        self._stop_in_order(supervisor, source, stop)
        for ended in supervisor.poll():
            if ended.failed:
                self._fail(ended, supervisor)

    def _listen(self, source: SubSource) -> None:
        """Take what the services say, and note when one of them said something new."""
        message = source.get(POLL_S)
        while message is not None:
            if isinstance(message, ServiceStatus):
                if message.state == "failed":
                    self._said[message.service] = message.text
                said = message.state, message.text, message.counters, message.queue
                if self._heard.get(message.service) != said:
                    self._heard[message.service] = said
                    self._moved = self._clock()
            self._view.see(message)
            message = source.get(0)

    @property
    def _silent_s(self) -> float:
        """For how long no service has said anything new."""
        return self._clock() - self._moved

    @property
    def _patience_s(self) -> float:
        return self.config.pipeline.drain_timeout_s

    def _begin_to_drain(self) -> None:
        if not self._draining:
            self._draining, self._moved = True, self._clock()

    def _goes_on(self) -> bool:
        if "tomography" not in self._ended or self._to_finish:
            return True
        if not self._lost:
            return False
        if "ingest" in self._ended - self._lost:  # all projections are here
            return "reconstruct" not in self._ended
        return "record" not in self._ended

    def _finish_what_gets_no_more(self, supervisor: Supervisor) -> None:
        """Stop the services behind a dead one along the data flow, each when the one before it has ended."""
        while self._to_finish and self._to_finish[0] in self._ended:
            self._to_finish.pop(0)
            if self._to_finish:
                supervisor.terminate(self._to_finish[0])

    def _end_stream(self, supervisor: Supervisor) -> None:
        """Let the recorder close the log; everything behind it then finishes by itself."""
        if not self._record_stopped:
            self._record_stopped = True
            supervisor.terminate("record")
            self._begin_to_drain()

    def _note_what_is_unfinished(self, stop: StopSignal) -> None:
        if stop.count > 1 or self._result.failures:
            return
        sentence = (
            f"after the stream had ended the services reported nothing new for {self._patience_s:g} s "
            "(pipeline.drain_timeout_s), and were stopped: replay the log to reconstruct the rest"
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
            self._go_on_without_page(ended, supervisor)
        elif ended.name == "record":
            self._record_stopped = self._give_up = True
        elif ended.name in PIPELINE and not ended.asked and not self._closing:
            self._go_on_without(ended.name, supervisor)

    def _go_on_without(self, name: str, supervisor: Supervisor) -> None:
        """Start a dead service again, or let those before it work on and those behind it finish."""
        before = PIPELINE[PIPELINE.index(name) - 1]
        if name not in self._again and not self._lost:
            self._again.add(name)
            self._start_again(name, supervisor)
            if name == "reconstruct":
                self._start_again("ingest", supervisor)
            what, then = AGAIN[name], "Should anything be missing at the end"
        else:
            self._lost.add(name)
            supervisor.abandon(before)
            behind = PIPELINE[PIPELINE.index(name) + 1 :]
            self._to_finish = [later for later in behind if later not in self._ended]
            if self._to_finish:
                supervisor.terminate(self._to_finish[0])
            what, then = WITHOUT[name], "Reconstruct it all afterwards"
        log, recorded = (self._folder.log, RECORDED) if self._replay is None else (self._replay, "The log has it all")
        self._view.say(f"{recorded}: {what}. {then}: streamptycho replay {log}")

    def _go_on_without_page(self, ended: Exit, supervisor: Supervisor) -> None:
        crashed = ended.code < 0 and not ended.asked and not self._closing
        if crashed and ended.name not in self._again:
            self._again.add(ended.name)
            self._start_again(ended.name, supervisor)
            self._view.say("The page is started again.")
        else:
            self._view.say("The scan goes on without its page.")

    def _start_again(self, name: str, supervisor: Supervisor) -> None:
        supervisor.kill(name)
        self._ended.discard(name)
        self._result.service_pids[name] = supervisor.start(name, self._command(name))

    def _stop_in_order(self, supervisor: Supervisor, source: SubSource, stop: StopSignal) -> None:
        """Stop the services along the data flow, each after what it had was handed on."""
        for name in (*PIPELINE, "simulate", "monitor"):
            if supervisor.running(name):
                supervisor.terminate(name)
                if name == "record" and not supervisor.wait(name, 2.0):
                    supervisor.terminate(name)
                self._moved = self._clock()
                while supervisor.running(name) and stop.count <= 1 and self._silent_s < STOP_EACH_S:
                    self._listen(source)
                supervisor.wait(name, 0.5)
