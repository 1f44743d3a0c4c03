"""Crop, mask, bin and centre, against plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.config import RegionConfig
from streamptycho.detectors.frame_kernel import RAW, cut_frames
from streamptycho.detectors.region import CenterFinder, Cutter, RegionError, Square, side_px, square_at, valid_limit

DTYPES = ["uint8", "uint16", "uint32"]


def expected(counts, square, masked, saturation):
    """Return the square in int64, -1 where a pixel was not measured."""
    top = np.iinfo(counts.dtype).max
    plain = counts.astype(np.int64)
    plain[counts == top] = -1
    if saturation is not None:
        plain[counts > saturation] = -1
    if masked is not None:
        plain[masked] = -1
    side = square.side_px
    far = 3 * side + max(counts.shape)
    padded = np.pad(plain, far, constant_values=-1)
    cut = padded[square.row + far :, square.column + far :][:side, :side]
    n = side // square.binning
    bins = cut.reshape(n, square.binning, n, square.binning)
    return np.where((bins < 0).any(axis=(1, 3)), -1, bins.sum(axis=(1, 3)))


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(DTYPES),
    st.tuples(st.integers(2, 30), st.integers(2, 30)),
    st.integers(1, 3),
    st.integers(2, 12),
    st.tuples(st.integers(-40, 40), st.integers(-40, 40)),
    st.booleans(),
    st.sampled_from([None, 0, 5, 200, 2**40]),
    st.integers(0, 2**32 - 1),
)
def test_any_square_on_any_detector(dtype, shape, binning, bins, corner, with_mask, saturation, seed):
    rng = np.random.default_rng(seed)
    counts = rng.choice([0, 1, 3, 7, 250, np.iinfo(dtype).max], shape, p=[0.4, 0.3, 0.2, 0.05, 0.03, 0.02]).astype(
        dtype
    )
    masked = rng.random(shape) < 0.1 if with_mask else None
    square = Square(*corner, bins * binning, binning)
    try:
        cutter = Cutter(square, shape, masked, saturation)
    except RegionError:
        assert corner[0] >= shape[0] or corner[1] >= shape[1] or min(corner) <= -square.side_px
        return
    got, saturated = cutter.cut(counts[cutter.rows])
    want = expected(counts, square, masked, saturation)
    np.testing.assert_array_equal(np.where(got == np.iinfo(got.dtype).max, -1, got.astype(np.int64)), want)
    if binning == 1:
        inside = np.zeros(shape, bool)
        inside[max(corner[0], 0) : corner[0] + square.side_px, max(corner[1], 0) : corner[1] + square.side_px] = True
        over = counts > valid_limit(counts.dtype, saturation)
        over &= ~masked if masked is not None else counts != np.iinfo(dtype).max
        assert saturated == (over & inside).sum()
        assert got.dtype == counts.dtype


def test_binned_sums_get_a_wider_dtype():
    for dtype, wide in (("uint8", np.uint16), ("uint16", np.uint32), ("uint32", np.uint32)):
        counts = np.full((32, 32), np.iinfo(dtype).max - 1, dtype)
        got, saturated = Cutter(Square(0, 0, 32, 16), (32, 32), None, None).cut(counts)
        assert got.dtype == wide
        if dtype == "uint32":
            assert (got == 2**32 - 1).all()
            assert saturated == 4
        else:
            assert (got == 256 * (np.iinfo(dtype).max - 1)).all()
            assert saturated == 0


def test_whole_frame_without_anything_to_do_is_not_copied():
    counts = np.zeros((16, 16), np.uint16)
    got, _ = Cutter(Square(0, 0, 16, 1), (16, 16), None, None).cut(counts)
    assert got is counts


@pytest.mark.parametrize(("size", "shape", "binning", "side"), [(None, (514, 1028), 1, 514), (9, (4, 4), 4, 8)])
def test_side_is_a_multiple_of_the_binning(size, shape, binning, side):
    assert side_px(RegionConfig(size_px=size, binning=binning), shape) == side


def test_region_too_small_for_its_binning():
    with pytest.raises(RegionError, match="binning"):
        side_px(RegionConfig(size_px=16, binning=16), (512, 512))


@pytest.mark.parametrize(
    ("center", "side", "corner"), [((8, 8), 16, (0, 0)), ((8.9, 7.2), 5, (6, 5)), ((0, 0), 4, (-2, -2))]
)
def test_centre_pixel_is_in_the_middle_of_the_square(center, side, corner):
    square = square_at(center, side, 1)
    assert (square.row, square.column) == corner


def spot(center, shape=(64, 90), peak=50.0):
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    return peak * np.exp(-((y - center[0]) ** 2 + (x - center[1]) ** 2) / 50)


@pytest.mark.parametrize("peak", [0.3, 5.0, 500.0])
def test_centre_of_mass_is_blind_to_what_is_not_the_beam(peak):
    rng = np.random.default_rng(2)
    center = (24.3, 61.8)
    masked = np.zeros((64, 90), bool)
    masked[:, 40:43] = True
    finder = CenterFinder((64, 90), masked)
    for _ in range(8):
        counts = rng.poisson(spot(center, peak=peak) + 0.002).astype(np.uint16)
        counts[5, 5] = 40_000
        counts[50, 10] = 65_535
        counts[:, 40:43] = 65_535
        finder.add(counts, 50_000)
    np.testing.assert_allclose(finder.center_px(), center, atol=1.5)


def test_no_counts_have_no_centre():
    finder = CenterFinder((16, 16), None)
    finder.add(np.zeros((16, 16), np.uint16), 1000)
    assert finder.center_px() is None


@pytest.mark.parametrize("mask_known", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_whole_square_frames_are_masked_and_their_saturated_pixels_counted(dtype, mask_known):
    rng = np.random.default_rng(4)
    top, largest_valid, side = int(np.iinfo(dtype).max), 90, 37
    frames = rng.integers(0, 100, (6, side, side)).astype(dtype)
    frames[rng.random(frames.shape) < 0.05] = top
    frames[3:5] = np.minimum(frames[3:5], largest_valid)
    masked = (rng.random((side, side)) < 0.1) & mask_known
    sent = frames.reshape(6, -1).view(np.uint8)
    begins = sent.shape[1] * np.arange(6)
    counts, saturated = np.empty_like(frames), np.zeros(6, np.int64)
    done = cut_frames(
        sent.reshape(-1),
        np.stack([begins, begins + sent.shape[1]], axis=1),
        RAW,
        side,
        0,
        np.empty((side, side), dtype),
        (0, 0),
        masked,
        mask_known,
        largest_valid,
        1,
        (top, top),
        0,
        counts,
        saturated,
    )
    over = (frames > largest_valid) & ~masked
    assert done == 6
    np.testing.assert_array_equal(counts, np.where(over | masked, top, frames))
    np.testing.assert_array_equal(saturated, (over & (mask_known | (frames != top))).sum(axis=(1, 2)))
