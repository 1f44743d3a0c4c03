"""Ingest: raw messages of both instruments become paired diffraction batches."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from streamptycho import detectors, positions
from streamptycho.config import Config
from streamptycho.messages import (
    Anomaly,
    Array,
    DiffractionBatch,
    FrameBlock,
    FramePreview,
    Message,
    PathPreview,
    PositionBlock,
    ProjectionEnd,
    ProjectionStart,
    RawRecord,
    ScanEnd,
    SeriesStart,
    ServiceStatus,
)
from streamptycho.pairing import Pairing
from streamptycho.stages.rates import Rate

PREVIEW_EVERY_NS = 300_000_000
PATH_POINTS = 20_000
TICK_EVERY_NS = 50_000_000


class IngestStage:
    """Decodes both streams and pairs them.

    Time within is the receive time of the records, so that a replay decides as the live run did.

    Parameters
    ----------
    config
        The beamline.
    restamp
        True when the records are old (replay): latencies then count from now, not from the recording.
    """

    name = "ingest"
    busy = False
    accepts = True

    def __init__(self, config: Config, *, restamp: bool = False) -> None:
        self._detector = detectors.decoder(config.detector)
        self._positions = positions.decoder(config.positions)
        self._pairing = Pairing(config.scan_id, config.pairing, config.projections)
        self._scan_id = config.scan_id
        self._restamp = restamp
        self._counters: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._frame_rate, self._row_rate = Rate(), Rate()
        self._record_ns = self._handled_ns = self._ticked_ns = 0
        self._next_frame_ns = self._next_path_ns = 0
        self._path: deque[tuple[Array, Array]] = deque(maxlen=PATH_POINTS)
        self._path_projection = 0
        self._newest: FrameBlock | None = None
        self._text = "waiting for the detector and the positions"
        self.finished = False

    def handle(self, message: Message, now_ns: int) -> Iterator[Message]:
        """Decode one raw record and pair what it completes."""
        if not isinstance(message, RawRecord) or self.finished:
            return
        self._counters["records"] += 1
        self._record_ns, self._handled_ns = max(message.received_ns, self._record_ns), now_ns
        if message.kind == "end":
            yield from self._end("the stream ended", now_ns)
            return
        for decoded in self._decode(message):
            yield from self._feed(decoded, now_ns)
        if self._record_ns - self._ticked_ns > TICK_EVERY_NS:
            self._ticked_ns = self._record_ns
            yield from self._note(self._pairing.tick(self._record_ns), now_ns)
        yield from self._previews(now_ns)

    def work(self, now_ns: int) -> Iterator[Message]:
        """Let time pass in the pairing while nothing arrives."""
        if self._record_ns and not self.finished and now_ns - self._handled_ns > TICK_EVERY_NS:
            self._ticked_ns = self._record_ns + (now_ns - self._handled_ns)
            yield from self._note(self._pairing.tick(self._ticked_ns), now_ns)
            yield from self._previews(now_ns)

    def stop(self, now_ns: int) -> Iterator[Message]:
        """Close the projection in progress with what there is."""
        if not self.finished:
            yield from self._end("stopped", now_ns)

    def status(self, now_ns: int) -> ServiceStatus:
        """Return counts, rates and losses."""
        return ServiceStatus(
            service=self.name,
            state="finished" if self.finished else "running" if self._counters["frames_received"] else "waiting",
            text=self._text,
            counters={**self._counters, "waiting_frames": self._pairing.waiting_frames},
            dropped=dict(self._dropped),
            anomalies=self._pairing.anomalies,
            rates={"frames_per_s": self._frame_rate.per_s(now_ns), "rows_per_s": self._row_rate.per_s(now_ns)},
            queue=self._pairing.waiting_frames,
            lag_s=0.0 if self._restamp else max(0, self._handled_ns - self._record_ns) * 1e-9,
        )

    def _decode(self, record: RawRecord) -> Iterable[Message]:
        if record.source == "detector":
            if record.kind == "data":
                return self._detector.feed(record.parts, record.received_ns)
            if record.kind == "connected":
                self._detector.connected()
        elif record.source == "positions":
            if record.kind == "data":
                return (out for part in record.parts for out in self._positions.feed(part, record.received_ns))
            if record.kind == "connected":
                self._positions.connected()
            elif record.kind == "disconnected":
                return self._positions.disconnected()
        return ()

    def _feed(self, decoded: Message, now_ns: int) -> Iterator[Message]:
        if isinstance(decoded, FrameBlock):
            self._counters["frames_received"] += len(decoded.index)
            self._frame_rate.add(len(decoded.index), now_ns)
            self._newest = decoded
        elif isinstance(decoded, PositionBlock):
            self._counters["rows"] += len(decoded.row)
            self._row_rate.add(len(decoded.row), now_ns)
        elif isinstance(decoded, SeriesStart):
            self._counters["series"] += 1
        elif isinstance(decoded, Anomaly) and decoded.detail:
            self._text = decoded.detail
        yield from self._note(self._pairing.feed(decoded, self._record_ns), now_ns)

    def _note(self, outputs: Iterable[Message], now_ns: int) -> Iterator[Message]:
        """Count what leaves the pairing."""
        for out in outputs:
            if isinstance(out, ProjectionStart):
                self._path.clear()
                self._path_projection = out.projection
                self._text = f"projection {out.projection}"
            elif isinstance(out, DiffractionBatch):
                self._counters["frames_paired"] += len(out.index)
                self._path.extend(zip(out.xy_m, out.quality, strict=True))
            elif isinstance(out, ProjectionEnd):
                self._counters["projections"] += 1
                self._counters["frames_sent"] += out.frames_sent
                self._dropped.update(out.dropped)
                if self._restamp:
                    out = replace(out, last_frame_ns=out.last_frame_ns + now_ns - self._record_ns)
            elif isinstance(out, ScanEnd):
                self.finished = True
                self._text = f"all frames handed on: {out.reason}"
            yield out

    def _previews(self, now_ns: int) -> Iterator[Message]:
        if self._newest is not None and now_ns >= self._next_frame_ns:
            self._next_frame_ns = now_ns + PREVIEW_EVERY_NS
            block, self._newest = self._newest, None
            yield FramePreview(series=block.series, index=int(block.index[-1]), counts=block.counts[-1])
        if self._path and now_ns >= self._next_path_ns:
            self._next_path_ns = now_ns + PREVIEW_EVERY_NS
            yield PathPreview(
                scan_id=self._scan_id,
                projection=self._path_projection,
                xy_m=np.array([xy for xy, _ in self._path], np.float32),
                quality=np.array([quality for _, quality in self._path], np.uint8),
            )

    def _end(self, reason: str, now_ns: int) -> Iterator[Message]:
        for decoded in (*self._detector.flush(), *self._positions.disconnected()):
            yield from self._feed(decoded, now_ns)
        if not self.finished:
            yield from self._note(self._pairing.finish(self._record_ns, reason), now_ns)
        self.finished = True
