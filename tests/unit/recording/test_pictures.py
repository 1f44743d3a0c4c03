"""Pictures of results."""

import dataclasses
import subprocess
import sys

import h5py
import numpy as np
import pytest
from matplotlib.image import imread

from streamptycho.messages import ObjectUpdate, VolumeUpdate
from streamptycho.recording import pictures
from streamptycho.recording.drawing import format_length, scale_bar_length_m
from streamptycho.recording.hdf5 import ResultError
from streamptycho.recording.pictures import draw_projection, draw_sheet, draw_volume, show_result
from streamptycho.recording.projection_file import write_projection
from streamptycho.recording.provenance import Provenance
from streamptycho.recording.volume_file import write_volume


def projection(**changes):
    y, x = np.mgrid[-1:1:60j, -1:1:80j]
    values = {
        "scan_id": "bone",
        "projection": 0,
        "angle_deg": 3.0,
        "object": np.exp(1j * np.sin(6 * x) * np.cos(4 * y)).astype(np.complex64),
        "probe": np.ones((2, 16, 16), np.complex64),
        "coverage": np.where(x**2 + y**2 < 0.8, 1.0, 0.0).astype(np.float32),
        "pixel_m": 30e-9,
        "energy_ev": 6200.0,
        "origin_xy_m": np.zeros(2),
        "index": np.arange(5),
        "xy_m": np.random.default_rng(0).random((5, 2)) * 1e-6,
        "errors": np.array([0.3, 0.1], np.float32),
        "sweeps": 2.0,
        "final": True,
    }
    return ObjectUpdate(**{**values, **changes})


def volume(quantity="delta"):
    data = np.random.default_rng(0).random((10, 14, 16)).astype(np.float32)
    update = VolumeUpdate(
        scan_id="bone",
        slice_z=data[5],
        slice_y=data[:, 7],
        slice_x=data[:, :, 8],
        voxel_m=3e-8,
        quantity=quantity,
        projections_used=4,
    )
    return data, update


def assert_is_picture(path):
    image = imread(path)
    assert image.shape[0] > 200
    assert image.shape[1] > 300
    assert len(np.unique(image[..., :3].reshape(-1, 3), axis=0)) > 50


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "errors": np.empty(0, np.float32),
            "index": np.empty(0, np.int64),
            "xy_m": np.empty((0, 2)),
            "angle_deg": None,
        },
        {"coverage": np.zeros((60, 80), np.float32), "final": False},
        {"object": np.zeros((60, 80), np.complex64), "probe": np.zeros((1, 16, 16), np.complex64)},
        {"probe": np.ones((7, 16, 16), np.complex64)},
    ],
    ids=["usual", "nothing yet", "dark", "zero", "many modes"],
)
def test_any_state_of_a_projection_can_be_drawn(tmp_path, changes):
    assert_is_picture(draw_projection(projection(**changes), tmp_path / "p.png"))


def test_a_volume_is_drawn(tmp_path):
    for quantity in ("delta", "electron_density_per_A3"):
        assert_is_picture(draw_volume(volume(quantity)[1], tmp_path / f"{quantity}.png"))


@pytest.fixture
def figures(monkeypatch):
    """What would be saved."""
    drawn = []
    monkeypatch.setattr(pictures, "_save", lambda figure, path: drawn.append(figure) or path)
    return drawn


def disc(shift_rad, air=1.0):
    y, x = np.mgrid[-1:1:60j, -1:1:80j]
    wave = air * np.exp(1j * (1.2 + shift_rad * (np.hypot(x, y) < 0.5)))
    return {"object": wave.astype(np.complex64), "coverage": np.ones((60, 80), np.float32)}


def test_projections_of_a_sheet_have_one_scale_in_radians_and_their_angles(figures, tmp_path):
    shifts = (-0.2, -0.5, -1.0, -0.1)
    updates = [projection(projection=k, angle_deg=45.0 * k, **disc(shift)) for k, shift in enumerate(shifts)]
    draw_sheet(updates, tmp_path / "sheet.png")
    panels = [axes for axes in figures[0].axes if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in panels] == [
        "No. 0: 0.0°",
        "No. 1: 45.0°",
        "No. 2: 90.0°",
        "No. 3: 135.0°",
    ]
    images = [axes.images[0] for axes in panels]
    (limits,) = {image.get_clim() for image in images}
    assert limits[0] == pytest.approx(-1.0, abs=0.05)
    assert limits[1] == pytest.approx(0.0, abs=0.05)
    assert [image.get_array().data[30, 40] for image in images] == pytest.approx(shifts, abs=0.02)
    assert [axes.get_ylabel() for axes in figures[0].axes if axes.get_label() == "<colorbar>"] == ["rad"]
    assert all("nm" in axes.texts[0].get_text() or "µm" in axes.texts[0].get_text() for axes in panels)


def test_a_projection_says_how_many_photons_lit_it(figures, tmp_path):
    values = disc(-0.5, air=2.0)
    draw_projection(projection(**{**values, "coverage": values["coverage"] * 100}), tmp_path / "p.png")
    (panel,) = [axes for axes in figures[0].axes if "Photons" in axes.get_title(loc="left")]
    assert np.allclose(panel.images[0].get_array(), 400.0, rtol=0.01)
    assert any("photons / pixel of 30 nm" in axes.get_ylabel() for axes in figures[0].axes)


def test_files_and_folders_are_recognised(tmp_path):
    results = tmp_path / "out"
    for k in range(6):
        name = results / "projections" / f"projection_{k:04d}.h5"
        write_projection(name, dataclasses.replace(projection(), projection=k, angle_deg=6.0 * k), Provenance())
    data, update = volume()
    write_volume(results / "volume.nxs", data, update, None, Provenance())
    with h5py.File(results / "foreign.h5", "w") as file:
        file["x"] = 1
    found = show_result(results, tmp_path / "pictures")
    assert {p.name for p in found} == {
        "volume.png",
        "projections.png",
        "projection_0000.png",
        "projection_0003.png",
        "projection_0005.png",
    }
    for path in found:
        assert_is_picture(path)
    assert show_result(results / "volume.nxs", tmp_path / "one.png") == [tmp_path / "one.png"]
    assert show_result(results / "volume.nxs") == [results / "volume.png"]
    with pytest.raises(ResultError, match="neither a projection nor a volume"):
        show_result(results / "foreign.h5")
    with pytest.raises(ResultError, match="no result"):
        show_result(tmp_path / "absent.h5")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResultError, match="has no results"):
        show_result(tmp_path / "empty")


def test_no_global_state_of_matplotlib_is_touched():
    code = "import sys, streamptycho.recording.pictures; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(("width_m", "bar_m"), [(10e-6, 2e-6), (1e-6, 2e-7), (4.6e-6, 1e-6), (2.3e-9, 5e-10)])
def test_scale_bars_have_round_lengths(width_m, bar_m):
    assert scale_bar_length_m(width_m) == pytest.approx(bar_m)


@pytest.mark.parametrize(("length_m", "text"), [(2e-6, "2 µm"), (500e-9, "500 nm"), (5e-10, "0.5 nm"), (2e-3, "2 mm")])
def test_lengths_have_fitting_units(length_m, text):
    assert format_length(length_m) == text
