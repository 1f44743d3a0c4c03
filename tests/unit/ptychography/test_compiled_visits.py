import sys

import numpy as np
import pytest

from streamptycho.array import backend
from streamptycho.config import ReconstructionConfig
from streamptycho.ptychography import update
from streamptycho.ptychography.compiled_fft import plan, row_pitch
from streamptycho.ptychography.compiled_update import CompiledUpdater
from streamptycho.ptychography.compiled_visit import transform
from streamptycho.ptychography.epie import EpieEngine
from streamptycho.ptychography.frames import storable
from streamptycho.ptychography.lanes import LANES
from streamptycho.ptychography.update import ProbeUpdater, probe_updater

CPU = backend("cpu")
COMPILED = [8, 16, 24, 32, 40, 48, 64, 72, 80, 96, 120, 128, 200, 256]


def scene(n, modes, seed=0):
    random = np.random.default_rng(seed)
    shape = (n + 9, n + 9)
    obj = (np.exp(0.3j * random.normal(size=shape)) * random.uniform(0.7, 1, shape)).astype(np.complex64)
    probe = (10 * (random.normal(size=(modes, n, n)) + 1j * random.normal(size=(modes, n, n)))).astype(np.complex64)
    return obj, probe, random.poisson(200 * modes, (9, n, n)), random


def field_of(image):
    n = len(image)
    rows = np.zeros((n, row_pitch(n)), np.float32)
    rows[:, :n], rows[:, n : 2 * n] = image.real, image.imag
    return rows.ravel()


def image_of(field, n):
    rows = field.reshape(n, -1)
    return rows[:, :n] + 1j * rows[:, n : 2 * n]


@pytest.mark.parametrize("n", COMPILED)
def test_the_transform_is_that_of_numpy_transposed(n):
    random = np.random.default_rng(n)
    image = random.normal(size=(n, n)) + 1j * random.normal(size=(n, n))
    found = plan(n)
    assert int(np.prod(found.radices)) == n
    room = found.radices, found.turns, np.empty((2, 2 * n * LANES), np.float32)
    source, target, work = field_of(image), np.zeros(n * row_pitch(n), np.float32), np.zeros_like(field_of(image))
    transform(source, target, n, False, work, *room)
    expected = np.fft.fft2(image)
    assert np.abs(image_of(target, n).T - expected).max() < 1e-6 * np.abs(expected).max()
    transform(target, target, n, True, work, *room)
    assert np.abs(image_of(target, n) / n**2 - image).max() < 3e-6 * np.abs(image).max()


@pytest.mark.parametrize("n", [2, 4, 12, 15, 20, 56, 88, 104, 100])
def test_sizes_that_cannot_be_compiled_are_left_to_numpy(n):
    assert plan(n) is None
    probe = np.ones((1, n, n), np.complex64)
    assert isinstance(probe_updater(probe, CPU), ProbeUpdater)


def test_sizes_that_can_be_compiled_are():
    for n in COMPILED:
        assert isinstance(probe_updater(np.ones((2, n, n), np.complex64), CPU), CompiledUpdater)


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
    expected, found = obj.copy(), obj.copy()
    reference, compiled = ProbeUpdater(probe, CPU), CompiledUpdater(probe, plan(n))
    for k, frame in enumerate(counts):
        row, column = random.integers(0, 9, 2)
        window = slice(row, row + n), slice(column, column + n)
        fraction = (0.0, 0.0) if k in (0, 5) else tuple(random.uniform(-0.5, 0.5, 2))
        steps = (0.9, 0.0 if k == 3 else 0.6)
        residual = reference.visit(expected[window], fraction, storable(frame), gaps, *steps)
        assert compiled.visit(found[window], fraction, frame, gaps, *steps) == pytest.approx(float(residual), rel=1e-5)
    assert np.abs(found - expected).max() < 1e-5
    assert np.abs(compiled.probe - reference.probe).max() < 1e-5 * np.abs(probe).max()


@pytest.mark.parametrize("dtype", [np.uint64, np.int64, ">u2", np.float64])
def test_gaps_stay_gaps_in_the_stored_dtype(dtype):
    counts = np.arange(6).astype(dtype)
    counts[2] = np.nan if counts.dtype.kind == "f" else np.iinfo(counts.dtype).max
    np.testing.assert_array_equal(storable(counts), np.array([0, 1, -1, 3, 4, 5], np.float32))


@pytest.mark.parametrize("fraction", [(0.0, 0.0), (0.3, -0.2)])
def test_the_misfit_is_that_of_numpy_and_changes_nothing(fraction):
    obj, probe, counts, _ = scene(16, 2)
    before = obj.copy()
    compiled = CompiledUpdater(probe, plan(16))
    window = slice(3, 19), slice(2, 18)
    found = compiled.misfit(obj[window], fraction, counts[0].astype(np.uint16), False)
    expected = ProbeUpdater(probe, CPU).misfit(obj[window], fraction, counts[0].astype(np.uint16), False)
    assert found == pytest.approx(float(expected), rel=1e-5)
    np.testing.assert_array_equal(obj, before)
    np.testing.assert_allclose(compiled.probe, probe, atol=1e-5)


def test_the_order_of_frames_in_memory_does_not_matter():
    obj, probe, counts, _ = scene(24, 1)
    results = []
    for lay in (np.ascontiguousarray, np.asfortranarray, lambda frame: np.repeat(frame, 2, axis=1)[:, ::2]):
        patch = obj[:24, :24].copy()
        updater = CompiledUpdater(probe, plan(24))
        updater.visit(patch, (0.1, 0.2), lay(counts[0].astype(np.uint16)), False, 0.9, 0.5)
        results.append(patch)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_nothing_is_written_beside_the_patch():
    obj, probe, counts, _ = scene(16, 1)
    before = obj.copy()
    CompiledUpdater(probe, plan(16)).visit(obj[4:20, 5:21], (0.1, 0.2), counts[0].astype(np.uint8), False, 0.9, 0.5)
    assert np.all(obj[4:20, 5:21] != before[4:20, 5:21])
    obj[4:20, 5:21] = before[4:20, 5:21]
    np.testing.assert_array_equal(obj, before)


@pytest.mark.parametrize("fraction", [(0.0, 0.0), (0.3, -0.2)])
def test_darkness_gives_no_nan(fraction):
    patch = np.zeros((16, 16), np.complex64)
    updater = CompiledUpdater(np.zeros((2, 16, 16), np.complex64), plan(16))
    residual = updater.visit(patch, fraction, np.full((16, 16), 7, np.uint16), False, 0.9, 0.9)
    assert residual == pytest.approx(7 * 256, rel=1e-5)
    assert np.isfinite(patch).all()
    assert np.isfinite(updater.probe).all()


@pytest.mark.parametrize(
    ("patch", "counts"),
    [
        (np.ones((16, 15), np.complex64), np.ones((16, 16), np.uint16)),
        (np.ones((16, 16), np.complex64), np.ones((8, 16), np.uint16)),
        (np.ones((16, 16), np.complex128), np.ones((16, 16), np.uint16)),
        (np.ones((16, 32), np.complex64)[:, ::2], np.ones((16, 16), np.uint16)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(patch, counts):
    updater = CompiledUpdater(np.ones((1, 16, 16), np.complex64), plan(16))
    with pytest.raises(ValueError, match="patch"):
        updater.visit(patch, (0.0, 0.0), counts, False, 0.9, 0.5)


def test_without_a_compiler_numpy_goes_on(monkeypatch, measurement):
    def errors():
        engine = EpieEngine(ReconstructionConfig())
        engine.begin(measurement.start())
        engine.add(measurement.batch())
        engine.run(5)
        return engine.update().errors

    expected = errors()
    update._compiled_updater.cache_clear()
    monkeypatch.setitem(sys.modules, "streamptycho.ptychography.compiled_update", None)
    try:
        with pytest.warns(RuntimeWarning, match="cannot be compiled") as warned:
            found = errors()
        assert len(warned) == 1
        assert isinstance(probe_updater(np.ones((1, 16, 16), np.complex64), CPU), ProbeUpdater)
    finally:
        update._compiled_updater.cache_clear()
    np.testing.assert_allclose(found, expected, rtol=1e-4)
