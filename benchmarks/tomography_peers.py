"""Whole volumes beside the ASTRA toolbox and tomopy's gridrec, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numba
import numpy as np

from benchmarks.clock import Sample, Task, by_turns, compared
from benchmarks.row import Effort, NotMeasurable, Row, WrongResult, number
from benchmarks.spheres import Spheres, error_inside, spheres
from streamptycho.messages import Array
from streamptycho.tomography import filtered_back_projection, sirt

PEER_PYTHON = Path(__file__).resolve().parents[1] / ".venv-ptychi" / "bin" / "python"
PEER_LIMIT_S = 600
ASTRA = Path(__file__).with_name("astra_peer.py")
GRIDREC = Path(__file__).with_name("gridrec_peer.py")
ANGLES = 181
FEW_ANGLES = 45
SIRT_ROUNDS = 100
REPEATS = 5
SLOW_REPEATS = 2
MUCH_WORSE = 1.15


def beside_astra(effort: Effort) -> Iterator[Row]:
    """Filtered back-projection and SIRT of slices of 255 x 255, whose middle pixel is the axis in both."""
    fbp, few = spheres(255, ANGLES, rows=64), spheres(255, FEW_ANGLES, rows=32)
    for name, sample, method, rounds, slices, ours in (
        ("filtered back-projection", fbp, "FBP", 1, 16, filtered_back_projection),
        (f"{SIRT_ROUNDS} passes of SIRT, not negative", few, "SIRT", SIRT_ROUNDS, 2, _sirt),
    ):
        middle = len(sample.projections[0]) // 2
        found, theirs = _peer(ASTRA, "astra", sample, slice(middle, middle + slices), method, rounds)
        yield from _rows(f"tomography 255x255, {len(sample.angles_deg)} angles: {name}", sample, ours, found[0], theirs,
                         f"ASTRA toolbox {method}, CPU, 1 thread", effort)  # fmt: skip


def beside_gridrec(effort: Effort) -> Iterator[Row]:
    """The final volume beside that of tomopy, whose rows of 128 it does not pad, and those of 129 to 256."""
    for side, padding in ((128, "rows not padded"), (129, "rows padded")):
        sample = spheres(side, ANGLES)
        found, theirs = _peer(GRIDREC, "tomopy", sample, slice(None), "gridrec", 1)
        yield from _rows(
            f"tomography {side}^3, {ANGLES} angles: final volume",
            sample,
            filtered_back_projection,
            _like(found[side // 2], sample.truth),
            theirs,
            f"tomopy gridrec, {padding}, all cores",
            effort,
        )


def _sirt(line_integrals: Array, angles_deg: Array) -> Array:
    return sirt(line_integrals, angles_deg, rounds=SIRT_ROUNDS)


def _rows(
    name: str,
    sample: Spheres,
    ours: Callable[[Array, Array], Array],
    their_middle: Array,
    theirs: Sample,
    peer: str,
    effort: Effort,
) -> Iterator[Row]:
    count = len(sample.projections[0])
    threads = numba.get_num_threads()
    errors = [error_inside(image, sample.truth) for image in (_middle_of(sample, ours), their_middle)]
    if errors[0] > MUCH_WORSE * errors[1]:
        raise WrongResult(f"the middle slice is {errors[0]:.3f} off the truth, theirs {errors[1]:.3f}")

    def on(threads_used: int) -> Task:
        def work() -> float:
            numba.set_num_threads(threads_used)
            try:
                ours(sample.projections, sample.angles_deg)
            finally:
                numba.set_num_threads(threads)
            return float(count)

        return work

    rounds = Effort(effort.quick, 0.0, least_rounds=len(theirs.rates))
    samples = by_turns({str(used): on(used) for used in sorted({1, threads})}, rounds)
    for used, rate in samples.items():
        meaning = f"ms per slice: {number(1000 / rate.median)}, theirs {number(1000 / theirs.median)}; "
        meaning += f"error of the middle slice {errors[0]:.3f}, theirs {errors[1]:.3f}"
        text = f"{name}, {used} thread{'s' if used != '1' else ''}"
        yield compared(text, "slices/s", rate, (peer, theirs), meaning)


def _middle_of(sample: Spheres, ours: Callable[[Array, Array], Array]) -> Array:
    middle = len(sample.projections[0]) // 2
    return ours(np.ascontiguousarray(sample.projections[:, middle : middle + 1]), sample.angles_deg)[0]


def _like(image: Array, truth: Array) -> Array:
    """Return the image turned, mirrored and moved by a pixel as the truth is: libraries disagree on axes."""
    turned = [np.rot90(one, quarter) for one in (image, image[:, ::-1]) for quarter in range(4)]
    moved = [np.roll(one, (down, right), axis=(0, 1)) for one in turned for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return min(moved, key=lambda one: error_inside(one, truth))


def _peer(script: Path, module: str, sample: Spheres, rows: slice, method: str, rounds: int) -> tuple[Array, Sample]:
    """Return their slices (S, Y, X), and how many they make in a second."""
    python = _python_with(module)
    sinograms = np.ascontiguousarray(sample.projections[:, rows].transpose(1, 0, 2))
    with tempfile.TemporaryDirectory() as folder:
        given, taken = Path(folder) / "given.npz", Path(folder) / "result.npz"
        np.savez(given, sinograms=sinograms, angles_deg=sample.angles_deg)
        repeats = REPEATS if rounds == 1 else SLOW_REPEATS
        arguments = [python, script, given, taken, method, str(rounds), str(repeats)]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=PEER_LIMIT_S, check=False)
        if done.returncode != 0:
            raise NotMeasurable(f"{module} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        with np.load(taken) as result:
            return result["slices"], Sample(tuple(len(sinograms) / result["seconds"]))


def _python_with(module: str) -> Path:
    for python in (Path(sys.executable), PEER_PYTHON):
        if python.exists():
            done = subprocess.run([python, "-c", f"import {module}"], capture_output=True, timeout=120, check=False)
            if done.returncode == 0:
                return python
    where = "make peers" if module == "astra" else "it is on conda-forge only"
    raise NotMeasurable(f"{module} can be imported neither here nor by {PEER_PYTHON}: {where}")
