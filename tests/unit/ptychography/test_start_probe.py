import numpy as np
import pytest

from streamptycho.array import backend
from streamptycho.config import ProbeConfig
from streamptycho.ptychography import ProbeError
from streamptycho.ptychography.probe import (
    checked_probe,
    orthogonal_modes,
    probe_from_data,
    read_probe,
    scaled_to,
    with_modes,
)


def overlap(a, b):
    return abs(np.vdot(a, b)) / np.linalg.norm(a) / np.linalg.norm(b)


def mutual_intensity(modes):
    flat = modes.reshape(len(modes), -1)
    return flat.T @ flat.conj()


def test_modes_come_out_orthogonal_in_order_of_power_with_the_same_mutual_intensity():
    random = np.random.default_rng(0)
    modes = (random.normal(size=(4, 8, 8)) + 1j * random.normal(size=(4, 8, 8))).astype(np.complex64)
    modes[1] *= 3
    found = orthogonal_modes(modes)
    flat = found.reshape(4, -1)
    gram = flat @ flat.conj().T
    assert np.abs(gram - np.diag(np.diag(gram))).max() < 1e-4 * np.abs(gram).max()
    power = np.diag(gram).real
    assert (np.diff(power) < 0).all()
    np.testing.assert_allclose(mutual_intensity(found), mutual_intensity(modes), atol=1e-3)


@pytest.mark.parametrize("modes", [1, 2, 3, 6, 10])
def test_missing_modes_are_made_orthogonal_with_the_power_kept(modes):
    axis = np.arange(32) - 16
    main = np.exp(-(axis[:, None] ** 2 + axis[None, :] ** 2) / 60).astype(np.complex64)[None]
    found = with_modes(main, modes)
    assert found.shape == (modes, 32, 32)
    assert np.sum(np.abs(found) ** 2) == pytest.approx(np.sum(np.abs(main) ** 2), rel=1e-5)
    power = (np.abs(found) ** 2).sum(axis=(1, 2))
    assert power[0] == power.max()
    assert power.min() > 0
    gram = found.reshape(modes, -1) @ found.reshape(modes, -1).conj().T
    assert np.abs(gram - np.diag(np.diag(gram))).max() < 1e-3 * power.max()


def test_surplus_modes_are_left_out_weakest_first():
    probe = np.zeros((3, 4, 4), np.complex64)
    probe[0, 0, 0], probe[1, 1, 1], probe[2, 2, 2] = 1, 5, 3
    found = with_modes(probe, 2)
    assert np.abs(found[0, 1, 1]) > np.abs(found[1, 2, 2]) > 0
    assert found[:, 0, 0].tolist() == [0, 0]


def test_single_pixel_probe_still_gets_modes():
    probe = np.zeros((1, 4, 4), np.complex64)
    probe[0, 1, 1] = 1
    found = with_modes(probe, 3)
    assert np.isfinite(found).all()
    assert (np.abs(found).sum(axis=(1, 2)) > 0).all()


def test_defocus_of_the_zone_plate_is_all_that_the_data_do_not_tell(measure):
    measurement = measure(n=32)
    geometry = measurement.geometry
    n, pixel_m = 32, geometry.object_pixel_m
    square = np.fft.fftfreq(n, pixel_m) ** 2
    q = np.sqrt(square[:, None] + square[None, :])
    pupil = ((q < 0.35 / pixel_m) & (q > 0.1 / pixel_m)).astype(float)
    defocus_m = 8 * pixel_m**2 / geometry.wavelength_m
    wave = pupil * np.exp(-1j * np.pi * geometry.wavelength_m * defocus_m * q**2)
    truth = np.fft.fftshift(np.fft.ifft2(wave, norm="ortho"))
    frames = np.round(1000 * pupil[None]).astype(np.uint16)
    found = probe_from_data(frames, geometry, ProbeConfig(defocus_m=defocus_m), backend("cpu"))
    assert overlap(found, truth) > 0.999
    wrong = probe_from_data(frames, geometry, ProbeConfig(defocus_m=-defocus_m), backend("cpu"))
    assert overlap(wrong, truth) < 0.9
    assert np.sum(np.abs(found) ** 2) == pytest.approx(frames[0].sum(), rel=1e-4)


def test_a_pinhole_of_known_diameter_is_found(measure):
    geometry = measure().geometry
    axis = np.arange(32) - 16
    disc = (np.hypot(axis[:, None], axis[None, :]) < 6).astype(complex)
    frames = np.round(np.abs(np.fft.fft2(disc * 100, norm="ortho")) ** 2).astype(np.uint32)[None]
    config = ProbeConfig(diameter_m=12 * geometry.object_pixel_m)
    assert overlap(probe_from_data(frames, geometry, config, backend("cpu")), disc) > 0.98


@pytest.mark.parametrize("defocus_m", [0.0, 1e-3])
def test_gaps_and_a_single_lit_pixel_give_a_finite_probe(measure, defocus_m):
    geometry = measure().geometry
    frames = np.zeros((1, 32, 32), np.uint16)
    frames[0, 0, 0] = 9
    frames[0, 5] = 65535
    found = probe_from_data(frames, geometry, ProbeConfig(defocus_m=defocus_m), backend("cpu"))
    assert np.isfinite(found).all()
    assert np.sum(np.abs(found) ** 2) == pytest.approx(9, rel=1e-4)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((8, 8)),
        np.full((8, 8), np.nan),
        np.ones((8, 9)),
        np.ones(8),
        np.ones((2, 2, 8, 8)),
        np.array([["a"]]),
    ],
)
def test_bad_probes_are_refused(bad):
    with pytest.raises(ProbeError):
        checked_probe(bad)


def test_leading_axes_of_one_are_dropped_and_size_is_checked():
    assert checked_probe(np.ones((1, 1, 1, 2, 8, 8)), 8).shape == (2, 8, 8)
    with pytest.raises(ProbeError, match="8 x 8"):
        checked_probe(np.ones((8, 8)), 16)


def test_power_is_scaled():
    assert np.sum(np.abs(scaled_to(np.ones((1, 4, 4), complex), 50.0)) ** 2) == pytest.approx(50)


def test_files_are_read(tmp_path):
    probe = np.ones((4, 4), np.complex64)
    np.save(tmp_path / "p.npy", probe)
    np.savez(tmp_path / "p.npz", beam=probe)
    np.testing.assert_array_equal(read_probe(ProbeConfig(start="file", file=tmp_path / "p.npy")), probe)
    np.testing.assert_array_equal(read_probe(ProbeConfig(start="file", file=tmp_path / "p.npz", key="beam")), probe)
    assert read_probe(ProbeConfig()) is None


def test_files_that_cannot_be_used_are_explained(tmp_path):
    np.savez(tmp_path / "p.npz", beam=np.ones(3))
    (tmp_path / "junk.npy").write_bytes(b"junk")
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object))
    cases = [
        ({"file": None}, "probe.file"),
        ({"file": tmp_path / "absent.npy"}, "cannot read"),
        ({"file": tmp_path / "junk.npy"}, "cannot read"),
        ({"file": tmp_path / "object.npy"}, "cannot read"),
        ({"file": tmp_path / "p.npz"}, "it has beam"),
        ({"file": tmp_path / "p.h5"}, "convert"),
    ]
    for arguments, text in cases:
        with pytest.raises(ProbeError, match=text):
            read_probe(ProbeConfig(start="file", **arguments))
