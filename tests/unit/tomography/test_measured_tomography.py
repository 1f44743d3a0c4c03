import numpy as np
import pytest
import scipy.ndimage
import tifffile
from skimage.transform import iradon

from streamptycho.config import TomographyConfig
from streamptycho.tomography import Aggregator, filtered_back_projection, rotation_axis_px
from tests.data import shared_data
from tests.unit.tomography.phantom import object_update


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


def cleanness(image):
    """Spread of the air, inside the circle and away from the body, in units of the body."""
    middle = image.shape[0] // 2
    y, x = np.mgrid[-middle : image.shape[0] - middle, -middle : image.shape[0] - middle]
    body = image > 0.5 * np.percentile(image, 99.9)
    air = (x**2 + y**2 < 70**2) & ~scipy.ndimage.binary_dilation(body, iterations=8)
    return image[air].std() / image[body].mean()


@pytest.mark.parametrize("align", ["mass", "joint"])
def test_aggregator_finds_the_axis_without_help_and_makes_a_slice_as_clean(measurement, align):
    stack, angles = measurement
    result = Aggregator("scan", TomographyConfig(quantity="delta", filter="ram-lak", align=align))
    for k, (mass, angle) in enumerate(zip(stack, angles, strict=True)):
        update = object_update(
            k,
            angle,
            shape=mass.shape,
            object=np.exp(-1j * mass).astype(np.complex64),
            coverage=np.ones(mass.shape, np.float32),
            origin_xy_m=np.zeros(2),
            pixel_m=1e-6,
        )
        assert result.add(update) == []
    update = result.update(final=True)
    assert update.projections_used == 91
    assert update.figures["rotation_axis_x_m"] / 1e-6 == pytest.approx(86.0, abs=0.5)
    assert update.figures["sample_jitter_across_rotation_axis_rms_m"] < 0.1e-6
    ours = result.volume()
    down = 67 - (result.projection_stack().center_xy_m[1] / 1e-6 - ours.shape[0] // 2)
    rows = scipy.ndimage.shift(stack[:, 67:68], (0, 0, 80 - 86.0), order=3, mode="nearest")
    reference = iradon(rows[:, 0].T, -angles, filter_name="ramp")
    assert cleanness(ours[round(down)]) < 1.05 * cleanness(reference)
