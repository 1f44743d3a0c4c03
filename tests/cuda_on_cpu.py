"""A GPU of C++: kernels compiled by g++ against `cuda_on_cpu.h`, behind what an updater uses of CuPy."""

from __future__ import annotations

import ctypes
import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import scipy.fft

from streamptycho.array import Backend

COMPILER = shutil.which("g++")
_HEADER = Path(__file__).with_name("cuda_on_cpu.h")
_KERNEL = re.compile(r'extern "C" __global__ void(?:\s+__launch_bounds__\([^)]*\))?\s+(\w+)\(([^)]*)\)')
_FOLDER = tempfile.TemporaryDirectory(prefix="cuda-on-cpu-")


class EmulatedModule:
    """What `cupy.RawModule` is, on the CPU."""

    def __init__(self, code: str, options: tuple[str, ...], *, backwards: bool) -> None:
        self._library = ctypes.CDLL(str(_compiled(code, options)))
        self._kernels = {name: arguments.count(",") + 1 for name, arguments in _KERNEL.findall(code)}
        self._backwards = backwards

    def get_function(self, name: str) -> EmulatedKernel:
        run = getattr(self._library, f"run_{name}")
        run.restype = ctypes.c_bool
        return EmulatedKernel(run, self._kernels[name], self._backwards)


class EmulatedKernel:
    def __init__(self, run: Callable[..., bool], arguments: int, backwards: bool) -> None:
        self._run, self._arguments, self._backwards = run, arguments, backwards
        self.max_dynamic_shared_size_bytes = 48 * 1024

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], arguments: Any, *, shared_mem: int) -> None:
        assert len(arguments) == self._arguments
        assert shared_mem <= self.max_dynamic_shared_size_bytes
        columns, rows = (*grid, 1)[:2]
        given = [ctypes.c_uint(columns), ctypes.c_uint(rows), ctypes.c_uint(block[0]), ctypes.c_bool(self._backwards)]
        if not self._run(*given, *map(_as_c, arguments)):
            raise AssertionError("some threads of a block waited at a barrier that others did not reach")


def emulated_gpu(*, processors: int = 3, shared_bytes: int = 227 * 1024, backwards: bool = False) -> Backend:
    """Return a backend whose kernels run on the CPU. Threads of a block take turns, last first where `backwards`."""
    attributes = {
        "MultiProcessorCount": processors,
        "MaxSharedMemoryPerBlockOptin": shared_bytes,
        "MaxSharedMemoryPerMultiprocessor": shared_bytes + 1024,
    }

    class Arrays:
        cuda = SimpleNamespace(Device=lambda: SimpleNamespace(attributes=attributes))

        def __getattr__(self, name: str) -> Any:
            return getattr(np, name)

        @staticmethod
        def asnumpy(array: Any) -> Any:
            return np.asarray(array)

        @staticmethod
        def RawModule(code: str, options: tuple[str, ...]) -> EmulatedModule:  # noqa: N802
            return EmulatedModule(code, options, backwards=backwards)

    return Backend("gpu", Arrays(), scipy.fft)


def _as_c(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        assert value.flags.c_contiguous
        return ctypes.c_void_p(value.ctypes.data)
    return {np.int32: ctypes.c_int32, np.float32: ctypes.c_float}[type(value)](value)


def _compiled(code: str, options: tuple[str, ...]) -> Path:
    name = hashlib.sha256(code.encode()).hexdigest()[:16]
    library = Path(_FOLDER.name) / f"{name}.so"
    if not library.exists():
        source = library.with_suffix(".cpp")
        source.write_text(f'#include "{_HEADER}"\n{code}\n{_launchers(code)}')
        assert COMPILER is not None
        command = [COMPILER, *options, "-O1", "-Wno-unknown-pragmas", "-shared", "-fPIC", "-o", library, source]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
    return library


def _launchers(code: str) -> str:
    parts = []
    for name, parameters in _KERNEL.findall(code):
        names = ", ".join(re.findall(r"(\w+)\s*(?:,|$)", parameters))
        start = "unsigned grid_x, unsigned grid_y, unsigned block_x, bool reversed"
        parts.append(
            f'extern "C" bool run_{name}({start}, {parameters}) {{\n'
            f"    return on_cpu::launch(grid_x, grid_y, block_x, reversed, [=] {{ {name}({names}); }});\n}}\n"
        )
    return "".join(parts)
