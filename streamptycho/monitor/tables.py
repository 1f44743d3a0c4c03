"""What the page remembers: a row per projection, a card per service, curves of the past. All of bounded size."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import asdict, dataclass
from typing import Any

from streamptycho.messages import (
    LATENCY_BOUNDS_S,
    ObjectUpdate,
    PathPreview,
    ProjectionEnd,
    ProjectionStart,
    ServiceStatus,
)
from streamptycho.monitor.wording import (
    STALE_AFTER_S,
    explain_reason,
    loses_frames,
    number,
    numbers,
    text,
    with_symbols,
)

MAX_PROJECTIONS = 2000
MAX_SERVICES = 32
MAX_RATE_SERIES = 32
MAX_RATE_POINTS = 240
MAX_CURVE_POINTS = 240
MAX_OLD_CURVES = 6
MAX_LATENCIES = 16
_MAX_LATENCY_S = 3600.0
_ORDER = {name: place for place, name in enumerate(("record", "ingest", "reconstruct", "tomography"))}


@dataclass(slots=True, kw_only=True)
class ProjectionRow:
    """What is known of one projection; None is not known. `number` counts from 0, as in the files."""

    scan_id: str
    number: int
    angle_deg: float | None = None
    frames: int | None = None
    frames_expected: int | None = None
    frames_measured: int | None = None
    error: float | None = None
    resolution_m: float | None = None
    sweeps: float | None = None
    latency_s: float | None = None
    lost: int | None = None
    state: str = "measuring"


class ProjectionTable:
    """Rows by scan and projection, the oldest forgotten first."""

    def __init__(self) -> None:
        self._rows: OrderedDict[tuple[str, int], ProjectionRow] = OrderedDict()

    def started(self, message: ProjectionStart) -> ProjectionRow:
        """Take note that a projection begins."""
        row = self._row(message.scan_id, message.projection)
        row.angle_deg = _or(number(message.angle_deg), row.angle_deg)
        row.frames_expected = message.n_frames or row.frames_expected
        return row

    def placed(self, message: PathPreview) -> ProjectionRow:
        """Take note of how many frames have a position."""
        row = self._row(message.scan_id, message.projection)
        row.frames_measured = len(message.xy_m)
        return row

    def ended(self, message: ProjectionEnd) -> ProjectionRow:
        """Take note that no more frames follow."""
        row = self._row(message.scan_id, message.projection)
        row.angle_deg = _or(number(message.angle_deg), row.angle_deg)
        row.frames_expected = message.frames_sent or row.frames_expected
        row.frames_measured = message.frames_paired
        row.lost = _total(message.dropped)
        if row.state == "measuring":
            row.state = "measured"
        return row

    def updated(self, message: ObjectUpdate, now_ns: int) -> ProjectionRow:
        """Take note of a reconstruction. A late preview does not undo a final result."""
        row = self._row(message.scan_id, message.projection)
        if row.state == "final" and not message.final:
            return row
        row.angle_deg = _or(number(message.angle_deg), row.angle_deg)
        row.frames = len(message.index)
        row.error = number(message.error)
        row.resolution_m = _or(number(message.resolution_m), row.resolution_m)
        row.sweeps = number(message.sweeps)
        if message.dropped or message.final:
            row.lost = _total(message.dropped)
        if message.final:
            row.state = "final"
            latency_s = (now_ns - message.last_frame_ns) / 1e9
            row.latency_s = latency_s if message.last_frame_ns and 0 <= latency_s <= _MAX_LATENCY_S else None
        else:
            row.state = "in progress"
        return row

    def rows(self, scan_id: str | None) -> list[dict[str, Any]]:
        """Return the rows of one scan, in order of projection."""
        chosen = [row for row in self._rows.values() if row.scan_id == scan_id]
        return [asdict(row) for row in sorted(chosen, key=lambda row: row.number)]

    def _row(self, scan_id: str, projection: int) -> ProjectionRow:
        scan_id = text(scan_id)
        key = (scan_id, int(projection))
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = ProjectionRow(scan_id=scan_id, number=int(projection))
            while len(self._rows) > MAX_PROJECTIONS:
                self._rows.popitem(last=False)
        return row


class ServiceTable:
    """The last word of every service, and the history of its rates."""

    def __init__(self) -> None:
        self._cards: dict[str, tuple[int, dict[str, Any]]] = {}
        self._rates: dict[str, deque[tuple[float, float]]] = {}
        self.history_version = 0

    def heard(self, message: ServiceStatus, now_ns: int) -> bool:
        """Take note of a status; False when there are already too many services to keep another."""
        name = text(message.service, 80)
        if name not in self._cards and len(self._cards) >= MAX_SERVICES:
            return False
        card = {
            "service": name,
            "state": text(message.state, 20),
            "text": with_symbols(text(message.text)),
            "queue": number(message.queue),
            "lag_s": number(message.lag_s),
            "rates": numbers(message.rates),
            "counters": numbers(message.counters),
            "dropped": numbers(message.dropped),
            "anomalies": numbers(message.anomalies),
            "latencies": _histograms(message),
        }
        self._cards[name] = (now_ns, card)
        for rate, value in numbers(message.rates).items():
            self._remember(f"{name}: {rate}", value, now_ns / 1e9)
        return True

    def cards(self, now_ns: int, *, over: bool = False) -> list[dict[str, Any]]:
        """Return a card per service with its age; one that was silent while it had to speak is stale."""
        result = []
        for heard_ns, card in self._cards.values():
            age_s = max(0.0, (now_ns - heard_ns) / 1e9)
            stale = not over and age_s > STALE_AFTER_S and card["state"] not in ("finished", "failed")
            result.append({**card, "age_s": round(age_s, 1), "stale": stale})
        return sorted(result, key=lambda card: _ORDER.get(card["service"], len(_ORDER)))

    def losses(self) -> list[dict[str, Any]]:
        """Return what was lost or out of order, by service and reason, the largest losses first."""
        rows = []
        for _, card in self._cards.values():
            for column, lost in (("dropped", True), ("anomalies", False)):
                for reason, count in card[column].items():
                    if count:
                        rows.append(
                            {
                                "service": card["service"],
                                "reason": reason,
                                "count": count,
                                "what": "frames lost" if lost else "events",
                                "harmful": lost or loses_frames(reason),
                                "explanation": explain_reason(reason),
                            }
                        )
        return sorted(rows, key=lambda row: (not row["harmful"], -row["count"], row["service"], row["reason"]))

    def rates(self) -> dict[str, list[list[float]]]:
        """Return the past of every rate as [time_s, value], at most one point per second."""
        return {name: [[round(t, 1), value] for t, value in points] for name, points in self._rates.items()}

    def _remember(self, name: str, value: float | None, now_s: float) -> None:
        if value is None or (name not in self._rates and len(self._rates) >= MAX_RATE_SERIES):
            return
        points = self._rates.setdefault(name, deque(maxlen=MAX_RATE_POINTS))
        if not points or now_s - points[-1][0] >= 1.0:
            points.append((now_s, float(value)))
            self.history_version += 1


class ErrorCurves:
    """The error after each sweep of the projection in progress, and of the last finished ones."""

    def __init__(self) -> None:
        self._current: dict[str, Any] | None = None
        self._old: deque[dict[str, Any]] = deque(maxlen=MAX_OLD_CURVES)

    def updated(self, message: ObjectUpdate) -> None:
        """Take the errors of a reconstruction."""
        if self._current is not None and self._current["number"] != message.projection:
            self._old.append(self._current)
        self._current = {"number": message.projection, "points": _thinned(message)}

    def snapshot(self) -> dict[str, Any]:
        """Return the curves as [sweep, error] points."""
        return {"current": self._current, "previous": list(self._old)}


def _thinned(message: ObjectUpdate) -> list[list[float]]:
    errors = message.errors
    every = max(1, -(-len(errors) // MAX_CURVE_POINTS))
    chosen = sorted({*range(0, len(errors), every), len(errors) - 1}) if len(errors) else []
    points = ((k + 1, number(float(errors[k]))) for k in chosen)
    return [[sweep, value] for sweep, value in points if value is not None]


def _histograms(message: ServiceStatus) -> dict[str, dict[str, Any]]:
    """Return the histograms of a status that have a count for every bin, with their bounds and sums."""
    sound: dict[str, dict[str, Any]] = {}
    said, sums = message.latencies, numbers(message.latency_sums_s)
    for name, counts in list(said.items())[:MAX_LATENCIES] if isinstance(said, dict) else ():
        plain = [number(count) for count in counts] if isinstance(counts, list) else []
        whole = [count for count in plain if isinstance(count, int) and count >= 0]
        if len(whole) == len(plain) == len(LATENCY_BOUNDS_S) + 1:
            key = text(name, 80)
            sound[key] = {"bounds_s": list(LATENCY_BOUNDS_S), "counts": whole, "sum_s": sums.get(key) or 0.0}
    return sound


def _total(dropped: object) -> int:
    return int(sum(value for value in numbers(dropped).values() if value is not None))


def _or(value: float | None, otherwise: float | None) -> float | None:
    return otherwise if value is None else value
