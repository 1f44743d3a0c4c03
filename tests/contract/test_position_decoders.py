"""What every position decoder must do, whichever protocol it speaks.

A decoder of another package joins by adding its name, a configuration and a recorded acquisition to `EXAMPLES`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamptycho.config import PositionsConfig
from streamptycho.messages import AcquisitionEnd, AcquisitionStart, Anomaly, PositionBlock
from streamptycho.positions import DECODERS, ColumnMissingError, PositionMessage, decoder
from streamptycho.positions.encode_pandabox import CapturedField, PandaEncoder
from streamptycho.registry import UnknownPluginError

ROWS = 25


def pandabox_acquisition() -> bytes:
    encoder = PandaEncoder(
        [
            CapturedField("INENC1.VAL", units="um"),
            CapturedField("INENC2.VAL", units="um"),
            CapturedField("PCAP.TS_START", capture="Value", scale=8e-9, units="s"),
        ]
    )
    k = np.arange(ROWS, dtype=np.float64)
    rows = {"INENC1.VAL.Mean": k, "INENC2.VAL.Mean": -k, "PCAP.TS_START.Value": k * 0.01}
    frames = b"".join(encoder.rows({name: v[at : at + 10] for name, v in rows.items()}) for at in range(0, ROWS, 10))
    return encoder.header(arm_epoch_s=1.7e9) + frames + encoder.end(ROWS)


EXAMPLES: dict[str, tuple[PositionsConfig, bytes, Callable[[], bytes]]] = {
    "pandabox": (PositionsConfig(), b"OK\n", pandabox_acquisition),
}


def read(config: PositionsConfig, data: bytes, chunk: int) -> list[PositionMessage]:
    source = decoder(config)
    source.connected()
    out = [m for at in range(0, len(data), chunk) for m in source.feed(data[at : at + chunk], 5)]
    return [*out, *source.disconnected()]


def check_grammar(messages: list[PositionMessage]) -> None:
    current: AcquisitionStart | None = None
    newest_row = -1
    seen: set[str] = set()
    for message in messages:
        if isinstance(message, AcquisitionStart):
            assert current is None
            assert message.acquisition not in seen
            seen.add(message.acquisition)
            current, newest_row = message, message.missed - 1
        elif isinstance(message, PositionBlock):
            assert current is not None
            assert message.acquisition == current.acquisition
            assert message.row.dtype == np.int64
            assert message.row[0] > newest_row
            assert np.all(np.diff(message.row) > 0)
            assert message.xy_m.shape == (len(message.row), 2)
            assert message.time_s.shape == message.row.shape
            assert np.isfinite(message.xy_m).all()
            assert not message.xy_m.flags.writeable
            newest_row = int(message.row[-1])
        elif isinstance(message, AcquisitionEnd):
            assert current is not None
            assert message.acquisition == current.acquisition
            current = None
        else:
            assert isinstance(message, Anomaly)
            assert message.source == "positions"
    assert current is None


def test_every_known_decoder_has_an_example() -> None:
    assert set(EXAMPLES) == set(DECODERS.names())


def test_an_unknown_protocol_names_the_known_ones() -> None:
    with pytest.raises(UnknownPluginError, match="pandabox"):
        decoder(PositionsConfig(protocol="pandabxo"))


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_request_is_what_a_client_sends(name: str) -> None:
    request = decoder(EXAMPLES[name][0]).request()
    assert isinstance(request, bytes)
    assert request == decoder(EXAMPLES[name][0]).request()


@pytest.mark.parametrize("name", sorted(EXAMPLES))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunk=st.integers(1, 3000))
def test_any_chunking_gives_the_same_rows(name: str, chunk: int) -> None:
    config, greeting, acquisition = EXAMPLES[name]
    messages = read(config, greeting + acquisition() + acquisition(), chunk)
    check_grammar(messages)
    rows = np.concatenate([m.row for m in messages if isinstance(m, PositionBlock)])
    np.testing.assert_array_equal(rows, [*range(ROWS), *range(ROWS)])
    assert [m.complete for m in messages if isinstance(m, AcquisitionEnd)] == [True, True]


@pytest.mark.parametrize("name", sorted(EXAMPLES))
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_damage_never_fails_and_a_new_connection_heals(name: str, data: st.DataObject) -> None:
    config, greeting, acquisition = EXAMPLES[name]
    good = greeting + acquisition()
    spoiled = bytearray(good)
    for _ in range(data.draw(st.integers(1, 5))):
        spoiled[data.draw(st.integers(0, len(spoiled) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(spoiled)))
    source = decoder(config)
    source.connected()
    messages: list[PositionMessage] = []
    # A damaged name is a column that is not there: the operator is told, and feeding can go on.
    with contextlib.suppress(ColumnMissingError):
        messages.extend(source.feed(bytes(spoiled[:cut]), 0))
    messages += source.disconnected()
    source.connected()
    after = [*source.feed(good, 0), *source.disconnected()]
    check_grammar(messages + after)
    assert sum(len(m.row) for m in after if isinstance(m, PositionBlock)) == ROWS


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_a_lost_connection_ends_the_acquisition_incomplete(name: str) -> None:
    config, greeting, acquisition = EXAMPLES[name]
    data = greeting + acquisition()
    messages = read(config, data[: len(data) - 30], 1 << 20)
    check_grammar(messages)
    assert [m.complete for m in messages if isinstance(m, AcquisitionEnd)] == [False]
