"""What the operator sees in the terminal while a run goes on."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from streamptycho.config import Config
from streamptycho.messages import Anomaly, Message, ProjectionEnd, ServiceStatus
from streamptycho.stages.advice import advice, most_frequent
from streamptycho.stages.folder import RunFolder

MOST_ALIKE = 10


class TerminalView:
    """Progress bars on a terminal, one line per projection elsewhere.

    Parameters
    ----------
    console
        Where to write.
    monitor
        Whether the page is served.
    """

    def __init__(self, console: Console, *, monitor: bool) -> None:
        self._console, self._monitor = console, monitor
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<13}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[text]}"),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, Any] = {}
        self._said_waiting = ""
        self._was_recording = False
        self._warned: Counter[str] = Counter()
        self._planned: int | None = None
        self._all_measured = False
        self._done_before = self._done = 0

    def started(self, config: Config, folder: RunFolder) -> None:
        """Say where to look, and begin the bars."""
        self._console.print(f"results  {folder.path}", highlight=False, soft_wrap=True)
        if self._monitor:
            self._console.print(f"monitor  http://{config.monitor.host}:{config.monitor.port}", style="bold")
        self._planned = total = config.projections.count
        for name in ("measured", "reconstructed", "tomogram"):
            self._tasks[name] = self._progress.add_task(name, total=total, text="")
        self._progress.start()

    def see(self, message: Message) -> None:
        """Update the bars."""
        if isinstance(message, ServiceStatus):
            self._see_status(message)
        elif isinstance(message, ProjectionEnd):
            self._see_projection(message)
        elif isinstance(message, Anomaly) and message.detail:
            self._warn(message.reason, message.detail)

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self._console.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True)

    def stop(self) -> None:
        """Remove the bars."""
        self._progress.stop()

    def _see_status(self, status: ServiceStatus) -> None:
        counters = status.counters
        if status.service == "ingest":
            rate = status.rates.get("frames_per_s", 0.0)
            measured = counters.get("projections", 0)
            self._all_measured = self._planned is not None and measured >= self._planned
            self._set("measured", measured, f"{rate:7.0f} frames/s")
        elif status.service == "reconstruct":
            self._set("reconstructed", self._in_all(counters.get("projections", 0)), status.text)
        elif status.service == "tomography":
            self._set("tomogram", counters.get("projections_used", 0), status.text)
        elif status.service == "record" and not self._all_measured:
            if status.text.startswith("recording"):
                self._was_recording, self._said_waiting = True, ""
            elif status.text.startswith(("no ", "nothing ")):
                self._see_absence(status.text)

    def _in_all(self, done: int) -> int:
        """Return how many are done, also by the service before it was started again and counted from none."""
        if done < self._done:
            self._done_before += self._done
        self._done = done
        return self._done_before + done

    def _see_absence(self, text: str) -> None:
        if text == self._said_waiting:
            return
        self._said_waiting = text
        if self._was_recording:
            instrument = "The detector" if "detector" in text else "The position source"
            self.say(f"{instrument} has disconnected. Recording goes on as soon as it is back; Ctrl-C ends the run.")
        else:
            self.say(f"Waiting: {text}")

    def _see_projection(self, end: ProjectionEnd) -> None:
        lost = ", ".join(f"{count} {reason}" for reason, count in sorted(end.dropped.items()) if count)
        if lost:
            self.say(f"Projection {end.projection}: {end.frames_paired} of {end.frames_sent} frames, lost: {lost}")
        elif not self._console.is_terminal:
            angle = "?" if end.angle_deg is None else f"{end.angle_deg:.1f}"
            self._console.print(f"projection {end.projection} at {angle} deg: {end.frames_paired} frames")

        sentence = advice(end.projection, end.frames_sent, end.dropped, end.reason)
        reason = most_frequent(end.dropped)
        if sentence is not None:
            self._warn(f"most of a projection: {reason}", sentence)

    def _warn(self, kind: str, sentence: str) -> None:
        """Say the same for a few projections only: the closing table has the rest."""
        self._warned[kind] += 1
        if self._warned[kind] <= MOST_ALIKE:
            self.say(sentence)

    def _set(self, name: str, completed: int, text: str) -> None:
        self._progress.update(self._tasks[name], completed=completed, text=text)


class JsonView:
    """One JSON object a line, for machines."""

    def started(self, config: Config, folder: RunFolder) -> None:
        """Say where results and the page are."""
        address = f"http://{config.monitor.host}:{config.monitor.port}"
        self._write({"event": "started", "folder": str(folder.path), "monitor": address})

    def see(self, message: Message) -> None:
        """Pass on what services say of themselves and what became of each projection."""
        if isinstance(message, ServiceStatus):
            self._write({"event": "status", "service": message.service, "state": message.state, "text": message.text})
        elif isinstance(message, ProjectionEnd):
            self._write(
                {
                    "event": "projection",
                    "projection": message.projection,
                    "angle_deg": message.angle_deg,
                    "frames_sent": message.frames_sent,
                    "frames_paired": message.frames_paired,
                    "dropped": message.dropped,
                }
            )
        elif isinstance(message, Anomaly) and message.detail:
            self.say(message.detail)

    def say(self, text: str) -> None:
        """Pass on a message for the operator."""
        self._write({"event": "message", "text": text})

    def stop(self) -> None:
        """Nothing to remove."""

    def _write(self, content: dict[str, Any]) -> None:
        print(json.dumps(content), flush=True)  # noqa: T201
