"""Result files: written whole, read back equal, opened by other programs."""

import dataclasses
import platform
import subprocess
import sys

import h5py
import numpy as np
import pytest

from streamptycho.messages import ObjectUpdate, VolumeUpdate
from streamptycho.recording.hdf5 import ResultError
from streamptycho.recording.nxtomo import write_nxtomo
from streamptycho.recording.projection_file import read_projection, write_projection
from streamptycho.recording.provenance import Provenance
from streamptycho.recording.result_file import result_kind
from streamptycho.recording.volume_file import read_slices, read_volume, write_volume
from streamptycho.tomography.interface import ProjectionStack

PROVENANCE = Provenance(
    configuration="scan_id: bone\n", start_s=1.7e9, end_s=1.7e9 + 60, dropped={"missing": 3}, anomalies={"reordered": 9}
)


def projection(**changes):
    rng = np.random.default_rng(5)
    h, w, n, frames = 90, 110, 32, 40
    values = {
        "scan_id": "bone",
        "projection": 7,
        "angle_deg": 12.5,
        "object": (rng.normal(size=(h, w)) + 1j * rng.normal(size=(h, w))).astype(np.complex64),
        "probe": (rng.normal(size=(2, n, n)) + 1j * rng.normal(size=(2, n, n))).astype(np.complex64),
        "coverage": rng.random((h, w)).astype(np.float32),
        "pixel_m": 31.25e-9,
        "energy_ev": 6200.0,
        "origin_xy_m": np.array([-1e-6, 2e-6]),
        "index": np.arange(frames) * 2,
        "xy_m": rng.normal(size=(frames, 2)) * 1e-6,
        "errors": np.array([0.3, 0.1, 0.05], np.float32),
        "sweeps": 3.5,
        "resolution_m": 62e-9,
        "last_frame_ns": 1_700_000_000_123_456_789,
        "dropped": {"missing": 3, "out of range": 1},
        "final": True,
    }
    return ObjectUpdate(**{**values, **changes})


def volume():
    rng = np.random.default_rng(2)
    data = rng.random((12, 20, 24)).astype(np.float32)
    update = VolumeUpdate(
        scan_id="bone",
        slice_z=data[6],
        slice_y=data[:, 10],
        slice_x=data[:, :, 12],
        voxel_m=31.25e-9,
        quantity="electron_density_per_A3",
        projections_used=3,
        resolution_m=None,
        final=True,
    )
    stack = ProjectionStack(
        keys=np.arange(3),
        angles_deg=np.array([0.0, 1.0, 2.0]),
        phase_rad=rng.random((3, 12, 24)).astype(np.float32),
        magnitude=rng.random((3, 12, 24)).astype(np.float32),
        shifts_px=rng.random((3, 2)),
        pixel_m=31e-9,
        center_xy_m=(1e-6, -2e-6),
    )
    return data, update, stack


def assert_same(a, b):
    for name in type(a).__dataclass_fields__:
        left, right = getattr(a, name), getattr(b, name)
        if isinstance(left, np.ndarray):
            np.testing.assert_array_equal(left, right, err_msg=name)
            assert left.dtype == right.dtype, name
        else:
            assert left == right, name


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "angle_deg": None,
            "resolution_m": None,
            "dropped": {},
            "errors": np.empty(0, np.float32),
            "final": False,
            "index": np.empty(0, np.int64),
            "xy_m": np.empty((0, 2)),
        },
    ],
)
def test_a_projection_comes_back_as_it_was(tmp_path, changes):
    update = projection(**changes)
    write_projection(tmp_path / "p.h5", update, PROVENANCE)
    assert_same(read_projection(tmp_path / "p.h5"), update)
    assert result_kind(tmp_path / "p.h5") == "projection"


def test_a_projection_follows_nexus(tmp_path):
    write_projection(tmp_path / "p.h5", projection(), PROVENANCE)
    with h5py.File(tmp_path / "p.h5") as file:
        entry = file[file.attrs["default"]]
        plot = entry[entry.attrs["default"]]
        assert (entry.attrs["NX_class"], plot.attrs["NX_class"], plot.attrs["signal"]) == ("NXentry", "NXdata", "phase")
        assert plot["phase"].attrs["units"] == "rad"
        assert [len(plot[a]) for a in plot.attrs["axes"]] == list(plot["phase"].shape)
        np.testing.assert_allclose(np.diff(plot["x"][()]), 0.03125)
        beam = entry["instrument/beam"]
        assert beam["incident_energy"].attrs["units"] == "eV"
        assert beam["incident_wavelength"][()] == pytest.approx(1.239842e-6 / 6200, rel=1e-5)
        assert beam["incident_wavelength"].attrs["units"] == "m"
        assert entry["reconstruction/pixel"].attrs["units"] == "m"
        assert entry["reconstruction/configuration/data"].asstr()[()] == "scan_id: bone\n"
        assert set(entry["reconstruction/versions"]) >= {"streamptycho", "numpy", "python"}
        assert entry["reconstruction/anomalies/reason"].asstr()[0] == "reordered"
        assert entry["start_time"].asstr()[()] == "2023-11-14T22:13:20+00:00"
        assert entry["object/object"].dtype == np.complex64
        assert entry["object/object"].compression == "gzip"


def test_silx_shows_the_phase_at_once(tmp_path):
    silx_io = pytest.importorskip("silx.io")
    nxdata = pytest.importorskip("silx.io.nxdata")
    write_projection(tmp_path / "p.h5", projection(), PROVENANCE)
    data, update, stack = volume()
    write_volume(tmp_path / "v.nxs", data, update, stack, PROVENANCE)
    write_nxtomo(tmp_path / "t.nxs", stack, energy_ev=6200.0)
    with silx_io.open(str(tmp_path / "p.h5")) as file:
        plot = nxdata.get_default(file)
        assert plot.signal.name.endswith("/phase/phase")
        assert plot.signal.shape == (90, 110)
        assert plot.axes_dataset_names == ["y", "x"]
        for name in ("magnitude", "object", "coverage", "probe", "positions", "errors"):
            assert nxdata.get_default(file[f"entry/{name}"]).is_valid, name
        assert nxdata.get_default(file["entry/positions"]).is_scatter
    with silx_io.open(str(tmp_path / "v.nxs")) as file:
        assert nxdata.get_default(file).signal.shape == (20, 24)
        assert nxdata.get_default(file["entry/data"]).signal.shape == (12, 20, 24)
        assert nxdata.get_default(file["entry/slice_x"]).axes_dataset_names == ["z", "y"]
        assert nxdata.get_default(file["entry/projections"]).is_valid
    with silx_io.open(str(tmp_path / "t.nxs")) as file:
        assert nxdata.get_default(file).signal.shape == (3, 12, 24)


def test_a_volume_comes_back_as_it_was(tmp_path):
    data, update, stack = volume()
    write_volume(tmp_path / "v.nxs", data, update, stack, PROVENANCE)
    found = read_volume(tmp_path / "v.nxs")
    np.testing.assert_array_equal(found.data, data)
    assert (found.voxel_m, found.quantity, found.projections_used) == (31.25e-9, "electron_density_per_A3", 3)
    assert found.stack is not None
    for field in dataclasses.fields(stack):
        left, right = getattr(found.stack, field.name), getattr(stack, field.name)
        np.testing.assert_array_equal(left, right)
    assert_same(read_slices(tmp_path / "v.nxs"), update)
    assert result_kind(tmp_path / "v.nxs") == "volume"
    with h5py.File(tmp_path / "v.nxs") as file:
        assert file["entry/definition"].asstr()[()] == "NXtomoproc"
        assert file["entry/data/data"].attrs["units"] == "1/angstrom^3"
    write_volume(tmp_path / "v.nxs", data, update, None, PROVENANCE)
    assert read_volume(tmp_path / "v.nxs").stack is None


def test_nxtomo_has_what_tomography_programs_look_for(tmp_path):
    _, _, stack = volume()
    write_nxtomo(tmp_path / "t.nxs", stack, energy_ev=6200.0)
    with h5py.File(tmp_path / "t.nxs") as file:
        entry = file["entry1"]
        assert entry["definition"].asstr()[()] == "NXtomo"
        assert entry["instrument/detector/image_key"][()].tolist() == [0, 0, 0]
        np.testing.assert_array_equal(entry["sample/rotation_angle"][()], stack.angles_deg)
        np.testing.assert_array_equal(entry["data/data"][()], stack.phase_rad)
        assert {"data", "rotation_angle", "image_key"} <= set(entry["data"])


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch):
    path = tmp_path / "p.h5"
    write_projection(path, projection(), PROVENANCE)
    before = path.read_bytes()

    def fail(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("streamptycho.recording.projection_file.counts_table", fail)
    with pytest.raises(ResultError, match="No space left"):
        write_projection(path, projection(projection=8), PROVENANCE)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["p.h5"]


def test_no_host_or_path_is_written(tmp_path):
    write_projection(tmp_path / "p.h5", projection(), PROVENANCE)
    content = (tmp_path / "p.h5").read_bytes()
    assert str(tmp_path).encode() not in content
    if len(platform.node()) > 4:
        assert platform.node().encode() not in content


def test_other_files_are_named(tmp_path):
    (tmp_path / "text.h5").write_text("not hdf5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    for name, found in (("text.h5", "not a readable HDF5"), ("other.h5", "not a projection"), ("absent.h5", "no such")):
        with pytest.raises(ResultError, match=found):
            read_projection(tmp_path / name)
        assert result_kind(tmp_path / name) is None
    with pytest.raises(ResultError, match="not a volume"):
        read_volume(tmp_path / "other.h5")


def test_a_disk_that_fills_keeps_the_file_that_was_there(tmp_path):
    """In a process of its own: the HDF5 library ends a process in which a file cannot be closed."""
    script = """
import resource, signal, sys
import h5py, numpy as np
from pathlib import Path
from streamptycho.recording.hdf5 import ResultError, write_atomically
path = Path(sys.argv[1])
write_atomically(path, lambda file: file.create_dataset("x", data=1))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_atomically(path, lambda file: file.create_dataset("x", data=np.arange(100_000)))
except ResultError as error:
    assert "cannot write" in str(error) and "\\n" not in str(error), str(error)
else:
    raise AssertionError("nothing was noticed")
with h5py.File(path) as file:
    assert file["x"][()] == 1
assert [item.name for item in path.parent.iterdir()] == [path.name]
"""
    command = [sys.executable, "-c", script, str(tmp_path / "result.nxs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
