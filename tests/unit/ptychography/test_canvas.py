import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.array import backend
from streamptycho.ptychography.canvas import Canvas, coverage

CPU = backend("cpu")


def corners(*pairs):
    return np.array(pairs, np.int64)


def test_growth_keeps_what_is_known():
    canvas = Canvas(CPU, 8, 2, 1000)
    canvas.include(corners((5, 5)))
    canvas.patch(5, 5)[:] = np.arange(64).reshape(8, 8)
    for corner in [(40, 5), (-30, 5), (5, -50), (6, 90)]:
        canvas.include(corners(corner))
        np.testing.assert_array_equal(canvas.patch(5, 5), np.arange(64).reshape(8, 8))
        assert canvas.patch(*corner).shape == (8, 8)
    array, origin = canvas.cropped()
    assert origin == (-32, -52)
    assert array.shape == (40 + 8 + 30 + 4, 90 + 8 + 50 + 4)
    known = array[5 + 32 : 13 + 32, 5 + 52 : 13 + 52]
    np.testing.assert_array_equal(known, np.arange(64).reshape(8, 8))
    array = array.copy()
    array[5 + 32 : 13 + 32, 5 + 52 : 13 + 52] = 1
    assert np.all(array == 1)


def test_growth_is_amortised():
    canvas = Canvas(CPU, 8, 0, 10_000)
    owners = set()
    for k in range(400):
        canvas.include(corners((k, 0)))
        patch = canvas.patch(k, 0)
        owners.add(id(patch.base))
    assert len(owners) < 30


def test_frames_far_off_do_not_fit_even_when_they_come_first():
    canvas = Canvas(CPU, 8, 2, 100)
    fits = canvas.fitting(corners((10**6, 0), (3, 4), (5, 6), (50, 50), (4, -(10**7))))
    assert fits.tolist() == [False, True, True, True, False]
    canvas.include(corners((3, 4), (50, 50)))
    assert canvas.fitting(corners((95, 4), (96, 4), (60, 96))).tolist() == [True, False, True]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.tuples(st.integers(-200, 200), st.integers(-200, 200)), min_size=1), max_size=6))
def test_the_canvas_never_exceeds_its_limit(batches):
    canvas = Canvas(CPU, 8, 0, 64)
    for batch in batches:
        array = corners(*batch)
        fits = canvas.fitting(array)
        if fits.any():
            canvas.include(array[fits])
            top, left, bottom, right = canvas.box
            assert max(bottom - top, right - left) <= 64
            assert all(canvas.patch(*corner).shape == (8, 8) for corner in array[fits].tolist())


def test_room_kept_for_growth_stays_within_the_limit():
    canvas = Canvas(CPU, 8, 2, 100)
    for corner in range(0, 93, 4):
        canvas.include(corners((corner, 0)))
        assert max(canvas.patch(corner, 0).base.shape) <= 104
    assert canvas.patch(0, 0).base.shape[0] >= 96


def test_coverage_is_the_sum_over_frames():
    random = np.random.default_rng(0)
    intensity = random.uniform(size=(8, 8)).astype(np.float32)
    places = random.integers(0, 22, (40, 2))
    expected = np.zeros((30, 31))
    for row, column in places:
        expected[row : row + 8, column : column + 8] += intensity
    found = coverage(places - 5, intensity, (-5, -5), (30, 31), CPU)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-4)
