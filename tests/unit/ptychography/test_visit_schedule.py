import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.ptychography.schedule import VisitSchedule


def take(schedule, count):
    taken = []
    while len(taken) < count:
        frames, _ = schedule.take(min(7, count - len(taken)))
        assert frames.size > 0
        taken.extend(frames.tolist())
    return taken


def test_batch_gives_complete_random_sweeps():
    schedule = VisitSchedule(1, 4)
    schedule.add(50)
    sweeps = [schedule.take(50)[0].tolist() for _ in range(4)]
    assert all(sorted(sweep) == list(range(50)) for sweep in sweeps)
    assert len({tuple(sweep) for sweep in sweeps}) == 4
    assert schedule.take(9)[0].size == 0
    assert schedule.sweeps == 4


def test_new_frames_take_every_second_turn():
    schedule = VisitSchedule(0, 100)
    schedule.add(100)
    take(schedule, 150)
    schedule.add(10)
    turns = take(schedule, 20)
    assert sorted(k for k in turns if k >= 100) == list(range(100, 110))
    assert sum(k < 100 for k in turns) == 10


def test_late_frames_catch_up_and_old_ones_are_not_forgotten():
    schedule = VisitSchedule(0, 30)
    schedule.add(100)
    take(schedule, 1000)
    schedule.add(100)
    before = schedule.visits.copy()
    take(schedule, 900)
    gained = schedule.visits - before
    assert gained[100:].mean() > 1.5 * gained[:100].mean() > 0


def test_seed_decides_the_order():
    orders = []
    for seed in (3, 3, 4):
        schedule = VisitSchedule(seed, 2)
        schedule.add(20)
        orders.append(take(schedule, 40))
    assert orders[0] == orders[1] != orders[2]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 60)), max_size=12), st.integers(1, 5))
def test_every_frame_reaches_the_target_whatever_the_arrival(events, target):
    schedule = VisitSchedule(0, target)
    total = 0
    for arriving, visits in events:
        schedule.add(arriving)
        total += arriving
        frames, numbers = schedule.take(visits)
        assert len(frames) <= visits
        assert ((frames >= 0) & (frames < total)).all()
        assert (numbers <= schedule.visits[frames]).all()
        assert (numbers >= 1).all()
    for _ in range(100 * (total + 1) * target):
        if schedule.take(7)[0].size == 0:
            break
    assert len(schedule.visits) == total
    assert total == 0 or schedule.visits.min() >= target
    assert schedule.take(9)[0].size == 0
    assert np.isfinite(schedule.sweeps)
