"""Phase vortices that the first sweeps over a thick object make are taken out, those of the object itself are not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.config import ReconstructionConfig
from streamptycho.geometry import Geometry
from streamptycho.messages import DiffractionBatch, ProjectionStart
from streamptycho.ptychography.epie import EpieEngine
from streamptycho.ptychography.vortices import SWEEPS_BETWEEN, VortexWatch, unwinding, winding

N = 32
SIZE = 96
SWEEPS = 24
GEOMETRY = Geometry(8000.0, 2.0, 75e-6, (N, N))


def vortex(shape, row, column, turns):
    """Return the phase factor of a vortex in the middle of the four pixels from (row, column) on."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    z = (x - column - 0.5) + 1j * (y - row - 0.5)
    return (z / np.abs(z)) ** turns


def test_a_vortex_is_found_where_it_is_with_its_sign():
    image = vortex((12, 15), 4, 9, 1) * vortex((12, 15), 7, 2, -1)
    found = winding(image, np.ones(image.shape, bool), np)
    assert found.shape == (11, 14)
    assert {(*place, found[*place]) for place in zip(*np.nonzero(found), strict=True)} == {(4, 9, 1), (7, 2, -1)}


def test_what_is_not_lit_does_not_count():
    image = vortex((12, 15), 4, 9, 1)
    lit = np.ones(image.shape, bool)
    lit[5, 10] = False
    assert not winding(image, lit, np).any()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 29), st.sampled_from([-1, 1])), max_size=6))
def test_unwinding_takes_out_every_vortex_and_nothing_else(places):
    places = [place for place in places if all(abs(place[0] - o[0]) + abs(place[1] - o[1]) != 1 for o in places)]
    turns = np.zeros((22, 31), np.int8)
    for row, column, sign in places:
        turns[row, column] = sign
    factor = unwinding(turns)
    assert factor.dtype == np.complex64
    np.testing.assert_allclose(np.abs(factor), 1, atol=1e-5)
    np.testing.assert_array_equal(winding(factor.conj(), np.ones(factor.shape, bool), np), turns)


def test_what_is_left_of_a_vortex_is_smooth():
    image = vortex((64, 80), 20, 30, 1) * vortex((64, 80), 40, 50, -1)
    smooth = image * unwinding(winding(image, np.ones(image.shape, bool), np))
    steps = np.abs(np.angle(smooth[1:] * smooth[:-1].conj())), np.abs(np.angle(smooth[:, 1:] * smooth[:, :-1].conj()))
    assert max(step.max() for step in steps) < 0.3
    assert np.abs(np.angle(image[1:] * image[:-1].conj())).max() > 1.5


def test_vortices_are_looked_for_now_and_then_until_there_are_none():
    watch = VortexWatch()
    due = [sweep for sweep in range(1, 20) if watch.due(sweep, 100) and watch.removes({3: 4, 6: 2, 9: 0}[sweep])]
    assert due == [SWEEPS_BETWEEN, 2 * SWEEPS_BETWEEN]


def test_vortices_that_come_back_are_left_until_there_are_more_frames():
    watch = VortexWatch()
    assert watch.due(3, 100)
    assert watch.removes(2)
    assert watch.due(6, 100)
    assert not watch.removes(2)
    assert not any(watch.due(sweep, 100) for sweep in range(7, 30))
    assert watch.due(30, 101)
    assert watch.removes(2)


def scan_of(obj, seed):
    """Return counts, positions and the true probe of a dense scan."""
    random = np.random.default_rng(seed)
    axis = np.arange(N) - N // 2
    radius = np.hypot(axis[:, None], axis[None, :])
    probe = np.exp(-((radius / (N / 4.5)) ** 6)) * np.exp(1j * np.pi * radius**2 / (2.2 * N))
    probe *= np.sqrt(3e5 / np.sum(np.abs(probe) ** 2))
    grid = np.arange(0, SIZE - N + 1, 4)
    corners = np.stack([a.ravel() for a in np.meshgrid(grid, grid, indexing="ij")], axis=1)
    corners = np.clip(corners + random.integers(-1, 2, corners.shape), 0, SIZE - N)
    waves = np.stack([probe * obj[row : row + N, column : column + N] for row, column in corners])
    fields = np.fft.fftshift(np.fft.fft2(waves, norm="ortho"), axes=(1, 2))
    counts = random.poisson(np.abs(fields) ** 2).astype(np.uint16)
    return counts, corners[:, ::-1] * GEOMETRY.object_pixel_m, probe


def reconstructed(obj, seed):
    """Return the engine after all sweeps, and its error over what photon noise leaves."""
    counts, xy_m, probe = scan_of(obj, seed)
    engine = EpieEngine(ReconstructionConfig(sweeps=SWEEPS, seed=seed), probe=probe)
    count = len(counts)
    engine.begin(ProjectionStart(scan_id="s", projection=0, angle_deg=None, n_frames=count, geometry=GEOMETRY))
    quality = np.zeros(count, np.uint8)
    engine.add(
        DiffractionBatch(scan_id="s", projection=0, index=np.arange(count), counts=counts, xy_m=xy_m, quality=quality)
    )
    engine.run(SWEEPS)
    return engine, engine.evaluate() / engine.noise_floor()


def grooved_sphere():
    """Return the transmission of a sphere with a groove, phase to nearly 4 pi, at most 1.4 from pixel to pixel."""
    axis = np.arange(SIZE) - SIZE / 2 + 0.5
    y, x = axis[:, None], axis[None, :]
    radius = 0.3 * SIZE
    thickness = np.sqrt(np.clip(1 - (x**2 + y**2) / radius**2, 0, 1))
    thickness = thickness * (1 - 0.5 * np.exp(-(((x - 0.3 * radius) / 4) ** 2)))
    frequency = np.fft.fftfreq(SIZE)
    blur = np.exp(-2 * (1.2 * np.pi) ** 2 * (frequency[:, None] ** 2 + frequency[None, :] ** 2))
    return np.exp(-12j * np.fft.ifft2(np.fft.fft2(thickness) * blur).real)


def test_a_thick_object_is_never_left_in_vortices(monkeypatch):
    thick = grooved_sphere()
    assert np.abs(np.angle(thick[1:] * thick[:-1].conj())).max() < 1.5
    found = [reconstructed(thick, seed)[1] for seed in range(6)]
    monkeypatch.setattr(VortexWatch, "due", lambda *_: False)
    stuck = [reconstructed(thick, seed)[1] for seed in range(6)]
    assert max(found) < 2
    assert sum(error > 10 for error in stuck) >= 3


@pytest.mark.parametrize("seed", range(3))
def test_an_object_keeps_vortices_of_its_own(seed):
    axis = np.arange(SIZE) - SIZE / 2 + 0.5
    z = axis[None, :] + 1j * axis[:, None] + 0.3 + 0.2j
    own = (z - 4) / np.hypot(np.abs(z - 4), 4) * np.conj(z + 4) / np.hypot(np.abs(z + 4), 4)
    engine, error = reconstructed(own, seed)
    assert error < 1.1
    middle = engine.update().object[16 + SIZE // 4 : 16 + 3 * SIZE // 4, 16 + SIZE // 4 : 16 + 3 * SIZE // 4]
    turns = winding(middle, np.ones(middle.shape, bool), np)
    assert sorted(turns[turns != 0].tolist()) == [-1, 1]
