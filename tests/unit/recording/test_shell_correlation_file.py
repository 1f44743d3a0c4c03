import h5py
import numpy as np
import pytest

from streamptycho.messages import ObjectUpdate, VolumeUpdate
from streamptycho.recording.projection_file import read_projection, write_projection
from streamptycho.recording.provenance import Provenance
from streamptycho.recording.volume_file import read_slices, read_volume, write_volume
from streamptycho.wire import decode, encode

CURVES = {
    "frequency_per_m": [1e6, 2e6, 3e6],
    "correlation": [1.0, 0.6, -0.1],
    "half_bit": [0.9, 0.4, 0.3],
    "one_seventh": [1 / 7] * 3,
    "one_quarter": [0.25] * 3,
}
FIGURES = {"dose_gy": 2.8e6, "photons_per_m2": 2e20, "air_mean_delta": 1e-7, "resolution_angular_sampling_m": 1e-7}


def update(curves):
    image = np.zeros((8, 8), np.float32)
    return VolumeUpdate(
        scan_id="scan",
        slice_z=image,
        slice_y=image,
        slice_x=image,
        voxel_m=5e-8,
        quantity="delta",
        projections_used=9,
        resolution_m=2e-7,
        figures=FIGURES,
        fsc=curves,
    )


@pytest.mark.parametrize("curves", [CURVES, {}])
def test_the_curve_is_in_the_file_and_comes_back(tmp_path, curves):
    path = tmp_path / "volume.nxs"
    write_volume(path, np.zeros((8, 8, 8), np.float32), update(curves), None, Provenance())
    assert read_slices(path).fsc == curves
    assert read_volume(path).fsc == curves


def test_viewers_find_curve_axis_thresholds_and_units(tmp_path):
    path = tmp_path / "volume.nxs"
    write_volume(path, np.zeros((8, 8, 8), np.float32), update(CURVES), None, Provenance())
    with h5py.File(path) as file:
        shown = file["entry/fourier_shell_correlation"]
        assert shown.attrs["NX_class"] == "NXdata"
        assert shown.attrs["signal"] == "correlation"
        assert list(shown.attrs["axes"]) == ["frequency_per_m"]
        assert list(shown.attrs["auxiliary_signals"]) == ["half_bit", "one_seventh", "one_quarter"]
        assert shown["frequency_per_m"].attrs["units"] == "1/m"
        assert shown["half_bit"].attrs["long_name"] == "1/2-bit threshold"
        np.testing.assert_array_equal(shown["correlation"], CURVES["correlation"])
        units = {name: item.attrs.get("units") for name, item in file["entry/figures"].items()}
        assert units["dose_gy"] == "Gy"
        assert units["photons_per_m2"] == "1/m^2"
        assert units["resolution_angular_sampling_m"] == "m"
        assert file["entry/histogram/voxels"][()].sum() == 512


def test_the_curve_goes_over_the_wire():
    assert decode([bytes(part) for part in encode(update(CURVES))]).fsc == CURVES


@pytest.mark.parametrize("curves", [CURVES, {}])
def test_the_ring_correlation_is_in_the_file_of_a_projection_and_on_the_wire(tmp_path, curves):
    image = np.ones((8, 8), np.complex64)
    projection = ObjectUpdate(
        scan_id="scan",
        projection=3,
        angle_deg=1.0,
        object=image,
        probe=image[None],
        coverage=np.ones((8, 8), np.float32),
        pixel_m=5e-8,
        energy_ev=6200.0,
        origin_xy_m=np.zeros(2),
        index=np.arange(2),
        xy_m=np.zeros((2, 2)),
        errors=np.array([0.1], np.float32),
        sweeps=1.0,
        frc=curves,
        final=True,
    )
    path = tmp_path / "projection_00003.nxs"
    write_projection(path, projection, Provenance())
    assert read_projection(path).frc == curves
    assert decode(encode(projection)).frc == curves
    with h5py.File(path) as file:
        assert ("fourier_ring_correlation" in file["entry"]) == bool(curves)
