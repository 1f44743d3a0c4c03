import numpy as np
import pytest

from streamptycho.config import ReconstructionConfig
from streamptycho.ptychography import reconstruct
from streamptycho.ptychography.epie import EpieEngine
from streamptycho.ptychography.likelihood import Likelihood, Pair
from streamptycho.resolution import fourier_correlation

KINDS = {
    "one mode": ({"photons": 2e3}, {}),
    "three modes": ({"modes": 3, "photons": 2e3}, {"modes": 3}),
    "upsampled": ({"binned": 2, "photons": 2e3}, {"upsampling": 2}),
    "near field": ({"near_field": True, "photons": 2e3}, {"propagator": "near_field"}),
}


def problem(m, threads=1, **settings):
    engine = EpieEngine(ReconstructionConfig(sweeps=15, **settings), probe=m.probe)
    engine.begin(m.start())
    engine.add(m.batch())
    engine.run(15)
    visits = engine._held.visits(np.arange(engine.frames))
    updater, rule = engine._updater(), engine._holder.rule
    return Likelihood(engine._held.canvas, engine._held.store, visits, updater.probe, rule, engine._backend, threads)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_the_likelihood(measure, kind):
    measured, settings = KINDS[kind]
    likelihood = problem(measure(**measured), **settings)
    _, gradient = likelihood._gradient(likelihood._at)
    random = np.random.default_rng(0)
    downhill = likelihood._downhill(gradient)
    direction = Pair(
        *(a * random.uniform(0.5, 2, a.shape).astype(np.float32) for a in (downhill.object, downhill.probe))
    )
    ahead, behind = (likelihood._gradient(likelihood._at.plus(direction, h))[0] for h in (0.1, -0.1))
    assert (ahead - behind) / 0.2 == pytest.approx(2 * gradient.dot(direction, np), rel=0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_every_step_makes_the_counts_more_likely(measure, kind):
    measured, settings = KINDS[kind]
    likelihood = problem(measure(**measured), **settings)
    likelihood.maximise(8)
    assert len(likelihood.values) > 5
    assert (np.diff(likelihood.values) < 0).all()


def test_threads_change_nothing(measure):
    m = measure(photons=2e3)
    alone, together = problem(m, threads=1), problem(m, threads=2)
    alone.maximise(3)
    together.maximise(3)
    np.testing.assert_allclose(together.probe, alone.probe, rtol=1e-4, atol=1e-4 * np.abs(alone.probe).max())


def test_few_photons_resolve_more_than_epie_makes_of_them(measure):
    m = measure(photons=1.5e3, side=18, step_px=1.6)
    plain = reconstruct(m.counts, m.xy_m, m.geometry, probe=m.probe, sweeps=30)
    refined = reconstruct(m.counts, m.xy_m, m.geometry, probe=m.probe, sweeps=30, likelihood_steps=12)
    assert correlation(refined, m) > 1.15 * correlation(plain, m)
    assert plain.error < refined.error < m.noise_floor


def correlation(result, m, half=12):
    """Return the mean ring correlation with the truth of the middle of the scan."""
    n, first = result.probe.shape[-1], np.array([-17, 230])
    middle = np.round((m.xy_m / result.pixel_m - first).mean(axis=0)).astype(int)
    at_truth = middle + 4 + n // 2
    at = np.rint((middle + first) - result.origin_xy_m / result.pixel_m).astype(int)
    found, truth = (
        image[y - half : y + half, x - half : x + half] for image, (x, y) in ((result.object, at), (m.obj, at_truth))
    )
    return float(fourier_correlation(found * np.vdot(found, truth), truth).correlation.mean())


def test_it_is_done_once_for_the_same_visits(measure):
    m = measure(photons=2e3)
    engine = EpieEngine(ReconstructionConfig(sweeps=12, likelihood_steps=2), probe=m.probe)
    engine.begin(m.start())
    engine.maximise_likelihood()
    engine.add(m.batch())
    engine.run(12)
    first = engine.update(final=True)
    second = engine.update(final=True)
    np.testing.assert_array_equal(first.object, second.object)


def test_dark_and_masked_frames_stay_finite(measure):
    m = measure(photons=300.0)
    counts = m.counts.copy()
    counts[:, :3] = np.iinfo(counts.dtype).max
    counts[5] = 0
    counts[5, 16, 16] = 1
    result = reconstruct(counts, m.xy_m, m.geometry, probe=m.probe, sweeps=10, likelihood_steps=6, min_flux=0)
    assert np.isfinite(result.object).all()
    assert np.isfinite(result.probe).all()
