"""When a projection is begun, hurried and finished."""

from dataclasses import replace

import numpy as np
import pytest

from streamptycho.config import ReconstructionConfig
from streamptycho.geometry import Geometry
from streamptycho.messages import (
    Anomaly,
    DiffractionBatch,
    ObjectUpdate,
    ProjectionEnd,
    ProjectionStart,
    Quality,
    ScanEnd,
)
from streamptycho.ptychography import ProbeError
from streamptycho.stages.reconstruct import ReconstructStage

GEOMETRY = Geometry(6200.0, 1.0, 75e-6, (32, 32))
CONFIG = ReconstructionConfig(sweeps=12, min_sweeps=3, slice_s=0.005, preview_s=1e-9)


def start(projection):
    return ProjectionStart(scan_id="s", projection=projection, angle_deg=1.0, n_frames=16, geometry=GEOMETRY)


def batch(projection, quality=Quality.MEASURED):
    rng = np.random.default_rng(projection)
    y, x = np.mgrid[:4, :4] * 5.0 * GEOMETRY.object_pixel_m
    distance = np.hypot(*(np.mgrid[:32, :32] - 16))
    return DiffractionBatch(
        scan_id="s",
        projection=projection,
        index=np.arange(16),
        counts=rng.poisson(200 * np.exp(-((distance / 6) ** 2)), (16, 32, 32)).astype(np.uint16),
        xy_m=np.stack([x.ravel(), y.ravel()], axis=1),
        quality=np.full(16, quality, np.uint8),
    )


def end(projection, **changes):
    fields = {"angle_deg": 7.5, "reason": "complete", "frames_sent": 16, "frames_received": 16, "frames_paired": 16}
    return ProjectionEnd(scan_id="s", projection=projection, last_frame_ns=5_000, **{**fields, **changes})


def scan_end():
    return ScanEnd(scan_id="s", reason="complete", projections=1)


def stage():
    ticks = iter(range(10**9))
    return ReconstructStage(CONFIG, clock=lambda: next(ticks) * 1e-3)


def work_until(stage, condition, limit=5000):
    seen = []
    for k in range(limit):
        seen += stage.work(10_000 + k)
        if condition(seen):
            return seen
    raise AssertionError("did not happen")


def finals(messages):
    return [m for m in messages if isinstance(m, ObjectUpdate) and m.final]


def test_a_projection_with_nothing_behind_it_gets_all_its_sweeps():
    here = stage()
    for message in (start(0), batch(0), end(0, dropped={"missing": 2})):
        assert list(here.handle(message, 0)) == []
    assert here.accepts
    (final,) = finals(work_until(here, finals))
    assert final.sweeps == pytest.approx(12)
    assert final.angle_deg == 7.5
    assert final.dropped == {"missing": 2}
    assert final.last_frame_ns == 5_000
    assert np.isfinite(final.object).all()


def test_a_waiting_projection_hurries_the_one_before_and_pushes_back():
    here = stage()
    for message in (start(0), batch(0), end(0), start(1)):
        list(here.handle(message, 0))
    assert not here.accepts
    (final,) = finals(work_until(here, finals))
    assert 3 <= final.sweeps < 12
    assert here.accepts
    list(here.handle(batch(1), 0))
    assert here.busy


def test_the_end_of_the_scan_does_not_hurry_and_is_handed_on_last():
    here = stage()
    for message in (start(0), batch(0), end(0), scan_end()):
        list(here.handle(message, 0))
    seen = work_until(here, lambda seen: any(isinstance(m, ScanEnd) for m in seen))
    assert isinstance(seen[-1], ScanEnd)
    assert finals(seen)[0].sweeps == pytest.approx(12)
    assert here.finished


def test_previews_come_while_frames_still_arrive():
    here = stage()
    list(here.handle(start(0), 0))
    list(here.handle(batch(0), 0))
    seen = work_until(here, lambda seen: len(seen) >= 2)
    assert all(isinstance(m, ObjectUpdate) and not m.final for m in seen)


def test_a_projection_without_frames_gives_no_image_and_no_stall():
    here = stage()
    for message in (start(0), end(0, frames_paired=0), scan_end()):
        list(here.handle(message, 0))
    seen = work_until(here, lambda seen: any(isinstance(m, ScanEnd) for m in seen))
    assert finals(seen) == []


def test_frames_taken_in_a_turn_are_left_out_and_counted():
    here = stage()
    list(here.handle(start(0), 0))
    anomalies = list(here.handle(batch(0, Quality.TURNAROUND), 0))
    assert [(a.reason, a.count) for a in anomalies] == [("turn-around", 16)]
    list(here.handle(end(0), 0))
    work_until(here, lambda seen: not here.busy)
    assert here.status(0).dropped == {"turn-around": 16}


def test_a_stop_hands_on_what_is_there():
    here = stage()
    for message in (start(0), batch(0)):
        list(here.handle(message, 0))
    list(here.work(1))
    (final,) = finals(here.stop(2))
    assert final.final


def test_the_scan_can_end_before_it_began():
    here = stage()
    assert [type(m) for m in here.handle(scan_end(), 0)] == [ScanEnd]
    assert here.finished


def test_a_projection_without_overlap_is_named():
    running = stage()
    list(running.handle(start(0), 0))
    far = batch(0)
    list(running.handle(replace(far, xy_m=20 * far.xy_m), 1))
    list(running.handle(end(0), 2))
    seen = work_until(running, finals)
    faults = [message for message in seen if isinstance(message, Anomaly)]
    assert [fault.unit for fault in faults] == ["messages"]
    assert faults[0].detail.startswith("projection 0: frames do not overlap: neighbours are")


def test_a_projection_with_hardly_a_frame_left_is_no_result_and_says_why():
    one = stage()
    list(one.handle(start(0), 0))
    far = batch(0)
    list(one.handle(replace(far, xy_m=far.xy_m * 1e6), 0))
    list(one.handle(end(0), 0))
    seen = [*work_until(one, lambda m: not one.busy), *one.handle(scan_end(), 0)]
    assert finals(seen) == []
    warnings = [m for m in seen if isinstance(m, Anomaly) and m.detail]
    assert [(w.reason, w.count) for w in warnings] == [("out of range", 15)]
    assert "positions.x.scale" in warnings[0].detail
    assert one.finished
    assert one.status(0).counters["projections_left_out"] == 1


def test_a_projection_that_cannot_be_begun_leaves_a_status_to_tell_it(tmp_path):
    np.save(tmp_path / "probe.npy", np.ones((8, 8), np.complex64))
    probe = {"start": "file", "file": tmp_path / "probe.npy"}
    one = ReconstructStage(ReconstructionConfig(probe=probe), clock=lambda: 0.0)
    with pytest.raises(ProbeError, match="8"):
        list(one.handle(start(0), 0))
    assert one.status(0).state == "waiting"
    assert list(one.stop(0)) == []


def half(message, part):
    chosen = {name: getattr(message, name)[part] for name in ("index", "counts", "xy_m", "quality")}
    return replace(message, **chosen)


def test_a_projection_that_is_given_again_in_its_middle_has_each_frame_once():
    here = stage()
    for message in (start(0), half(batch(0), slice(10))):
        list(here.handle(message, 0))
    assert list(here.work(0))
    for message in (start(0), batch(0), end(0), scan_end()):
        list(here.handle(message, 0))
    (final,) = finals(work_until(here, lambda seen: here.finished))
    assert sorted(final.index.tolist()) == list(range(16))
    assert final.projection == 0
    assert here.status(0).counters["projections"] == 1
    assert here.status(0).dropped == {}
