"""Ingest: raw messages of both instruments become paired diffraction batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

from streamptycho import detectors, positions
from streamptycho.config import Config
from streamptycho.detectors.series_order import HOLD_S
from streamptycho.memory import ReusedMemory
from streamptycho.messages import (
    Anomaly,
    DiffractionBatch,
    FrameBlock,
    FramePreview,
    Message,
    PathPreview,
    PositionBlock,
    ProjectionEnd,
    ProjectionStart,
    RawBlock,
    RawRecord,
    ScanEnd,
    SeriesStart,
    ServiceStatus,
)
from streamptycho.pairing import Pairing
from streamptycho.stages.joining import FrameJoiner, joined_rows
from streamptycho.stages.latency import Latencies
from streamptycho.stages.path import Path
from streamptycho.stages.rates import Rate
from streamptycho.stages.runs import holds_positions, joined, runs

PREVIEW_EVERY_NS = 300_000_000
PATH_POINTS = 20_000
TICK_EVERY_NS = 50_000_000
SILENCE_NS = 3_000_000_000
RECEIVED_TO_PAIRED = "received_to_paired"


class IngestStage:
    """Decodes both streams and pairs them.

    Time within is the receive time of the records, so that a replay decides as the live run did.

    Parameters
    ----------
    config
        The beamline.
    restamp
        True when the records are old (replay): latencies then count from now, not from the recording.
    memory
        Where frames lie; None for memory of this process only.
    """

    name = "ingest"
    busy = False
    accepts = True

    def __init__(self, config: Config, *, restamp: bool = False, memory: ReusedMemory | None = None) -> None:
        self._detector = detectors.decoder(config.detector, memory)
        self._takes_blocks = self._detector if isinstance(self._detector, detectors.BlockDecoder) else None
        self._holds = self._detector if isinstance(self._detector, detectors.HoldingDecoder) else None
        self._positions = positions.decoder(config.positions)
        self._joiner = FrameJoiner()
        apart_s = 0.0 if config.detector.receivers == 1 else HOLD_S
        self._pairing = Pairing(config.scan_id, config.pairing, config.projections, reorder_s=apart_s, memory=memory)
        self._scan_id = config.scan_id
        self._restamp = restamp
        self._counters: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._frame_rate, self._row_rate = Rate(), Rate()
        self._latencies = Latencies(RECEIVED_TO_PAIRED)
        self._record_ns = self._handled_ns = self._ticked_ns = 0
        self._next_frame_ns = self._next_path_ns = 0
        self._path = Path(PATH_POINTS)
        self._path_projection = 0
        self._newest: FrameBlock | None = None
        self._text = "waiting for the detector and the positions"
        self.finished = False

    def handle(self, message: Message, now_ns: int) -> Iterator[Message]:
        """Decode raw records and pair what they complete."""
        if isinstance(message, RawBlock):
            for run in runs(message, self._ticked_ns + TICK_EVERY_NS, TICK_EVERY_NS):
                if isinstance(run, RawRecord):
                    yield from self._handle(run, now_ns)
                elif holds_positions(run) and self._positions.transport == "tcp":
                    self._counters["records"] += len(run) - 1
                    yield from self._handle(joined(run), now_ns)
                elif self._takes_blocks is not None and not holds_positions(run):
                    yield from self._handle_run(run, self._takes_blocks, now_ns)
                else:
                    for record in run.records():
                        yield from self._handle(record, now_ns)
            yield from self._feed_all(self._joiner.take(), now_ns)
        elif isinstance(message, RawRecord):
            yield from self._handle(message, now_ns)
            yield from self._feed_all(self._joiner.take(), now_ns)

    def _handle(self, record: RawRecord, now_ns: int) -> Iterator[Message]:
        """Take one record; its frames may be held, to be paired together with those that follow."""
        if self.finished:
            return
        self._counters["records"] += 1
        self._record_ns, self._handled_ns = max(record.received_ns, self._record_ns), now_ns
        if record.kind == "end":
            yield from self._end("the stream ended", now_ns)
            return
        for decoded in joined_rows(self._decode(record)):
            if isinstance(decoded, FrameBlock):
                yield from self._feed_all(self._joiner.put(decoded, record.received_ns), now_ns)
            else:
                yield from self._feed_all([*self._joiner.take(), decoded], now_ns)
        yield from self._pass_time(now_ns)

    def _handle_run(self, run: RawBlock, decoder: detectors.BlockDecoder, now_ns: int) -> Iterator[Message]:
        """Take consecutive messages of the detector, of one part each."""
        if self.finished:
            return
        self._counters["records"] += len(run)
        self._record_ns, self._handled_ns = max(int(run.received_ns.max()), self._record_ns), now_ns
        yield from self._feed_all(self._joiner.take(), now_ns)
        yield from self._feed_all(decoder.feed_block(run.data, run.spans, run.received_ns), now_ns)
        yield from self._pass_time(now_ns)

    def _pass_time(self, now_ns: int) -> Iterator[Message]:
        if self._record_ns - self._ticked_ns > TICK_EVERY_NS:
            self._ticked_ns = self._record_ns
            yield from self._feed_all(self._joiner.take(), now_ns)
            yield from self._tick(self._ticked_ns, now_ns)
        yield from self._previews(now_ns)

    def _tick(self, held_until_ns: int, now_ns: int) -> Iterator[Message]:
        if self._holds is not None:
            yield from self._feed_all(self._holds.pass_time(held_until_ns), now_ns)
        yield from self._note(self._pairing.tick(self._ticked_ns), now_ns)

    def work(self, now_ns: int) -> Iterator[Message]:
        """Let time pass in the pairing while nothing arrives."""
        if self._record_ns and not self.finished and now_ns - self._handled_ns > TICK_EVERY_NS:
            self._ticked_ns = self._record_ns + (now_ns - self._handled_ns)
            # Messages that nobody has received yet are not late.
            yield from self._tick(self._ticked_ns - SILENCE_NS, now_ns)
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
            text="; ".join(filter(None, (self._text, self._pairing.trouble))),
            counters={**self._counters, "waiting_frames": self._pairing.waiting_frames},
            dropped=dict(self._dropped),
            anomalies=self._pairing.anomalies,
            rates={"frames_per_s": self._frame_rate.per_s(now_ns), "rows_per_s": self._row_rate.per_s(now_ns)},
            queue=self._pairing.waiting_frames,
            lag_s=0.0 if self._restamp else max(0, self._handled_ns - self._record_ns) * 1e-9,
            latencies=self._latencies.counts(),
            latency_sums_s=self._latencies.sums_s(),
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

    def _feed_all(self, messages: Iterable[Message], now_ns: int) -> Iterator[Message]:
        for decoded in messages:
            yield from self._feed(decoded, now_ns)

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
                self._path.add(out.xy_m, out.quality)
                out = self._timed(out, now_ns)
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

    def _timed(self, batch: DiffractionBatch, now_ns: int) -> DiffractionBatch:
        """Count how long the frames of a batch took. Of old records time goes on as it did when they were new."""
        received_ns = batch.received_ns
        if received_ns is not None:
            shift_ns = now_ns - max(self._record_ns, self._ticked_ns) if self._restamp else 0
            received_ns = received_ns + shift_ns
            self._latencies[RECEIVED_TO_PAIRED].add(received_ns, now_ns)
        return replace(batch, received_ns=received_ns, paired_ns=now_ns)

    def _previews(self, now_ns: int) -> Iterator[Message]:
        if self._newest is not None and now_ns >= self._next_frame_ns:
            self._next_frame_ns = now_ns + PREVIEW_EVERY_NS
            block, self._newest = self._newest, None
            yield FramePreview(series=block.series, index=int(block.index[-1]), counts=block.counts[-1])
        if self._path and now_ns >= self._next_path_ns:
            self._next_path_ns = now_ns + PREVIEW_EVERY_NS
            xy_m, quality = self._path.newest()
            yield PathPreview(
                scan_id=self._scan_id,
                projection=self._path_projection,
                xy_m=xy_m,
                quality=quality,
            )

    def _end(self, reason: str, now_ns: int) -> Iterator[Message]:
        yield from self._feed_all((*self._joiner.take(), *self._detector.flush(), *self._positions.flush()), now_ns)
        if not self.finished:
            yield from self._note(self._pairing.finish(self._record_ns, reason), now_ns)
        self.finished = True
