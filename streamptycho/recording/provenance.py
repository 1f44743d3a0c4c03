"""Where a result comes from: what has to be known to make it again."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import h5py
import numpy as np

from streamptycho import __version__
from streamptycho.recording.hdf5 import counts_table, dataset, group


def installed_versions() -> dict[str, str]:
    """Return the versions of the software that makes the result."""
    return {
        "streamptycho": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "h5py": h5py.__version__,
    }


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What a result file says of its making.

    `configuration` is the YAML text, `start_s` and `end_s` are Unix times of the measurement, `dropped` and
    `anomalies` count frames and events by reason, as in `ProjectionEnd`.
    """

    configuration: str = ""
    start_s: float | None = None
    end_s: float | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    anomalies: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=installed_versions)


def write_provenance(entry: Any, provenance: Provenance) -> Any:
    """Write the start, the end and the NXprocess group "reconstruction" of an entry; returns that group."""
    for name, time_s in (("start_time", provenance.start_s), ("end_time", provenance.end_s)):
        if time_s is not None:
            dataset(entry, name, datetime.fromtimestamp(time_s, UTC).isoformat())
    process = group(entry, "reconstruction", "NXprocess")
    dataset(process, "program", "streamptycho")
    dataset(process, "version", provenance.versions.get("streamptycho", __version__))
    versions = group(process, "versions", "NXcollection")
    for name, version in provenance.versions.items():
        dataset(versions, name, version)
    note = group(process, "configuration", "NXnote")
    dataset(note, "type", "application/yaml")
    dataset(note, "data", provenance.configuration)
    counts_table(process, "dropped", provenance.dropped)
    counts_table(process, "anomalies", provenance.anomalies)
    return process
