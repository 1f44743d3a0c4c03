"""What the page of a run is fed with: what services publish, and their files for what was published unheard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from streamptycho.messages import Message, ObjectUpdate, ProjectionEnd, ServiceStatus, VolumeUpdate
from streamptycho.recording.hdf5 import ResultError
from streamptycho.recording.projection_file import read_projection
from streamptycho.recording.volume_file import read_slices
from streamptycho.runtime.ports import Source
from streamptycho.stages.folder import RunFolder, read_json_lines

UNHEARD_S = 2.0
LOOK_S = 1.0
MOST_FILES = 64
LAST_MESSAGES_S = 3.0


class PageFeed:
    """Hands on what services publish, and makes good from the folder of the run what was not heard.

    A service may have ended before the page was there, and a page that is started again has heard nothing.

    Parameters
    ----------
    source
        What services publish.
    folder
        Of the run.
    names
        Services that have a card.
    show
        Takes every message.
    """

    def __init__(
        self,
        source: Source,
        folder: RunFolder,
        names: tuple[str, ...],
        show: Callable[[Message], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source, self._folder, self._names, self._show, self._clock = source, folder, names, show, clock
        self._heard: dict[str, float] = {}
        self._said: dict[str, tuple[object, ...]] = {}
        self._ended: set[int] = set()
        self._final: set[int] = set()
        self._volume = False
        self._looked = clock() - LOOK_S

    def begin(self) -> None:
        """Show what the run has come to so far."""
        self._show_files()

    def step(self, timeout_s: float) -> bool:
        """Show the next message, and now and then what services that are not heard have written; whether one came."""
        message = self._source.get(timeout_s)
        if message is not None:
            self._note(message)
            self._show(message)
        now = self._clock()
        if now - self._looked >= LOOK_S:
            self._looked = now
            self._show_statuses(unheard_since=now - UNHEARD_S)
        return message is not None

    def finish(self) -> None:
        """Show what still comes, then what was never heard. For when all services have ended."""
        deadline = self._clock() + LAST_MESSAGES_S
        while self._clock() < deadline and self.step(0.05):
            pass
        self._show_files()
        self._show_statuses(unheard_since=self._clock())

    def _note(self, message: Message) -> None:
        if isinstance(message, ServiceStatus):
            self._heard[message.service] = self._clock()
            self._said[message.service] = _content(message)
        elif isinstance(message, ProjectionEnd):
            self._ended.add(message.projection)
        elif isinstance(message, ObjectUpdate) and message.final:
            self._final.add(message.projection)
        elif isinstance(message, VolumeUpdate):
            self._volume = self._volume or message.final

    def _show_statuses(self, unheard_since: float) -> None:
        for name, written in self._folder.read_statuses().items():
            if name in self._names and self._heard.get(name, unheard_since) <= unheard_since:
                status = ServiceStatus(**written)
                if self._said.get(name) != _content(status):
                    self._said[name] = _content(status)
                    self._show(status)

    def _show_files(self) -> None:
        for message in (*self._unheard_ends(), *self._unheard_projections(), *self._unheard_volume()):
            self._note(message)
            self._show(message)

    def _unheard_ends(self) -> Iterator[ProjectionEnd]:
        ends = {line["projection"]: line for line in read_json_lines(self._folder.accounting)}
        for number in sorted(ends.keys() - self._ended):
            yield ProjectionEnd(**ends[number])

    def _unheard_projections(self) -> Iterator[ObjectUpdate]:
        """Return the newest of them: there may be more than it is worth to read."""
        for number in sorted(self._folder.finished_projections() - self._final)[-MOST_FILES:]:
            try:
                yield read_projection(self._folder.projection(number))
            except ResultError:
                continue

    def _unheard_volume(self) -> Iterator[VolumeUpdate]:
        if not self._volume and self._folder.volume.exists():
            try:
                yield read_slices(self._folder.volume)
            except ResultError:
                return


def _content(status: ServiceStatus) -> tuple[object, ...]:
    return status.state, status.counters, status.dropped, status.anomalies
