"""A few hundred hostile messages of every kind; `python -m benchmarks.hostile` sends millions."""

import pytest

from benchmarks.hostile import PROTOCOLS, attack, faults_of

FEW = {"dectris_stream2-blocks": 150, "ingest": 150}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_hostile_messages_are_counted_and_good_ones_between_them_decoded(protocol):
    outcome = attack(protocol, FEW.get(protocol, 1000), seed=7)
    assert not faults_of(outcome)
    assert outcome.decoded > 0
    assert outcome.reasons.get("corrupt", 0) > 0 or protocol == "ingest"
    assert outcome.good_series == outcome.messages // 200


def test_what_is_wrong_is_said():
    outcome = attack("panda_json", 200, seed=3)
    assert faults_of(outcome) == []
    outcome.good_lost, outcome.without_answer, outcome.peak_mb = 1, 2, outcome.start_mb + 1000
    outcome.errors.append("ValueError: boom")
    assert len(faults_of(outcome)) == 4
