"""What is compiled is loaded before the first frame comes: frames would wait half a second for it, or a minute."""

from __future__ import annotations

import time

import numpy as np

from streamptycho.config import Config, DetectorConfig, RegionConfig
from streamptycho.detectors import ENCODERS, encoder
from streamptycho.messages import RECORD_KINDS, RECORD_SOURCES, RawBlock
from streamptycho.pairing import frame_copies
from streamptycho.stages.ingest import IngestStage

SIDE_PX = 32
FRAMES = 2
DTYPES = ("uint8", "uint16", "uint32")


def warm_up(config: Config) -> None:
    """Decode a few frames that nobody sees, of all widths of pixels, in the protocol of the beamline."""
    frame_copies.load()
    if config.detector.protocol not in ENCODERS.names():
        return
    for dtype in DTYPES:
        _decode(config, dtype)


def _decode(config: Config, dtype: str) -> None:
    facts = DetectorConfig(protocol=config.detector.protocol, region=RegionConfig(size_px=SIDE_PX // 2))
    messages = encoder(
        config.detector.protocol,
        shape=(SIDE_PX, SIDE_PX),
        dtype=dtype,
        energy_ev=6200.0,
        distance_m=2.0,
        detector_pixel_m=75e-6,
        mask=np.zeros((SIDE_PX, SIDE_PX), bool),
        exposure_s=1e-3,
        period_s=1e-3,
    )
    counts = np.ones((SIDE_PX, SIDE_PX), dtype)
    sent = messages.start(series=1, n_frames=FRAMES, epoch_s=0.0, labels={})
    for index in range(FRAMES):
        sent += messages.image(series=1, index=index, counts=counts, start_s=index * 1e-3, stop_s=(index + 1) * 1e-3)
    sent += messages.end(series=1)
    stage = IngestStage(config.model_copy(update={"detector": facts}))
    now_ns = time.time_ns()
    for _ in stage.handle(_block(sent, now_ns), now_ns):
        pass


def _block(messages: list[list[bytes]], now_ns: int) -> RawBlock:
    count, parts = len(messages), [part for message in messages for part in message]
    ends = np.cumsum([0, *map(len, parts)])
    return RawBlock(
        source=np.full(count, RECORD_SOURCES.index("detector"), np.uint8),
        kind=np.full(count, RECORD_KINDS.index("data"), np.uint8),
        sequence=np.arange(1, count + 1),
        received_ns=np.full(count, now_ns),
        first_part=np.cumsum([0, *map(len, messages)]),
        spans=np.stack([ends[:-1], ends[1:]], axis=1),
        data=np.frombuffer(b"".join(parts), np.uint8),
    )
