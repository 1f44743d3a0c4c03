"""Starts the services as processes, watches them, stops them in order."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

KILL_AFTER_S = 5.0
ABANDONED = signal.SIGUSR1


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a service ended: `code` as of `subprocess`, negative for a signal; `asked` that it was told to stop."""

    name: str
    code: int
    asked: bool = False

    @property
    def failed(self) -> bool:
        """Whether it ended otherwise than with its work done or because it was told to."""
        return self.code != 0 and not (self.asked and self.code == -signal.SIGTERM)

    @property
    def how(self) -> str:
        """How it ended, in words."""
        if self.code < 0:
            return f"was killed by {signal.Signals(-self.code).name}"
        return f"ended with exit code {self.code}"


class Supervisor:
    """Owns the processes of a run. Every process it started is gone after `close`.

    Parameters
    ----------
    log_folder
        What a service prints goes to ``<name>.log`` there.
    """

    def __init__(self, log_folder: Path) -> None:
        self._log_folder = log_folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._exits: dict[str, Exit] = {}
        self._asked: set[str] = set()

    def start(self, name: str, command: list[str]) -> int:
        """Start a service, or one that has ended again, and return its process id.

        It leads a session of its own, so that Ctrl-C reaches only the supervisor, which stops services in order.
        What `abandon` sends waits until the service listens to it (`StopSignal`).
        """
        with (self._log_folder / f"{name}.log").open("ab") as log:
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {ABANDONED})
            try:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._processes[name] = process
        self._exits.pop(name, None)
        self._asked.discard(name)
        return process.pid

    def running(self, name: str) -> bool:
        """Whether a service was started and has not ended."""
        process = self._processes.get(name)
        return process is not None and process.poll() is None

    def poll(self) -> list[Exit]:
        """Return the services that have ended since the last call."""
        new = []
        for name, process in self._processes.items():
            code = process.poll()
            if code is not None and name not in self._exits:
                self._exits[name] = Exit(name=name, code=code, asked=name in self._asked)
                new.append(self._exits[name])
        return new

    def terminate(self, name: str) -> None:
        """Ask a service to stop (SIGTERM)."""
        if self.running(name):
            self._asked.add(name)
            self._processes[name].terminate()

    def kill(self, name: str) -> None:
        """End a service at once, without a last word, and wait until it is gone."""
        if self.running(name):
            self._asked.add(name)
            self._processes[name].kill()
            self._processes[name].wait()

    def abandon(self, name: str) -> None:
        """Tell a service that nobody takes its data any more: it goes on without handing them on."""
        if self.running(name):
            self._processes[name].send_signal(ABANDONED)

    def wait(self, name: str, timeout_s: float) -> bool:
        """Wait for a service to end; whether it did."""
        if name not in self._processes:
            return True
        try:
            self._processes[name].wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def last_words(self, name: str, lines: int = 3) -> str:
        """Return the end of what a service printed."""
        path = self._log_folder / f"{name}.log"
        if not path.exists():
            return ""
        return "\n".join(path.read_text(errors="replace").strip().splitlines()[-lines:])

    def close(self) -> None:
        """Stop what still runs: ask first, kill after five seconds."""
        alive = [name for name in self._processes if self.running(name)]
        for name in alive:
            self.terminate(name)
        deadline = time.monotonic() + KILL_AFTER_S
        for name in alive:
            if not self.wait(name, max(0.0, deadline - time.monotonic())):
                self._processes[name].kill()
                self.wait(name, KILL_AFTER_S)


class StopSignal:
    """Turns SIGTERM, SIGINT and the death of the supervisor into a flag that a service loop can ask.

    Parameters
    ----------
    parent
        Process id of the supervisor: when it is gone the service stops. None when it was started by hand.

    Attributes
    ----------
    count
        How often the process was asked to stop.
    abandoned
        Whether nobody takes its data any more, see `Supervisor.abandon`.
    """

    def __init__(self, parent: int | None = None) -> None:
        self.count = 0
        self.abandoned = False
        self._parent = parent
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)
        signal.signal(ABANDONED, self._note_abandoned)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {ABANDONED})

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.count > 0 or self.orphaned

    @property
    def orphaned(self) -> bool:
        """Whether the supervisor is gone, and with it everyone who takes what this process still wants to send."""
        return self._parent is not None and os.getppid() != self._parent

    def release(self) -> None:
        """Let the next signal end the process at once, as it does by default."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)

    def ignore(self) -> None:
        """Let no signal replace the exit code of a process that is ending."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)

    def _note(self, number: int, frame: object) -> None:
        self.count += 1

    def _note_abandoned(self, number: int, frame: object) -> None:
        self.abandoned = True
