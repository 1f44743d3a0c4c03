"""Every decoder that ships with streamptycho keeps the contract."""

from __future__ import annotations

import pytest

from streamptycho.config import DetectorConfig
from streamptycho.detectors import DECODERS, decoder, encoder
from streamptycho.registry import UnknownPluginError
from tests.contract.detector_contract import DetectorContract


class TestStream1(DetectorContract):
    protocol = "dectris_stream1"


class TestStream2(DetectorContract):
    protocol = "dectris_stream2"


class TestOpen(DetectorContract):
    protocol = "open"


def test_every_registered_decoder_is_under_contract():
    assert {TestStream1.protocol, TestStream2.protocol, TestOpen.protocol} == set(DECODERS.names())


def test_unknown_protocols_are_named_with_the_nearest():
    with pytest.raises(UnknownPluginError, match="dectris_stream2"):
        decoder(DetectorConfig(protocol="dectris_stream3"))
    with pytest.raises(UnknownPluginError, match="dectris_stream1"):
        encoder("stream1")
