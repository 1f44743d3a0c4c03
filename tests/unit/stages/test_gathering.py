import pytest

from streamptycho.stages.gathering import FIRST_S, LONGEST_S, MOST_BYTES, MOST_RECORDS, Gathering


def pauses(rate_hz, message_bytes, looks=12):
    gathering, found, elapsed_s = Gathering(), [], 0.001
    for _ in range(looks):
        records = max(1, int(rate_hz * elapsed_s))
        elapsed_s = gathering.pause_s(records, records * message_bytes, elapsed_s)
        found.append(elapsed_s)
    return found


def test_pauses_begin_short_and_grow():
    found = pauses(3000, 86_000)
    assert found[0] == FIRST_S
    assert found[:4] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S, 8 * FIRST_S]
    assert found[-1] == pytest.approx(min(LONGEST_S, MOST_BYTES / (3000 * 86_000)), rel=0.05)


@pytest.mark.parametrize(("rate_hz", "message_bytes"), [(110_000, 3500), (130, 7 << 20), (3000, 86_000), (10, 100)])
def test_what_comes_in_a_pause_stays_bounded(rate_hz, message_bytes):
    for pause_s in pauses(rate_hz, message_bytes):
        assert rate_hz * pause_s <= MOST_RECORDS * 1.05 + 1
        assert rate_hz * pause_s * message_bytes <= MOST_BYTES * 1.05 + 2 * message_bytes
        assert pause_s <= LONGEST_S


def test_silence_is_followed_by_a_short_pause_again():
    gathering = Gathering()
    for _ in range(8):
        gathering.pause_s(100, 1000, 0.05)
    assert gathering.pause_s(0, 0, 0.05) == 0.0
    assert gathering.pause_s(1, 100, 3.0) == FIRST_S


@pytest.mark.parametrize(("records", "size"), [(4096, 1 << 20), (100, 16 << 20)])
def test_there_is_no_pause_while_more_is_waiting(records, size):
    gathering = Gathering()
    gathering.pause_s(100, 1000, 0.05)
    assert gathering.pause_s(records, size, 0.05) == 0.0
    assert gathering.pause_s(100, 1000, 0.05) > 0.0
