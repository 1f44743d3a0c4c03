"""What a tomography service that is started again has to take before it goes on."""

from __future__ import annotations

from streamptycho.messages import Message
from streamptycho.recording.nexus import ResultError, read_projection
from streamptycho.runtime.ports import Source
from streamptycho.stages.folder import RunFolder


class FinishedFirst:
    """A source that gives the projections that have files in the folder of the run, then what another source has.

    A projection may come twice, from its file and from the other source.
    """

    def __init__(self, folder: RunFolder, following: Source) -> None:
        self._paths = sorted(folder.projections.glob("projection_*.nxs"), reverse=True)
        self._following = following

    def get(self, timeout_s: float) -> Message | None:
        """Return the next projection, or what the other source has within the time."""
        while self._paths:
            try:
                return read_projection(self._paths.pop())
            except ResultError:
                continue  # it was being written when everything died
        return self._following.get(timeout_s)

    def close(self) -> None:
        """Close the other source."""
        self._following.close()
