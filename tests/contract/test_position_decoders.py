"""What every position decoder must do, whichever protocol it speaks.

A decoder of another package joins by adding its name, a configuration and a recorded acquisition to `EXAMPLES`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass

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


def panda_json_acquisition(dialect: str) -> list[bytes]:
    def values(first: int, count: int) -> dict[str, list[float]]:
        k = [float(row) for row in range(first, first + count)]
        return {
            "INENC1.VAL.Mean": k,
            "INENC2.VAL.Mean": [-row for row in k],
            "PCAP.TS_START.Value": [row * 0.01 for row in k],
        }

    pieces = [(at, values(at, min(10, ROWS - at))) for at in range(0, ROWS, 10)]
    armed = "2024-10-07T08:49:10.627Z"
    if dialect == "MAX IV":
        told = [
            {"message_type": "series-start", "version": 1, "arm_time": armed},
            *({"message_type": "data", "version": 1, "frame_number": at, **columns} for at, columns in pieces),
            {"message_type": "series-end", "version": 1},
        ]
    else:
        told = [
            {"msg_type": "start", "arm_time": armed},
            *(
                {
                    "msg_type": "data",
                    "frame_number": number,
                    "datasets": {
                        f"/{name}": {"dtype": "float64", "size": len(v), "starting_sample_number": at, "data": v}
                        for name, v in columns.items()
                    },
                }
                for number, (at, columns) in enumerate(pieces)
            ),
            {"msg_type": "stop", "emitted_frames": len(pieces)},
        ]
    return [json.dumps(message).encode() for message in told]


@dataclass(frozen=True)
class Example:
    """How to make an acquisition of `ROWS` rows: one stream of bytes after a greeting, or whole messages."""

    config: PositionsConfig
    acquisition: Callable[[], bytes | list[bytes]]
    greeting: bytes = b""


EXAMPLES = {
    "pandabox": Example(PositionsConfig(), pandabox_acquisition, b"OK\n"),
    "pandabox, averaged": Example(PositionsConfig(rows_per_frame=5), pandabox_acquisition, b"OK\n"),
    "panda_json": Example(PositionsConfig(protocol="panda_json"), lambda: panda_json_acquisition("MAX IV")),
    "panda_json, NSLS-II": Example(PositionsConfig(protocol="panda_json"), lambda: panda_json_acquisition("NSLS-II")),
}


def rows_expected(name: str) -> list[int]:
    return list(range(ROWS // EXAMPLES[name].config.rows_per_frame))


def pieces(example: Example, acquisitions: int, chunk: int) -> list[bytes]:
    """Return what the transport of the example delivers."""
    made = [example.acquisition() for _ in range(acquisitions)]
    if isinstance(made[0], list):
        return [message for acquisition in made for message in acquisition]
    data = example.greeting + b"".join(made)
    return [data[at : at + chunk] for at in range(0, len(data), chunk)]


def read(config: PositionsConfig, data: list[bytes]) -> list[PositionMessage]:
    source = decoder(config)
    source.connected()
    return [*(m for piece in data for m in source.feed(piece, 5)), *source.flush()]


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
    assert {example.config.protocol for example in EXAMPLES.values()} == set(DECODERS.names())


def test_an_unknown_protocol_names_the_known_ones() -> None:
    with pytest.raises(UnknownPluginError, match="pandabox"):
        decoder(PositionsConfig(protocol="pandabxo"))


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_request_is_what_a_client_sends(name: str) -> None:
    source = decoder(EXAMPLES[name].config)
    assert isinstance(source.request(), bytes)
    assert source.request() == decoder(EXAMPLES[name].config).request()
    assert source.transport in ("tcp", "zmq_sub")


@pytest.mark.parametrize("name", sorted(EXAMPLES))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunk=st.integers(1, 3000))
def test_any_chunking_gives_the_same_rows(name: str, chunk: int) -> None:
    example = EXAMPLES[name]
    messages = read(example.config, pieces(example, 2, chunk))
    check_grammar(messages)
    rows = np.concatenate([m.row for m in messages if isinstance(m, PositionBlock)])
    np.testing.assert_array_equal(rows, rows_expected(name) * 2)
    assert [m.complete for m in messages if isinstance(m, AcquisitionEnd)] == [True, True]


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_columns_mean_what_the_configuration_says(name: str) -> None:
    n = EXAMPLES[name].config.rows_per_frame
    blocks = [m for m in read(EXAMPLES[name].config, pieces(EXAMPLES[name], 1, 1000)) if isinstance(m, PositionBlock)]
    k = np.arange(ROWS).reshape(-1, n).mean(axis=1)
    xy_m = np.concatenate([m.xy_m for m in blocks])
    np.testing.assert_allclose(xy_m, np.column_stack([k, -k]) * 1e-6, atol=1e-15)
    np.testing.assert_allclose(np.concatenate([m.time_s for m in blocks]), k * 0.01, atol=1e-12)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_damage_never_fails_and_a_new_connection_heals(name: str, data: st.DataObject) -> None:
    example = EXAMPLES[name]
    spoiled = [bytearray(piece) for piece in pieces(example, 1, 1 << 20)]
    for _ in range(data.draw(st.integers(1, 5))):
        piece = spoiled[data.draw(st.integers(0, len(spoiled) - 1))]
        piece[data.draw(st.integers(0, len(piece) - 1))] = data.draw(st.integers(0, 255))
    last = data.draw(st.integers(0, len(spoiled) - 1))
    del spoiled[last + 1 :], spoiled[last][data.draw(st.integers(0, len(spoiled[last]))) :]
    source = decoder(example.config)
    source.connected()
    messages: list[PositionMessage] = []
    for piece in spoiled:
        # A damaged name is a column that is not there: the operator is told, and feeding can go on.
        with contextlib.suppress(ColumnMissingError):
            messages.extend(source.feed(bytes(piece), 0))
    messages += [*source.disconnected(), *source.flush()]
    source.connected()
    after = [m for piece in pieces(example, 1, 1 << 20) for m in source.feed(piece, 0)]
    check_grammar([*messages, *after, *source.flush()])
    assert sum(len(m.row) for m in after if isinstance(m, PositionBlock)) == len(rows_expected(name))


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_acquisition_that_never_ended_is_incomplete(name: str) -> None:
    *data, last = pieces(EXAMPLES[name], 1, 1 << 20)
    messages = read(EXAMPLES[name].config, [*data, last[:-30]])
    check_grammar([m for m in messages if not isinstance(m, Anomaly)])
    assert [m.complete for m in messages if isinstance(m, AcquisitionEnd)] == [False]
    assert list(decoder(EXAMPLES[name].config).flush()) == []
