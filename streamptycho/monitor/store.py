"""The newest of everything that the operator looks at, fed by one thread and read by others."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from streamptycho.messages import (
    Anomaly,
    FramePreview,
    Message,
    ObjectUpdate,
    PathPreview,
    ProjectionEnd,
    ProjectionStart,
    Quality,
    ScanEnd,
    ServiceStatus,
    VolumeUpdate,
)
from streamptycho.monitor import views
from streamptycho.monitor.curves import correlation, tomogram_quality
from streamptycho.monitor.pictures import Drawable, NothingToShowError, with_version
from streamptycho.monitor.shapes import misfit
from streamptycho.monitor.tables import ErrorCurves, ProjectionRow, ProjectionTable, ServiceTable
from streamptycho.monitor.wording import STALE_AFTER_S, counted, headline, number, numbers, text

PICTURE_NAMES = ("frame", "phase", "amplitude", "probe", "path", "slice_z", "slice_y", "slice_x")
MAX_COMPLAINTS = 8
MAX_PAST_SCANS = 1000


class Store:
    """The newest message of each kind and a bounded past.

    Thread-safe: one lock guards the state and is held only while references change hands; a second one makes sure
    that a picture is drawn once, when somebody first asks for it. `handle` therefore never waits for drawing.

    Parameters
    ----------
    expected_projections
        How many projections the scan has, None when it is not known.
    clock_ns
        Unix time in nanoseconds; ages and latencies come from it.
    """

    def __init__(self, *, expected_projections: int | None = None, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._expected = expected_projections
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._drawing = threading.Lock()
        self._version = 0
        self._sections = {"projections": 0, "errors": 0, "rates": 0, "quality": 0, "ring": 0}
        self._pictures: dict[str, tuple[int, int, Callable[[], Drawable]]] = {}
        self._drawn: dict[str, tuple[int, Drawable | None]] = {}
        self._projections = ProjectionTable()
        self._services = ServiceTable()
        self._curves = ErrorCurves()
        self._scan_id: str | None = None
        self._past_scans: deque[str] = deque(maxlen=MAX_PAST_SCANS)
        self._current: ProjectionRow | None = None
        self._measuring: ProjectionRow | None = None
        self._path: PathPreview | None = None
        self._volume: dict[str, Any] | None = None
        self._quality: dict[str, Any] | None = None
        self._ring: dict[str, Any] | None = None
        self._finished: str | None = None
        self._last_ns: int | None = None
        self._complaints: dict[str, int] = {}
        self._warnings: dict[str, str] = {}
        self._results: str | None = None

    def handle(self, message: Message) -> None:
        """Take a message. One that does not fit its own description is counted and shown as a complaint."""
        now_ns = self._clock_ns()
        problem = misfit(message)
        quality = tomogram_quality(message) if isinstance(message, VolumeUpdate) and problem is None else None
        with self._lock:
            self._version += 1
            self._last_ns = now_ns
            self._results = None
            if problem is not None:
                self._complain(f"{type(message).__name__}: {problem}")
                return
            match message:
                case FramePreview():
                    self._show("frame", now_ns, partial(views.frame_view, message))
                case PathPreview():
                    self._enter(message.scan_id)
                    self._measuring = self._projections.placed(message)
                    self._path = message
                    self._show("path", now_ns, partial(views.path_view, message))
                case ObjectUpdate():
                    self._take_object(message, now_ns)
                case VolumeUpdate():
                    self._take_volume(message, now_ns)
                    self._quality = quality
                    self._sections["quality"] += 1
                case ProjectionStart():
                    self._enter(message.scan_id)
                    self._measuring = self._projections.started(message)
                    self._sections["projections"] += 1
                case ProjectionEnd():
                    self._enter(message.scan_id)
                    self._projections.ended(message)
                    self._sections["projections"] += 1
                    path = self._path
                    if path is not None and (path.scan_id, path.projection) == (message.scan_id, message.projection):
                        self._show("path", now_ns, partial(views.path_view, path, frames=message.frames_paired))
                case ScanEnd():
                    self._enter(message.scan_id)
                    self._finished = text(f"{counted(message.projections, 'projection')}, {message.reason}")
                case Anomaly():
                    if message.detail:
                        self._warnings[str(message.reason)] = text(message.detail)
                case ServiceStatus():
                    if not self._services.heard(message, now_ns):
                        self._complain("ServiceStatus: more services than the page keeps")
                    self._sections["rates"] = self._services.history_version

    def close(self, results: str | None = None) -> None:
        """Take note that the run is over, and where its results lie, for people. Another message begins anew."""
        with self._lock:
            self._version += 1
            self._results = text(results or "")

    @property
    def version(self) -> int:
        """A number that grows with every message."""
        with self._lock:
            return self._version

    def versions(self) -> dict[str, int]:
        """Return the version of every picture that there is."""
        with self._lock:
            return {name: version for name, (version, _, _) in self._pictures.items()}

    def picture(self, name: str) -> Drawable | None:
        """Return the newest picture of that name, None when there is none yet or it cannot be drawn."""
        with self._drawing:
            with self._lock:
                source = self._pictures.get(name)
                drawn = self._drawn.get(name)
            if source is None:
                return None
            version, _, draw = source
            if drawn is not None and drawn[0] == version:
                return drawn[1]
            try:
                with np.errstate(all="ignore"):
                    result: Drawable | None = with_version(draw(), version)
            except NothingToShowError:
                result = None
            except (ValueError, ArithmeticError, MemoryError) as error:
                result = None
                with self._lock:
                    self._complain(f"{name} cannot be drawn: {error}")
            with self._lock:
                self._drawn[name] = (version, result)
            return result

    def snapshot(self) -> dict[str, Any]:
        """Return all that is not a picture, ready for JSON: unknown is None, every number finite.

        `sections` has the version of the parts that are long and change rarely: projections, errors, rates,
        quality of the tomogram, ring correlation of the last finished projection.
        """
        now_ns = self._clock_ns()
        with self._lock:
            services = self._services.cards(now_ns, over=self._results is not None)
            rows = self._projections.rows(self._scan_id)
            by_number = {row["number"]: row for row in rows}
            current = by_number.get(self._current.number) if self._current else None
            measuring = by_number.get(self._measuring.number) if self._measuring else None
            reconstructed = sum(row["state"] == "final" for row in rows)
            age_s = None if self._last_ns is None else max(0.0, (now_ns - self._last_ns) / 1e9)
            mood, line, second = headline(
                current,
                measuring,
                services,
                finished=self._finished,
                expected_projections=self._expected,
                reconstructed=reconstructed,
                tomogram_of=self._volume["projections_used"] if self._volume else None,
                age_s=age_s,
                results=self._results,
            )
            over = mood == "finished" or self._results is not None
            return {
                "type": "state",
                "version": self._version,
                "scan_id": self._scan_id,
                "mood": mood,
                "headline": line,
                "second_line": second,
                "age_s": age_s,
                "stale_after_s": STALE_AFTER_S,
                "over": over,
                "results": self._results,
                "all_measured": self._finished is not None,
                "expected_projections": self._expected,
                "reconstructed": reconstructed,
                "current": current,
                "measuring": measuring,
                "services": services,
                "losses": self._services.losses(),
                "volume": self._volume,
                "complaints": [
                    *({"text": what, "count": 1} for what in self._warnings.values()),
                    *({"text": what, "count": count} for what, count in self._complaints.items()),
                ],
                "pictures": {
                    name: {"version": version, "age_s": round(max(0.0, (now_ns - shown_ns) / 1e9), 1)}
                    for name, (version, shown_ns, _) in self._pictures.items()
                },
                "sections": dict(self._sections),
                "projections": rows,
                "errors": self._curves.snapshot(),
                "rates": self._services.rates(),
                "quality": self._quality,
                "ring": self._ring,
            }

    def _take_object(self, message: ObjectUpdate, now_ns: int) -> None:
        self._enter(message.scan_id)
        row = self._projections.updated(message, now_ns)
        if row.scan_id == self._scan_id:
            self._current = row
            self._curves.updated(message)
            self._sections["errors"] += 1
        if message.final:
            self._sections["projections"] += 1
            self._take_ring(message, row)
        if self._path is None and message.xy_m.ndim == 2 and misfit(_path_of(message)) is None:
            self._show("path", now_ns, partial(views.path_view, _path_of(message)))
        self._show("phase", now_ns, partial(views.phase_view, message))
        self._show("amplitude", now_ns, partial(views.amplitude_view, message))
        self._show("probe", now_ns, partial(views.probe_view, message))

    def _take_ring(self, message: ObjectUpdate, row: ProjectionRow) -> None:
        curve = correlation(message.frc)
        if curve is not None and row.scan_id == self._scan_id:
            self._ring = {"number": row.number, "curve": curve, "resolution_m": number(message.resolution_m)}
            self._sections["ring"] += 1

    def _take_volume(self, message: VolumeUpdate, now_ns: int) -> None:
        self._enter(message.scan_id)
        self._volume = {
            "projections_used": number(message.projections_used),
            "voxel_m": number(message.voxel_m),
            "resolution_m": number(message.resolution_m),
            "quantity": text(message.quantity, 80),
            "figures": numbers(message.figures),
            "final": bool(message.final),
        }
        for name in ("slice_z", "slice_y", "slice_x"):
            self._show(name, now_ns, partial(views.slice_view, message, name))

    def _enter(self, scan_id: str) -> None:
        """Turn to a scan that was never seen before; what still comes from an older one does not turn back."""
        scan_id = text(scan_id)
        if scan_id == self._scan_id or scan_id in self._past_scans:
            return
        if self._scan_id is not None:
            self._past_scans.append(self._scan_id)
        self._scan_id = scan_id
        self._current = self._measuring = self._volume = self._quality = self._ring = self._finished = None
        self._curves = ErrorCurves()
        self._warnings.clear()
        for section in ("projections", "errors", "quality", "ring"):
            self._sections[section] += 1

    def _show(self, name: str, now_ns: int, draw: Callable[[], Drawable]) -> None:
        version = self._pictures[name][0] + 1 if name in self._pictures else 1
        self._pictures[name] = (version, now_ns, draw)

    def _complain(self, what: str) -> None:
        if what in self._complaints or len(self._complaints) < MAX_COMPLAINTS:
            self._complaints[what] = self._complaints.get(what, 0) + 1


def _path_of(message: ObjectUpdate) -> PathPreview:
    """Return where the frames of a reconstruction lie, for when the path itself was measured before this page was."""
    quality = np.full(len(message.xy_m), Quality.MEASURED, np.uint8)
    return PathPreview(scan_id=message.scan_id, projection=message.projection, xy_m=message.xy_m, quality=quality)
