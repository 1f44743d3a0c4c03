import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from streamptycho.messages import FramePreview, ObjectUpdate, PathPreview, Quality, VolumeUpdate
from streamptycho.monitor import views
from streamptycho.monitor.colours import NAMES, colour_table
from streamptycho.monitor.pictures import (
    NothingToShowError,
    Picture,
    PictureError,
    decode,
    encode,
    to_levels,
    to_png,
)
from streamptycho.monitor.pooling import pool_factor, pool_max, pool_mean


def _object(wave: np.ndarray, coverage: np.ndarray | None = None, probe: np.ndarray | None = None) -> ObjectUpdate:
    return ObjectUpdate(
        scan_id="s",
        projection=2,
        angle_deg=12.5,
        object=wave.astype(np.complex64),
        probe=np.ones((1, 8, 8), np.complex64) if probe is None else probe.astype(np.complex64),
        coverage=np.ones(wave.shape, np.float32) if coverage is None else coverage.astype(np.float32),
        pixel_m=20e-9,
        energy_ev=6200.0,
        origin_xy_m=np.zeros(2),
        index=np.arange(3),
        xy_m=np.zeros((3, 2)),
        errors=np.array([0.2, 0.1], np.float32),
        sweeps=2.0,
    )


@settings(deadline=None, max_examples=60)
@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.floats(width=32)))
def test_levels_keep_what_is_not_finite_apart(values: np.ndarray) -> None:
    levels = to_levels(values, np.ones(values.shape, bool), -1.0, 1.0)
    assert levels.dtype == np.uint8
    assert np.array_equal(levels == 0, ~np.isfinite(values))
    finite = np.isfinite(values)
    assert np.all(levels[finite & (values >= 1)] == 255)
    assert np.all(levels[finite & (values <= -1)] == 1)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.integers(0, 1000))
def test_pooling_loses_no_value_and_no_mask(rows: int, columns: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 1000, (rows, columns)).astype(np.uint16)
    valid = rng.random((rows, columns)) > 0.4
    largest, has_value = pool_max(values, valid, k)
    assert largest.shape == (-(-rows // k), -(-columns // k))
    assert has_value.any() == valid.any()
    if valid.any():
        assert largest[has_value].max() == values[valid].max()
    mean, has_mean = pool_mean(values.astype(float), valid, k)
    assert np.array_equal(has_mean, has_value)
    assert np.all(mean[has_mean] <= largest[has_value])


def test_pooling_brings_a_picture_to_the_limit() -> None:
    for side in (1, 511, 512, 513, 4362):
        k = pool_factor((side, 3), 512)
        assert -(-side // k) <= 512
        assert k == 1 or -(-side // (k - 1)) > 512


def test_frame_is_logarithmic_and_marks_unmeasured_pixels() -> None:
    counts = np.zeros((64, 64), np.uint16)
    counts[32, 32] = 999
    counts[:, 5] = 65535
    picture = views.frame_view(FramePreview(series="7", index=4, counts=counts))
    assert picture.label == "frame 4"
    assert picture.header()["detail"] == "of series 7"
    assert picture.scale == "log10"
    assert np.all(picture.pixels[:, 5] == 0)
    assert np.count_nonzero(picture.pixels == 0) == 64
    assert picture.pixels[32, 32] == 255
    assert picture.pixels[0, 0] == 1
    assert "peak 999" in picture.note
    assert "64 px" in picture.note


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_frame_without_any_measured_pixel_is_all_unmeasured(dtype: type) -> None:
    counts = np.full((8, 8), np.iinfo(dtype).max, dtype)
    assert not views.frame_view(FramePreview(series="", index=0, counts=counts)).pixels.any()


def test_large_frame_keeps_its_single_bright_pixel() -> None:
    counts = np.zeros((1100, 1030), np.uint32)
    counts[701, 333] = 50_000
    picture = views.frame_view(FramePreview(series="1", index=0, counts=counts))
    assert max(picture.pixels.shape) <= 512
    assert picture.pooling == 3
    assert picture.pixels[701 // 3, 333 // 3] == 255


def test_phase_is_free_of_offset_and_slope_and_keeps_its_contrast() -> None:
    y, x = np.indices((200, 300))
    disc = np.hypot(y - 60, x - 90) < 35
    wave = np.exp(1j * (-0.5 * disc + 0.05 * x - 0.03 * y + 2.0))
    picture = views.phase_view(_object(wave))
    phase = picture.lo + (picture.pixels.astype(float) - 1) / 254 * (picture.hi - picture.lo)
    assert phase[disc].mean() - phase[~disc].mean() == pytest.approx(-0.5, abs=0.02)
    assert phase[~disc].std() < 0.02
    assert picture.colours == "viridis"
    assert picture.pixel_m == 20e-9


def in_units(picture: Picture) -> np.ndarray:
    return picture.lo + (picture.pixels.astype(float) - 1) / 254 * (picture.hi - picture.lo)


def test_phase_is_zero_and_amplitude_one_in_air() -> None:
    y, x = np.indices((160, 220))
    sample = np.hypot(y - 80, x - 110) < 45
    message = _object(2.5 * np.where(sample, 0.9, 1.0) * np.exp(1j * (2.0 - 0.7 * sample)))
    phase, amplitude = in_units(views.phase_view(message)), in_units(views.amplitude_view(message))
    assert phase[~sample].mean() == pytest.approx(0.0, abs=0.01)
    assert phase[sample].mean() == pytest.approx(-0.7, abs=0.02)
    assert amplitude[~sample].mean() == pytest.approx(1.0, abs=0.01)
    assert amplitude[sample].mean() == pytest.approx(0.9, abs=0.01)
    assert "air" in views.phase_view(message).note
    assert views.amplitude_view(message).unit == "air = 1"


def test_phase_of_more_than_half_a_turn_does_not_wrap() -> None:
    y, x = np.indices((128, 128))
    radius = np.hypot(y - 64, x - 64)
    shift = -4.0 * np.sqrt(np.clip(1 - (radius / 40) ** 2, 0, None))
    picture = views.phase_view(_object(np.exp(1j * shift)))
    assert picture.colours == "viridis"
    assert picture.lo == pytest.approx(-4.0, abs=0.1)
    assert in_units(picture)[64, 64] == pytest.approx(-4.0, abs=0.1)


def test_phase_that_wraps_is_shown_on_the_circle() -> None:
    y, x = np.indices((128, 128))
    picture = views.phase_view(_object(np.exp(1j * ((x - 64) ** 2 + (y - 64) ** 2) / 150)))
    assert (picture.colours, picture.lo, picture.hi) == ("twilight", -math.pi, math.pi)


def test_contrast_comes_from_where_the_object_is_well_lit() -> None:
    amplitude = np.linspace(0.8, 1.0, 100)[None, :] * np.ones((100, 1))
    amplitude[:, :20] = 40.0
    coverage = np.ones((100, 100))
    coverage[:, :20] = 0.1
    coverage[:, 95:] = 0.0
    picture = views.amplitude_view(_object(amplitude, coverage))
    assert picture.hi < 1.1
    assert picture.pixels.shape == (100, 95)


def test_unlit_object_is_nothing_to_show() -> None:
    with pytest.raises(NothingToShowError, match="lit"):
        views.phase_view(_object(np.ones((8, 8)), np.zeros((8, 8))))


def test_probe_modes_have_their_share_of_the_power() -> None:
    probe = np.zeros((2, 8, 8), complex)
    probe[0, 4, 4], probe[1, 2, 2] = 3.0, 1j
    picture = views.probe_view(_object(np.ones((8, 8)), probe=probe))
    assert [tile["label"] for tile in picture.tiles] == ["1: 90.0 %", "2: 10.0 %"]
    assert picture.pixels.shape == (8, 16, 3)
    assert picture.pixels[4, 4].any()
    assert picture.pixels[2, 10].any()
    assert np.count_nonzero(picture.pixels.any(axis=2)) == 2


def test_many_probe_modes_say_what_is_hidden() -> None:
    picture = views.probe_view(_object(np.ones((8, 8)), probe=np.ones((11, 200, 200))))
    assert len(picture.tiles) == 8
    assert "3 weaker modes" in picture.note
    assert max(picture.pixels.shape) <= 512


def test_slices_share_their_contrast() -> None:
    message = VolumeUpdate(
        scan_id="s",
        slice_z=np.zeros((6, 5), np.float32),
        slice_y=np.linspace(0, 2, 35, dtype=np.float32).reshape(7, 5),
        slice_x=np.full((7, 6), np.nan, np.float32),
        voxel_m=50e-9,
        quantity="delta",
        projections_used=4,
    )
    pictures = [views.slice_view(message, name) for name in ("slice_z", "slice_y", "slice_x")]
    assert len({(p.lo, p.hi) for p in pictures}) == 1
    assert not pictures[2].pixels.any()
    assert pictures[0].label == "4 projections"


def test_a_path_whose_preview_came_early_says_so() -> None:
    path = PathPreview(scan_id="s", projection=3, xy_m=np.zeros((55, 2), np.float32), quality=np.zeros(55, np.uint8))
    assert views.path_view(path).label == "No. 3"
    assert views.path_view(path, frames=234).label == "No. 3, first 55 of 234"
    assert views.path_view(path, frames=55).label == "No. 3"


def test_path_counts_every_flag_and_thins_what_it_draws() -> None:
    n = 50_000
    quality = np.zeros(n, np.uint8)
    quality[7] = Quality.MISSING
    xy = np.column_stack([np.arange(n), np.zeros(n)]).astype(np.float32) * 1e-9
    xy[9] = np.nan
    plot = views.path_view(PathPreview(scan_id="s", projection=0, xy_m=xy, quality=quality))
    assert plot.counts["measured"] == n - 1
    assert plot.counts["missing"] == 1
    assert len(plot.quality) <= views.MAX_PATH_POINTS
    assert plot.every == 3
    assert "1 without" in plot.note
    header, payload = decode(encode(plot))
    assert len(payload) == 9 * header["points"]


def test_encoding_round_trip() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    header, payload = decode(encode(Picture(name="frame", label='a "b" ☢', pixels=pixels, lo=0.0, hi=2.0, version=9)))
    assert (header["width"], header["height"], header["channels"], header["version"]) == (4, 3, 1, 9)
    assert header["label"] == 'a "b" ☢'
    assert payload == pixels.tobytes()


@settings(deadline=None, max_examples=80)
@given(st.binary(max_size=80))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    try:
        header, _ = decode(data)
    except PictureError:
        return
    assert isinstance(header, dict)


def test_png_has_the_colours_of_the_table() -> None:
    pixels = np.array([[0, 1, 255]], np.uint8)
    image = np.asarray(Image.open(io.BytesIO(to_png(Picture(name="x", label="", pixels=pixels, colours="inferno")))))
    assert np.array_equal(image[0], colour_table("inferno")[[0, 1, 255]])


def test_colour_tables() -> None:
    for name in NAMES:
        table = colour_table(name)
        assert table.shape == (256, 3)
        assert len(np.unique(table[1:], axis=0)) > 100
    assert np.abs(colour_table("hue")[1].astype(int) - colour_table("hue")[255]).max() <= 3
    with pytest.raises(LookupError, match="viridis"):
        colour_table("jet")
