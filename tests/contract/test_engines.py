"""What every engine promises; run for each that is registered."""

import numpy as np
import pytest

from streamptycho.config import ReconstructionConfig
from streamptycho.geometry import Geometry
from streamptycho.messages import DiffractionBatch, ObjectUpdate, ProjectionStart, Quality
from streamptycho.ptychography import ENGINES, EngineError, engine
from streamptycho.registry import UnknownPluginError

N = 16
GEOMETRY = Geometry(8000.0, 2.0, 75e-6, (N, N))
PIXEL_M = GEOMETRY.object_pixel_m


class Clock:
    """Advances by one second whenever it is read."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


@pytest.fixture(params=ENGINES.names())
def make(request):
    def build(**settings):
        return engine(ReconstructionConfig(engine=request.param, **settings), Clock())

    return build


def start(projection=0, angle_deg=None):
    return ProjectionStart(scan_id="s", projection=projection, angle_deg=angle_deg, n_frames=None, geometry=GEOMETRY)


def batch(first=0, count=6, projection=0, seed=0):
    random = np.random.default_rng(seed + first)
    return DiffractionBatch(
        scan_id="s",
        projection=projection,
        index=np.arange(first, first + count),
        counts=random.poisson(20, (count, N, N)).astype(np.uint16),
        xy_m=random.uniform(0, 20, (count, 2)) * PIXEL_M,
        quality=np.full(count, Quality.MEASURED, np.uint8),
    )


def finite(update: ObjectUpdate):
    return all(np.isfinite(a).all() for a in (update.object, update.probe, update.coverage, update.errors))


def test_nothing_before_the_first_frame(make):
    subject = make()
    subject.begin(start())
    assert subject.frames == 0
    assert subject.sweeps == 0
    assert subject.update() is None
    assert subject.update(final=True) is None
    progress = subject.step(5)
    assert (progress.frames, progress.updates, progress.error) == (0, 0, None)


def test_order_of_use_is_explained(make):
    subject = make()
    for use in (lambda: subject.add(batch()), lambda: subject.step(1), subject.update):
        with pytest.raises(EngineError, match="begin"):
            use()
    assert subject.frames == 0


def test_update_says_what_it_shows(make):
    subject = make(modes=2, sweeps=3, min_sweeps=1, margin_px=5)
    subject.begin(start(projection=4, angle_deg=12.5))
    frames = batch(projection=4)
    assert subject.add(frames) == []
    while subject.sweeps < 3:
        subject.step(20)
    update = subject.update(final=True)
    assert (update.scan_id, update.projection, update.angle_deg, update.final) == ("s", 4, 12.5, True)
    assert update.object.dtype == np.complex64
    assert update.object.shape == update.coverage.shape
    assert update.probe.shape == (2, N, N)
    assert update.pixel_m == PIXEL_M
    assert update.energy_ev == 8000.0
    assert update.sweeps == 3
    assert update.errors.shape == (3,)
    np.testing.assert_array_equal(update.index, frames.index)
    np.testing.assert_array_equal(update.xy_m, frames.xy_m)
    corner_px = (update.xy_m - update.origin_xy_m) / PIXEL_M - N // 2
    assert (corner_px > 4).all()
    assert (corner_px[:, 0] + N < update.object.shape[1] - 4).all()
    assert (corner_px[:, 1] + N < update.object.shape[0] - 4).all()
    assert finite(update)


def test_an_update_does_not_change_afterwards(make):
    subject = make()
    subject.begin(start())
    subject.add(batch())
    subject.step(5)
    update = subject.update()
    copies = update.object.copy(), update.probe.copy()
    subject.step(30)
    np.testing.assert_array_equal(update.object, copies[0])
    np.testing.assert_array_equal(update.probe, copies[1])


def test_the_budget_is_kept_and_work_ends_at_the_target(make):
    subject = make(sweeps=2, min_sweeps=1)
    subject.begin(start())
    subject.add(batch(count=6))
    assert subject.step(0).updates == 0
    assert 1 <= subject.step(4).updates <= 12
    for _ in range(20):
        subject.step(4)
    assert subject.sweeps == 2
    assert subject.step(100).updates == 0
    subject.add(batch(first=6))
    assert subject.sweeps < 1
    assert subject.step(100).updates > 0


def test_bad_frames_are_counted_and_left_out(make):
    good = batch(count=9)
    counts, xy_m, index = good.counts.copy(), good.xy_m.copy(), good.index.copy()
    quality = good.quality.copy()
    counts[0] = 0
    counts[1] = 65535
    xy_m[2, 0] = np.nan
    xy_m[3, 1] = np.inf
    xy_m[4] = 1e300
    xy_m[5] = 1.0
    index[6] = 8
    quality[7] = Quality.TURNAROUND
    subject = make()
    subject.begin(start())
    found = subject.add(
        DiffractionBatch(scan_id="s", projection=0, index=index, counts=counts, xy_m=xy_m, quality=quality)
    )
    assert {a.reason.value: a.count for a in found} == {
        "no beam": 2,
        "unpaired": 2,
        "out of range": 2,
        "duplicate": 1,
        "turn-around": 1,
    }
    assert all(a.source == "reconstruct" for a in found)
    assert subject.frames == 1
    subject.step(30)
    assert finite(subject.update(final=True))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("counts", np.ones((6, N, N + 1), np.uint16)),
        ("counts", np.ones((5, N, N), np.uint16)),
        ("counts", np.ones((6, N, N), complex)),
        ("counts", np.ones((6, N, N), bool)),
        ("xy_m", np.zeros((6, 3))),
        ("quality", np.zeros(5, np.uint8)),
    ],
)
def test_batches_that_do_not_fit_are_corrupt(make, field, value):
    good = batch()
    arrays = {"index": good.index, "counts": good.counts, "xy_m": good.xy_m, "quality": good.quality, field: value}
    subject = make()
    subject.begin(start())
    found = subject.add(DiffractionBatch(scan_id="s", projection=0, **arrays))
    assert [(a.reason.value, a.count) for a in found] == [("corrupt", 6)]
    assert subject.frames == 0


def test_frames_of_another_projection_and_repeated_ones_are_not_mixed_in(make):
    subject = make()
    subject.begin(start(projection=1))
    assert [a.reason.value for a in subject.add(batch(projection=0))] == ["stray"]
    assert subject.add(batch(projection=1)) == []
    assert [(a.reason.value, a.count) for a in subject.add(batch(projection=1))] == [("duplicate", 6)]
    assert subject.frames == 6


def test_an_empty_batch_is_nothing(make):
    subject = make()
    subject.begin(start())
    assert subject.add(batch(count=0)) == []
    assert subject.update() is None


def test_one_frame_is_reconstructed(make):
    subject = make(sweeps=20)
    subject.begin(start())
    subject.add(batch(count=1))
    subject.step(1000)
    update = subject.update(final=True)
    assert finite(update)
    assert update.resolution_m is None
    assert update.errors[-1] < update.errors[0]


def test_frames_that_do_not_overlap_are_reconstructed(make):
    subject = make(sweeps=5, min_sweeps=1)
    subject.begin(start())
    frames = batch(count=20)
    apart = np.stack([np.arange(20.0) * 40, np.zeros(20)], axis=1) * PIXEL_M
    subject.add(
        DiffractionBatch(
            scan_id="s", projection=0, index=frames.index, counts=frames.counts, xy_m=apart, quality=frames.quality
        )
    )
    subject.step(1000)
    assert finite(subject.update(final=True))


def test_unknown_names_list_the_known():
    with pytest.raises(UnknownPluginError, match="epie"):
        engine(ReconstructionConfig(engine="epi"))
