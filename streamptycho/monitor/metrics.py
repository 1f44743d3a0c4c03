"""What the page knows, as text that Prometheus and its kin collect. Pure.

References
----------
Prometheus text exposition format 0.0.4: https://prometheus.io/docs/instrumenting/exposition_formats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from streamptycho.messages import LATENCY_BOUNDS_S

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_STATES = ("starting", "waiting", "running", "finishing", "finished", "failed")

Labels = Mapping[str, str]


class _Family:
    """One metric: its samples stand together, under its name."""

    def __init__(self, name: str, kind: Literal["counter", "gauge", "histogram"], meaning: str) -> None:
        self._name = f"streamptycho_{name}"
        self._head = [f"# HELP {self._name} {meaning}", f"# TYPE {self._name} {kind}"]
        self._samples: list[str] = []

    def add(self, labels: Labels, value: float | int | None, suffix: str = "") -> None:
        """Add a sample, unless its value is not known."""
        if value is not None:
            said = ",".join(f'{key}="{text.translate(_ESCAPES)}"' for key, text in labels.items())
            self._samples.append(f"{self._name}{suffix}{'{' + said + '}' if said else ''} {value!r}")

    def lines(self) -> list[str]:
        """Return the lines of the metric, none without samples."""
        return [*self._head, *self._samples] if self._samples else []


def as_text(snapshot: Mapping[str, Any]) -> str:
    """Return the metrics of what `Store.snapshot` returns."""
    families = [*_of_services(snapshot["services"]), *_of_scan(snapshot)]
    return "".join(f"{line}\n" for family in families for line in family.lines())


def _of_services(cards: list[dict[str, Any]]) -> Iterator[_Family]:
    state = _Family("service_state", "gauge", "1 for the state in which a service is.")
    stale = _Family("service_stale", "gauge", "1 when a service has not been heard for too long.")
    age = _Family("service_age_seconds", "gauge", "Time since a service was heard.")
    events = _Family("events_total", "counter", "What a service counted since its start.")
    dropped = _Family("frames_dropped_total", "counter", "Frames that were lost since the start, by reason.")
    anomalies = _Family("anomalies_total", "counter", "What was lost or out of order since the start, by reason.")
    rate = _Family("rate", "gauge", "Rates of the last seconds, their unit in the name.")
    queue = _Family("queue", "gauge", "What waits in a service.")
    lag = _Family("lag_seconds", "gauge", "How far a service is behind.")
    latency = _Family("latency_seconds", "histogram", "How long frames took from one place to another.")
    for card in cards:
        of = {"service": card["service"]}
        for name in _STATES:
            state.add({**of, "state": name}, int(card["state"] == name))
        stale.add(of, int(card["stale"]))
        age.add(of, card["age_s"])
        queue.add(of, card["queue"])
        lag.add(of, card["lag_s"])
        for family, label, key in (
            (events, "event", "counters"),
            (dropped, "reason", "dropped"),
            (anomalies, "reason", "anomalies"),
            (rate, "rate", "rates"),
        ):
            for name, value in card[key].items():
                family.add({**of, label: name}, value)
        for way, histogram in card["latencies"].items():
            _add_histogram(latency, {**of, "way": way}, histogram)
    yield from (state, stale, age, events, dropped, anomalies, rate, queue, lag, latency)


def _add_histogram(family: _Family, labels: Labels, histogram: Mapping[str, Any]) -> None:
    frames = 0
    for bound_s, count in zip((*LATENCY_BOUNDS_S, "+Inf"), histogram["counts"], strict=True):
        frames += count
        bound = bound_s if isinstance(bound_s, str) else repr(bound_s)
        family.add({**labels, "le": bound}, frames, "_bucket")
    family.add(labels, histogram["sum_s"], "_sum")
    family.add(labels, frames, "_count")


def _of_scan(snapshot: Mapping[str, Any]) -> Iterator[_Family]:
    projections = _Family("projections", "gauge", "Projections of the scan, by state.")
    rows = snapshot["projections"]
    for state in ("measuring", "measured", "in progress", "final"):
        projections.add({"state": state}, sum(row["state"] == state for row in rows))
    expected = _Family("projections_expected", "gauge", "Projections that the scan will have.")
    expected.add({}, snapshot["expected_projections"])
    error = _Family("reconstruction_error", "gauge", "Normalised amplitude error of the newest projection.")
    resolution = _Family("projection_resolution_metres", "gauge", "Half-period resolution of the newest finished one.")
    lost = _Family("projection_frames_lost", "gauge", "Frames of the newest finished projection that were lost.")
    error.add({}, (snapshot["current"] or {}).get("error"))
    final = [row for row in rows if row["state"] == "final"]
    if final:
        resolution.add({}, final[-1]["resolution_m"])
        lost.add({}, final[-1]["lost"])
    volume = _Family("volume_projections", "gauge", "Projections in the tomogram.")
    volume.add({}, (snapshot["volume"] or {}).get("projections_used"))
    complaints = _Family("complaints_total", "counter", "Messages from services that could not be shown.")
    complaints.add({}, sum(item["count"] for item in snapshot["complaints"]))
    age = _Family("last_message_age_seconds", "gauge", "Time since any service was heard.")
    age.add({}, snapshot["age_s"])
    yield from (projections, expected, error, resolution, lost, volume, complaints, age)
