"""Existing data: formats, orientation, units, and errors that help."""

import bz2
import io

import h5py
import numpy as np
import pytest

from streamptycho.geometry import Geometry, wavelength_from_energy_m
from streamptycho.recording.cxi import write_cxi
from streamptycho.recording.dataset import to_counts
from streamptycho.recording.importers import Dataset, ImportDataError, ImportLayout, load_dataset
from tests.data import shared_data

JOULE_PER_EV = 1.602176634e-19
N, H = 6, 16


def frames(dtype=np.uint16):
    return np.random.default_rng(1).integers(0, 200, (N, H, H)).astype(dtype)


def positions():
    return np.random.default_rng(2).normal(size=(N, 2)) * 1e-6


def measurement(**changes):
    values = {
        "counts": frames().astype(np.uint8),
        "xy_m": positions(),
        "geometry": Geometry(8800.0, 1.5, 75e-6, (H, H)),
        "probe": (np.ones((2, H, H)) * (1 + 2j)).astype(np.complex64),
        "mask": None,
    }
    return Dataset(**{**values, **changes})


def generic(path, **extra):
    with h5py.File(path, "w") as file:
        file["raw/images"] = frames()
        file["motors/x"] = positions()[:, 0] * 1e6
        file["motors/y"] = positions()[:, 1] * 1e6
        for name, value in extra.items():
            file[name.replace("__", "/")] = value
    return path


GENERIC = {
    "data_path": "raw/images",
    "x_path": "motors/x",
    "y_path": "motors/y",
    "position_unit": "um",
    "energy_ev": 8800.0,
    "distance_m": 1.5,
    "detector_pixel_m": 75e-6,
}


def test_the_star_is_read_as_it_was_measured():
    path = shared_data("siemens-star-aps/siemens-star-small.npz.bz2")
    star = load_dataset(path)
    assert star.counts.shape == (516, 128, 128)
    assert star.counts.dtype == np.uint16
    assert star.counts.max() == 963
    mean = star.counts.mean(axis=0)
    assert mean[32:96, 32:96].sum() > 0.9 * mean.sum()
    raw = np.load(io.BytesIO(bz2.decompress(path.read_bytes())))
    pixel = wavelength_from_energy_m(8800.0) * 2.0 / (128 * 75e-6)
    np.testing.assert_allclose(star.xy_m, raw["scan"][0][:, ::-1].astype(float) * pixel)
    assert star.geometry.object_pixel_m == pytest.approx(pixel)
    assert star.probe.shape == (1, 128, 128)
    other = load_dataset(path, ImportLayout(energy_ev=17600.0), distance_m=4.0)
    np.testing.assert_allclose(other.xy_m, star.xy_m)
    assert other.geometry.energy_ev == 17600.0


def test_npz_fields_can_be_named_and_turned(tmp_path):
    np.savez(tmp_path / "a.npz", images=frames(), where=positions() * 1e9, light=np.ones((H, H), np.complex128))
    layout = ImportLayout(
        data_path="images",
        positions_path="where",
        probe_path="light",
        position_unit="nm",
        position_columns="xy",
        fft_shifted=False,
        positions_are="sample",
        orientation="flip_x",
    )
    found = load_dataset(tmp_path / "a.npz", layout)
    np.testing.assert_array_equal(found.counts, frames())
    np.testing.assert_allclose(found.xy_m, -positions() * [-1, 1])
    assert found.probe.dtype == np.complex64


def test_cxi_comes_back_as_it_was(tmp_path):
    mask = np.zeros((H, H), np.uint32)
    mask[3, 4] = 2
    counts = frames().astype(np.uint8)
    counts[:, 3, 4] = 255
    original = measurement(counts=counts, mask=mask)
    write_cxi(tmp_path / "a.cxi", original)
    found = load_dataset(tmp_path / "a.cxi")
    np.testing.assert_array_equal(found.counts, original.counts)
    assert found.counts.dtype == np.uint8
    np.testing.assert_allclose(found.xy_m, original.xy_m, atol=1e-15)
    assert found.geometry.energy_ev == pytest.approx(8800.0)
    assert (found.geometry.distance_m, found.geometry.detector_pixel_m) == (1.5, 75e-6)
    np.testing.assert_array_equal(found.probe, original.probe)
    np.testing.assert_array_equal(found.mask, mask)
    with h5py.File(tmp_path / "a.cxi") as file:
        assert file["cxi_version"][()] == 160
        assert file["entry_1/instrument_1/source_1/energy"][()] == pytest.approx(8800 * JOULE_PER_EV)
        assert "translation" in file["entry_1/data_1"]
        assert "data" in file["entry_1/data_1"]


@pytest.mark.parametrize(
    ("basis", "signs"),
    [
        (None, (1, 1)),
        ([[0, -1], [-1, 0], [0, 0]], (1, 1)),
        ([[0, 1], [-1, 0], [0, 0]], (-1, 1)),
        ([[0, 1], [1, 0], [0, 0]], (-1, -1)),
        ([[0, -1, 0], [-1, 0, 0]], (1, 1)),
    ],
    ids=["absent", "both negative", "columns along +x", "both positive", "stored transposed"],
)
def test_cxi_translation_is_that_of_the_sample_seen_along_the_detector(tmp_path, basis, signs):
    with h5py.File(tmp_path / "a.cxi", "w") as file:
        detector = file.create_group("entry_1/instrument_1/detector_1")
        detector["data"] = frames()
        detector["distance"] = 1.5
        detector["x_pixel_size"] = detector["y_pixel_size"] = 75e-6
        if basis is not None:
            detector["basis_vectors"] = np.array(basis) * 75e-6
        file["entry_1/instrument_1/source_1/energy"] = 8800 * JOULE_PER_EV
        file["entry_1/sample_1/geometry_1/translation"] = np.column_stack([positions(), np.zeros(N)])
    np.testing.assert_allclose(load_dataset(tmp_path / "a.cxi").xy_m, positions() * signs)
    beam = load_dataset(tmp_path / "a.cxi", positions_path="/entry_1/sample_1/geometry_1/translation")
    np.testing.assert_allclose(beam.xy_m, positions())


def test_cxi_translation_is_searched_in_the_order_of_the_readers(tmp_path):
    write_cxi(tmp_path / "a.cxi", measurement())
    with h5py.File(tmp_path / "a.cxi", "r+") as file:
        del file["entry_1/data_1/translation"]
        del file["entry_1/instrument_1/detector_1/translation"]
    np.testing.assert_allclose(load_dataset(tmp_path / "a.cxi").xy_m, positions(), atol=1e-15)
    with h5py.File(tmp_path / "a.cxi", "r+") as file:
        file["entry_1/data_1/translation"] = np.zeros((N, 3))
    assert not load_dataset(tmp_path / "a.cxi").xy_m.any()


def test_cxi_mask_bits(tmp_path):
    write_cxi(tmp_path / "a.cxi", measurement())
    mask = np.zeros((H, H), np.uint32)
    mask[0, 0], mask[0, 1], mask[0, 2] = 0x1000, 0x1001, 1
    with h5py.File(tmp_path / "a.cxi", "r+") as file:
        file["entry_1/instrument_1/detector_1/mask"][...] = mask
    found = load_dataset(tmp_path / "a.cxi")
    assert found.mask[0, :4].astype(bool).tolist() == [False, True, True, False]
    assert (found.counts[:, 0, 1:3] == 255).all()
    assert (found.counts[:, 0, 0] < 255).all()


def test_energy_in_ev_where_joules_belong_is_refused_with_advice(tmp_path):
    write_cxi(tmp_path / "a.cxi", measurement())
    energy = "entry_1/instrument_1/source_1/energy"
    with h5py.File(tmp_path / "a.cxi", "r+") as file:
        del file[energy]
        file[energy] = 8800.0
    with pytest.raises(ImportDataError, match="give energy_unit"):
        load_dataset(tmp_path / "a.cxi")
    assert load_dataset(tmp_path / "a.cxi", energy_unit="eV").geometry.energy_ev == 8800.0
    with h5py.File(tmp_path / "a.cxi", "r+") as file:
        file[energy].attrs["units"] = "keV"
        file[energy][...] = 8.8
    assert load_dataset(tmp_path / "a.cxi").geometry.energy_ev == pytest.approx(8800.0)
    with h5py.File(tmp_path / "a.cxi", "r+") as file:
        del file[energy]
        del file["entry_1/instrument_1/beam_1"]
    assert load_dataset(tmp_path / "a.cxi").geometry.energy_ev == pytest.approx(8800.0)


def test_a_described_layout(tmp_path):
    path = generic(tmp_path / "a.h5")
    found = load_dataset(path, ImportLayout(**GENERIC))
    np.testing.assert_array_equal(found.counts, frames())
    np.testing.assert_allclose(found.xy_m, positions())
    turned = load_dataset(path, **GENERIC, orientation="swap_xy_flip_y", positions_are="sample")
    np.testing.assert_allclose(turned.xy_m, -positions()[:, ::-1] * [1, -1])
    pixels = load_dataset(path, **{**GENERIC, "position_unit": "px"})
    np.testing.assert_allclose(pixels.xy_m, positions() * 1e6 * pixels.geometry.object_pixel_m)


def test_units_of_the_file_are_believed_and_unknown_ones_refused(tmp_path):
    layout = {key: value for key, value in GENERIC.items() if key != "position_unit"}
    path = generic(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["motors/x"].attrs["units"] = file["motors/y"].attrs["units"] = "µm"
    np.testing.assert_allclose(load_dataset(path, **layout).xy_m, positions())
    with h5py.File(path, "r+") as file:
        file["motors/x"].attrs["units"] = "furlong"
    with pytest.raises(ImportDataError, match=r"'furlong'.*known here: m, mm, um, nm, px"):
        load_dataset(path, **layout)


def test_a_raster_of_axes_becomes_points(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw/images"] = frames().reshape(2, 3, H, H)
        file["motors/x"] = [0.0, 1.0, 2.0]
        file["motors/y"] = [10.0, 20.0]
    found = load_dataset(tmp_path / "a.h5", **GENERIC)
    expected = [[0, 10], [1, 10], [2, 10], [0, 20], [1, 20], [2, 20]]
    np.testing.assert_allclose(found.xy_m * 1e6, expected)


def test_wrong_paths_list_what_there_is(tmp_path):
    path = generic(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["linked"] = h5py.ExternalLink("gone.h5", "/data")
    with pytest.raises(ImportDataError) as caught:
        load_dataset(path, **{**GENERIC, "data_path": "raw/pictures"})
    text = str(caught.value)
    assert "raw/pictures" in text
    assert "/raw/images (6, 16, 16) uint16" in text
    assert "/linked (link to something that is not there)" in text
    with pytest.raises(ImportDataError, match="does not have a dataset linked"):
        load_dataset(path, **{**GENERIC, "data_path": "linked"})
    with pytest.raises(ImportDataError, match="it is a group"):
        load_dataset(path, **{**GENERIC, "data_path": "raw"})
    with pytest.raises(ImportDataError, match="data_path"):
        load_dataset(path)
    for option in ("energy_ev", "distance_m", "detector_pixel_m"):
        with pytest.raises(ImportDataError, match=option):
            load_dataset(path, **{key: value for key, value in GENERIC.items() if key != option})


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"position_unit": "furlong"}, "position_unit"),
        ({"nonsense": 1}, "nonsense.*Fields: data_path"),
        ({"y_path": None}, "belong together"),
        ({"data_path": "motors/x"}, "frames, rows, columns"),
        ({"x_path": "short"}, "do not fit 6 frames"),
        ({"max_bytes": 10}, "max_bytes"),
        ({"energy_path": "text", "energy_ev": None}, "must be a number"),
        ({"probe_path": "short"}, "probe must be"),
        ({"mask_path": "motors/two"}, "mask is"),
    ],
)
def test_what_does_not_fit_is_explained(tmp_path, changes, found):
    path = generic(tmp_path / "a.h5", short=[1.0, 2.0, 3.0, 4.0], text="eight keV", motors__two=np.zeros((2, 2)))
    with pytest.raises(ImportDataError, match=found):
        load_dataset(path, **{**GENERIC, **changes})


def test_positions_that_are_not_numbers_are_refused(tmp_path):
    path = generic(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["motors/x"][2] = np.nan
    with pytest.raises(ImportDataError, match="1 of 6 positions are not finite"):
        load_dataset(path, **GENERIC)


@pytest.mark.parametrize("name", ["a.npz", "a.npz.bz2", "a.h5"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"BZh9garbage", b"PK\x03\x04garbage"])
def test_garbage_files_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImportDataError, match="cannot read"):
        load_dataset(tmp_path / name)


def test_absent_and_truncated_files(tmp_path):
    with pytest.raises(ImportDataError, match="there is no file"):
        load_dataset(tmp_path / "absent.cxi")
    path = tmp_path / "a.npz"
    np.savez(path, data=frames(), scan=positions())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ImportDataError):
        load_dataset(path)
    np.savez(path, data=frames(), scan=positions()[:4])
    with pytest.raises(ImportDataError, match="6 frames need as many positions"):
        load_dataset(path)
    np.savez(path, data=frames())
    with pytest.raises(ImportDataError, match="no array 'scan'; it has data"):
        load_dataset(path)
    np.savez(path, data=frames(), scan=np.array([{}], dtype=object))
    with pytest.raises(ImportDataError, match="cannot be read"):
        load_dataset(path)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [([0.0, 254.0], np.uint8), ([0.0, 255.0], np.uint16), ([0.0, 65534.0], np.uint16), ([1.0, 65535.0], np.uint32)],
)
def test_counts_take_the_smallest_type_that_leaves_its_top_free(values, dtype):
    counts = to_counts(np.array(values, np.float32).reshape(1, 1, 2))
    assert counts.dtype == dtype
    assert counts.reshape(-1).tolist() == [int(v) for v in values]


def test_what_was_not_measured_is_marked():
    assert to_counts(np.array([[[1.0, np.nan, -1.0, np.inf]]])).tolist() == [[[1, 255, 255, 255]]]
    assert to_counts(np.array([[[1, -1, -2, 3]]], np.int32)).tolist() == [[[1, 255, 255, 3]]]
    assert to_counts(np.array([[[1, 65535]]], np.uint16)).tolist() == [[[1, 255]]]
    assert to_counts(np.array([[[1, 4]]]), mask=np.array([[1, 0]])).tolist() == [[[255, 4]]]


def test_what_are_not_counts_are_refused_or_scaled():
    data = np.array([[[0.5, 2.25]]])
    with pytest.raises(ImportDataError, match="photons_per_unit"):
        to_counts(data)
    assert to_counts(data, photons_per_unit=4.0).tolist() == [[[2, 9]]]
    with pytest.raises(ImportDataError, match="real numbers"):
        to_counts(np.ones((1, 2, 2), np.complex64))
    with pytest.raises(ImportDataError, match="photon counts go up"):
        to_counts(np.full((1, 2, 2), 1e12))


@pytest.mark.parametrize(
    ("scan", "words"),
    [
        (np.array([["a", "b"]] * N), "positions must be real numbers"),
        (np.array([[1, 2]] * (N - 1) + [[3]], dtype=object), "rows of different length"),
    ],
)
def test_positions_that_are_no_numbers_are_refused(tmp_path, scan, words):
    np.savez(tmp_path / "m.npz", data=frames(), scan=scan)
    with pytest.raises(ImportDataError, match=words):
        load_dataset(tmp_path / "m.npz")


def test_a_damaged_archive_advises_nothing_dangerous(tmp_path):
    np.savez(tmp_path / "whole.npz", data=frames(), scan=positions())
    content = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "m.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(ImportDataError, match="damaged") as caught:
        load_dataset(tmp_path / "m.npz")
    assert "pickle" not in str(caught.value)
