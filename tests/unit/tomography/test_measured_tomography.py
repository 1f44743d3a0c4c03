import numpy as np
import pytest
import scipy.ndimage
import tifffile
from skimage.transform import iradon

from streamptycho.tomography import filtered_back_projection, rotation_axis_px
from tests.data import shared_data


@pytest.fixture(scope="module")
def measurement():
    folder = shared_data("tomography-savu")
    angles = np.loadtxt(folder / "angles.txt")[10:-10]
    raw = np.array([tifffile.imread(path) for path in sorted((folder / "tiffs").glob("*.tiff"))], np.float64)
    flat = tifffile.imread(folder / "flat_00001.tiff").astype(np.float64)
    dark = tifffile.imread(folder / "dark_00001.tiff").astype(np.float64)
    transmission = (raw - dark) / np.maximum(flat - dark, 1)
    return -np.log(np.clip(transmission, 1e-3, None)), angles


def test_axis_of_the_measurement(measurement):
    stack, angles = measurement
    assert len(stack) == len(angles) == 91
    assert rotation_axis_px(stack, angles) == pytest.approx(86.0, abs=0.5)


def test_slice_is_as_clean_as_the_reference(measurement):
    stack, angles = measurement
    rows = scipy.ndimage.shift(stack[:, 65:69], (0, 0, 80 - 86.0), order=3, mode="nearest")
    ours = filtered_back_projection(rows, angles, "ram-lak")[2]
    reference = iradon(rows[:, 2].T, -angles, filter_name="ramp")
    y, x = np.mgrid[-80:80, -80:80]
    inner = x**2 + y**2 < 70**2
    assert np.corrcoef(ours[inner], reference[inner])[0, 1] > 0.995
    body = ours > 0.5 * np.percentile(ours, 99.9)
    air = inner & ~scipy.ndimage.binary_dilation(body, iterations=8)
    assert np.count_nonzero(body) > 200
    assert ours[air].std() < 0.05 * ours[body].mean()
    assert ours[air].std() < 1.1 * reference[air].std()
