"""What the page says in words, and values from the wire made safe to show. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from streamptycho.messages import Reason

MAX_TEXT = 300
STALE_AFTER_S = 5.0

_EXPLANATIONS: dict[str, str] = {
    Reason.MISSING: "The detector never sent these frames: gaps in its own numbering.",
    Reason.DUPLICATE: "Arrived twice; the second copy was ignored, nothing is lost.",
    Reason.LATE: "Arrived after their projection was closed.",
    Reason.CORRUPT: "Arrived damaged and could not be decoded.",
    Reason.TRUNCATED: "Arrived with fewer bytes than announced.",
    Reason.STRAY: "Belong to a series that was aborted or never announced; ignored.",
    Reason.UNPAIRED: "No position came for these frames in time.",
    Reason.TURNAROUND: "Taken while the stage turned round between lines; left out on purpose.",
    Reason.OUT_OF_RANGE: "Position outside the area that the reconstruction covers.",
    Reason.OVERFLOW: "A buffer was full: data came faster than it could be taken.",
    Reason.NO_BEAM: "Almost no photons: beam lost or shutter closed.",
    Reason.REORDERED: "Arrived out of order and were put right, nothing is lost.",
    Reason.SATURATED: "Pixels over the detector's range; these pixels are left out.",
    Reason.DISCONNECTED: "A connection to the instrument was lost.",
}
_SYMBOLS = {"1/angstrom^3": "e/Å³", "g/cm^3": "g/cm³", "1/2 bit": "½ bit"}
_HARMLESS = {str(reason) for reason in Reason if not reason.loses_frames}


def explain_reason(reason: str) -> str:
    """Return in plain words why something was lost, or a dash for a reason that this version does not know."""
    return _EXPLANATIONS.get(reason, "—")


def loses_frames(reason: str) -> bool:
    """Return whether what is counted under the reason is missing from the result; unknown reasons count as losses."""
    return reason not in _HARMLESS


def text(value: object, limit: int = MAX_TEXT) -> str:
    """Return a value from the wire as one printable line of at most `limit` characters."""
    plain = value if isinstance(value, str) else str(value)
    line = "".join(c if c.isprintable() else " " for c in plain[: limit + 1])
    return line if len(line) <= limit else line[: limit - 1] + "…"


def number(value: object) -> float | int | None:
    """Return a value from the wire when it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return None
    plain = value if isinstance(value, int | float) else value.item()
    return plain if math.isfinite(plain) else None


def counted(count: int, what: str) -> str:
    """Return how many there are, in words."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def with_symbols(line: str) -> str:
    """Return a line of a service with the units as the page writes them, which a terminal may not be able to."""
    for plain, symbol in _SYMBOLS.items():
        line = line.replace(plain, symbol)
    return line


def numbers(values: object, limit: int = 64) -> dict[str, float | int | None]:
    """Return a mapping from the wire with names cut to 80 characters, and at most `limit` entries."""
    if not isinstance(values, Mapping):
        return {}
    return {text(key, 80): number(value) for key, value in list(values.items())[:limit]}


def headline(
    current: Mapping[str, Any] | None,
    measuring: Mapping[str, Any] | None,
    services: Sequence[Mapping[str, Any]],
    *,
    finished: str | None,
    expected_projections: int | None,
    reconstructed: int,
    tomogram_of: float | None,
    age_s: float | None,
    results: str | None = None,
) -> tuple[str, str, str]:
    """Return the mood ("waiting", "running", "finished", "over", "stale" or "failed"), what happens, a second line.

    Parameters
    ----------
    current
        Row of the projection that is being reconstructed, as in `ProjectionTable.row`.
    measuring
        Row of the projection that is being measured.
    services
        Cards of the services.
    finished
        Why the scan is over, None while it runs.
    expected_projections
        How many projections the scan has, None when nobody said.
    reconstructed
        How many projections are finished.
    tomogram_of
        How many projections are in the tomogram, None without one.
    age_s
        Time since the last message of any kind, None before the first.
    results
        Where the results lie once nothing more will come, empty where nobody knows, None before.
    """
    done = f"{reconstructed}{f' of {expected_projections}' if expected_projections else ''} reconstructed"
    if tomogram_of:
        done += f" · Tomogram of {counted(int(tomogram_of), 'projection')}"
    place = f"results in {results}" if results else ""
    failed = [s for s in services if s["state"] == "failed"]
    if failed:
        second = _describe(current) if results is None else _joined("The run is over", place, done)
        return "failed", f"{failed[0]['service']} failed: {failed[0]['text'] or 'no reason given'}", second
    if results is not None:
        stopped = any(s["state"] != "finished" for s in services)
        name = results.rstrip("/").rpartition("/")[2]
        line = f"The run {'was stopped' if stopped else 'is over'}" + (f": results in {name}" if name else "")
        return "over", line, _joined(results, finished or "", done)
    if age_s is None:
        return "waiting", "Waiting for the pipeline", "Nothing has arrived yet."
    to_do = [s["service"] for s in services if s["state"] == "running" and not s["stale"]]
    if finished is not None and to_do:
        return "running", f"All measured: {finished}", f"{_describe(current)} · still at work: {', '.join(to_do)}"
    if finished is not None or (services and all(s["state"] == "finished" for s in services)):
        return "finished", f"Scan finished{f': {finished}' if finished else ''}", _describe(current)
    row = current or measuring
    if age_s > STALE_AFTER_S:
        last = f"Last: {_describe(row)}" if row else ""
        return "stale", f"Nothing has arrived for {_duration(age_s)}", last
    if row is None:
        waiting = [f"{s['service']}: {s['text']}" for s in services if s["text"]]
        return "waiting", "Waiting for the first frames", "; ".join(waiting)
    if current is None:
        return (
            "running",
            f"Now measuring: {_describe(measuring)}",
            _joined(done, "The first reconstruction has not come"),
        )
    ahead = measuring and measuring["number"] != current["number"]
    return "running", _describe(current), _joined(done, f"Now measuring: {_describe(measuring)}" if ahead else "")


def _joined(*facts: str) -> str:
    return " · ".join(filter(None, facts))


def _describe(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    place = f"Projection {row['number']}"
    if row["angle_deg"] is not None:
        place += f" at {row['angle_deg']:.1f}°"
    facts = []
    frames = row["frames"] if row["frames"] is not None else row["frames_measured"]
    if frames is not None:
        total = row["frames_expected"]
        facts.append(f"{frames} of {total} frames" if total else f"{frames} frames")
    if row["error"] is not None:
        facts.append(f"error {row['error']:.3g}")
    return f"{place}: {', '.join(facts)}" if facts else place


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
