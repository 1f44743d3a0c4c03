"""Stream V1 against the decoder of LiberTEM-dectris, on the same frames."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import zmq

from benchmarks.clock import by_turns, compared
from benchmarks.frames import eiger_series
from benchmarks.row import Effort, NotMeasurable, Row, WrongResult
from streamptycho.config import RegionConfig
from streamptycho.detectors import decoder
from streamptycho.messages import FrameBlock
from streamptycho.simulation.header import trimmed_header

FRAMES = 32
WAIT_S = 10.0


def eiger_whole(effort: Effort) -> Iterator[Row]:
    """Frames that lie in memory, parsed and decoded by us; decoded into one array by LiberTEM-dectris."""
    try:
        import libertem_dectris
    except ImportError:
        raise NotMeasurable("libertem-dectris is not installed") from None
    series = eiger_series(FRAMES, protocol="dectris_stream1")
    shape, dtype = series.counts.shape[1:], series.counts.dtype
    region = RegionConfig(center_px="middle")
    target = decoder(series.config.detector.model_copy(update={"region": region}))
    list(target.feed(series.start, 0))
    buffer = np.zeros((FRAMES, *shape), dtype)
    with tempfile.TemporaryDirectory() as folder, zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.linger = 0
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        receiver = libertem_dectris.DectrisConnection(
            f"tcp://127.0.0.1:{port}",
            FRAMES,
            str(Path(folder) / "handle"),
            num_slots=16,
            bytes_per_frame=int(series.image_bytes * 1.3),
            huge=False,
        )
        try:
            receiver.start_passive()
            start = trimmed_header(list(series.start), tables=False, appendix=False)
            for parts in (start, *series.images, series.end):
                socket.send_multipart(parts)
            if receiver.wait_for_arm(WAIT_S) is None:
                raise NotMeasurable("libertem-dectris did not see the series")
            stack = receiver.get_next_stack(FRAMES)
            if stack is None or len(stack) != FRAMES:
                raise NotMeasurable("libertem-dectris did not give the frames in one stack")
            client = libertem_dectris.CamClient(receiver.get_socket_path())
            try:

                def peer() -> float:
                    client.decode_range_into_buffer(stack, buffer, 0, FRAMES)
                    return float(FRAMES)

                def ours() -> float:
                    return float(
                        sum(isinstance(m, FrameBlock) for parts in series.images for m in target.feed(parts, 0))
                    )

                peer()
                expected = series.counts[np.arange(FRAMES) % len(series.counts)]
                if not np.array_equal(buffer, expected):
                    raise WrongResult("libertem-dectris decodes other counts than were encoded")
                samples = by_turns({"ours": ours, "peer": peer}, effort)
                client.done(stack)
            finally:
                client.close()
        finally:
            receiver.close()
    yield compared(
        "decode Stream V1, 512x1028 u16, whole",
        "frames/s",
        samples["ours"],
        ("libertem-dectris, decompression alone", samples["peer"]),
        "ours also parses the headers, masks and crops; theirs only decompresses, into one array",
        {"message_bytes": series.image_bytes},
    )
