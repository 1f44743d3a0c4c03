import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandablocks.commands import (
    Arm,
    CommandError,
    Disarm,
    Get,
    GetBlockInfo,
    GetChanges,
    GetFieldInfo,
    GetPcapBitsLabels,
    Identify,
    Put,
)
from pandablocks.connections import ControlConnection

from streamptycho.runtime.pandabox_control import PandaControl

COLUMNS = ("INENC1.VAL.Mean", "INENC2.VAL.Value", "PCAP.TS_START.Value")


def _ask(command, control):
    client = ControlConnection()
    client.set_api((3, 0))
    to_send = client.send(command)
    for _ in range(50):
        replies = [control.answer(line) for line in to_send.decode().split("\n")[:-1]]
        answer = "".join(f"{reply}\n" for reply in replies if reply is not None)
        to_send = client.receive_bytes(answer.encode())
        for _, response in client.responses():
            return response
    raise AssertionError(f"no answer to {command}")


def test_the_client_of_pandablocks_is_answered():
    control = PandaControl(COLUMNS)
    assert _ask(Identify(), control).software_api() == (3, 0)
    blocks = _ask(GetBlockInfo(), control)
    assert {name: info.number for name, info in blocks.items()} == {"INENC": 2, "PCAP": 1}
    assert blocks["PCAP"].description == "Position capture control"
    assert "BITS0" in _ask(GetFieldInfo("PCAP"), control)
    assert _ask(GetFieldInfo("INENC"), control)["VAL"].type == "pos_out"
    assert len(_ask(GetPcapBitsLabels(), control)["PCAP.BITS3"]) == 32
    assert _ask(Get("INENC1.VAL.CAPTURE"), control) == "Mean"
    assert _ask(Get("INENC7.VAL.CAPTURE"), control) == "No"
    assert _ask(GetChanges(), control).values["INENC2.VAL.CAPTURE"] == "Value"
    assert _ask(Get("*CAPTURE"), control) == ["INENC1.VAL Mean", "INENC2.VAL Value", "PCAP.TS_START Value"]


def test_arming_shows_in_the_status():
    control = PandaControl(COLUMNS)
    control.rows = 12
    assert _ask(Get("PCAP.ACTIVE"), control) == "0"
    assert _ask(Arm(), control) is None
    assert _ask(Get("*PCAP.STATUS"), control).startswith("Busy")
    assert _ask(Get("*PCAP.CAPTURED"), control) == "12"
    assert _ask(Disarm(), control) is None
    assert _ask(Get("*PCAP.COMPLETION"), control) == "Ok"


@pytest.mark.parametrize("command", [Put("PCAP.TRIG", "ZERO"), Put("SEQ1.TABLE", ["1", "2"]), Get("NOSUCH.FIELD")])
def test_what_is_not_simulated_is_an_error_for_the_client(command):
    control = PandaControl(COLUMNS)
    assert isinstance(_ask(command, control), CommandError)
    assert _ask(Get("*ECHO still here"), control) == "still here"


@settings(deadline=None, max_examples=200)
@given(st.text(st.sampled_from("*PCAPINENC.VAL1?=<|B \x00é"), max_size=30))
def test_any_line_gets_an_answer_in_the_protocol(line):
    control = PandaControl(COLUMNS)
    answer = control.answer(line)
    if answer is None:
        assert control.answer("").startswith("ERR")
        return
    lines = answer.split("\n")
    assert lines[-1] == "." or (len(lines) == 1 and lines[0].startswith(("OK", "ERR")))
    assert all(text.startswith("!") for text in lines[:-1])
