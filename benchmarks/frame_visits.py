"""Frame visits per second of the CPU engine: compiled, and in NumPy, beside what the Fourier transforms alone allow.

    python benchmarks/frame_visits.py

The routes are measured in turn, several rounds of them, per second of processor time; medians are printed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import scipy.fft

from streamptycho.array import backend
from streamptycho.ptychography.canvas import Canvas
from streamptycho.ptychography.compiled_fft import plan
from streamptycho.ptychography.compiled_update import CompiledUpdater
from streamptycho.ptychography.frames import FrameStore
from streamptycho.ptychography.update import ProbeUpdater, Updater
from streamptycho.ptychography.visits import UpdateRule, Visits


def routes(n: int, modes: int, sub_pixel: bool, probe_step: float) -> dict[str, Callable[[int], None]]:
    random = np.random.default_rng(0)
    obj = np.exp(0.3j * random.normal(size=(n + 64, n + 64))).astype(np.complex64)
    probe = (30 * (random.normal(size=(modes, n, n)) + 1j * random.normal(size=(modes, n, n)))).astype(np.complex64)
    store = FrameStore(backend("cpu"), (n, n))
    store.add_counts(random.poisson(900, (32, n, n)).astype(np.uint16))
    every = Visits.of(
        np.arange(32),
        random.integers(0, 64, (32, 2)),
        random.uniform(-0.5, 0.5, (32, 2)) * sub_pixel,
        probe_step=probe_step,
    )
    transforms = (4 if probe_step else 3) if sub_pixel else 2

    def visits(updater: Updater) -> Callable[[int], None]:
        canvas = Canvas.holding(backend("cpu"), obj, n)

        def run(repeats: int) -> None:
            for first in range(0, repeats, 32):
                updater.visit(canvas, store, every.taken(slice(0, min(32, repeats - first))))

        return run

    def floor(repeats: int) -> None:
        for _ in range(repeats):
            for _ in range(transforms):
                scipy.fft.fft2(probe, overwrite_x=False)

    compiled_plan = plan(n)
    assert compiled_plan is not None
    return {
        "numpy": visits(ProbeUpdater(probe, backend("cpu"))),
        "compiled": visits(CompiledUpdater(probe, compiled_plan, UpdateRule())),
        "scipy.fft alone": floor,
    }


def measure(run: Callable[[int], None], seconds: float) -> float:
    repeats = 4
    while True:
        start = time.process_time()
        run(repeats)
        took = time.process_time() - start
        if took > seconds:
            return repeats / took
        repeats = max(2 * repeats, int(1.2 * repeats * seconds / took))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    arguments = parser.parse_args()
    print("n    modes  places        probe     numpy/s  compiled/s  ratio  of scipy.fft alone")
    for n in arguments.sizes:
        for modes in (1, 4):
            for sub_pixel in (False, True):
                for probe_step in (0.3, 0.0):
                    candidates = routes(n, modes, sub_pixel, probe_step)
                    rates: dict[str, list[float]] = {name: [] for name in candidates}
                    for _ in range(arguments.rounds):
                        for name, run in candidates.items():
                            rates[name].append(measure(run, 0.05))
                    numpy_rate, rate, floor = (float(np.median(found)) for found in rates.values())
                    places = "sub-pixel" if sub_pixel else "whole pixel"
                    refined = "refined" if probe_step else "fixed"
                    print(
                        f"{n:<4} {modes:<6} {places:<13} {refined:<9} {numpy_rate:>7.0f} {rate:>11.0f} "
                        f"{rate / numpy_rate:>6.1f}  {rate / floor:.2f}"
                    )


if __name__ == "__main__":
    main()
