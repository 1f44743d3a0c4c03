import numpy as np
import pytest

from streamptycho.config import BeamConfig, SimulationConfig
from streamptycho.simulation.beam import CENTRAL_STOP, make_probe, numerical_aperture
from streamptycho.simulation.errors import SimulationError
from streamptycho.simulation.window import window

WINDOW = window(SimulationConfig(distance_m=1.3, detector_shape=(96, 96)))
ZONE_PLATE = BeamConfig(diameter_m=1.1e-6, defocus_m=5e-4, photons_per_frame=1e6)


def _propagated(field, distance_m):
    frequency = np.fft.fftfreq(WINDOW.size_px, WINDOW.pixel_m)
    square = frequency[:, None] ** 2 + frequency[None, :] ** 2
    return np.fft.ifft2(np.fft.fft2(field) * np.exp(-1j * np.pi * WINDOW.wavelength_m * distance_m * square))


def _radius(field):
    axis = np.arange(WINDOW.size_px) - WINDOW.size_px // 2
    return np.hypot(axis[:, None], axis[None, :]) * WINDOW.pixel_m


def test_the_beam_has_the_configured_photons_and_width():
    probe = make_probe(ZONE_PLATE, WINDOW)
    power = np.abs(probe[0].astype(np.complex128)) ** 2
    assert probe.shape == (1, 96, 96)
    assert probe.dtype == np.complex64
    assert power.sum() == pytest.approx(1e6, rel=1e-4)
    assert 0.75 < power[_radius(probe) < 0.55e-6].sum() / 1e6 < 1
    rows, columns = np.indices(power.shape) - 48
    assert abs((power * rows).sum() / 1e6) < 0.05
    assert abs((power * columns).sum() / 1e6) < 0.05


def test_the_beam_comes_from_a_focus_upstream():
    probe = make_probe(ZONE_PLATE, WINDOW)[0].astype(np.complex128)
    peaks = {z: np.abs(_propagated(probe, z)).max() for z in (-5e-4, 0.0, 5e-4)}
    assert peaks[-5e-4] > 3 * peaks[0.0] > 3 * peaks[5e-4]


def test_the_far_field_is_a_ring_with_a_central_stop():
    probe = make_probe(ZONE_PLATE, WINDOW)[0]
    far = np.abs(np.fft.fftshift(np.fft.fft2(probe, norm="ortho"))) ** 2
    rows, columns = np.indices(far.shape) - 48
    angle = np.hypot(rows, columns) * WINDOW.wavelength_m / (96 * WINDOW.pixel_m)
    outer = numerical_aperture(ZONE_PLATE, WINDOW)
    ring = (angle < outer * 1.05) & (angle > CENTRAL_STOP * outer * 0.85)
    assert far[ring].sum() > 0.999 * far.sum()
    assert far[angle < 0.8 * CENTRAL_STOP * outer].max() < 1e-6 * far.max()


def test_a_pinhole_is_a_disc_at_its_own_plane():
    config = BeamConfig(optic="pinhole", diameter_m=1.2e-6, defocus_m=0.0, photons_per_frame=1.0)
    power = np.abs(make_probe(config, WINDOW)[0]) ** 2
    radius = _radius(power)
    assert power[radius > 0.65e-6].max() < 1e-12
    assert power[radius < 0.55e-6].std() < 1e-3 * power.max()


def test_modes_are_orthogonal_and_the_first_holds_the_coherent_share():
    config = ZONE_PLATE.model_copy(update={"modes": 4, "coherence": 0.7})
    probe = make_probe(config, WINDOW).astype(np.complex128).reshape(4, -1)
    gram = probe @ probe.conj().T / 1e6
    powers = np.diag(gram).real
    assert powers.sum() == pytest.approx(1, rel=1e-4)
    assert powers[0] == pytest.approx(0.7, abs=0.02)
    assert np.all(np.diff(powers) < 0)
    assert np.abs(gram - np.diag(np.diag(gram))).max() < 1e-4


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"diameter_m": 3e-6}, "does not fit the window"),
        ({"defocus_m": 1e-2}, "increase diameter_m, or reduce defocus_m"),
        ({"diameter_m": 8e-8, "defocus_m": 0.0}, "increase defocus_m, or reduce diameter_m"),
        ({"modes": 2, "coherence": 0.2}, "cannot be reached with 2 modes"),
    ],
)
def test_impossible_beams_are_refused(changes, hint):
    with pytest.raises(SimulationError, match=hint):
        make_probe(ZONE_PLATE.model_copy(update=changes), WINDOW)


def test_a_beam_in_focus_is_as_small_as_configured():
    config = BeamConfig(diameter_m=0.4e-6, defocus_m=0.0, photons_per_frame=1.0)
    power = np.abs(make_probe(config, WINDOW)[0]) ** 2
    assert np.unravel_index(power.argmax(), power.shape) == (48, 48)
    assert power[_radius(power) > 0.2e-6].max() < 0.3 * power.max()
