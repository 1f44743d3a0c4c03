"""Back-projection on the GPU beside the compiled loops of the CPU, and whether both give the same volume."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.clock import by_turns, compared
from benchmarks.row import Effort, Row, WrongResult, number
from benchmarks.spheres import Spheres, spheres
from streamptycho.array import Backend
from streamptycho.tomography import IncrementalBackProjection, filtered_back_projection
from streamptycho.tomography.backprojection import SLAB_ROWS
from streamptycho.tomography.cuda_back_projection import CudaBackProjection

ANGLES = 181
EFFORT = Effort(quick=False, budget_s=3.0, least_rounds=3, most_rounds=12)
ALLOWED_DIFFERENCE = 1e-5


def volume(side: int) -> Callable[[Backend], Iterator[Row]]:
    """Return the measurement of a cube of this edge: one projection more, the whole on the device and on the host."""

    def measure(device: Backend) -> Iterator[Row]:
        sample = spheres(side, ANGLES)
        sums = CudaBackProjection((side, side), "hamming", device=device)
        for key, (angle, projection) in enumerate(zip(sample.angles_deg, sample.projections, strict=True)):
            sums.add(key, float(angle), projection)
        _check(sums, sample)
        middle = slice(side // 2 - min(SLAB_ROWS, side) // 2, side // 2 + min(SLAB_ROWS, side) // 2)
        some = np.ascontiguousarray(sample.projections[:, middle])

        def cpu() -> float:
            filtered_back_projection(some, sample.angles_deg)
            return float(some.shape[1])

        def on_device() -> float:
            for slab in sums.slabs_on_device():
                corner = slab[0, 0, :1]
            device.to_host(corner)
            return float(side)

        def on_host() -> float:
            for _ in sums.slabs():
                pass
            return float(side)

        between = itertools.count()

        def shown() -> float:
            k = next(between) % ANGLES
            sums.add("more", float(sample.angles_deg[k] + 0.5 * sample.angles_deg[1]), sample.projections[k])
            sums.orthoslices()
            return 3.0

        samples = by_turns({"cpu": cpu, "device": on_device, "host": on_host, "shown": shown}, EFFORT)
        reference = f"all cores of the CPU, {some.shape[1]} slices at once", samples["cpu"]
        cube = f"GPU, tomography {side}^3, {ANGLES} angles"
        for key, name, work in (
            ("shown", "add one projection, 3 orthoslices on the host", 3),
            ("device", "final volume, left on the device", side),
            ("host", "final volume, on the host", side),
        ):
            seconds = work / samples[key].median
            meaning = f"{number(1000 * seconds)} ms, filtering {'included' if key == 'shown' else 'done before'}"
            if key != "shown":
                meaning += f"; {number(side**3 * len(sums) / seconds / 1e12)} x 10^12 voxels times projections a second"
            yield compared(f"{cube}: {name}", "slices/s", samples[key], reference, meaning, {"seconds": seconds})

    return measure


def _check(sums: CudaBackProjection, sample: Spheres) -> None:
    side = sums.shape[1]
    cpu = IncrementalBackProjection(sums.shape, "hamming")
    for key, (angle, projection) in enumerate(zip(sample.angles_deg, sample.projections, strict=True)):
        cpu.add(key, float(angle), projection)
    part = slice(side // 2 - 4, side // 2 + 4), slice(None), slice(None)
    wanted, found = cpu.region(*part), sums.region(*part)
    difference = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    if not difference < ALLOWED_DIFFERENCE:
        raise WrongResult(f"GPU and CPU differ by {difference:.1e} of the largest value")
