import numpy as np
import pytest

from streamptycho.array import backend
from streamptycho.ptychography.canvas import Canvas
from streamptycho.ptychography.compiled_fft import plan
from streamptycho.ptychography.compiled_update import CompiledUpdater
from streamptycho.ptychography.frames import FrameStore
from streamptycho.ptychography.kernels import ArrayKernels
from streamptycho.ptychography.propagation import ShiftRamps, far_field, from_far_field
from streamptycho.ptychography.update import ProbeUpdater
from streamptycho.ptychography.visits import UpdateRule, Visits

N = 16
CPU = backend("cpu")


def in_numpy(probe):
    return ProbeUpdater(probe, CPU)


def compiled(probe):
    return CompiledUpdater(probe, plan(probe.shape[-1]), UpdateRule())


def visit(updater, image, corner, fraction, counts, object_step, probe_step):
    """Visit one frame, zero frequency at [0, 0], and put the changed object into the image."""
    canvas, store = Canvas.holding(CPU, image, N), FrameStore(CPU, (N, N))
    store.add_counts(np.fft.fftshift(counts)[None])
    visits = Visits.of([0], [corner], [fraction], object_step=object_step, probe_step=probe_step)
    outcome = updater.visit(canvas, store, visits)
    image[...] = canvas.image
    return outcome.residual[0]


UPDATERS = pytest.mark.parametrize("make", [in_numpy, compiled])


def textbook_epie(obj, probe, counts, alpha, beta, fraction=(0.0, 0.0)):
    """Maiden and Rodenburg 2009, equations 3 to 7, in double precision with centred arrays."""
    v = np.fft.fftfreq(probe.shape[-1])
    ramp = np.exp(-2j * np.pi * (v[:, None] * fraction[0] + v[None, :] * fraction[1]))
    lit = np.fft.ifft2(np.fft.fft2(probe) * ramp)
    exit_wave = lit * obj
    field = np.fft.fft2(exit_wave, norm="ortho")
    model = np.sqrt((np.abs(field) ** 2).sum(axis=0))
    change = np.fft.ifft2(field * (np.sqrt(counts) / np.maximum(model, 1e-30)), norm="ortho") - exit_wave
    new_obj = obj + alpha * (lit.conj() * change).sum(axis=0) / (np.abs(lit) ** 2).sum(axis=0).max()
    new_lit = lit + beta * obj.conj() * change / (np.abs(obj) ** 2).max()
    new_probe = np.fft.ifft2(np.fft.fft2(new_lit) / ramp)
    return new_obj, new_probe, ((model - np.sqrt(counts)) ** 2).sum()


def scene(modes, seed=0):
    random = np.random.default_rng(seed)
    obj = np.exp(1j * random.normal(size=(40, 40)) * 0.3) * random.uniform(0.7, 1, (40, 40))
    probe = 30 * (random.normal(size=(modes, N, N)) + 1j * random.normal(size=(modes, N, N)))
    counts = random.poisson(900, (12, N, N)).astype(np.uint16)
    return obj, probe, counts, random


@UPDATERS
@pytest.mark.parametrize("modes", [1, 3])
@pytest.mark.parametrize("places", ["whole", "fractional", "mixed"])
def test_visits_equal_the_textbook_in_double_precision(make, modes, places):
    obj, probe, counts, random = scene(modes)
    updater = make(probe)
    single = obj.astype(np.complex64)
    for k, frame in enumerate(counts):
        row, column = random.integers(0, 40 - N, 2)
        shifted = places == "fractional" or (places == "mixed" and k % 3 == 1)
        fraction = tuple(random.uniform(-0.5, 0.5, 2)) if shifted else (0.0, 0.0)
        window = slice(row, row + N), slice(column, column + N)
        beta = 0.0 if k == 4 else 0.7
        obj[window], probe, expected = textbook_epie(obj[window], probe, frame, 0.9, beta, fraction)
        residual = visit(updater, single, (row, column), fraction, frame, 0.9, beta)
        assert float(residual) == pytest.approx(expected, rel=1e-3)
    assert np.abs(single - obj).max() < 1e-4
    assert np.abs(updater.probe - probe).max() < 1e-4 * np.abs(probe).max()


@UPDATERS
def test_step_zero_leaves_the_probe_untouched(make):
    obj, probe, counts, _ = scene(1)
    updater = make(probe)
    visit(updater, obj.astype(np.complex64), (0, 0), (0.3, -0.2), counts[0], 0.9, 0.0)
    np.testing.assert_allclose(updater.probe, probe, atol=1e-4)


def test_unmeasured_pixels_keep_their_field():
    _, probe, counts, _ = scene(2)
    kernels = ArrayKernels(np, 2, N)
    waves = probe.astype(np.complex64)
    frame = counts[0].copy()
    frame[3, 4] = frame[0, 0] = np.iinfo(np.uint16).max
    correction = waves.copy()
    residual, _ = kernels.modulus_correction(correction, frame, True)
    assert np.all(correction[:, [3, 0], [4, 0]] == 0)
    corrected = np.sqrt((np.abs(waves + correction) ** 2).sum(axis=0))
    valid = frame != np.iinfo(np.uint16).max
    np.testing.assert_allclose(corrected[valid], np.sqrt(frame[valid]), rtol=1e-4)
    model = np.sqrt((np.abs(waves) ** 2).sum(axis=0))
    assert residual == pytest.approx(((model - np.sqrt(frame)) ** 2)[valid].sum(), rel=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.float32])
def test_every_stored_dtype_gives_the_same_correction(dtype):
    _, probe, counts, _ = scene(1)
    frame = np.minimum(counts[0], 200)
    kernels = ArrayKernels(np, 1, N)
    first, second = probe.astype(np.complex64), probe.astype(np.complex64)
    kernels.modulus_correction(first, frame.astype(np.float32), False)
    kernels.modulus_correction(second, frame.astype(dtype), True)
    np.testing.assert_allclose(first, second, rtol=1e-5)


def test_dark_field_gives_no_nan():
    kernels = ArrayKernels(np, 1, N)
    waves = np.zeros((1, N, N), np.complex64)
    kernels.modulus_correction(waves, np.full((N, N), 7, np.uint16), False)
    out = np.empty_like(waves)
    patch = np.zeros((N, N), np.complex64)
    kernels.probe_update(patch, waves, 0.9, out)
    kernels.update_object(patch, np.zeros_like(waves), waves, 0.9)
    assert np.isfinite(waves).all()
    assert np.isfinite(out).all()
    assert np.isfinite(patch).all()


@pytest.mark.parametrize("n", [15, 16])
def test_propagation_and_shift_are_unitary(n):
    random = np.random.default_rng(0)
    a, b = (random.normal(size=(1, n, n)) + 1j * random.normal(size=(1, n, n)) for _ in range(2))
    fft = backend("cpu").fft
    assert np.vdot(far_field(a.copy(), fft), b) == pytest.approx(np.vdot(a, from_far_field(b.copy(), fft)))
    ramp = ShiftRamps(n, np)(0.3, -0.4, np.empty((n, n), np.complex64))
    np.testing.assert_allclose(np.abs(ramp), 1, rtol=1e-5)


def test_a_shift_of_one_pixel_rolls_down_and_right():
    image = np.random.default_rng(0).normal(size=(N, N)).astype(np.complex64)
    ramp = ShiftRamps(N, np)(1.0, 2.0, np.empty((N, N), np.complex64))
    np.testing.assert_allclose(np.fft.ifft2(np.fft.fft2(image) * ramp), np.roll(image, (1, 2), (0, 1)), atol=1e-5)
