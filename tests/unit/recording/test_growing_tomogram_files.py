"""Files of a growing tomogram: what other programs read in them, and that a killed writer leaves a whole one."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from streamptycho.config import Config
from streamptycho.messages import VolumeUpdate
from streamptycho.recording import hdf5
from streamptycho.recording.hdf5 import ResultError
from streamptycho.recording.nxtomo import write_nxtomo
from streamptycho.recording.provenance import Provenance
from streamptycho.recording.volume_file import read_volume, write_volume
from streamptycho.stages import tomogram_files
from streamptycho.stages.folder import RunFolder
from streamptycho.stages.tomogram_files import volume_writer
from streamptycho.stages.tomography import TomographyStage
from streamptycho.tomography import Aggregator, ProjectionStack, VolumeSlabs
from streamptycho.tomography.backprojection import SLAB_ROWS
from tests.unit.tomography.phantom import object_update

WRITER = """
import sys
from pathlib import Path
import numpy as np
from streamptycho.recording.nxtomo import write_nxtomo
from streamptycho.tomography import ProjectionStack
rng = np.random.default_rng(0)
for count in range(2, 10_000):
    phase = np.full((count % 40 + 2, 96, 96), -float(count), np.float32) + rng.random((1, 96, 96), dtype=np.float32)
    n = len(phase)
    stack = ProjectionStack(
        keys=np.arange(n), angles_deg=np.arange(n) * 1.0, phase_rad=phase, magnitude=np.ones_like(phase),
        shifts_px=np.zeros((n, 2)), pixel_m=1e-8, center_xy_m=(0.0, 0.0),
    )
    write_nxtomo(Path(sys.argv[1]), stack)
    print(count, flush=True)
"""


def stack(count):
    rng = np.random.default_rng(2)
    phase = rng.normal(-1, 1, (count, 6, 7)).astype(np.float32)
    return ProjectionStack(
        keys=np.arange(count),
        angles_deg=np.arange(count) * 3.0,
        phase_rad=phase,
        magnitude=(1 + 0.1 * phase).astype(np.float32),
        shifts_px=np.zeros((count, 2)),
        pixel_m=2e-8,
        center_xy_m=(0.0, 0.0),
    )


def test_phase_magnitude_and_complex_are_there(tmp_path):
    wanted = stack(5)
    write_nxtomo(tmp_path / "p.nxs", wanted, energy_ev=6200.0)
    with h5py.File(tmp_path / "p.nxs") as file:
        for entry, frames in (("entry1", wanted.phase_rad), ("entry2", wanted.magnitude)):
            assert file[entry].attrs["NX_class"] == "NXentry"
            assert file[f"{entry}/definition"].asstr()[()] == "NXtomo"
            np.testing.assert_array_equal(file[f"{entry}/instrument/detector/data"][()], frames)
            np.testing.assert_array_equal(file[f"{entry}/data/data"][()], frames)
            np.testing.assert_array_equal(file[f"{entry}/instrument/detector/image_key"][()], np.zeros(5))
            np.testing.assert_allclose(file[f"{entry}/sample/rotation_angle"][()], wanted.angles_deg)
            assert file[f"{entry}/instrument/detector/x_pixel_size"].attrs["units"] == "m"
        both = file["complex/data/transmission"][()]
    np.testing.assert_allclose(np.abs(both), np.abs(wanted.magnitude), rtol=1e-5)
    np.testing.assert_allclose(both, wanted.magnitude * np.exp(1j * wanted.phase_rad), rtol=1e-4, atol=1e-6)


def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path):
    path = tmp_path / "projections.nxs"
    for wait_s in (0.003, 0.011, 0.024):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        try:
            for _ in range(6):
                assert writer.stdout.readline()
            time.sleep(wait_s)
        finally:
            os.kill(writer.pid, signal.SIGKILL)
            writer.wait(20)
            writer.stdout.close()
        with h5py.File(path) as file:
            phase, angles = file["entry1/data/data"][()], file["entry1/sample/rotation_angle"][()]
            assert len(phase) == len(angles) == len(file["complex/data/transmission"])
            assert np.ptp(phase[:, 0, 0]) == 0
            assert -10_000 < phase.min() < phase.max() < -1


@pytest.fixture
def growing(tmp_path):
    folder = RunFolder(tmp_path)
    folder.create()
    config = Config(scan_id="scan", tomography={"quantity": "delta"})
    stage = TomographyStage("scan", config.tomography)
    return folder, stage, volume_writer(config, folder, stage)


def test_both_files_grow_with_the_scan_and_can_be_read_at_any_time(growing):
    folder, stage, write = growing
    written = []
    for k in range(20):
        for message in stage.handle(object_update(k, 9.0 * k), 0):
            write(message)
        if folder.volume.exists():
            with h5py.File(folder.nxtomo) as file:
                count = len(file["entry1/data/data"])
            volume = read_volume(folder.volume)
            assert volume.projections_used == count
            assert volume.data.shape[0] == volume.stack.phase_rad.shape[1]
            assert not volume.final
            written.append(count)
    assert written[0] == 8
    assert written[-1] >= 16
    assert len(set(written)) < 8
    for message in stage.stop(0):
        write(message)
    volume = read_volume(folder.volume)
    assert volume.final
    assert volume.projections_used == 20
    assert volume.figures["left_out_projections"] == 0
    with h5py.File(folder.volume) as file:
        assert file["entry/histogram/voxels"][()].sum() == volume.data.size
        assert "air_noise_delta" in file["entry/figures"]


@pytest.mark.parametrize(
    ("quantity", "unit"), [("electron_density_per_A3", "1/angstrom^3"), ("mass_density_g_per_cm3", "g/cm^3")]
)
def test_units_are_in_the_file(growing, quantity, unit):
    folder, stage, write = growing
    list(stage.handle(object_update(0, 0.0), 0))
    update = next(m for m in stage.handle(object_update(1, 90.0), 0) if isinstance(m, VolumeUpdate))
    write(dataclasses.replace(update, quantity=quantity, final=True))
    with h5py.File(folder.volume) as file:
        assert file["entry/data/data"].attrs["units"] == unit
        assert file["entry/slice_z/slice_z"].attrs["units"] == unit


def test_one_projection_leaves_a_projection_and_no_volume(growing):
    folder, stage, write = growing
    for message in (*stage.handle(object_update(0, 12.0), 0), *stage.stop(0)):
        write(message)
    assert not folder.nxtomo.exists()
    write(stage.status(0))
    assert not folder.volume.exists()
    with h5py.File(folder.nxtomo) as file:
        assert file["entry1/data/data"].shape[0] == 1
    assert "1 projection at one angle: a volume takes" in stage.status(0).text


def test_a_large_volume_is_written_in_slabs_and_is_the_same(growing, monkeypatch):
    folder, stage, write = growing
    for k in range(6):
        list(stage.handle(object_update(k, 30.0 * k), 0))
    whole = stage.aggregator.volume()
    monkeypatch.setattr(tomogram_files, "MAX_GROWING_VOXELS", 1000)
    monkeypatch.setattr(Aggregator, "volume", None)
    for message in stage.stop(0):
        write(message)
    volume = read_volume(folder.volume)
    assert volume.data.shape[0] > SLAB_ROWS
    np.testing.assert_allclose(volume.data, whole, atol=2e-6 * whole.max())
    with h5py.File(folder.volume) as file:
        assert file["entry/histogram/voxels"][()].sum() == volume.data.size


def test_a_volume_that_lacks_a_slab_is_not_written(tmp_path):
    update = object_update(0, 0.0)
    slices = {name: np.zeros((4, 4), np.float32) for name in ("slice_z", "slice_y", "slice_x")}
    shown = VolumeUpdate(
        scan_id="s", **slices, voxel_m=update.pixel_m, quantity="delta", projections_used=2, final=True
    )
    slabs = VolumeSlabs((4, 4, 4), [np.zeros((3, 4, 4), np.float32)])
    with pytest.raises(ResultError, match="should have 4 layers, and 3 came"):
        write_volume(tmp_path / "v.nxs", slabs, shown, None, Provenance())
    assert not list(tmp_path.iterdir())


def test_a_file_for_which_there_is_no_room_is_not_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5.shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**30))
    begun = []
    with pytest.raises(ResultError, match=r"it takes 4\.0 GB, and 1\.1 GB are free"):
        hdf5.write_atomically(tmp_path / "v.nxs", begun.append, nbytes=4_000_000_000)
    assert not begun
    assert not list(tmp_path.iterdir())


def test_figures_have_units(growing):
    folder, stage, write = growing
    for k in range(10):
        list(stage.handle(object_update(k, 18.0 * k), 0))
    for message in stage.stop(0):
        write(message)
    with h5py.File(folder.volume) as file:
        units = {name: item.attrs.get("units") for name, item in file["entry/figures"].items()}
    assert units["largest_gap_deg"] == "degrees"
    assert units["photons_per_m2"] == "1/m^2"
    assert units["rotation_axis_x_m"] == "m"
    assert units["left_out_projections"] is None
