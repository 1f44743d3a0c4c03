import numpy as np
import pytest
from pydantic import ValidationError

from streamptycho.array import backend
from streamptycho.config import ProbeConfig, ReconstructionConfig
from streamptycho.geometry import Geometry
from streamptycho.ptychography import amplitude_error, reconstruct
from streamptycho.ptychography.engine import EngineError
from streamptycho.ptychography.epie import EpieEngine
from streamptycho.ptychography.optics import optic_probe, propagated
from streamptycho.ptychography.probe_holder import offset_px
from streamptycho.ptychography.propagation import Propagator, fresnel_transfer, magnification
from streamptycho.ptychography.steps import StepLaw

GEOMETRY = Geometry(8000.0, 0.5, 5e-6, (24, 24))


@pytest.mark.parametrize("modes", [1, 4])
@pytest.mark.parametrize("source_distance_m", [None, 0.1, "far field"])
@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_forward_and_adjoint_agree(modes, source_distance_m, dtype):
    random = np.random.default_rng(0)
    a, b = (random.normal(size=(2, modes, 24, 24)) @ np.eye(24) for _ in range(2))
    a, b = ((pair[0] + 1j * pair[1]).astype(dtype) for pair in (a, b))
    transfer = None if source_distance_m == "far field" else fresnel_transfer(GEOMETRY, source_distance_m)
    propagator = Propagator(transfer, backend("cpu").fft)
    forward, back = propagator.to_detector(a.copy()), propagator.from_detector(b.copy())
    assert np.vdot(forward, b) == pytest.approx(np.vdot(a, back), rel=1e-5)
    np.testing.assert_allclose(propagator.from_detector(forward), a, atol=1e-5)


def test_a_cone_beam_is_a_parallel_one_with_smaller_pixel_and_distance():
    assert magnification(GEOMETRY, None) == 1
    assert magnification(GEOMETRY, 0.1) == pytest.approx(6)
    scaled = Geometry(8000.0, 0.5 / 6, 5e-6 / 6, (24, 24))
    np.testing.assert_allclose(fresnel_transfer(GEOMETRY, 0.1), fresnel_transfer(scaled, None), atol=1e-4)


def test_near_field_frames_are_reconstructed_to_the_noise(measure):
    m = measure(near_field=True, photons=1e5)
    settings = {"sweeps": 40, "propagator": "near_field"}
    result = reconstruct(m.counts, m.xy_m, m.geometry, probe=m.probe, **settings)
    assert result.pixel_m == m.geometry.detector_pixel_m
    assert result.error < 1.1 * m.noise_floor
    alone = reconstruct(m.counts, m.xy_m, m.geometry, **settings)
    assert alone.error < 2 * m.noise_floor
    with pytest.raises(EngineError, match="do not overlap"):
        reconstruct(m.counts, m.xy_m, m.geometry, sweeps=20)


def test_upsampling_reconstructs_a_beam_wider_than_the_detector_resolves(measure):
    m = measure(n=32, binned=2, photons=1e5)
    plain = reconstruct(m.counts, m.xy_m, m.geometry, probe=m.probe[:, 8:24, 8:24], sweeps=40)
    finer = reconstruct(m.counts, m.xy_m, m.geometry, probe=m.probe, sweeps=40, upsampling=2)
    assert finer.probe.shape == (1, 32, 32)
    assert finer.pixel_m == m.geometry.object_pixel_m
    assert finer.error < 1.1 * m.noise_floor
    assert plain.error > 1.15 * finer.error
    metric = amplitude_error(
        m.counts, finer.xy_m, finer.object, finer.probe, pixel_m=finer.pixel_m, origin_xy_m=finer.origin_xy_m
    )
    assert metric == pytest.approx(finer.error, rel=1e-3)
    unaided = reconstruct(m.counts, m.xy_m, m.geometry, sweeps=60, upsampling=2)
    assert unaided.error < 1.5 * m.noise_floor


def test_modes_take_up_the_motion_during_an_exposure(measure):
    m = measure(blur_px=6.0)
    one, three = (reconstruct(m.counts, m.xy_m, m.geometry, probe=m.probe, modes=k, sweeps=40) for k in (1, 3))
    assert one.error > 1.3 * m.noise_floor
    assert three.error < 1.1 * m.noise_floor


def test_smaller_steps_in_the_end_come_nearer_to_the_least_squares(measure):
    m = measure(photons=3e4)
    plain, refined = (
        reconstruct(m.counts, m.xy_m, m.geometry, probe=m.probe, sweeps=30, refine_sweeps=k) for k in (0, 10)
    )
    assert refined.error < 0.95 * plain.error


def test_new_frames_bring_the_steps_back(measurement, monkeypatch):
    taken = []
    law = StepLaw.steps

    def noted(self, *arguments, **more):
        taken.append(law(self, *arguments, **more)[0].max())
        return law(self, *arguments, **more)

    monkeypatch.setattr(StepLaw, "steps", noted)
    engine = EpieEngine(ReconstructionConfig(sweeps=6, min_sweeps=1, refine_sweeps=3, object_step=0.9))
    engine.begin(measurement.start())
    engine.add(measurement.batch(0, 40))
    engine.run(6)
    assert taken == pytest.approx([0.9, 0.9, 0.9, 0.9, 0.6, 0.3])
    engine.add(measurement.batch(40, 81))
    engine.run(1)
    assert taken[6] == pytest.approx(0.9)


def test_constraints_move_and_scale_the_probe_without_changing_what_it_explains(measurement):
    m = measurement
    start = np.roll(m.probe, (3, -4), axis=(1, 2))
    settings = {"probe": start, "sweeps": 6, "refine_sweeps": 0, "margin_px": 8, "probe_delay_sweeps": 0}
    free = reconstruct(m.counts, m.xy_m, m.geometry, **settings)
    held = reconstruct(m.counts, m.xy_m, m.geometry, center_probe=True, probe_power="brightest", **settings)
    assert offset_px(free.probe) != (0, 0)
    assert offset_px(held.probe) == (0, 0)
    assert held.error == pytest.approx(free.error, rel=0.15)
    power = np.sum(np.abs(held.probe) ** 2)
    assert power == pytest.approx(np.percentile(m.counts.sum(axis=(1, 2)), 95), rel=1e-3)


def test_a_regularised_update_converges_too(measurement):
    m = measurement
    found = reconstruct(m.counts, m.xy_m, m.geometry, probe=m.probe, sweeps=40, object_alpha=0.3, probe_alpha=0.8)
    assert found.error < 1.2 * m.noise_floor


def test_a_zone_plate_focuses_into_its_annulus():
    config = ProbeConfig(
        start="zone_plate", zone_plate_diameter_m=400e-6, outermost_zone_m=200e-9, central_stop_m=120e-6
    )
    focus = optic_probe(config, 0.0, 128, 60e-9, 0.113e-9)
    spectrum = np.abs(np.fft.fft2(np.fft.ifftshift(focus)))
    frequency = np.fft.fftfreq(128, 60e-9)
    radius = np.hypot(frequency[:, None], frequency[None, :])
    inside = (radius < 2.4e6) & (radius > 0.85e6)
    np.testing.assert_allclose(spectrum[inside], 1, rtol=1e-6)
    assert spectrum[(radius > 2.7e6) | (radius < 0.6e6)].max() < 1e-6
    away = optic_probe(config, 5e-3, 128, 60e-9, 0.113e-9)
    np.testing.assert_allclose(away, propagated(focus, 5e-3, 60e-9, 0.113e-9), atol=1e-9)
    assert np.abs(away).max() < 0.5 * np.abs(focus).max()


def test_a_pinhole_is_a_disc_that_spreads():
    config = ProbeConfig(start="pinhole", diameter_m=1e-6)
    hole = optic_probe(config, 0.0, 64, 50e-9, 0.2e-9)
    assert np.sum(np.abs(hole) > 0.5) == pytest.approx(np.pi * 10**2, rel=0.05)
    further = optic_probe(config, 2e-3, 64, 50e-9, 0.2e-9)
    assert np.sum(np.abs(further) ** 2) == pytest.approx(np.sum(np.abs(hole) ** 2))


@pytest.mark.parametrize("side", [1, -1])
def test_the_defocus_is_found_from_a_few_frames(measure, side):
    m = measure(n=64, side=7, step_px=3.0, photons=1e6)
    pixel_m, wavelength_m = m.geometry.object_pixel_m, m.geometry.wavelength_m
    far_m = side * 12 * 64 * pixel_m**2 / wavelength_m / 10
    start = propagated(m.probe, -far_m, pixel_m, wavelength_m)
    settings = {"probe": start, "sweeps": 4, "probe_delay_sweeps": 1, "modes": 1}
    lost = reconstruct(m.counts, m.xy_m, m.geometry, **settings)
    found = reconstruct(m.counts, m.xy_m, m.geometry, probe_start=ProbeConfig(defocus_m="auto"), **settings)
    assert found.error < 0.6 * lost.error
    likeness = abs(np.vdot(found.probe, m.probe)) / np.linalg.norm(found.probe) / np.linalg.norm(m.probe)
    assert likeness > 0.9


@pytest.mark.parametrize(
    "keys",
    [
        {"upsampling": 2, "propagator": "near_field"},
        {"source_distance_m": 1.0},
        {"refine_sweeps": 31},
        {"propagator": "near_field", "probe": {"defocus_m": "auto"}},
        {"probe": {"start": "pinhole"}},
        {"probe": {"start": "zone_plate", "outermost_zone_m": 1e-7}},
        {"probe": {"start": "zone_plate", "outermost_zone_m": 1e-7, "zone_plate_diameter_m": 1, "central_stop_m": 2}},
        {"probe": {"defocus_m": "far"}},
        {"positions": "best"},
        {"object_alpha": 0},
    ],
)
def test_settings_that_contradict_each_other_are_refused(keys):
    with pytest.raises(ValidationError):
        ReconstructionConfig.model_validate(keys)
