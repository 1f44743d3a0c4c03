"""The folder of a run: where each service leaves what it makes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from streamptycho.messages import ProjectionEnd, ServiceStatus


class RunFolderError(OSError):
    """A folder that cannot take a run: it holds one already, or cannot be made or written."""


class RunFolder:
    """Names of the files of one run, and the small JSON files among them.

    Parameters
    ----------
    path
        The folder; `create` makes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._made_here = False
        self.configuration = path / "config.yaml"
        self.log = path / "stream.log"
        self.pixel_mask = path / "pixel_mask.npy"
        self.volume = path / "volume.nxs"
        self.nxtomo = path / "projections.nxs"
        self.summary = path / "summary.json"
        self.projections = path / "projections"
        self.pictures = path / "pictures"
        self.service_logs = path / "logs"
        self.statuses = path / "status"
        self.accounting = path / "accounting.jsonl"
        self.reconstructed = path / "projections.jsonl"
        self.warnings = path / "warnings.jsonl"

    def create(self) -> None:
        """Make the folder and its parts."""
        self._made_here = self._made_here or not self.path.exists()
        for part in (self.path, self.projections, self.pictures, self.service_logs, self.statuses):
            part.mkdir(parents=True, exist_ok=True)

    def remove_if_empty(self) -> None:
        """Remove the folder where nothing was left in it, if `create` made it."""
        for part in (self.projections, self.pictures, self.service_logs, self.statuses):
            with contextlib.suppress(OSError):
                part.rmdir()
        if self._made_here:
            with contextlib.suppress(OSError):
                self.path.rmdir()

    def refuse_a_second_run(self) -> None:
        """Refuse a folder that holds the log or the results of another run.

        Raises
        ------
        RunFolderError
            If it does.
        """
        if self.summary.exists() or self.log.exists() or self.accounting.exists():
            raise RunFolderError(f"{self.path} already holds a run: give every run a folder of its own with --out")

    def projection(self, number: int) -> Path:
        """Return the result file of a projection."""
        return self.projections / f"projection_{number:05d}.nxs"

    def write_status(self, status: ServiceStatus) -> None:
        """Replace what a service last said of itself."""
        write_json(self.statuses / f"{status.service}.json", dataclasses.asdict(status))

    def read_statuses(self) -> dict[str, dict[str, Any]]:
        """Return what each service last said of itself."""
        return {path.stem: json.loads(path.read_text()) for path in sorted(self.statuses.glob("*.json"))}

    def is_finished(self, service: str) -> bool:
        """Whether a service said that its work is done."""
        path = self.statuses / f"{service}.json"
        return path.exists() and json.loads(path.read_text()).get("state") == "finished"

    def has_begun(self, service: str) -> bool:
        """Whether a service has run here before: it is then one that was started again."""
        return (self.statuses / f"{service}.json").exists()

    def finished_projections(self) -> frozenset[int]:
        """Return the numbers of the projections that have result files."""
        names = (path.stem.rpartition("_")[2] for path in self.projections.glob("projection_*.nxs"))
        return frozenset(int(name) for name in names if name.isdigit())

    def append_accounting(self, end: ProjectionEnd) -> None:
        """Note what became of the frames of one projection."""
        append_json(self.accounting, dataclasses.asdict(end))


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file in one step, so that a reader never sees half of it."""
    temporary = path.with_suffix(path.suffix + ".part")
    try:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def append_json(path: Path, content: Any) -> None:
    """Append one line of JSON."""
    with path.open("a") as file:
        file.write(json.dumps(content, allow_nan=False) + "\n")


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file of JSON lines, none when it is absent; a line cut short by a crash is left out."""
    if not path.exists():
        return []
    lines = []
    for line in path.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return lines
