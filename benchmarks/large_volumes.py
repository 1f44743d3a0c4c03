"""Volumes that are too large to be kept: time and memory of one projection more and of the whole, and how both grow."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from skimage.transform import iradon

from benchmarks.growth import best_seconds, exponent
from benchmarks.row import Effort, NotMeasurable, Row, WrongResult, number
from benchmarks.spheres import Spheres, error_inside, spheres
from streamptycho.messages import Array, VolumeUpdate
from streamptycho.recording.provenance import Provenance
from streamptycho.recording.volume_file import write_volume
from streamptycho.tomography import IncrementalBackProjection, VolumeSlabs, filtered_back_projection
from streamptycho.tomography.backprojection import SLAB_ROWS

ANGLES = 181
SHOWN = 5
MUCH_WORSE = 1.15
EDGES = (64, 96, 128, 192, 256)
COUNTS = (23, 45, 91, 181, 362)
COUNTS_EDGE = 128


def volume(side: int) -> Callable[[Effort], Iterator[Row]]:
    """Return the measurement of a cube of this edge, each figure once but for the quick ones."""

    def measure(effort: Effort) -> Iterator[Row]:
        voxels = 4 * side**3
        needed = 8 * ANGLES * side**2 + 3 * 4 * SLAB_ROWS * side**2 + 2**30
        _make_sure(needed, 1.05 * voxels)
        sample = spheres(side, ANGLES)
        sums = IncrementalBackProjection((side, side), "hamming")
        for key, (angle, projection) in enumerate(zip(sample.angles_deg, sample.projections, strict=True)):
            sums.add(key, float(angle), projection)
        sums.orthoslices()
        cube = f"tomography {side}^3, {ANGLES} angles"
        iradon_s, error = _iradon(sample)
        slice_s, found = _timed(lambda: sums.region(slice(side // 2, side // 2 + 1), slice(None), slice(None)))
        if error_inside(found[0], sample.truth) > MUCH_WORSE * error:
            raise WrongResult(
                f"the slice is {error_inside(found[0], sample.truth):.3f} off the truth, iradon {error:.3f}"
            )
        peer = "one slice by skimage iradon", iradon_s
        shown_s = [_timed(lambda k=k: _one_more(sums, sample, k))[0] for k in range(SHOWN)]
        yield _row(f"{cube}: add one projection, 3 orthoslices", float(np.median(shown_s)), *peer, "filtering included")
        yield _row(f"{cube}: any one slice across z on demand", slice_s, *peer, "of the projections that are there")
        upright_s, _ = _timed(lambda: sums.region(slice(None), slice(None), slice(side // 2, side // 2 + 1)))
        yield _row(f"{cube}: any one slice across x on demand", upright_s, *peer, "along the axis")
        made_s, _ = _timed(lambda: [len(slab) for slab in sums.slabs()])
        meaning = f"{number(side**3 * len(sums) / made_s / 1e9)} thousand million voxels and projections a second"
        yield _row(
            f"{cube}: whole volume, slab by slab", made_s / side, *peer, f"per slice; all {made_s:.1f} s, {meaning}"
        )
        yield from _written(cube, sums, made_s, voxels)

    return measure


def growth(effort: Effort) -> Iterator[Row]:
    """How the time of the final volume grows with the edge and with the angles: fitted exponents."""
    samples = {edge: spheres(edge, ANGLES) for edge in EDGES[: 4 if effort.quick else None]}
    seconds = best_seconds({edge: _whole(sample) for edge, sample in samples.items()})
    yield exponent("tomography, final volume, edge of the cube", seconds, 3.0, f"{ANGLES} angles")
    shown = best_seconds({edge: _shown(sample) for edge, sample in samples.items()})
    yield exponent("tomography, one projection more and orthoslices, edge of the cube", shown, 2.0, f"{ANGLES} angles")
    counts = best_seconds({count: _whole(spheres(COUNTS_EDGE, count)) for count in COUNTS})
    yield exponent("tomography, final volume, number of angles", counts, 1.0, f"{COUNTS_EDGE}^3")


def _whole(sample: Spheres) -> Callable[[], object]:
    return lambda: filtered_back_projection(sample.projections, sample.angles_deg)


def _shown(sample: Spheres) -> Callable[[], object]:
    sums = IncrementalBackProjection(sample.projections.shape[1:], "hamming")
    for key, (angle, projection) in enumerate(zip(sample.angles_deg, sample.projections, strict=True)):
        sums.add(key, float(angle), projection)
    between = iter(range(len(sample.angles_deg)))
    return lambda: _one_more(sums, sample, next(between))


def _one_more(sums: IncrementalBackProjection, sample: Spheres, k: int) -> None:
    """Add a projection half-way between two that are there, and show the slices."""
    between = float(sample.angles_deg[k] + 0.5 * sample.angles_deg[1])
    sums.add(len(sums), between, sample.projections[k])
    sums.orthoslices()


def _written(cube: str, sums: IncrementalBackProjection, made_s: float, voxels: int) -> Iterator[Row]:
    across_z, across_y, across_x = sums.orthoslices()
    update = VolumeUpdate(
        scan_id="benchmark",
        slice_z=across_z,
        slice_y=across_y,
        slice_x=across_x,
        voxel_m=1e-8,
        quantity="delta",
        projections_used=len(sums),
    )
    rows, columns = sums.shape
    with tempfile.TemporaryDirectory() as folder:
        before = _reset_peak()
        slabs = VolumeSlabs((rows, columns, columns), sums.slabs())
        path = Path(folder) / "volume.nxs"
        spent, _ = _timed(lambda: write_volume(path, slabs, update, None, Provenance()))
        peak = _status_bytes("VmHWM") - before
        size = path.stat().st_size
    yield _row(
        f"{cube}: final volume in its file", spent, "its arithmetic alone", made_s, f"{size / 1e9:.2f} GB of HDF5"
    )
    yield Row(
        name=f"{cube}: memory beside the projections for it",
        figure=peak / 1e9,
        unit="GB",
        better="less",
        spread=0.0,
        rounds=1,
        reference="the volume",
        reference_figure=voxels / 1e9,
        ratio=peak / voxels,
        meaning="peak resident memory over that before",
    )


def _row(name: str, seconds: float, reference: str, reference_s: float, meaning: str) -> Row:
    return Row(
        name=name,
        figure=seconds,
        unit="s",
        better="less",
        spread=0.0,
        rounds=1,
        reference=reference,
        reference_figure=reference_s,
        ratio=seconds / reference_s,
        meaning=meaning,
    )


def _iradon(sample: Spheres) -> tuple[float, float]:
    """Return the seconds of one slice by iradon, and its error."""
    rows = sample.projections[:, len(sample.projections[0]) // 2].T
    seconds, found = _timed(lambda: iradon(rows, theta=-sample.angles_deg, filter_name="hamming", circle=True))
    return seconds, error_inside(found, sample.truth)


def _timed(work: Callable[[], Array | object]) -> tuple[float, Array]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result  # type: ignore[return-value]


def _make_sure(memory: float, disk: float) -> None:
    available = _available_bytes()
    if available < memory:
        raise NotMeasurable(f"it takes {memory / 1e9:.1f} GB of memory, and {available / 1e9:.1f} GB are available")
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < disk:
        raise NotMeasurable(f"the file takes {disk / 1e9:.1f} GB, and {free / 1e9:.1f} GB of the disk are free")


def _available_bytes() -> int:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def _reset_peak() -> int:
    """Forget the largest memory so far and return what is used now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status_bytes("VmRSS")


def _status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
