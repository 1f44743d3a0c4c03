"""A service that computes for long without a word is still heard, one that hangs is not."""

import time

from streamptycho.messages import ScanEnd, ServiceStatus
from streamptycho.runtime.memory import MemoryQueue
from streamptycho.runtime.pulse import Pulse

RUNNING = ServiceStatus(service="tomography", state="running", text="volume of 9 projections", counters={"n": 9})


def heard(cpu_s, first, *, wait_s=0.5):
    queue = MemoryQueue()
    pulse = Pulse(queue, silent_s=0.02, cpu_s=cpu_s)
    pulse.put(first, 0.0)
    deadline, said = time.monotonic() + wait_s, []
    while len(said) < 3 and time.monotonic() < deadline:
        message = queue.get(0.01)
        said += [message] if message is not None else []
    pulse.close()
    return said


def test_the_last_status_is_repeated_while_the_process_works():
    said = heard(time.monotonic, RUNNING, wait_s=10.0)
    assert [s.text.split(";")[0] for s in said] == ["volume of 9 projections"] * 3
    assert said[0].text == "volume of 9 projections"
    assert "at work for" in said[2].text
    assert said[2].counters == {"n": 9}


def test_a_process_that_hangs_has_no_pulse():
    assert heard(lambda: 7.0, RUNNING) == [RUNNING]


def test_one_that_has_finished_or_has_said_nothing_of_itself_is_not_repeated():
    finished = ServiceStatus(service="tomography", state="finished")
    assert heard(time.monotonic, finished) == [finished]
    end = ScanEnd(scan_id="s", reason="complete", projections=1)
    assert heard(time.monotonic, end) == [end]
