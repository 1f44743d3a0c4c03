"""Alignment on reprojections: what it finds, what it leaves out, and that the picture does not jump."""

import numpy as np
import pytest
import scipy.ndimage

from streamptycho.config import TomographyConfig
from streamptycho.messages import Reason
from streamptycho.tomography import Aggregator, Refinement
from streamptycho.tomography.backprojection import ProjectionError
from tests.unit.tomography.phantom import Ellipsoid, line_integrals, object_update

COUNT = 60
ANGLES = np.arange(COUNT) * 180.0 / COUNT
JOINT = TomographyConfig(quantity="delta", align="joint")
SIDE = 96
OTHER = (Ellipsoid((0, 0, 0), (12, 24, 14), 0.03),)


@pytest.fixture(scope="module")
def moved():
    rng = np.random.default_rng(5)
    moves = rng.normal(0, 0.8, (COUNT, 2))
    mass = [
        10 * line_integrals(angle, (SIDE, SIDE), SIDE // 2 + right, SIDE // 2 + down)
        for angle, (down, right) in zip(ANGLES, moves, strict=True)
    ]
    return (np.array(mass) + rng.normal(0, 0.02, (COUNT, SIDE, SIDE))).astype(np.float32), moves


def left_over(found, moves, *, axis=True):
    """What remains of the moves when translations of the whole volume (and the axis) are taken out."""
    rest = found + moves
    theta = np.radians(ANGLES)
    columns = [np.cos(theta), np.sin(theta)] + ([np.ones(COUNT)] if axis else [])
    system = np.stack(columns, axis=1)
    across = rest[:, 1] - system @ np.linalg.lstsq(system, rest[:, 1], rcond=None)[0]
    return np.stack([rest[:, 0] - rest[:, 0].mean(), across], axis=1)


def test_moves_are_found_to_a_small_part_of_a_pixel(moved):
    mass, moves = moved
    before = left_over(0 * moves, moves)
    result = Refinement(mass, ANGLES).run()
    after = left_over(result.moves_px, moves)
    assert (before.std(axis=0) > 0.6).all()
    assert (after.std(axis=0) < 0.05).all()
    assert result.trusted.all()


def test_the_grid_of_voxels_makes_no_stranger_of_a_projection_at_45_degrees():
    angles = np.arange(120) * 1.5
    mass = np.array([10 * line_integrals(a, (SIDE // 2, SIDE), SIDE // 2, SIDE // 4) for a in angles], np.float32)
    misfit = Refinement(mass, angles).run().misfit_rad
    np.testing.assert_array_less(misfit[[30, 90]], 1.5 * np.median(misfit))


def test_error_of_the_axis_is_found_too():
    mass = np.array([10 * line_integrals(a, (SIDE, SIDE), SIDE // 2 + 1.5, SIDE // 2) for a in ANGLES], np.float32)
    found = Refinement(mass, ANGLES).run().moves_px
    np.testing.assert_allclose(left_over(found, np.array([0.0, 1.5]), axis=False), 0, atol=0.1)


def test_volume_does_not_move(moved):
    mass, _ = moved
    moves = Refinement(mass, ANGLES).run().moves_px
    theta = np.radians(ANGLES)
    assert abs(moves[:, 0].mean()) < 1e-9
    system = np.stack([np.cos(theta), np.sin(theta), np.ones(COUNT)], axis=1)
    np.testing.assert_allclose(np.linalg.lstsq(system, moves[:, 1], rcond=None)[0][:2], 0, atol=1e-9)


def test_it_can_be_cut_short_and_taken_up_again(moved):
    mass, moves = moved
    first = Refinement(mass, ANGLES)
    first.cut_short()
    begun = first.run()
    assert first.rounds == 1
    shifted = np.array(
        [scipy.ndimage.shift(m, move, order=3) for m, move in zip(mass, begun.moves_px, strict=True)], np.float32
    )
    rest = Refinement(shifted, ANGLES).run()
    assert (left_over(begun.moves_px + rest.moves_px, moves).std(axis=0) < 0.05).all()


def test_large_projections_are_binned(moved, monkeypatch):
    monkeypatch.setattr("streamptycho.tomography.refinement.MAX_VOXELS", SIDE**3 // 4)
    mass, moves = moved
    result = Refinement(mass, ANGLES).run()
    assert (left_over(result.moves_px, moves).std(axis=0) < 0.15).all()
    assert result.binning > 1
    assert result.reprojection(3).shape == mass.shape[1:]
    assert np.corrcoef(result.reprojection(3).ravel(), mass[3].ravel())[0, 1] > 0.9


@pytest.mark.parametrize("spoil", [lambda m: m[0], lambda m: m[:5], lambda m: np.where(m > 1, np.nan, m)])
def test_what_cannot_be_refined_is_refused(moved, spoil):
    with pytest.raises(ProjectionError, match="finite projections"):
        Refinement(spoil(moved[0]), ANGLES)


def scan(count=36, **changes):
    rng = np.random.default_rng(1)
    return [
        object_update(
            k, 180.0 * k / count, moved_px=rng.normal(0, 2, 2), noise_rad=0.05, strength=10.0, **changes.get(k, {})
        )
        for k in range(count)
    ]


@pytest.fixture(scope="module")
def aligned():
    result = Aggregator("scan", JOINT)
    for update in scan():
        assert result.add(update) == []
    return result


def test_result_of_a_job_is_applied_without_a_jump(aligned):
    result = Aggregator("scan", JOINT)
    for update in scan():
        result.add(update)
    before = result.update().slice_z
    job = result.alignment()
    assert result.realign(job, job.run()) == []
    after = result.update().slice_z
    shift = np.subtract(
        scipy.ndimage.center_of_mass(np.maximum(after, 0)), scipy.ndimage.center_of_mass(np.maximum(before, 0))
    )
    assert np.abs(shift).max() < 0.15


def test_a_projection_of_something_else_leaves_the_volume_and_comes_back_when_replaced():
    result = Aggregator("scan", JOINT)
    wrong = object_update(7, 35.0, sample=OTHER)
    for update in scan():
        result.add(wrong if update.projection == 7 else update)
    job = result.alignment()
    (anomaly,) = result.realign(job, job.run())
    assert anomaly.reason is Reason.CORRUPT
    assert "projection 7 is not in the volume" in anomaly.detail
    assert result.projections_used == 35
    update = result.update()
    assert update.figures["left_out_projections"] == 1
    result.add(scan()[7])
    assert result.projections_used == 36


def test_a_job_from_before_a_replacement_does_not_move_the_new_one(aligned):
    result = Aggregator("scan", JOINT)
    updates = scan()
    for update in updates:
        result.add(update)
    job = result.alignment()
    refined = job.run()
    result.add(updates[4])
    shift = result.projection_stack().shifts_px[4]
    result.realign(job, refined)
    np.testing.assert_array_equal(result.projection_stack().shifts_px[4], shift)


def test_too_few_projections_are_not_refined():
    result = Aggregator("scan", JOINT)
    for update in scan()[:11]:
        result.add(update)
    assert result.alignment() is None
    assert Aggregator("scan", TomographyConfig(align="mass")).alignment() is None


def test_regions_off_by_a_turn_are_brought_back(aligned):
    result = Aggregator("scan", JOINT)
    updates = scan()
    for update in updates:
        result.add(update)
    item = result._projections[10]
    truth = item.phase_rad.copy()
    middle = tuple(n // 2 for n in truth.shape)
    hurt = np.s_[middle[0] - 6 : middle[0] + 6, middle[1] - 5 : middle[1] + 8]
    item.phase_rad = truth.copy()
    item.phase_rad[hurt] += 2 * np.pi
    job = result.alignment()
    result.realign(job, job.run())
    np.testing.assert_allclose(result._projections[10].phase_rad, truth, atol=1e-4)
    assert result.update().figures["phase_corrected_px"] == 12 * 13


def test_limited_angles_are_said():
    result = Aggregator("scan", JOINT)
    for k in range(13):
        result.add(object_update(k, 5.0 * k, noise_rad=0.05))
    update = result.update(final=True)
    assert update.figures["largest_gap_deg"] == pytest.approx(120.0)
    assert np.isfinite(update.slice_z).all()
