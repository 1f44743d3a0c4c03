"""Lengths that follow from the measurement, devices and plugins by name."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from streamptycho.array import DeviceError, backend
from streamptycho.geometry import Geometry, GeometryError
from streamptycho.registry import Registry, UnknownPluginError


def test_pixels_of_the_published_measurements():
    fly_scan = Geometry(11_000.0, 5.1, 75e-6, (128, 128))
    assert fly_scan.wavelength_m == pytest.approx(0.11271e-9, rel=1e-4)
    assert fly_scan.object_pixel_m == pytest.approx(59.9e-9, rel=1e-3)
    bone = Geometry(6_200.0, 7.18, 172e-6, (128, 128))
    assert bone.wavelength_m == pytest.approx(0.19998e-9, rel=1e-4)
    assert bone.object_pixel_m == pytest.approx(65e-9, rel=5e-3)


@pytest.mark.parametrize(
    "arguments",
    [
        (0, 1, 1e-6, (8, 8)),
        (np.nan, 1, 1e-6, (8, 8)),
        (1e4, -1, 1e-6, (8, 8)),
        (1e4, 1, np.inf, (8, 8)),
        (1e4, 1, 1e-6, (8, 9)),
    ],
)
def test_an_impossible_geometry_is_refused(arguments):
    with pytest.raises(GeometryError):
        Geometry(*arguments)


def test_an_unknown_plugin_lists_the_known_ones():
    registry = Registry("fruits", {"apple": lambda: 1, "pear": lambda: 2})
    assert registry.get("pear") == 2
    message = r"'aple' is none of the fruits\. Did you mean 'apple'\? Known: apple, pear"
    with pytest.raises(UnknownPluginError, match=message):
        registry.get("aple")


def test_the_gpu_fails_loudly_where_there_is_none():
    if importlib.util.find_spec("cupy") is not None:
        pytest.skip("CuPy is installed here")
    with pytest.raises(DeviceError, match="CuPy"):
        backend("gpu")
    with pytest.raises(DeviceError, match="'cpu' or 'gpu'"):
        backend("tpu")


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, streamptycho, streamptycho.messages;"
        "heavy = {'zmq', 'h5py', 'cupy', 'numba', 'starlette', 'pandablocks', 'matplotlib', 'skimage'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert out.stdout.strip() == "[]"
