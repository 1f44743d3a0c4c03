"""The ePIE engine against the Fourier transforms that it cannot do without."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from benchmarks.clock import Task, by_turns, compared, spread
from benchmarks.growth import best_seconds, exponent
from benchmarks.row import Effort, NotMeasurable, Row, WrongResult, number
from benchmarks.scans import PROBE, Scan, scan
from benchmarks.transforms import floor, library_transforms
from streamptycho.array import backend
from streamptycho.config import ReconstructionConfig
from streamptycho.ptychography.epie import EpieEngine
from streamptycho.ptychography.threads import available_threads

LATEST_SWEEP = 200
CLOSE_TO_NOISE = 1.2
FLOOR_FRAMES = 64


def updates(side: int, modes: int, device: str = "cpu") -> Callable[[Effort], Iterator[Row]]:
    """Return the measurement of frame updates, object and probe both refined, positions whole and between pixels."""

    def measure(effort: Effort) -> Iterator[Row]:
        library = backend(device)
        text, alone = floor(library, side, modes, FLOOR_FRAMES)
        tasks: dict[str, Task] = {"floor": alone, "library": library_transforms(library, side, modes, FLOOR_FRAMES)}
        for name, whole in (("whole-pixel", True), ("sub-pixel", False)):
            tasks[name] = _sweep(scan(side, modes, whole_pixels=whole), modes, device)
        samples = by_turns(tasks, effort)
        for name, limit in (("whole-pixel", ""), ("sub-pixel", " (moving the probe takes 2 FFTs more: 0.5 at most)")):
            share = samples[name].ratio(samples["library"])
            meaning = f"share of the floor{limit}; {number(share)} x the FFTs alone of {library.fft.__name__}"
            reference = (text, samples["floor"])
            facts = {"times_library_ffts": share}
            yield compared(_name(side, modes, name, device), "updates/s", samples[name], reference, meaning, facts)

    return measure


def time_to_error(side: int) -> Callable[[Effort], Iterator[Row]]:
    """Return the measurement of the time from an empty object to an amplitude error near that of the truth."""

    def measure(effort: Effort) -> Iterator[Row]:
        data = scan(side, 1)
        target = CLOSE_TO_NOISE * data.noise_floor
        text, alone = floor(backend("cpu"), side, 1, len(data.counts))
        _converge(data, target, seed=0)
        alone()
        spent, floors, sweeps = [], [], []
        for seed in range(3 if effort.quick else 9):
            seconds, needed = _converge(data, target, seed)
            began = time.perf_counter()
            for _ in range(needed):
                alone()
            floors.append(time.perf_counter() - began)
            spent.append(seconds)
            sweeps.append(needed)
        needed = statistics.median(sweeps)
        yield Row(
            name=f"ePIE {side}x{side}, 1 mode: time to {CLOSE_TO_NOISE} x the error of the truth",
            figure=statistics.median(spent),
            unit="s",
            better="less",
            spread=spread(spent),
            rounds=len(spent),
            reference=f"the same visits: {text}",
            reference_figure=statistics.median(floors),
            ratio=statistics.median(a / b for a, b in zip(spent, floors, strict=True)),
            meaning=f"{len(data.counts)} frames, {needed:.0f} sweeps from a guessed probe, sub-pixel, to an amplitude "
            f"error of {target:.2e}; another order of visits in each round",
            details={"sweeps": float(needed), "target_error": target, "frames": float(len(data.counts))},
        )

    return measure


def threads_to_error(side: int) -> Callable[[Effort], Iterator[Row]]:
    """Return the measurement of the time to the same error by all cores, beside one thread and two projections."""

    def measure(effort: Effort) -> Iterator[Row]:
        cores = available_threads()
        if cores < 2:
            raise NotMeasurable("this process may use one processor only")
        data = scan(side, 1, wide=True)
        target = CLOSE_TO_NOISE * data.noise_floor
        alone, together, sweeps, apart = [], [], [], []
        engines = [_sweep(data, 1, "cpu") for _ in range(cores)]
        for seed in range(3 if effort.quick else 9):
            seconds, needed = _converge(data, target, seed)
            alone.append(seconds)
            seconds, at_once = _converge(data, target, seed, cores)
            together.append(seconds)
            sweeps.append(at_once / needed)
            apart.append(_gain_of_projections(engines))
        yield Row(
            name=f"ePIE {side}x{side}, 1 mode, {cores} threads: time to {CLOSE_TO_NOISE} x the error of the truth",
            figure=statistics.median(together),
            unit="s",
            better="less",
            spread=spread(together),
            rounds=len(together),
            reference="one thread, in the same rounds",
            reference_figure=statistics.median(alone),
            ratio=statistics.median(a / b for a, b in zip(together, alone, strict=True)),
            meaning=f"{len(data.counts)} frames; {number(statistics.median(sweeps))} x the sweeps; {cores} projections "
            f"in as many threads do {number(statistics.median(apart))} x the work of one in the same time",
            details={"sweeps_ratio": statistics.median(sweeps), "projections_gain": statistics.median(apart)},
        )

    return measure


def growth(effort: Effort) -> Iterator[Row]:
    """How the time of a sweep grows with frames, modes and size of the frames, on one thread: fitted exponents."""
    whole = scan(64, 1, wide=True)
    counts = (len(whole.counts) // 8, len(whole.counts) // 4, len(whole.counts) // 2, len(whole.counts))
    seconds = best_seconds({count: _sweep(whole, 1, "cpu", stop=count) for count in counts})
    yield exponent("a sweep of ePIE, frames", seconds, 1.0, "64x64, 1 mode")
    seconds = best_seconds({modes: _sweep(scan(128, modes), modes, "cpu") for modes in (1, 2, 4, 8)})
    yield exponent("a sweep of ePIE, probe modes", seconds, 1.0, "234 frames of 128x128")
    seconds = best_seconds({side: _sweep(scan(side, 1), 1, "cpu") for side in (32, 64, 128, 256)})
    yield exponent("a sweep of ePIE, edge of a frame", seconds, 2.2, "234 frames, 1 mode; n^2 log n has 2.2 here")


def _gain_of_projections(engines: list[Task]) -> float:
    """Return how many times the work of one thread several threads do, each on a projection of its own."""
    began = time.perf_counter()
    engines[0]()
    one = time.perf_counter() - began
    with ThreadPoolExecutor(len(engines)) as pool:
        began = time.perf_counter()
        list(pool.map(lambda task: task(), engines))
        return len(engines) * one / (time.perf_counter() - began)


def _sweep(data: Scan, modes: int, device: str, threads: int = 1, stop: int | None = None) -> Task:
    config = ReconstructionConfig(
        modes=modes, sweeps=100_000, min_sweeps=1, device=device, probe=PROBE, threads=threads
    )
    engine = EpieEngine(config)
    engine.begin(data.start())
    lost = engine.add(data.batch(stop=stop))
    if lost:
        raise WrongResult(f"the engine left frames out: {lost[0].reason}")
    engine.run(config.probe_delay_sweeps + 1)

    def run() -> float:
        engine.run(1)
        return float(engine.frames)

    return run


def _converge(data: Scan, target: float, seed: int, threads: int = 1) -> tuple[float, int]:
    """Return the seconds and sweeps to reach the error; judging it does not count."""
    config = ReconstructionConfig(sweeps=LATEST_SWEEP, min_sweeps=1, probe=PROBE, seed=seed, threads=threads)
    engine = EpieEngine(config)
    began = time.perf_counter()
    engine.begin(data.start())
    engine.add(data.batch())
    seconds, error = time.perf_counter() - began, float("inf")
    for sweep in range(1, LATEST_SWEEP + 1):
        began = time.perf_counter()
        engine.run(1)
        seconds += time.perf_counter() - began
        error = engine.evaluate() or float("inf")
        if error <= target:
            return seconds, sweep
    raise WrongResult(f"the error is {error:.4f} after {LATEST_SWEEP} sweeps, {target:.4f} is expected")


def _name(side: int, modes: int, positions: str, device: str) -> str:
    where = "" if device == "cpu" else f", {device}"
    return f"ePIE {side}x{side}, {modes} mode{'s' if modes > 1 else ''}, {positions}{where}"
