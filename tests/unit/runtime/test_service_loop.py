"""The loop of a service, driven in memory."""

import itertools

import numpy as np
import pytest

from streamptycho.messages import DiffractionBatch, ProjectionEnd, ScanEnd, ServiceStatus
from streamptycho.runtime.memory import MemoryQueue
from streamptycho.runtime.service import ServiceLoop
from streamptycho.runtime.sockets import PortError, PubSink, PullSource, PushSink, SubSource, free_ports


def batch(number):
    return DiffractionBatch(
        scan_id="s",
        projection=0,
        index=np.array([number]),
        counts=np.zeros((1, 4, 4), np.uint8),
        xy_m=np.zeros((1, 2)),
        quality=np.zeros(1, np.uint8),
    )


class PassOn:
    name = "pass"
    busy = False
    accepts = True
    finished = False

    def handle(self, message, now_ns):
        self.finished = isinstance(message, ScanEnd)
        yield message

    def work(self, now_ns):
        return ()

    def stop(self, now_ns):
        yield ScanEnd(scan_id="s", reason="stopped", projections=0)

    def status(self, now_ns):
        return ServiceStatus(service=self.name, state="running")


def drain(queue):
    return list(iter(lambda: queue.get(0), None))


def test_data_go_one_way_and_what_people_look_at_the_other():
    source, data, look = MemoryQueue(), MemoryQueue(), MemoryQueue()
    for message in (batch(0), ScanEnd(scan_id="s", reason="complete", projections=1)):
        source.put(message, 0)
    ServiceLoop(PassOn(), source, data, look).run()
    assert [type(m) for m in drain(data)] == [DiffractionBatch, ScanEnd]
    assert [type(m) for m in drain(look) if not isinstance(m, ServiceStatus)] == [ScanEnd]


def test_what_waits_is_taken_before_a_service_stops():
    source, data = MemoryQueue(), MemoryQueue()
    for number in range(3):
        source.put(batch(number), 0)
    ServiceLoop(PassOn(), source, data, None, should_stop=lambda: True).run()
    assert [type(m) for m in drain(data)] == [DiffractionBatch] * 3 + [ScanEnd]


def test_data_that_nobody_takes_hold_nothing_up_and_still_reach_the_taps():
    class Full:
        def put(self, message, timeout_s):
            return False

        def close(self):
            pass

    source, seen = MemoryQueue(), []
    for message in (batch(0), batch(1), ScanEnd(scan_id="s", reason="complete", projections=1)):
        source.put(message, 0)
    ServiceLoop(PassOn(), source, Full(), None, taps=[seen.append], nobody_takes=lambda: True).run()
    assert [type(m) for m in seen if not isinstance(m, ServiceStatus)] == [DiffractionBatch] * 2 + [ScanEnd]


def test_a_stopped_service_hands_on_what_it_can_still_make():
    source, data = MemoryQueue(), MemoryQueue()
    ServiceLoop(PassOn(), source, data, None, should_stop=lambda: True).run()
    assert [m.reason for m in drain(data)] == ["stopped"]


def test_a_full_queue_holds_the_service_up_and_loses_nothing():
    source, data = MemoryQueue(), MemoryQueue(size=1)
    for number in range(4):
        source.put(batch(number), 0)
    taken, asked = [], itertools.count()

    def stop():
        message = data.get(0)
        if message is not None:
            taken.append(int(message.index[0]))
        return next(asked) > 50

    ServiceLoop(PassOn(), source, data, None, should_stop=stop).run()
    assert taken == [0, 1, 2, 3]


def test_a_stage_that_does_not_accept_is_left_alone():
    stage, source = PassOn(), MemoryQueue()
    stage.accepts = False
    source.put(batch(0), 0)
    loop = ServiceLoop(stage, source, None, None)
    assert loop.step() is False
    assert source.get(0) is not None


def test_a_failure_is_published_with_its_sentence():
    look = MemoryQueue()
    ServiceLoop(PassOn(), None, None, look).publish_status(failure="the disk is full")
    status = drain(look)[-1]
    assert (status.state, status.text) == ("failed", "the disk is full")


def test_messages_cross_real_sockets_in_order_and_a_taken_port_is_a_clear_error():
    data_port, status_port = free_ports(2)
    push = PushSink(f"tcp://127.0.0.1:{data_port}", 8)
    pull = PullSource(f"tcp://127.0.0.1:{data_port}", 8)
    pub = PubSink(f"tcp://127.0.0.1:{status_port}")
    sub = SubSource([f"tcp://127.0.0.1:{status_port}"], (ServiceStatus,))
    try:
        for number in range(5):
            assert push.put(batch(number), 5.0)
        assert [int(pull.get(5.0).index[0]) for _ in range(5)] == list(range(5))
        seen = None
        for _ in range(100):
            pub.put(
                ProjectionEnd(
                    scan_id="s",
                    projection=0,
                    angle_deg=None,
                    reason="",
                    frames_sent=0,
                    frames_received=0,
                    frames_paired=0,
                )
            )
            pub.put(ServiceStatus(service="x", state="running"))
            seen = sub.get(0.05)
            if seen is not None:
                break
        assert isinstance(seen, ServiceStatus)
        with pytest.raises(PortError, match="Is another run using this port"):
            PushSink(f"tcp://127.0.0.1:{data_port}", 8)
    finally:
        for port in (push, pull, pub, sub):
            port.close()


def test_back_pressure_reaches_the_sender():
    port = free_ports(1)[0]
    push, pull = PushSink(f"tcp://127.0.0.1:{port}", 1), PullSource(f"tcp://127.0.0.1:{port}", 1)
    try:
        big = DiffractionBatch(
            scan_id="s",
            projection=0,
            index=np.zeros(8),
            counts=np.zeros((8, 512, 512), np.uint32),
            xy_m=np.zeros((8, 2)),
            quality=np.zeros(8, np.uint8),
        )
        accepted = sum(push.put(big, 0.2) for _ in range(12))
        assert 1 <= accepted < 12
        assert sum(pull.get(1.0) is not None for _ in range(accepted)) == accepted
    finally:
        push.close()
        pull.close()
