import numpy as np
import pytest

from streamptycho.config import ReconstructionConfig
from streamptycho.messages import Reason
from streamptycho.ptychography import reconstruct
from streamptycho.ptychography.epie import EpieEngine
from streamptycho.ptychography.flux import Flux, without_beam


def test_a_flickering_beam_is_followed(measure):
    flux = np.random.default_rng(1).uniform(0.5, 1.5, 81)
    m = measure(flux=flux)
    plain = reconstruct(m.counts, m.xy_m, m.geometry, probe=m.probe, sweeps=30)
    engine = EpieEngine(ReconstructionConfig(sweeps=30, intensity_scaling=True), probe=m.probe)
    engine.begin(m.start())
    engine.add(m.batch())
    engine.run(30)
    assert plain.error > 5 * m.noise_floor
    assert engine.evaluate() < 1.2 * m.noise_floor
    ratio = engine._held.flux.gains / flux
    assert np.std(ratio) < 0.1 * np.mean(ratio)


def test_frames_without_beam_are_counted_and_left_out(measure):
    flux = np.ones(81)
    flux[20:26] = 0.003
    m = measure(flux=flux)
    result = reconstruct(m.counts, m.xy_m, m.geometry, probe=m.probe, sweeps=3)
    assert result.dropped == {"no beam": 6}
    assert not set(range(20, 26)) & set(result.index.tolist())
    kept = reconstruct(m.counts, m.xy_m, m.geometry, probe=m.probe, sweeps=3, min_flux=0)
    assert len(kept.index) == 81


def test_a_shutter_that_opens_late_spoils_nothing(measure):
    flux = np.ones(81)
    flux[:36] = 0.001
    m = measure(flux=flux)
    engine = EpieEngine(ReconstructionConfig(sweeps=30, min_sweeps=10))
    engine.begin(m.start())
    lost = []
    for first in range(0, 81, 9):
        lost += engine.add(m.batch(first, first + 9))
        engine.visit(20)
    engine.run(30)
    assert [(anomaly.reason, anomaly.count) for anomaly in lost] == [(Reason.NO_BEAM, 36)]
    assert engine.add(m.batch(0, 9))[0].reason is Reason.DUPLICATE
    update = engine.update()
    assert update.index.tolist() == list(range(36, 81))
    assert engine.evaluate() < 2 * m.noise_floor
    alone = reconstruct(m.counts[36:], m.xy_m[36:], m.geometry, sweeps=30)
    assert engine.evaluate() < 1.3 * alone.error


def test_few_frames_are_not_judged():
    assert not without_beam(np.array([1.0, 0.001]), np.ones(10), 0.1).any()
    assert without_beam(np.array([1.0, 0.001]), np.ones(14), 0.1).tolist() == [False, True]


@pytest.mark.parametrize("found", [np.nan, np.inf, -3.0, 0.0, 1e9])
def test_gains_stay_positive_and_bounded(found):
    flux = Flux()
    flux.extend(3)
    for _ in range(20):
        flux.follow(np.array([1]), np.array([found]))
    assert 0.09 < flux.gains[1] < 10.1
    flux.settle()
    assert np.median(flux.gains) == 1
