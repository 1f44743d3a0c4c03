"""Fourier transforms alone, with the library that the engine uses: what no engine can go below."""

from __future__ import annotations

import numpy as np
from numba import njit

from benchmarks.clock import Task
from streamptycho.array import Backend
from streamptycho.messages import Array
from streamptycho.ptychography.compiled_fft import Plan, aligned, field_size, fields_of, plan
from streamptycho.ptychography.compiled_visit import transform
from streamptycho.ptychography.lanes import LANES

PER_FRAME = "2 FFTs per mode and frame"


def floor(library: Backend, side: int, modes: int, frames: int) -> tuple[str, Task]:
    """Return what the engine's transforms are, and a task that does them there and back for each mode of the frames."""
    found = plan(side) if library.name == "cpu" else None
    if found is None:
        return f"{PER_FRAME}, {library.fft.__name__}", library_transforms(library, side, modes, frames)
    return f"{PER_FRAME}, the engine's own", _compiled_transforms(found, modes, frames)


def library_transforms(library: Backend, side: int, modes: int, frames: int) -> Task:
    """Return the same task with the FFT of an array library, in one thread, in place where it can."""
    wave = library.to_device(_wave(modes, side))

    def run() -> float:
        field = wave.copy()
        for _ in range(frames):
            field = library.fft.fft2(field, axes=(-2, -1), norm="ortho", overwrite_x=True)
            field = library.fft.ifft2(field, axes=(-2, -1), norm="ortho", overwrite_x=True)
        library.to_host(field[0, 0, :1])
        return float(frames)

    return run


def _compiled_transforms(how: Plan, modes: int, frames: int) -> Task:
    n, wave = how.n, _wave(modes, how.n)
    near = fields_of(wave)
    far, work = aligned(near.shape), aligned((field_size(n),))
    scratch = aligned((2, 2 * n * LANES))

    def run() -> float:
        _there_and_back(near, far, n, frames, work, how.radices, how.turns, scratch)
        return float(frames)

    return run


@njit(nogil=True)
def _there_and_back(near, far, n, frames, work, radices, turns, scratch):  # type: ignore[no-untyped-def]
    for _ in range(frames):
        for k in range(len(near)):
            transform(near[k], far[k], n, False, work, radices, turns, scratch)
            transform(far[k], far[k], n, True, work, radices, turns, scratch)


def _wave(modes: int, side: int) -> Array:
    parts = np.random.default_rng(0).normal(size=(2, modes, side, side))
    return np.asarray(parts[0] + 1j * parts[1], np.complex64)
