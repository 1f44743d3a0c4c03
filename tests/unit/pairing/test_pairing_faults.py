"""What goes wrong at a beamline: each loss has a number and a reason, and nothing stalls or shifts."""

from __future__ import annotations

import numpy as np
import pytest

from streamptycho.config import PairingConfig, ProjectionsConfig
from streamptycho.messages import Anomaly, FrameBlock, Message, Reason, SeriesEnd, SeriesStart
from streamptycho.pairing import AngleMissingError, ClockError, GeometryUnknownError, Pairing
from tests.unit.pairing.pairing_scenario import (
    EPOCH_S,
    SECOND_NS,
    acquisition_end,
    acquisition_start,
    collect,
    frame_block,
    mark,
    row_block,
    run,
    series_start,
    xy_of,
)


def detector_stream(k: int, n: int, **kwargs: object) -> list[Message]:
    epoch_s = EPOCH_S + 10.0 * k
    return [series_start(k, n, epoch_s=epoch_s, **kwargs), frame_block(k, range(n)), SeriesEnd(series=f"s{k}")]


def position_stream(k: int, n: int) -> list[Message]:
    epoch_s = EPOCH_S + 10.0 * k + 0.3
    return [acquisition_start(k, epoch_s=epoch_s), row_block(k, range(n)), acquisition_end(k, n)]


@pytest.mark.parametrize("frames_first", [True, False])
def test_a_missing_arm_loses_its_own_series_only(frames_first: bool) -> None:
    detector = [m for k in range(4) for m in detector_stream(k, 10)]
    positions = [m for k in (0, 2, 3) for m in position_stream(k, 10)]
    order = detector + positions if frames_first else positions + detector
    outcome, _ = run(order)
    assert [e.dropped for e in outcome.ends] == [{}, {"unpaired": 10}, {}, {}]
    assert {k for k, _ in outcome.frames} == {0, 2, 3}
    assert all(xy == pytest.approx(xy_of(k, i)) for (k, i), (_, xy, _) in outcome.frames.items())


def test_a_missing_arm_is_found_out_before_the_scan_ends() -> None:
    core = Pairing("scan", PairingConfig(), ProjectionsConfig())
    out: list[object] = []
    for k in range(4):
        for message in detector_stream(k, 200) + (position_stream(k, 200) if k != 1 else []):
            out += core.feed(message, 0)
    ended = [m.projection for m in out if type(m).__name__ == "ProjectionEnd"]
    assert ended[:3] == [0, 1, 2]


def test_positions_that_stop_half_way_keep_the_first_half() -> None:
    stream = [*detector_stream(0, 10), acquisition_start(0, epoch_s=EPOCH_S), row_block(0, range(5))]
    outcome, _ = run([*stream, acquisition_end(0, 5, complete=False)])
    assert sorted(outcome.frames) == [(0, i) for i in range(5)]
    assert outcome.ends[0].dropped == {"unpaired": 5}


def test_positions_that_fall_silent_time_out_and_later_series_go_on() -> None:
    core = Pairing("scan", PairingConfig(positions_timeout_s=20.0), ProjectionsConfig())
    out: list[object] = []
    for message in [*detector_stream(0, 10), acquisition_start(0, epoch_s=EPOCH_S), row_block(0, range(5))]:
        out += core.feed(message, SECOND_NS)
    out += core.tick(20 * SECOND_NS)
    assert not [m for m in out if type(m).__name__ == "ProjectionEnd"]
    out += core.tick(22 * SECOND_NS)
    (end,) = [m for m in out if type(m).__name__ == "ProjectionEnd"]
    assert (end.frames_paired, end.dropped) == (5, {"unpaired": 5})
    for message in detector_stream(1, 10) + position_stream(1, 10):
        out += core.feed(message, 23 * SECOND_NS)
    out += core.tick(26 * SECOND_NS)
    out += core.finish(30 * SECOND_NS, "finished")
    assert [e.frames_paired for e in collect(out).ends] == [5, 10]


def test_rows_of_other_acquisitions_do_not_keep_a_series_waiting_for_its_own() -> None:
    core = Pairing("scan", PairingConfig(match="order", positions_timeout_s=20.0), ProjectionsConfig())
    out: list[object] = []
    for message in [*detector_stream(0, 10), acquisition_start(0), row_block(0, range(5)), acquisition_start(1)]:
        out += core.feed(message, SECOND_NS)
    for row in range(6):
        now_ns = (5 + 5 * row) * SECOND_NS
        out += core.feed(row_block(1, [row]), now_ns)
        out += core.tick(now_ns)
    (end,) = [m for m in out if type(m).__name__ == "ProjectionEnd"]
    assert (end.frames_paired, end.dropped) == (5, {"unpaired": 5})


def test_an_absent_position_source_leaves_counted_projections() -> None:
    outcome, _ = run([m for k in range(3) for m in detector_stream(k, 10)])
    assert [e.dropped for e in outcome.ends] == [{"unpaired": 10}] * 3


def test_a_lag_within_the_timeout_loses_nothing() -> None:
    core = Pairing("scan", PairingConfig(positions_timeout_s=20.0), ProjectionsConfig())
    out: list[object] = []
    for message in detector_stream(0, 10):
        out += core.feed(message, 0)
    for at, row in enumerate(range(10)):
        if at == 0:
            out += core.feed(acquisition_start(0, epoch_s=EPOCH_S), 15 * SECOND_NS)
        now_ns = (15 + 15 * at) * SECOND_NS
        out += core.tick(now_ns)
        out += core.feed(row_block(0, [row]), now_ns)
    out += core.finish(0, "finished")
    assert collect(out).ends[0].frames_paired == 10


def test_zero_frames_give_a_projection_of_zeros() -> None:
    stream: list[Message] = [series_start(0, None), SeriesEnd(series="s0"), series_start(1, 0), SeriesEnd(series="s1")]
    outcome, _ = run(stream)
    assert [(e.frames_sent, e.frames_received, e.dropped) for e in outcome.ends] == [(0, 0, {}), (0, 0, {})]


def test_no_series_at_all_gives_only_the_end() -> None:
    outcome, _ = run([])
    assert outcome.scan_end is not None
    assert (outcome.scan_end.reason, outcome.scan_end.projections) == ("finished", 0)


def test_an_aborted_series_is_closed_by_the_next_one() -> None:
    aborted = [series_start(0, 100, epoch_s=EPOCH_S), frame_block(0, range(40))]
    core = Pairing("scan", PairingConfig(), ProjectionsConfig())
    out: list[object] = []
    stream = [*aborted, *position_stream(0, 40), *detector_stream(1, 10), *position_stream(1, 10)]
    for message in stream:
        out += core.feed(message, 0)
    first = next(m for m in out if type(m).__name__ == "ProjectionEnd")
    assert (first.reason, first.frames_sent, first.frames_paired) == ("superseded", 100, 40)
    assert first.dropped == {"missing": 60}
    out += core.finish(0, "finished")
    assert [e.frames_paired for e in collect(out).ends] == [40, 10]


def test_a_series_number_that_starts_again_is_a_new_series() -> None:
    first = [series_start(0, 5), frame_block(0, range(5)), SeriesEnd(series="s0")]
    again = [series_start(0, 3), frame_block(0, range(3)), SeriesEnd(series="s0")]
    positions = [acquisition_start(0), row_block(0, range(5)), acquisition_end(0)]
    more = [acquisition_start(1), row_block(1, range(3)), acquisition_end(1)]
    outcome, _ = run([*first, *again, *positions, *more])
    assert [e.frames_paired for e in outcome.ends] == [5, 3]
    assert outcome.frames[1, 2] == (mark(0, 2), pytest.approx(xy_of(1, 2)), 0)


def test_the_end_of_a_series_waits_a_grace_for_frames_it_overtook() -> None:
    core = Pairing("scan", PairingConfig(), ProjectionsConfig())
    out: list[object] = []
    for message in [*position_stream(0, 10), series_start(0, 10, epoch_s=EPOCH_S), SeriesEnd(series="s0")]:
        out += core.feed(message, 0)
    out += core.feed(frame_block(0, range(9)), SECOND_NS)
    out += core.tick(2 * SECOND_NS)
    assert not [m for m in out if type(m).__name__ == "ProjectionEnd"]
    out += core.tick(4 * SECOND_NS)
    (end,) = [m for m in out if type(m).__name__ == "ProjectionEnd"]
    assert (end.reason, end.frames_paired, end.dropped) == ("incomplete", 9, {"missing": 1})
    out += core.feed(frame_block(0, [9]), 5 * SECOND_NS)
    assert core.anomalies["late"] == 1


def test_a_loss_that_the_decoder_explained_keeps_its_reason() -> None:
    corrupt = Anomaly(source="detector", reason=Reason.CORRUPT, series="s0", count=2)
    truncated = Anomaly(source="detector", reason=Reason.TRUNCATED, series="s0")
    frames = [series_start(0, 10), frame_block(0, range(6)), corrupt, truncated, SeriesEnd(series="s0")]
    outcome, _ = run([*frames, *position_stream(0, 10)])
    assert outcome.ends[0].dropped == {"corrupt": 2, "truncated": 1, "missing": 1}
    assert outcome.ends[0].frames_sent == 10


def test_missed_rows_are_not_shifted() -> None:
    positions = [acquisition_start(0, missed=4), row_block(0, range(4, 10)), acquisition_end(0)]
    outcome, _ = run([*detector_stream(0, 10), *positions])
    assert outcome.ends[0].dropped == {"unpaired": 4}
    assert outcome.frames[0, 7][1] == pytest.approx(xy_of(0, 7))


def test_a_hole_in_the_rows_does_not_hold_up_a_long_acquisition() -> None:
    rows = [i for i in range(3000) if i != 3]
    core = Pairing("scan", PairingConfig(one_acquisition=True), ProjectionsConfig())
    out: list[object] = []
    stream = [acquisition_start(0), series_start(0, 10), frame_block(0, range(10)), row_block(0, rows[:1000])]
    for message in [*stream, row_block(0, rows[1000:])]:
        out += core.feed(message, 0)
    (end,) = [m for m in out if type(m).__name__ == "ProjectionEnd"]
    assert (end.frames_paired, end.dropped) == (9, {"unpaired": 1})


def test_too_many_waiting_frames_drop_the_oldest_and_count_them() -> None:
    core = Pairing("scan", PairingConfig(max_waiting_frames=20), ProjectionsConfig())
    out: list[object] = list(core.feed(series_start(0, 50), 0))
    for i in range(50):
        out += core.feed(frame_block(0, [i]), 0)
        assert core.waiting_frames <= 20
    for message in [acquisition_start(0), row_block(0, range(50)), acquisition_end(0)]:
        out += core.feed(message, 0)
    out += core.finish(0, "finished")
    (end,) = collect(out).ends
    assert (end.frames_paired, end.dropped) == (20, {"overflow": 30})


def test_frames_behind_an_unpositioned_series_count_as_waiting() -> None:
    core = Pairing("scan", PairingConfig(max_waiting_frames=20, match="order", batch_frames=5), ProjectionsConfig())
    out: list[object] = []
    for message in [series_start(0, 5), frame_block(0, range(4)), acquisition_start(0), acquisition_start(1)]:
        out += core.feed(message, 0)
    out += core.feed(row_block(1, range(60)), 0)
    out += core.feed(series_start(1, 60), 0)
    for i in range(60):
        out += core.feed(frame_block(1, [i]), 0)
        assert core.waiting_frames <= 25
    out += core.finish(0, "finished")
    ends = collect(out).ends
    assert [(e.frames_paired, e.dropped) for e in ends] == [(0, {"overflow": 4, "missing": 1}), (60, {})]


def test_the_last_projection_ends_the_scan_once_and_the_rest_is_stray() -> None:
    stream = [m for k in range(4) for m in [*detector_stream(k, 10), *position_stream(k, 10)]]
    outcome, core = run(stream, PairingConfig(match="order"), ProjectionsConfig(count=2))
    assert outcome.scan_end is not None
    assert (outcome.scan_end.reason, outcome.scan_end.projections) == ("complete", 2)
    assert core.anomalies["stray"] == 20


def test_labels_number_and_turn_the_projections() -> None:
    labels = [{"projection": 7, "angle_deg": 12.5}, {"projection": 7}, {"projection": True}, {"projection": "x"}]
    stream = [m for k, label in enumerate(labels) for m in detector_stream(k, 1, **label)]
    cut = ProjectionsConfig(first_angle_deg=-90.0, angle_step_deg=2.0)
    outcome, _ = run(stream, None, cut)
    assert [s.projection for s in outcome.starts] == [7, 8, 9, 10]
    assert [e.angle_deg for e in outcome.ends] == [12.5, -74.0, -72.0, -70.0]


def test_a_captured_angle_wins_over_the_label() -> None:
    rows = [acquisition_start(0), row_block(0, range(10), angle_deg=33.0), acquisition_end(0)]
    outcome, _ = run([*detector_stream(0, 10, angle_deg=1.0), *rows])
    assert outcome.starts[0].angle_deg == 1.0
    assert outcome.ends[0].angle_deg == pytest.approx(33.0)


def test_frames_of_another_shape_are_corrupt() -> None:
    odd = FrameBlock(
        series="s0",
        index=np.array([2]),
        exposure_start_s=np.zeros(1),
        exposure_stop_s=np.ones(1),
        counts=np.zeros((1, 5, 4), dtype=np.uint16),
    )
    outcome, _ = run([series_start(0, 3), frame_block(0, [0, 1]), odd, *position_stream(0, 3)])
    assert outcome.ends[0].dropped == {"corrupt": 1}


def test_frames_moved_while_the_angle_turns_are_marked() -> None:
    angles = [0.0, 0.0, 0.4, 0.8, 1.0, 1.0, 1.0]
    rows = [row_block(0, [i], angle_deg=a) for i, a in enumerate(angles)]
    cut = ProjectionsConfig(cut_by="angle", min_angle_step_deg=0.3)
    outcome, _ = run([*detector_stream(0, 7), acquisition_start(0), *rows, acquisition_end(0)], None, cut)
    assert [e.angle_deg for e in outcome.ends] == pytest.approx([0.0, 1.0])
    assert [e.frames_paired for e in outcome.ends] == [4, 3]
    assert [outcome.frames[0, i][2] for i in range(4)] == [0, 0, 3, 3]


def test_one_angle_over_many_series_is_one_projection() -> None:
    detector = [m for k in range(3) for m in detector_stream(k, 4)]
    rows = [row_block(0, range(8), angle_deg=5.0), row_block(0, range(8, 12), angle_deg=9.0)]
    cut = ProjectionsConfig(cut_by="angle")
    pairing = PairingConfig(one_acquisition=True)
    outcome, _ = run([*detector, acquisition_start(0), *rows, acquisition_end(0)], pairing, cut)
    assert [(e.angle_deg, e.frames_paired) for e in outcome.ends] == [(5.0, 8), (9.0, 4)]
    assert sorted(i for p, i in outcome.frames if p == 0) == list(range(8))


def test_errors_tell_the_operator_what_to_set() -> None:
    core = Pairing("scan", PairingConfig(), ProjectionsConfig())
    with pytest.raises(GeometryUnknownError, match=r"detector\.energy_ev"):
        core.feed(SeriesStart(series="1", n_frames=1, geometry=None), 0)
    core = Pairing("scan", PairingConfig(match="time"), ProjectionsConfig())
    with pytest.raises(ClockError, match="match: order"):
        core.feed(series_start(0, 1), 0)
    with pytest.raises(ClockError, match="match: order"):
        core.feed(acquisition_start(0), 0)
    core = Pairing("scan", PairingConfig(), ProjectionsConfig(cut_by="angle"))
    core.feed(acquisition_start(0), 0)
    with pytest.raises(AngleMissingError, match=r"positions\.angle"):
        core.feed(row_block(0, [0]), 0)


def test_hostile_numbers_are_counted_and_cost_no_memory() -> None:
    far = frame_block(0, [2**40, -1])
    rows = row_block(0, [2**50, -5, 0])
    outcome, core = run([series_start(0, None), far, frame_block(0, [0]), acquisition_start(0), rows])
    assert outcome.ends[0].frames_paired == 1
    assert core.anomalies["stray"] == 2


def test_a_count_that_is_reached_only_at_the_end_leaves_nothing_waiting() -> None:
    stream = [m for k in range(3) for m in detector_stream(k, 10)]
    outcome, core = run(stream, None, ProjectionsConfig(count=2))
    assert [e.dropped for e in outcome.ends] == [{"unpaired": 10}] * 2
    assert core.anomalies["stray"] == 10


def test_an_unknown_message_and_an_unannounced_series_do_no_harm() -> None:
    outcome, core = run([frame_block(5, range(3)), row_block(5, range(3)), SeriesEnd(series="x"), acquisition_end(9)])
    assert outcome.starts == []
    assert core.anomalies["stray"] == 8


def test_a_tick_sends_the_partial_batch() -> None:
    core = Pairing("scan", PairingConfig(batch_frames=64), ProjectionsConfig())
    stream = [series_start(0, 10, epoch_s=EPOCH_S), frame_block(0, range(3)), *position_stream(0, 10)[:2]]
    out = [m for message in stream for m in core.feed(message, SECOND_NS)]
    assert not [m for m in out if type(m).__name__ == "DiffractionBatch"]
    (batch,) = core.tick(4 * SECOND_NS)
    assert batch.index.tolist() == [0, 1, 2]
    assert core.waiting_frames == 0


def test_the_last_frame_time_is_that_of_the_record() -> None:
    stream = [series_start(0, 2), frame_block(0, [0]), frame_block(0, [1]), *position_stream(0, 2)]
    outcome, _ = run(stream, step_ns=10)
    assert outcome.ends[0].last_frame_ns == 30


@pytest.mark.parametrize("late", [False, True])
def test_a_nearer_acquisition_that_arrives_later_is_waited_for(late: bool) -> None:
    n = 200
    stray = [acquisition_start(0, epoch_s=EPOCH_S - 0.9), row_block(0, range(50)), acquisition_end(0)]
    right = [acquisition_start(1, epoch_s=EPOCH_S + 0.3), row_block(1, range(n)), acquisition_end(1)]
    detector = [series_start(0, n, epoch_s=EPOCH_S), frame_block(0, range(n)), SeriesEnd(series="s0")]
    outcome, _ = run(stray + (detector + right if late else right + detector))
    assert len(outcome.frames) == n
    assert outcome.frames[0, 9][1] == pytest.approx(xy_of(1, 9))
