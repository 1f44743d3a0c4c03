"""Compiles kernels as CuPy does at run time, which needs no GPU."""

import ctypes
import importlib.util
from pathlib import Path

import pytest


def compiled(source: str, processor: str) -> bytes:
    """Return the binary for a processor ("sm_90"); skips the test where NVRTC is not installed."""
    library, program = _library(), ctypes.c_void_p()
    assert library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None) == 0
    options = (ctypes.c_char_p * 2)(b"-std=c++17", f"-arch={processor}".encode())
    failed = library.nvrtcCompileProgram(program, 2, options)
    size = ctypes.c_size_t()
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    assert not failed, log.value.decode()
    assert b"warning" not in log.value, log.value.decode()
    assert library.nvrtcGetCUBINSize(program, ctypes.byref(size)) == 0
    binary = ctypes.create_string_buffer(size.value)
    library.nvrtcGetCUBIN(program, binary)
    return binary.raw


def _library() -> ctypes.CDLL:
    found = importlib.util.find_spec("nvidia")
    folders = [] if found is None else [Path(place) for place in found.submodule_search_locations or []]
    libraries = [path for folder in folders for path in sorted(folder.glob("*/lib/libnvrtc.so.*"))]
    if not libraries:
        pytest.skip("NVRTC is not installed: pip install nvidia-cuda-nvrtc-cu12")
    return ctypes.CDLL(str(libraries[-1]))
