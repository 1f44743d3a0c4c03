"""What is there at the instant the last frame arrives, beside a batch reconstruction of the same frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.known_scan import KnownScan
from benchmarks.paper_scan import START_PROBE, known_scan
from benchmarks.row import Effort, Row
from benchmarks.truth import Agreement, agreement
from streamptycho.config import ReconstructionConfig
from streamptycho.messages import DiffractionBatch, ProjectionStart, Quality
from streamptycho.ptychography.epie import EpieEngine

PHOTONS = 1e6
SWEEPS = 50
BATCH = 20
BUDGET_S = 0.02
COMPARED_M = (7e-6, 7e-6)


@dataclass(frozen=True, slots=True)
class State:
    """An object at some instant: its amplitude error, its agreement with the truth, and the sweeps that made it."""

    error: float
    agreement: Agreement
    sweeps: float


def at_last_frame(modes: int, headroom: float) -> Callable[[Effort], Iterator[Row]]:
    """Return a measurement with frames that come so fast that `headroom` x the sweeps of the batch fit in the scan.

    Below 1 the machine cannot hold the rate: the row then tells the lag, and the comparison is that after it.
    """

    def measure(effort: Effort) -> Iterator[Row]:
        scan = known_scan(photons=PHOTONS, modes=modes)
        batch, batch_s = _afterwards(scan, modes)
        rate_hz = len(scan.counts) / (headroom * batch_s)
        at_end, final, lag_s = _live(scan, modes, rate_hz)
        held = headroom >= 1
        live = at_end if held else final
        when = "as the last frame arrives" if held else f"{lag_s:.1f} s after the last frame"
        many = f"{modes} mode{'s' if modes > 1 else ''}"
        name = f"incremental, 128x128, {many}, {len(scan.counts)} frames at {rate_hz:.0f}/s"
        peer = f"{SWEEPS} sweeps begun when all frames are there"
        rows = (
            ("amplitude error", live.error, batch.error, f"at once {at_end.error:.5f}, final {final.error:.5f}"),
            ("error of the object", live.agreement.object_error, batch.agreement.object_error,
             f"resolved to {_nm(live)}, the batch to {_nm(batch)}; {at_end.sweeps:.1f} sweeps at the last frame"),
        )  # fmt: skip
        for what, figure, reference, meaning in rows:
            yield Row(
                name=f"{name}: {what} {when}",
                figure=figure,
                unit="",
                better="less",
                spread=0.0,
                rounds=1,
                reference=peer,
                reference_figure=reference,
                ratio=figure / reference,
                meaning=meaning,
                details={"lag_s": lag_s, "batch_s": batch_s, "frames_per_s": rate_hz},
            )

    return measure


def _engine(modes: int) -> EpieEngine:
    return EpieEngine(ReconstructionConfig(modes=modes, sweeps=SWEEPS, min_sweeps=SWEEPS, probe=START_PROBE))


def _start(scan: KnownScan) -> ProjectionStart:
    return ProjectionStart(scan_id="", projection=0, angle_deg=None, n_frames=len(scan.counts), geometry=scan.geometry)


def _some(scan: KnownScan, first: int) -> DiffractionBatch:
    counts = scan.counts[first : first + BATCH].copy()
    return DiffractionBatch(
        scan_id="",
        projection=0,
        index=np.arange(first, first + len(counts)),
        counts=counts,
        xy_m=scan.xy_m[first : first + BATCH],
        quality=np.full(len(counts), Quality.MEASURED, np.uint8),
    )


def _afterwards(scan: KnownScan, modes: int) -> tuple[State, float]:
    engine = _engine(modes)
    engine.begin(_start(scan))
    for first in range(0, len(scan.counts), BATCH):
        engine.add(_some(scan, first))
    engine.run(1)
    began = time.perf_counter()
    engine.run(SWEEPS - 1)
    seconds = (time.perf_counter() - began) * SWEEPS / (SWEEPS - 1)
    return _state(engine, scan), seconds


def _live(scan: KnownScan, modes: int, rate_hz: float) -> tuple[State, State, float]:
    """Return the state when the last frame was handed in, the final one, and the seconds between."""
    engine = _engine(modes)
    engine.begin(_start(scan))
    began = time.perf_counter()
    for first in range(0, len(scan.counts), BATCH):
        due = began + min(first + BATCH, len(scan.counts)) / rate_hz
        while (left := due - time.perf_counter()) > 0:
            if engine.frames == 0 or engine.step(min(left, BUDGET_S)).updates == 0:
                time.sleep(min(left, 1e-3))
        engine.add(_some(scan, first))
    at_end = _state(engine, scan)
    began = time.perf_counter()
    while engine.step(BUDGET_S).updates:
        pass
    lag_s = time.perf_counter() - began
    return at_end, _state(engine, scan), lag_s


def _state(engine: EpieEngine, scan: KnownScan) -> State:
    update, error = engine.update(), engine.evaluate()
    assert update is not None
    assert error is not None
    found = agreement(update.object, update.origin_xy_m, scan.transmission, scan.pixel_m, COMPARED_M)
    return State(error, found, update.sweeps)


def _nm(state: State) -> str:
    return "nothing" if state.agreement.resolution_m is None else f"{state.agreement.resolution_m * 1e9:.0f} nm"
