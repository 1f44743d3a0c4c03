"""What the GPU is measured on: speed on large scans, and agreement with sequential visits on a scan of known truth."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.clock import Task, by_turns, compared
from benchmarks.paper_scan import START_PROBE, known_scan
from benchmarks.row import Effort, Row, WrongResult
from benchmarks.scans import PROBE, scan
from streamptycho.array import Backend, backend
from streamptycho.config import ReconstructionConfig
from streamptycho.messages import Array, DiffractionBatch, ProjectionStart, Quality
from streamptycho.ptychography.canvas import Canvas
from streamptycho.ptychography.cuda_update import CudaUpdater
from streamptycho.ptychography.epie import EpieEngine
from streamptycho.ptychography.frames import FrameStore
from streamptycho.ptychography.probe import probe_from_data, with_modes
from streamptycho.ptychography.update import ProbeUpdater, Updater, probe_updater
from streamptycho.ptychography.visits import UpdateRule, Visits

EFFORT = Effort(quick=False, budget_s=3.0, least_rounds=3, most_rounds=12)
SPEED_FRAMES = 12_000
FRAMES_AT_ONCE = 8_192
READABLE_FRAMES = 64
STEP_PX = 2.5
SWEEPS = 30
ALLOWED_LOSS = 1.1


@dataclass(frozen=True, slots=True, eq=False)
class Large:
    """Frames of a scan of many, on the device: counts of a simulated measurement, again and again, side by side."""

    store: FrameStore
    canvas: Canvas
    corners: Array
    fractions_px: Array
    probe: Array

    def visits(self, order: Array) -> Visits:
        return Visits.of(
            order,
            self.corners[order],
            self.fractions_px[order],
            object_step=0.9,
            probe_step=0.3,
            in_turn=len(self.corners),
        )


def speed(
    side: int, modes: int, *, upsampling: int = 1, whole_pixels: bool = False
) -> Callable[[Backend], Iterator[Row]]:
    """Return the measurement of frame updates beside cuFFT's transforms alone and the readable path."""

    def measure(device: Backend) -> Iterator[Row]:
        data = _large(device, SPEED_FRAMES, side, modes, upsampling, whole_pixels)
        rule = UpdateRule(upsampling=upsampling)
        updater = probe_updater(data.probe, device, rule)
        if not isinstance(updater, CudaUpdater):
            raise WrongResult("the kernels do not run here: see the warning above")
        transforms = 2 if whole_pixels else 4
        tasks: dict[str, Task] = {
            "ours": _sweep(data, updater),
            "floor": _cufft(device, side, modes, transforms),
            "readable": _sweep(data, ProbeUpdater(data.probe, device, rule), READABLE_FRAMES),
        }
        samples = by_turns(tasks, EFFORT)
        text = f"{transforms} FFTs per mode and frame, cuFFT in batches"
        meaning = f"share of the floor; {samples['ours'].ratio(samples['readable']):.0f} x the readable CuPy path"
        where = "whole-pixel" if whole_pixels else "sub-pixel"
        sampled = f", from {side // upsampling}x{side // upsampling} counts" if upsampling > 1 else ""
        name = f"GPU {side}x{side}{sampled}, {modes} mode{'s' if modes > 1 else ''}, {where}"
        yield compared(name, "updates/s", samples["ours"], (text, samples["floor"]), meaning)

    return measure


def projection(
    frames: int, side: int, modes: int, upsampling: int, sweeps: int, target_s: float, *, of_sweeps: int | None = None
) -> Callable[[Backend], Iterator[Row]]:
    """Return the measurement of a whole projection, beside the time that it may take."""

    def measure(device: Backend) -> Iterator[Row]:
        data = _large(device, frames, side, modes, upsampling, whole_pixels=False)
        updater = probe_updater(data.probe, device, UpdateRule(upsampling=upsampling))
        task = _sweep(data, updater)
        task()
        began = time.perf_counter()
        for _ in range(sweeps):
            task()
        spent = (time.perf_counter() - began) * (of_sweeps or sweeps) / sweeps
        how = f"{of_sweeps} sweeps, from {sweeps} that were measured" if of_sweeps else f"{sweeps} sweeps"
        yield Row(
            name=f"GPU, {frames} frames, {side}x{side}, {modes} modes, {how}",
            figure=spent,
            unit="s",
            better="less",
            spread=0.0,
            rounds=1,
            reference="what it may take",
            reference_figure=target_s,
            ratio=spent / target_s,
            meaning="visits with all steps of object and probe, and their outcome on the host",
        )

    return measure


def agreement(device: Backend) -> Iterator[Row]:
    """Error and time after the same sweeps of the paper's scan, in groups on the GPU and one by one on the CPU."""
    data = known_scan(photons=1e5)
    errors, seconds = {}, {}
    for where in (device, backend("cpu")):
        config = ReconstructionConfig(
            device="gpu" if where is device else "cpu",
            threads=1,
            modes=4,
            sweeps=SWEEPS,
            min_sweeps=1,
            probe=START_PROBE,
        )
        engine = EpieEngine(config)
        start = ProjectionStart(
            scan_id="scan", projection=0, angle_deg=None, n_frames=len(data.counts), geometry=data.geometry
        )
        engine.begin(start)
        engine.add(
            DiffractionBatch(
                scan_id="scan",
                projection=0,
                index=np.arange(len(data.counts)),
                counts=data.counts,
                xy_m=data.xy_m,
                quality=np.full(len(data.counts), Quality.MEASURED, np.uint8),
            )
        )
        began = time.perf_counter()
        engine.run(SWEEPS)
        seconds[where.name] = time.perf_counter() - began
        errors[where.name] = engine.evaluate() or float("inf")
    ratio = errors["gpu"] / errors["cpu"]
    yield Row(
        name=f"GPU in groups, {len(data.counts)} frames of the paper's scan: error after {SWEEPS} sweeps",
        figure=errors["gpu"],
        unit="",
        better="less",
        spread=0.0,
        rounds=1,
        reference="one frame after another, CPU, one thread",
        reference_figure=errors["cpu"],
        ratio=ratio,
        meaning=f"{seconds['gpu']:.2f} s against {seconds['cpu']:.1f} s; that of the truth is {data.noise_floor:.2e}",
    )
    if not ratio < ALLOWED_LOSS:
        raise WrongResult(f"the error is {ratio:.2f} x that of sequential visits, {ALLOWED_LOSS} x is allowed")


def _large(device: Backend, frames: int, side: int, modes: int, upsampling: int, whole_pixels: bool) -> Large:
    size = side // upsampling
    known = scan(size, 1)
    store = FrameStore(device, (size, size))
    for first in range(0, frames, 4_096):
        some = np.arange(first, min(first + 4_096, frames)) % len(known.counts)
        store.add_counts(known.counts[some])
    columns = int(np.sqrt(frames)) + 1
    number = np.arange(frames)
    random = np.random.default_rng(1)
    centres = np.stack([number // columns, number % columns], axis=1) * STEP_PX + random.uniform(0, 1, (frames, 2))
    corners = np.rint(centres).astype(np.int64)
    canvas = Canvas(device, side, 16, 1 << 15)
    canvas.include(corners)
    probe = probe_from_data(store.sample(64), known.geometry, PROBE, device)
    if upsampling > 1:
        before = (side - size) // 2
        probe = np.pad(probe, ((0, 0), (before, side - size - before), (before, side - size - before)))
    return Large(store, canvas, corners, (centres - corners) * (not whole_pixels), with_modes(probe, modes))


def _sweep(data: Large, updater: Updater, frames: int | None = None) -> Task:
    random = np.random.default_rng(2)

    def run() -> float:
        order = random.permutation(len(data.corners))[:frames]
        for first in range(0, len(order), FRAMES_AT_ONCE):
            outcome = updater.visit(data.canvas, data.store, data.visits(order[first : first + FRAMES_AT_ONCE]))
        if not np.isfinite(outcome.residual).all():
            raise WrongResult("visits gave residuals that are not finite")
        return float(len(order))

    return run


def _cufft(device: Backend, side: int, modes: int, transforms: int) -> Task:
    frames = max(1, 2**25 // (side * side * modes))
    random = device.xp.random.RandomState(0)
    shape = (frames, modes, side, side)
    wave = (random.standard_normal(shape) + 1j * random.standard_normal(shape)).astype(np.complex64)

    def run() -> float:
        field = wave
        for k in range(4 * transforms):
            change = device.fft.fft2 if k % 2 == 0 else device.fft.ifft2
            field = change(field, axes=(-2, -1), norm="ortho")
        device.to_host(field[0, 0, 0, :1])
        return 4.0 * frames

    return run
