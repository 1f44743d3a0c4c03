"""The process that plays the detector in benchmarks sends every message, unchanged and in order, to a real PULL."""

import time

import pytest

from benchmarks.sender import sending

SIZES = (1, 254, 255, 256, 447, 448, 511, 512, 513, 5000, 90_000)


def messages(count):
    return [(bytes([k % 251]) * 3 + bytes(SIZES[k % len(SIZES)] - 3) if k % 11 else b"%d" % k,) for k in range(count)]


@pytest.mark.parametrize("connections", [1, 2])
@pytest.mark.parametrize("rate_hz", [0.0, 5000.0])
def test_messages_arrive_as_they_were_given(tmp_path, connections, rate_hz):
    sent = [message for (message,) in messages(2000)]
    with sending([(message,) for message in sent], tmp_path, connections) as sender:
        for _ in range(2):
            began = time.perf_counter()
            sender.send_all(rate_hz)
            for number, socket in enumerate(sender.sockets):
                for expected in sent[number::connections]:
                    assert socket.poll(20_000)
                    assert socket.recv_multipart() == [expected]
            if rate_hz:
                assert time.perf_counter() - began > 0.9 * len(sent) / rate_hz
        assert not any(socket.poll(50) for socket in sender.sockets)
