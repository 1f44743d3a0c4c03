import bz2
import io

import numpy as np
import pytest

from streamptycho.geometry import Geometry
from streamptycho.ptychography import EngineError, amplitude_error, reconstruct
from streamptycho.resolution import registered, without_ramp
from tests.data import shared_data


@pytest.mark.parametrize("modes", [1, 3])
def test_the_error_falls_to_the_noise_floor_and_whole_pixels_do_not_get_there(measure, modes):
    m = measure(modes=modes)
    pixel_m = m.geometry.object_pixel_m
    exact = reconstruct(m.counts, m.xy_m, m.geometry, probe=m.probe, modes=modes, sweeps=30)
    rounded = reconstruct(
        m.counts, np.rint(m.xy_m / pixel_m) * pixel_m, m.geometry, probe=m.probe, modes=modes, sweeps=30
    )
    assert exact.error < 1.1 * m.noise_floor
    assert rounded.error > 1.4 * exact.error
    assert (np.diff(exact.errors[::6]) < 0).all()


def test_object_and_probe_equal_the_truth_from_a_start_that_knows_neither(measurement):
    m = measurement
    result = reconstruct(m.counts, m.xy_m, m.geometry, sweeps=80, margin_px=4)
    assert result.error < 1.1 * m.noise_floor
    corner = np.rint((result.xy_m - result.origin_xy_m) / result.pixel_m).astype(int)[0]
    inner = slice(26, 46)
    assert corner.min() >= 4 + 16
    top_left = np.rint(m.xy_m.min(axis=0) / result.pixel_m - result.origin_xy_m / result.pixel_m).astype(int)
    size = 28
    found = result.object[top_left[1] : top_left[1] + size, top_left[0] : top_left[0] + size]
    base = np.rint(m.xy_m.min(axis=0) / result.pixel_m - np.array([-17, 230])).astype(int) + 4 + 16
    truth = m.obj[base[1] : base[1] + size, base[0] : base[0] + size]
    assert inner.stop <= min(result.object.shape)
    aligned = without_ramp(registered(without_ramp(found, truth), truth), truth)[4:-4, 4:-4]
    truth = truth[4:-4, 4:-4]
    aligned = aligned * (np.vdot(aligned, truth) / np.vdot(aligned, aligned))
    assert np.corrcoef(np.angle(aligned).ravel(), np.angle(truth).ravel())[0, 1] > 0.97
    likeness = abs(np.vdot(result.probe, m.probe)) / np.linalg.norm(result.probe) / np.linalg.norm(m.probe)
    assert likeness > 0.9


def test_three_modes_explain_what_one_cannot(measure):
    m = measure(modes=3)
    one = reconstruct(m.counts, m.xy_m, m.geometry, probe=m.probe[:1], sweeps=30)
    three = reconstruct(m.counts, m.xy_m, m.geometry, probe=m.probe[:1], modes=3, sweeps=30)
    assert three.error < 0.75 * one.error
    power = (np.abs(three.probe) ** 2).sum(axis=(1, 2))
    truth = (np.abs(m.probe) ** 2).sum(axis=(1, 2))
    np.testing.assert_allclose(power / power.sum(), truth / truth.sum(), atol=0.03)
    flat = three.probe.reshape(3, -1)
    gram = flat @ flat.conj().T
    assert np.abs(gram - np.diag(np.diag(gram))).max() < 1e-3 * power.max()


def test_unmeasured_pixels_are_left_free(measurement):
    m = measurement
    counts = m.counts.copy()
    counts[:, 16, 14:18] = 65535
    counts[:, :, 20] = 65535
    masked = reconstruct(counts, m.xy_m, m.geometry, probe=m.probe, sweeps=20)
    kept = counts[counts != 65535].sum() / m.counts.sum()
    assert masked.error * kept < 1.1 * m.noise_floor
    zeroed = np.where(counts == 65535, 0, counts)
    assert reconstruct(zeroed, m.xy_m, m.geometry, probe=m.probe, sweeps=20).error > 5 * masked.error


@pytest.mark.parametrize("dtype", [np.uint32, np.int32, np.float32, np.float64])
def test_counts_of_any_number_type_give_the_same(measurement, dtype):
    m = measurement
    few = slice(0, 12)
    expected = reconstruct(m.counts[few], m.xy_m[few], m.geometry, sweeps=2)
    found = reconstruct(m.counts[few].astype(dtype), m.xy_m[few], m.geometry, sweeps=2)
    np.testing.assert_allclose(found.object, expected.object, atol=1e-4)


def test_nan_and_negative_counts_are_unmeasured(measurement):
    m = measurement
    counts = m.counts[:12].astype(np.float32)
    counts[:, 3, 4], counts[:, 5, 6] = np.nan, -1
    result = reconstruct(counts, m.xy_m[:12], m.geometry, sweeps=3)
    assert np.isfinite(result.object).all()
    assert np.isfinite(result.probe).all()
    assert np.isfinite(result.error)
    metric = amplitude_error(
        counts,
        m.xy_m[:12],
        result.object,
        result.probe,
        pixel_m=result.pixel_m,
        origin_xy_m=result.origin_xy_m,
    )
    assert metric == pytest.approx(result.error, rel=1e-3)


def test_progress_and_losses_are_reported(measurement):
    m = measurement
    counts = m.counts[:9].copy()
    counts[4] = 0
    calls = []
    result = reconstruct(
        counts, m.xy_m[:9], m.geometry, sweeps=3, progress=lambda done, total: calls.append((done, total))
    )
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert result.dropped == {"no beam": 1}
    assert result.index.tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    assert result.errors.shape == (3,)


def test_arrays_that_do_not_fit_are_explained(measurement):
    m = measurement
    with pytest.raises(EngineError, match="32"):
        reconstruct(m.counts[:, :30], m.xy_m, m.geometry)
    with pytest.raises(EngineError, match=r"xy_m"):
        reconstruct(m.counts, m.xy_m[:5], m.geometry)
    with pytest.raises(EngineError, match="no beam"):
        reconstruct(np.zeros_like(m.counts), m.xy_m, m.geometry)
    with pytest.raises(EngineError, match="none of 0"):
        reconstruct(m.counts[:0], m.xy_m[:0], m.geometry)
    with pytest.raises(EngineError, match="outside"):
        amplitude_error(m.counts, m.xy_m, m.obj, m.probe, pixel_m=m.geometry.object_pixel_m, origin_xy_m=np.zeros(2))


def test_final_resolution_follows_the_dose(measure):
    found = []
    for photons in (2e3, 3e5):
        m = measure(photons=photons, side=12)
        found.append(reconstruct(m.counts, m.xy_m, m.geometry, probe=m.probe, sweeps=20, resolution=True))
    coarse, fine = (r.resolution_m for r in found)
    assert fine is not None
    assert fine < 2 * found[1].pixel_m
    assert coarse is None or coarse > 1.2 * fine


def siemens_star():
    path = shared_data("siemens-star-aps/siemens-star-small.npz.bz2")
    with np.load(io.BytesIO(bz2.decompress(path.read_bytes()))) as data:
        counts = np.fft.fftshift(data["data"][0], axes=(1, 2)).astype(np.uint16)
        scan, probe = data["scan"][0], data["probe"]
    geometry = Geometry(8800.0, 2.0, 75e-6, (128, 128))
    return counts, scan[:, ::-1] * geometry.object_pixel_m, geometry, probe


def test_siemens_star():
    counts, xy_m, geometry, probe = siemens_star()
    result = reconstruct(counts, xy_m, geometry, probe=probe, sweeps=10)
    assert result.error < 0.0145
    phase = np.angle(result.object * np.exp(-1j * np.angle(result.object.mean())))
    lit = result.coverage > 0.3 * result.coverage.max()
    low, high = np.percentile(phase[lit], [10, 90])
    assert high - low > 0.3


def test_siemens_star_to_the_photon_noise():
    counts, xy_m, geometry, probe = siemens_star()
    result = reconstruct(counts, xy_m, geometry, probe=probe, modes=3, sweeps=15, positions="gradient")
    assert result.error < 0.009
    assert result.error < 1.15 * result.noise_floor
    assert 0.1 < result.correction_rms_m / result.pixel_m < 1


def test_frames_that_do_not_overlap_are_an_error(measurement):
    m = measurement
    with pytest.raises(EngineError, match=r"do not overlap: neighbours are .* apart and the beam is .* wide"):
        reconstruct(m.counts, 20 * m.xy_m, m.geometry, sweeps=2)
    with pytest.raises(EngineError, match="all 81 frames lie at one place"):
        reconstruct(m.counts, 1e-6 * m.xy_m, m.geometry, sweeps=2)
    reconstruct(m.counts[:1], m.xy_m[:1], m.geometry, sweeps=2)


def test_masked_pixels_are_not_measured(measurement):
    m = measurement
    hot = np.ma.masked_array(m.counts.copy(), np.zeros(m.counts.shape, bool))
    hot[:, 5, 5] = 60_000
    hot[:, 5, 5] = np.ma.masked
    for counts in (hot, hot.astype(np.int32), hot.astype(np.float64)):
        assert reconstruct(counts, m.xy_m, m.geometry, probe=m.probe, sweeps=10).error < 2 * m.noise_floor


@pytest.mark.parametrize("factor", [1e28, 1e36, 1e300])
def test_counts_beyond_any_detector_are_refused(measurement, factor):
    m = measurement
    with pytest.raises(EngineError, match="no beam"):
        reconstruct(m.counts * factor + factor, m.xy_m, m.geometry, sweeps=2)


@pytest.mark.parametrize("xy_m", [[["a", "b"]], [[1.0], [1.0, 2.0]]])
def test_positions_that_are_no_numbers_are_refused(measurement, xy_m):
    with pytest.raises(EngineError, match="numbers"):
        reconstruct(measurement.counts[:2], xy_m, measurement.geometry)
