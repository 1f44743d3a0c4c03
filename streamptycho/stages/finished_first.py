"""What a tomography service has to take besides what comes to it: the projections that have files."""

from __future__ import annotations

import time
from collections.abc import Callable

from streamptycho.messages import Message, ObjectUpdate, ScanEnd
from streamptycho.recording.hdf5 import ResultError
from streamptycho.recording.projection_file import read_projection
from streamptycho.runtime.ports import Source
from streamptycho.stages.folder import RunFolder

END_AFTER_S = 2.0


class FinishedFirst:
    """A source that gives the projections that have files in the folder of the run, then what another source has.

    At the end it gives those that have got files without coming: what a service that died had sent may be lost, what it
    wrote is not. A projection may come twice, from its file and from the other source.

    Parameters
    ----------
    folder
        Of the run.
    following
        What comes now.
    scan_id
        Identity of the scan.
    stopping
        Whether nothing more is to be waited for.
    """

    def __init__(
        self,
        folder: RunFolder,
        following: Source,
        scan_id: str,
        *,
        stopping: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._following, self._scan_id = folder, following, scan_id
        self._stopping, self._clock = stopping, clock
        self._again = folder.has_begun("tomography")
        self._given: set[int] = set()
        self._waiting = sorted(folder.finished_projections(), reverse=True)
        self._end: ScanEnd | None = None
        self._looked_again = False
        self._heard = clock()

    def get(self, timeout_s: float) -> Message | None:
        """Return the next projection, or what the other source has within the time."""
        message: Message | None = self._from_file()
        if message is not None or self._end is not None:
            return message or self._end
        message = self._following.get(timeout_s)
        if message is not None:
            self._heard = self._clock()
        elif self._end_was_missed():
            message = ScanEnd(scan_id=self._scan_id, reason="all are here", projections=len(self._given))
        if isinstance(message, ObjectUpdate):
            self._given.add(message.projection)
        over = isinstance(message, ScanEnd)
        if (over or (message is None and self._stopping())) and not self._looked_again:
            self._looked_again = True
            self._end = message if isinstance(message, ScanEnd) else None
            self._waiting = sorted(self._folder.finished_projections() - self._given, reverse=True)
            return self._from_file() or message
        return message

    def close(self) -> None:
        """Close the other source."""
        self._following.close()

    def _from_file(self) -> ObjectUpdate | None:
        while self._waiting:
            try:
                update = read_projection(self._folder.projection(self._waiting.pop()))
            except ResultError:
                continue  # it was being written when everything died
            self._given.add(update.projection)
            return update
        return None

    def _end_was_missed(self) -> bool:
        """Whether the end of the scan went to a process that has died."""
        if not self._again or self._clock() - self._heard < END_AFTER_S:
            return False
        self._heard = self._clock()
        return self._folder.is_finished("reconstruct")
