"""Reading a log at a speed, and what is handed on."""

import pytest

from streamptycho.messages import RawRecord
from streamptycho.stages.record import LogFeed, RecordStage


def record(number, received_ns=0, kind="data"):
    return RawRecord(source="detector", kind=kind, sequence=number, received_ns=received_ns, parts=(b"x",))


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s

    def sleep(self, seconds):
        self.now_s += seconds


def drain(feed, clock, timeout_s=0.1):
    taken = []
    for _ in range(10_000):
        message = feed.get(timeout_s)
        if message is not None:
            taken.append((message.kind, message.sequence, clock()))
            if message.kind == "end":
                return taken
    raise AssertionError("no end")


@pytest.mark.parametrize(("speed", "factor"), [(1.0, 1.0), (4.0, 0.25), (0.5, 2.0)])
def test_records_leave_when_they_are_due(speed, factor):
    clock = Clock()
    records = [record(k, received_ns=10**18 + k * 300_000_000) for k in range(5)]
    feed = LogFeed(records, speed=speed, clock=clock, sleep=clock.sleep)
    taken = drain(feed, clock)
    assert [sequence for kind, sequence, _ in taken if kind == "data"] == [0, 1, 2, 3, 4]
    times = [time for kind, _, time in taken if kind == "data"]
    assert [t - times[0] for t in times] == pytest.approx([k * 0.3 * factor for k in range(5)], abs=1e-6)


def test_without_a_speed_nothing_waits():
    clock = Clock()
    taken = drain(LogFeed([record(k, k * 10**9) for k in range(5)], clock=clock, sleep=clock.sleep), clock)
    assert taken[-1] == ("end", 0, 100.0)


def test_a_growing_log_is_waited_for():
    clock = Clock()
    feed = LogFeed(iter([None, None, record(1), None, record(2)]), clock=clock, sleep=clock.sleep)
    assert [sequence for kind, sequence, _ in drain(feed, clock) if kind == "data"] == [1, 2]
    assert clock() > 100.0


def test_a_stopped_feed_ends_at_once():
    clock = Clock()
    feed = LogFeed([record(k, k * 10**12) for k in range(5)], speed=1.0, clock=clock, sleep=clock.sleep)
    feed.get(0.1)
    feed.stop()
    assert feed.get(0.1).kind == "end"


def test_the_stage_is_finished_by_the_end_record_and_counts():
    stage = RecordStage()
    assert list(stage.handle(record(0), 0)) != []
    assert not stage.finished
    assert [m.kind for m in stage.handle(record(1, kind="end"), 0)] == ["end"]
    assert stage.finished
    assert stage.status(0).counters["handed_on"] == 2
