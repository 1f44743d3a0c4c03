"""The machine that the figures are of."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from streamptycho.array import DeviceError, backend

PACKAGES = ("streamptycho", "numpy", "scipy", "numba", "pyzmq", "scikit-image", "cbor2", "dectris-compression")


def describe() -> dict[str, str]:
    """Return what the figures depend on, by name."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return {
        "CPU": f"{_cpu_model()}, {len(os.sched_getaffinity(0))} cores for this process",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "GPU": gpu_name() or "none that CuPy sees",
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "Python": platform.python_version(),
        "packages": ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
        "load before": f"{load} (1, 5, 15 minutes)",
    }


def gpu_name() -> str | None:
    """Return the name of the GPU that CuPy sees, None without one."""
    try:
        xp = backend("gpu").xp
    except DeviceError:
        return None
    name = xp.cuda.runtime.getDeviceProperties(xp.cuda.Device().id)["name"]
    return name.decode() if isinstance(name, bytes) else str(name)


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    found = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return found[0] if found else platform.processor() or "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
