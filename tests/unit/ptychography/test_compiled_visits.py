import sys

import numpy as np
import pytest

from streamptycho.array import backend
from streamptycho.config import ReconstructionConfig
from streamptycho.ptychography import update
from streamptycho.ptychography.canvas import Canvas
from streamptycho.ptychography.compiled_fft import fields_of, images_of, plan
from streamptycho.ptychography.compiled_steps import transform
from streamptycho.ptychography.compiled_update import CompiledUpdater
from streamptycho.ptychography.epie import EpieEngine
from streamptycho.ptychography.frames import FrameStore, storable
from streamptycho.ptychography.lanes import LANES
from streamptycho.ptychography.update import ProbeUpdater, probe_updater
from streamptycho.ptychography.visits import UpdateRule, Visits

CPU = backend("cpu")
COMPILED = [8, 16, 24, 32, 40, 48, 64, 72, 80, 96, 120, 128, 200, 256]


def scene(n, modes, seed=0):
    random = np.random.default_rng(seed)
    shape = (n + 9, n + 9)
    obj = (np.exp(0.3j * random.normal(size=shape)) * random.uniform(0.7, 1, shape)).astype(np.complex64)
    probe = (10 * (random.normal(size=(modes, n, n)) + 1j * random.normal(size=(modes, n, n)))).astype(np.complex64)
    return obj, probe, random.poisson(200 * modes, (9, n, n)), random


@pytest.mark.parametrize("n", COMPILED)
def test_the_transform_is_that_of_numpy_transposed(n):
    random = np.random.default_rng(n)
    image = random.normal(size=(n, n)) + 1j * random.normal(size=(n, n))
    found = plan(n)
    assert int(np.prod(found.radices)) == n
    room = found.radices, found.turns, np.empty((2, 2 * n * LANES), np.float32)
    source = fields_of(image[None])[0]
    target, work = np.zeros_like(source), np.zeros_like(source)
    transform(source, target, n, False, work, *room)
    expected = np.fft.fft2(image)
    assert np.abs(images_of(target[None], n)[0].T - expected).max() < 1e-6 * np.abs(expected).max()
    transform(target, target, n, True, work, *room)
    assert np.abs(images_of(target[None], n)[0] / n**2 - image).max() < 3e-6 * np.abs(image).max()


@pytest.mark.parametrize("n", [2, 4, 12, 15, 20, 56, 88, 104, 100])
def test_sizes_that_cannot_be_compiled_are_left_to_numpy(n):
    assert plan(n) is None
    probe = np.ones((1, n, n), np.complex64)
    assert isinstance(probe_updater(probe, CPU), ProbeUpdater)


def test_sizes_that_can_be_compiled_are():
    for n in COMPILED:
        assert isinstance(probe_updater(np.ones((2, n, n), np.complex64), CPU), CompiledUpdater)


RULES = {
    "ePIE": UpdateRule(),
    "rPIE": UpdateRule(object_alpha=0.2, probe_alpha=0.6),
    "upsampled": UpdateRule(upsampling=2),
    "upsampled fourfold": UpdateRule(upsampling=4),
    "shifts": UpdateRule(find_shifts=True),
    "all": UpdateRule(upsampling=2, object_alpha=0.1, probe_alpha=0.5, find_shifts=True),
}


def visits_of(places, random, modes=1):
    fractions = random.uniform(-0.5, 0.5, (len(places), 2))
    fractions[[0, 5]] = 0
    steps = np.full(len(places), 0.6)
    steps[3] = 0
    gains = random.uniform(0.5, 2, len(places))
    return Visits.of(np.arange(len(places)), places, fractions, object_step=0.9, probe_step=steps, gains=gains)


def compare(probe, rule, counts, obj, visits):
    n = probe.shape[-1]
    store = FrameStore(CPU, counts.shape[1:])
    store.add_counts(counts)
    expected, found = Canvas.holding(CPU, obj, n), Canvas.holding(CPU, obj, n)
    reference, compiled = ProbeUpdater(probe, CPU, rule), CompiledUpdater(probe, plan(n), rule)
    for updater_does in ("misfit", "visit"):
        one = getattr(reference, updater_does)(expected, store, visits)
        other = getattr(compiled, updater_does)(found, store, visits)
        np.testing.assert_allclose(other.residual, one.residual, rtol=2e-5)
        np.testing.assert_allclose(other.gain, one.gain, rtol=1e-5)
        np.testing.assert_allclose(other.shift_px, one.shift_px, atol=2e-5)
        assert np.any(other.shift_px != 0) == rule.find_shifts
        assert np.any(found.image != obj) == (updater_does == "visit")
    assert np.abs(found.image - expected.image).max() < 2e-5
    assert np.abs(compiled.probe - reference.probe).max() < 2e-5 * np.abs(probe).max()
    assert np.abs(compiled.probe - probe).max() > 1e-3 * np.abs(probe).max()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int32, np.float32, np.float64, np.uint64, ">u2"])
@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize(("n", "modes"), [(8, 1), (24, 2), (40, 1), (64, 4), (96, 7)])
def test_visits_equal_those_in_numpy(n, modes, dtype, gaps):
    obj, probe, counts, random = scene(n, modes)
    counts = np.minimum(counts, 250).astype(dtype)
    if gaps:
        mask = random.uniform(size=counts.shape) < 0.1
        kind = counts.dtype.kind
        counts[mask] = np.iinfo(counts.dtype).max if kind in "ui" else np.nan
        if kind != "u":
            counts[:, 1, 2] = -3
    compare(probe, UpdateRule(), counts, obj, visits_of(random.integers(0, 9, (9, 2)), random))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(("n", "modes"), [(16, 1), (24, 3), (64, 2)])
def test_visits_by_any_rule_equal_those_in_numpy(n, modes, name):
    obj, probe, counts, random = scene(n, modes)
    each = RULES[name].upsampling
    counts = np.minimum(counts[:, : n // each, : n // each] * each**2, 60000).astype(np.uint16)
    counts[2, 3, 1] = 65535
    compare(probe, RULES[name], counts, obj, visits_of(random.integers(0, 9, (9, 2)), random))


@pytest.mark.parametrize("dtype", [np.uint64, np.int64, ">u2", np.float64])
def test_gaps_stay_gaps_in_the_stored_dtype(dtype):
    counts = np.arange(6).astype(dtype)
    counts[2] = np.nan if counts.dtype.kind == "f" else np.iinfo(counts.dtype).max
    np.testing.assert_array_equal(storable(counts), np.array([0, 1, -1, 3, 4, 5], np.float32))


@pytest.mark.parametrize("lay", [np.asfortranarray, lambda a: np.repeat(a, 2, axis=2)[:, :, ::2]])
def test_the_order_of_frames_in_memory_does_not_matter(lay):
    obj, probe, counts, _ = scene(24, 1)
    images = []
    for frames in (counts.astype(np.uint16), lay(counts.astype(np.uint16))):
        store, canvas = FrameStore(CPU, (24, 24)), Canvas.holding(CPU, obj, 24)
        store.add_counts(frames)
        CompiledUpdater(probe, plan(24), UpdateRule()).visit(canvas, store, Visits.of([3], [[2, 1]], [[0.1, 0.2]]))
        images.append(canvas.image)
    np.testing.assert_array_equal(*images)


def test_one_call_equals_many():
    obj, probe, counts, random = scene(16, 2)
    visits = visits_of(random.integers(0, 9, (9, 2)), random)
    images, residuals = [], []
    for parts in ([slice(None)], [slice(k, k + 1) for k in range(9)]):
        store, canvas = FrameStore(CPU, (16, 16)), Canvas.holding(CPU, obj, 16)
        store.add_counts(counts[:4].astype(np.uint8))
        store.add_counts(counts[4:].astype(np.uint16))
        updater = CompiledUpdater(probe, plan(16), UpdateRule())
        residuals.append(np.concatenate([updater.visit(canvas, store, visits.taken(part)).residual for part in parts]))
        images.append(canvas.image)
    np.testing.assert_array_equal(*images)
    np.testing.assert_array_equal(*residuals)


def test_nothing_is_written_beside_the_patch():
    obj, probe, counts, _ = scene(16, 1)
    store, canvas = FrameStore(CPU, (16, 16)), Canvas.holding(CPU, obj, 16)
    store.add_counts(counts.astype(np.uint16))
    CompiledUpdater(probe, plan(16), UpdateRule()).visit(canvas, store, Visits.of([0], [[4, 5]], [[0.1, 0.2]]))
    assert np.all(canvas.image[4:20, 5:21] != obj[4:20, 5:21])
    canvas.image[4:20, 5:21] = obj[4:20, 5:21]
    np.testing.assert_array_equal(canvas.image, obj)


@pytest.mark.parametrize("fraction", [(0.0, 0.0), (0.3, -0.2)])
@pytest.mark.parametrize("name", RULES)
def test_darkness_gives_no_nan(fraction, name):
    rule = RULES[name]
    store, canvas = FrameStore(CPU, (16 // rule.upsampling,) * 2), Canvas.holding(CPU, np.zeros((20, 20)), 16)
    store.add_counts(np.full((1, *store.shape), 7, np.uint16))
    for updater in (
        CompiledUpdater(np.zeros((2, 16, 16), np.complex64), plan(16), rule),
        ProbeUpdater(np.zeros((2, 16, 16), np.complex64), CPU, rule),
    ):
        visits = Visits.of([0], [[1, 2]], [fraction], object_step=0.9, probe_step=0.9, gains=0.5)
        outcome = updater.visit(canvas, store, visits)
        assert outcome.residual[0] == pytest.approx(store.totals[0], rel=1e-5)
        assert outcome.gain[0] == 0.5
        assert np.isfinite(outcome.shift_px).all()
        assert np.isfinite(canvas.image).all()
        assert np.isfinite(updater.probe).all()


@pytest.mark.parametrize("corner", [(-1, 0), (0, 10), (10, 0), (0, 2**40)])
def test_frames_beyond_the_canvas_are_refused(corner):
    obj, probe, counts, _ = scene(16, 1)
    store, canvas = FrameStore(CPU, (16, 16)), Canvas.holding(CPU, obj, 16)
    store.add_counts(counts.astype(np.uint16))
    for updater in (CompiledUpdater(probe, plan(16), UpdateRule()), ProbeUpdater(probe, CPU)):
        with pytest.raises(ValueError, match="canvas"):
            updater.visit(canvas, store, Visits.of([0], [corner], [[0.0, 0.0]]))


def test_frames_that_do_not_fit_the_probe_are_refused():
    obj, probe, counts, _ = scene(16, 1)
    store, canvas = FrameStore(CPU, (8, 8)), Canvas.holding(CPU, obj, 16)
    store.add_counts(counts[:, :8, :8].astype(np.uint16))
    for updater in (CompiledUpdater(probe, plan(16), UpdateRule()), ProbeUpdater(probe, CPU)):
        with pytest.raises(ValueError, match="16 pixels"):
            updater.visit(canvas, store, Visits.of([0], [[0, 0]], [[0.0, 0.0]]))


def test_without_a_compiler_numpy_goes_on(monkeypatch, measurement):
    def errors():
        engine = EpieEngine(ReconstructionConfig(threads=1))
        engine.begin(measurement.start())
        engine.add(measurement.batch())
        engine.run(5)
        return engine.update().errors

    expected = errors()
    update._compiled_updater.cache_clear()
    monkeypatch.setitem(sys.modules, "streamptycho.ptychography.parallel", None)
    try:
        with pytest.warns(RuntimeWarning, match="cannot be compiled") as warned:
            found = errors()
        assert len(warned) == 1
        assert isinstance(probe_updater(np.ones((1, 16, 16), np.complex64), CPU), ProbeUpdater)
    finally:
        update._compiled_updater.cache_clear()
    np.testing.assert_allclose(found, expected, rtol=1e-4)
