import numpy as np
import pytest

from streamptycho.config import BeamConfig, SampleConfig, SimulationConfig
from streamptycho.simulation import make_sample
from streamptycho.simulation.beam import make_probe
from streamptycho.simulation.diffraction import CountingDetector, Scatterer
from streamptycho.simulation.errors import SimulationError
from streamptycho.simulation.window import Window, window

SIMULATION = SimulationConfig(distance_m=1.0, detector_shape=(48, 48))
WINDOW = window(SIMULATION)
N = WINDOW.size_px


@pytest.fixture(scope="module")
def probe():
    beam = BeamConfig(diameter_m=0.8e-6, defocus_m=2.5e-4, photons_per_frame=1e6, modes=2, coherence=0.8)
    return make_probe(beam, WINDOW)


@pytest.fixture(scope="module")
def transmission():
    sample = make_sample(SampleConfig(size_m=2e-6, delta=2e-5), WINDOW.pixel_m)
    return sample.transmission(35.0, WINDOW.wavelength_m)


def _textbook(probe, transmission, x_px, y_px):
    """Return |F(P(r - r0) O(r))|^2 in double precision on one canvas, the beam moved by its Fourier transform."""
    side = 4 * N
    canvas = np.ones((side, side), np.complex128)
    rows, columns = transmission.shape
    top, left = side // 2 - rows // 2, side // 2 - columns // 2
    canvas[top : top + rows, left : left + columns] = transmission
    ky, kx = np.meshgrid(np.fft.fftfreq(N), np.fft.fftfreq(N), indexing="ij")
    total = np.zeros((N, N))
    whole_x, whole_y = round(x_px), round(y_px)
    cut = canvas[
        side // 2 + whole_y - N // 2 : side // 2 + whole_y + N // 2,
        side // 2 + whole_x - N // 2 : side // 2 + whole_x + N // 2,
    ]
    for mode in probe.astype(np.complex128):
        ramp = np.exp(-2j * np.pi * (ky * (y_px - whole_y) + kx * (x_px - whole_x)))
        wave = np.fft.ifft2(np.fft.fft2(mode) * ramp) * cut
        total += np.abs(np.fft.fft2(wave)) ** 2 / N**2
    return np.fft.fftshift(total)


@pytest.mark.parametrize(("x_px", "y_px"), [(0, 0), (5, -7), (3.25, -0.5), (-12.4, 8.9), (60.3, 0.0)])
def test_intensities_are_the_textbook_ones(probe, transmission, x_px, y_px):
    scatterer = Scatterer(transmission, probe, WINDOW)
    ours = scatterer.intensities(np.array([[x_px, y_px]]) * WINDOW.pixel_m)[0]
    expected = _textbook(probe, transmission, x_px, y_px)
    assert np.abs(ours - expected).max() < 1e-4 * expected.max()


def test_a_whole_pixel_is_the_limit_of_a_part(probe, transmission):
    scatterer = Scatterer(transmission, probe, WINDOW)
    near = np.array([[0.4999, 2.0], [0.5001, 2.0]]) * WINDOW.pixel_m
    below, above = scatterer.intensities(near)
    assert np.abs(below - above).max() < 0.01 * above.max()


def test_air_transmits_every_photon(probe, transmission):
    far_away = np.array([[1e-4, -2e-4]])
    intensity = Scatterer(transmission, probe, WINDOW).intensities(far_away)[0]
    assert intensity.sum(dtype=np.float64) == pytest.approx(1e6, rel=1e-4)
    assert np.array_equal(intensity, Scatterer(np.ones((2, 2), np.complex64), probe, WINDOW).intensities(far_away)[0])


def test_motion_blur_averages_intensities(probe, transmission):
    scatterer = Scatterer(transmission, probe, WINDOW)
    path = np.array([[0, 0], [2, 0], [4, 0]]) * WINDOW.pixel_m
    blurred = scatterer.intensities(path[None])[0]
    assert np.allclose(blurred, scatterer.intensities(path).mean(axis=0), rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("samples", [2, 3, 4])
def test_pixels_integrate_finer_samples(samples, transmission):
    fine = window(SIMULATION.model_copy(update={"oversampling": samples}))
    assert fine.pixel_m == pytest.approx(WINDOW.pixel_m)
    assert fine.size_px == samples * N
    probe = make_probe(BeamConfig(diameter_m=0.8e-6, defocus_m=2.5e-4, photons_per_frame=1e6), fine)
    intensity = Scatterer(transmission, probe, fine).intensities(np.array([[1e-7, 0.0]]))[0]
    assert intensity.shape == (N, N)
    far_field = Scatterer(np.ones((2, 2), np.complex64), probe, fine).intensities(np.zeros((1, 2)))[0]
    assert far_field.sum(dtype=np.float64) == pytest.approx(1e6, rel=1e-4)
    assert np.abs(far_field[1:, 1:] - far_field[:0:-1, :0:-1]).max() < 2e-3 * far_field.max()


def test_counts_are_poisson():
    detector = CountingDetector(WINDOW, "uint16", 0, 0)
    mean = np.full((1, N, N), 6.0, np.float32)
    counts = np.concatenate([detector.expose(mean, np.random.default_rng(seed)) for seed in range(40)]).astype(float)
    assert counts.mean() == pytest.approx(6, rel=0.01)
    assert counts.var() == pytest.approx(6, rel=0.03)
    assert counts.var(axis=0).std() < 3


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_saturation_stays_below_the_marker(dtype):
    detector = CountingDetector(WINDOW, dtype, 0, 0)
    top = np.iinfo(dtype).max
    counts = detector.expose(np.full((1, N, N), 3.0 * top, np.float32), np.random.default_rng(0))
    assert counts.dtype == dtype
    assert counts.min() == counts.max() == top - 1


def test_dead_pixels_carry_the_marker_in_every_frame():
    detector = CountingDetector(WINDOW, "uint16", 0.02, 3)
    counts = detector.expose(np.ones((4, N, N), np.float32), np.random.default_rng(0))
    assert detector.mask is not None
    assert 0 < detector.mask.sum() < 0.05 * N * N
    assert np.all((counts == 65535) == detector.mask)


@pytest.mark.parametrize("shape", [(48, 48), (20, 64), (101, 30), (7, 7), (300, 301)])
def test_any_detector_has_zero_frequency_in_its_middle(shape):
    simulation = SIMULATION.model_copy(update={"detector_shape": shape})
    here = window(simulation)
    detector = CountingDetector(here, "uint32", 0, 0)
    mean = np.zeros((1, here.size_px, here.size_px), np.float32)
    mean[0, here.size_px // 2, here.size_px // 2] = 1e6
    frame = detector.expose(mean, np.random.default_rng(0))[0]
    assert frame.shape == shape
    assert np.unravel_index(frame.argmax(), shape) == (shape[0] // 2, shape[1] // 2)
    extent_m = here.wavelength_m * simulation.distance_m / simulation.detector_pixel_m
    assert here.size_px * here.pixel_m == pytest.approx(extent_m)


def test_a_probe_of_another_size_is_refused(transmission):
    with pytest.raises(SimulationError, match="48 pixels wide"):
        Scatterer(transmission, np.ones((1, 32, 32), np.complex64), WINDOW)


def test_windows_are_plain_values():
    assert Window(4, 1.0, 2.0, (4, 4)).max_angle_rad == 1.0
