"""Incremental filtered back-projection against `skimage.transform.iradon`, slice by slice."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numba
import numpy as np
from skimage.transform import iradon

from benchmarks.clock import Task, by_turns, compared
from benchmarks.row import Effort, Row, WrongResult, number
from benchmarks.spheres import error_inside, spheres
from streamptycho.messages import Array
from streamptycho.tomography import IncrementalBackProjection, filtered_back_projection

ANGLES = 181
IRADON_SLICES = 2
MUCH_WORSE = 1.15


def volume(side: int) -> Callable[[Effort], Iterator[Row]]:
    """Return the measurement of a cube of this edge: one projection more, and all at once."""

    def measure(effort: Effort) -> Iterator[Row]:
        sample = spheres(side, ANGLES)
        projections, angles_deg = sample.projections, sample.angles_deg
        held = _held(projections, angles_deg)
        held.volume()
        with_slices = _held(projections, angles_deg)
        with_slices.orthoslices()
        middle = side // 2
        threads = numba.get_num_threads()
        _check(held.volume()[middle], _iradon(projections, angles_deg, middle), sample.truth)

        def peer() -> float:
            for z in range(IRADON_SLICES):
                _iradon(projections, angles_deg, middle + z)
            return float(IRADON_SLICES)

        def whole() -> float:
            _held(projections, angles_deg).volume()
            return float(side)

        def shot() -> float:
            filtered_back_projection(projections, angles_deg)
            return float(side)

        def single() -> float:
            numba.set_num_threads(1)
            try:
                return whole()
            finally:
                numba.set_num_threads(threads)

        tasks: dict[str, Task] = {
            "peer": peer,
            "whole": whole,
            "shot": shot,
            "single": single,
            "added": _adding(held, projections, angles_deg, lambda: held.volume(), float(side)),
            "shown": _adding(with_slices, projections, angles_deg, lambda: with_slices.orthoslices(), 3.0),
        }
        samples = by_turns(tasks, effort)
        reference = (f"skimage iradon, {ANGLES} angles, 1 thread", samples["peer"])
        cube = f"{side}^3, {ANGLES} angles"
        for key, name, work, text in (
            ("shown", "add one projection, 3 orthoslices", 3, "after every projection"),
            ("added", "add one projection, whole volume", side, "all slices brought up to date"),
            ("whole", f"whole volume, {threads} threads", side, "from nothing"),
            ("shot", f"final volume in one go, {threads} threads", side, "as at the end of a scan, nothing kept"),
            ("single", "whole volume, 1 thread", side, "like for like"),
        ):
            if key == "single" and threads == 1:
                continue
            seconds = work / samples[key].median
            slice_ms = number(1000 / samples["peer"].median)
            meaning = f"{text}: {number(1000 * seconds)} ms; iradon makes one slice anew in {slice_ms} ms"
            facts = {"seconds": seconds}
            yield compared(f"tomography {cube}: {name}", "slices/s", samples[key], reference, meaning, facts)

    return measure


def _held(projections: Array, angles_deg: Array) -> IncrementalBackProjection:
    sums = IncrementalBackProjection(projections.shape[1:], "hamming")
    for key, (angle_deg, projection) in enumerate(zip(angles_deg, projections, strict=True)):
        sums.add(key, float(angle_deg), projection)
    return sums


def _adding(
    sums: IncrementalBackProjection, projections: Array, angles_deg: Array, show: Callable[[], object], slices: float
) -> Task:
    """Return a task that adds one projection, each time half-way between two that are there, and shows the result."""
    between = itertools.count()

    def work() -> float:
        k = next(between)
        sums.add(len(sums), float(angles_deg[k] + 0.5 * angles_deg[1]), projections[k])
        show()
        return slices

    return work


def _iradon(projections: Array, angles_deg: Array, z: int) -> Array:
    return np.asarray(iradon(projections[:, z].T, theta=-angles_deg, filter_name="hamming", circle=True))


def _check(ours: Array, theirs: Array, truth: Array) -> None:
    """Compare both middle slices with the truth inside the circle."""
    errors = [error_inside(image, truth) for image in (ours, theirs)]
    if errors[0] > MUCH_WORSE * errors[1]:
        raise WrongResult(f"the middle slice is {errors[0]:.3f} off the truth, that of iradon {errors[1]:.3f}")
