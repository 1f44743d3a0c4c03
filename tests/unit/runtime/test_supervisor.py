"""Processes are started, watched, and gone afterwards."""

import sys
import time

from streamptycho.runtime.supervisor import Exit, Supervisor


def wait_for(condition, timeout_s=20.0):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_every_end_is_reported_once_in_words(tmp_path):
    supervisor = Supervisor(tmp_path)
    supervisor.start("good", [sys.executable, "-c", "print('done')"])
    supervisor.start("bad", [sys.executable, "-c", "import sys; print('no such detector'); sys.exit(3)"])
    supervisor.start("killed", [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"])
    ended = []
    assert wait_for(lambda: ended.extend(supervisor.poll()) or len(ended) == 3)
    words = {item.name: item.how for item in ended}
    assert words == {
        "good": "ended with exit code 0",
        "bad": "ended with exit code 3",
        "killed": "was killed by SIGKILL",
    }
    assert supervisor.last_words("bad") == "no such detector"
    assert supervisor.poll() == []
    supervisor.close()


def test_close_kills_what_does_not_listen(tmp_path):
    supervisor = Supervisor(tmp_path)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"
    supervisor.start("deaf", [sys.executable, "-c", code])
    assert wait_for(lambda: supervisor.last_words("deaf") == "on")
    supervisor.close()
    assert not supervisor.running("deaf")
    assert supervisor.poll() == [Exit(name="deaf", code=-9, asked=True)]


def test_a_service_learns_that_nobody_takes_its_data_even_before_it_listens(tmp_path):
    supervisor = Supervisor(tmp_path)
    code = """
import sys, time
time.sleep(0.5)
from streamptycho.runtime.supervisor import StopSignal
stop = StopSignal()
time.sleep(0.1)
print(stop.abandoned, stop.count)
"""
    supervisor.start("deserted", [sys.executable, "-c", code])
    supervisor.abandon("deserted")
    assert supervisor.wait("deserted", 20.0)
    assert supervisor.last_words("deserted") == "True 0"
    supervisor.close()


def test_a_service_is_started_again(tmp_path):
    supervisor = Supervisor(tmp_path)
    for number in range(2):
        supervisor.start("one", [sys.executable, "-c", f"import sys; sys.exit({number})"])
        assert supervisor.wait("one", 20.0)
        assert [item.code for item in supervisor.poll()] == [number]
    supervisor.close()


def test_a_service_that_is_replaced_is_gone_and_did_not_fail(tmp_path):
    supervisor = Supervisor(tmp_path)
    old = supervisor.start("one", [sys.executable, "-c", "import time; time.sleep(60)"])
    supervisor.kill("one")
    assert not supervisor.running("one")
    assert supervisor.start("one", [sys.executable, "-c", "pass"]) != old
    assert supervisor.wait("one", 20.0)
    assert supervisor.poll() == [Exit(name="one", code=0)]
    supervisor.close()
