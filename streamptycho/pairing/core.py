"""The one place where frames meet their positions."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator

from streamptycho.config import PairingConfig, ProjectionsConfig
from streamptycho.memory import ReusedMemory
from streamptycho.messages import (
    AcquisitionEnd,
    AcquisitionStart,
    Anomaly,
    Array,
    FrameBlock,
    Message,
    PositionBlock,
    Reason,
    SeriesEnd,
    SeriesStart,
)
from streamptycho.pairing.accounting import PairedMessage, ProjectionWriter
from streamptycho.pairing.cutting import cutter
from streamptycho.pairing.errors import AngleMissingError, GeometryUnknownError
from streamptycho.pairing.frames import Placed, Series
from streamptycho.pairing.matching import Matcher
from streamptycho.pairing.placing import Placer
from streamptycho.pairing.rows import LEAST_ROWS, Acquisition

GRACE_S = 2.0
ROW_LOOKS = 16
MOST_OPEN_SERIES = 1024


class Pairing:
    """Brings frames and positions together, cuts them into projections and accounts for every frame.

    What comes out does not depend on how the two streams interleave or lag: series and acquisitions find each other
    by content, rows by number or time. Projections come out one after the other, each frame in exactly one batch or
    counted under exactly one reason. Time enters only as the receive time of records, for giving up what does not come.

    Parameters
    ----------
    scan_id
        Identity of the scan.
    pairing
        How frames get their positions.
    projections
        Where projections begin and end.
    reorder_s
        How long a frame may be behind others of its series at least, besides `REORDER_FRAMES`, where projections are
        cut out of a series.
    memory
        Where batches lie that are put together of several pieces.

    Attributes
    ----------
    trouble
        What the operator should know of rows that were let go, empty when none were.
    """

    def __init__(
        self,
        scan_id: str,
        pairing: PairingConfig,
        projections: ProjectionsConfig,
        *,
        reorder_s: float = 0.0,
        memory: ReusedMemory | None = None,
    ) -> None:
        self.config = pairing
        self._by_angle = projections.cut_by == "angle"
        self._writer = ProjectionWriter(scan_id, projections, pairing.batch_frames, memory or ReusedMemory())
        self._cutter = cutter(projections, self._writer, round(reorder_s * 1e9))
        self._matcher = Matcher(pairing)
        self._placer = Placer(pairing, self._matcher)
        self._queue: deque[Series] = deque()
        self._head: Series | None = None
        self._newest_delivered = -1
        self._unsettled = 0
        self._detector_ns = self._positions_ns = 0
        self._counts: Counter[str] = Counter()
        self._anomalies: Counter[Reason] = Counter()
        self._rows_until_look = self._rows_between_looks
        self.trouble = ""

    @property
    def waiting_frames(self) -> int:
        """Frames that were received and not yet sent on or dropped."""
        return self._unsettled + self._writer.frames_in_batch

    @property
    def scan_ended(self) -> bool:
        """Whether the end of the scan was given out."""
        return self._writer.scan_ended

    @property
    def dropped(self) -> dict[str, int]:
        """Frames of ended projections that were lost, by reason."""
        return {reason.value: count for reason, count in self._writer.dropped.items()}

    @property
    def anomalies(self) -> dict[str, int]:
        """Events since the start, by reason."""
        return {reason.value: count for reason, count in self._anomalies.items()}

    def counters(self) -> dict[str, int]:
        """Return totals since the start; paired frames are those of ended projections."""
        names = ("series", "acquisitions", "frames_received", "rows_received")
        return {
            **{name: self._counts[name] for name in names},
            "frames_paired": self._writer.paired,
            "frames_dropped": self._writer.dropped.total(),
            "frames_waiting": self.waiting_frames,
            "projections": self._writer.projections,
        }

    def feed(self, message: Message, now_ns: int) -> Iterator[PairedMessage]:
        """Take a message that was received at `now_ns` and return what follows from it.

        Messages that are neither frames nor positions are ignored.

        Raises
        ------
        GeometryUnknownError
            If a series comes without geometry.
        AngleMissingError
            If projections are cut by angle and rows come without angle.
        ClockError
            If absolute times are needed and one side has none.
        """
        if self._writer.scan_ended:
            self._count_stray(message)
            return self._drain()
        if isinstance(message, FrameBlock):
            self._take_frames(message, now_ns)
        elif isinstance(message, PositionBlock):
            self._take_rows(message, now_ns)
        elif isinstance(message, SeriesStart):
            self._start_series(message, now_ns)
        elif isinstance(message, SeriesEnd):
            self._end_series(message, now_ns)
        elif isinstance(message, AcquisitionStart):
            self._start_acquisition(message, now_ns)
        elif isinstance(message, AcquisitionEnd):
            self._end_acquisition(message, now_ns)
        elif isinstance(message, Anomaly):
            self._take_anomaly(message)
        else:
            return iter(())
        self._advance(now_ns)
        self._limit_waiting(now_ns)
        self._count_what_is_left()
        return self._drain()

    def tick(self, now_ns: int) -> Iterator[PairedMessage]:
        """Give up what is overdue at `now_ns`, and send the frames that wait for a batch to fill."""
        if not self._writer.scan_ended:
            quiet_s = (now_ns - max(self._detector_ns, self._positions_ns)) * 1e-9
            if quiet_s > GRACE_S:
                self._placer.bind_nearest()
            for series in self._open_series():
                self._placer.place(series, at_once=True)
                series.waiting.pack()
            self._give_up_waiting(now_ns)
            self._advance(now_ns)
            self._writer.flush()
            self._count_what_is_left()
        return self._drain()

    def finish(self, now_ns: int, reason: str) -> Iterator[PairedMessage]:
        """Nothing more will come: account for all that waits and end the scan."""
        if not self._writer.scan_ended:
            for acquisition in self._matcher.acquisitions:
                acquisition.ended = True
            self._advance(now_ns, finish_reason=reason)
            self._cutter.finish(reason)
            self._writer.end_scan(reason)
            self._count_what_is_left()
        return self._drain()

    def _drain(self) -> Iterator[PairedMessage]:
        out = list(self._writer.out)
        self._writer.out.clear()
        return iter(out)

    def _open_series(self) -> Iterator[Series]:
        if self._head is not None:
            yield self._head
        yield from self._queue

    def _start_series(self, message: SeriesStart, now_ns: int) -> None:
        self._detector_ns = now_ns
        known = self._matcher.series.named(message.series)
        same = known is not None and known.start.epoch_s == message.epoch_s and known.ended_ns is None
        if known is not None and same and not known.closed and not known.delivered:
            self._note(known, Reason.DUPLICATE)
            return
        if message.geometry is None:
            raise GeometryUnknownError(
                f"series {message.series} says too little to fix the scale of a reconstruction: "
                "set detector.energy_ev, detector.distance_m and detector.pixel_m, and choose a square detector.region"
            )
        series = Series(message, self._matcher.series.count)
        self._placer.add_series(series)
        self._queue.append(series)
        self._counts["series"] += 1

    def _end_series(self, message: SeriesEnd, now_ns: int) -> None:
        self._detector_ns = now_ns
        series = self._matcher.series.named(message.series)
        if series is None:
            self._note(None, Reason.STRAY)
        elif series.ended_ns is None:
            series.ended_ns = now_ns

    def _take_frames(self, block: FrameBlock, now_ns: int) -> None:
        self._detector_ns = now_ns
        self._counts["frames_received"] += len(block.index)
        series = self._matcher.series.named(block.series)
        if series is None or series.closed:
            self._note(None, Reason.STRAY if series is None else Reason.LATE, len(block.index))
            return
        arrivals = series.take(block, now_ns)
        self._note(series, Reason.DUPLICATE, arrivals.duplicate)
        self._note(series, Reason.STRAY, arrivals.stray)
        self._note(series, Reason.REORDERED, arrivals.reordered)
        if not len(arrivals.fresh):
            return
        self._unsettled += len(arrivals.fresh)
        self._newest_delivered = max(self._newest_delivered, series.order)
        geometry = series.start.geometry
        if geometry is not None and block.counts.shape[1:] != tuple(geometry.shape):
            series.resolve(Placed.missing(arrivals.fresh), Reason.CORRUPT)
        else:
            self._placer.add_frames(series, arrivals.fresh)

    def _start_acquisition(self, message: AcquisitionStart, now_ns: int) -> None:
        self._positions_ns = now_ns
        if self._matcher.acquisitions.named(message.acquisition) is not None:
            self._note(self._head, Reason.DUPLICATE)
            return
        acquisition = Acquisition(message, self._matcher.acquisitions.count)
        acquisition.heard_ns = now_ns
        self._matcher.add_acquisition(acquisition)
        self._counts["acquisitions"] += 1
        self._limit_rows(LEAST_ROWS)

    def _end_acquisition(self, message: AcquisitionEnd, now_ns: int) -> None:
        self._positions_ns = now_ns
        acquisition = self._matcher.acquisitions.named(message.acquisition)
        if acquisition is None:
            self._note(self._head, Reason.STRAY)
            return
        self._placer.end_rows(acquisition)
        self._note(self._head, Reason.OUT_OF_RANGE, self._placer.order(acquisition))

    def _take_rows(self, block: PositionBlock, now_ns: int) -> None:
        self._positions_ns = now_ns
        self._counts["rows_received"] += len(block.row)
        acquisition = self._matcher.acquisitions.named(block.acquisition)
        if acquisition is None or acquisition.ended:
            self._note(self._head, Reason.STRAY, len(block.row))
            return
        if acquisition.over:
            return
        if self._by_angle and block.angle_deg is None:
            raise AngleMissingError(
                "projections.cut_by: angle needs the rotation angle with every position: capture it and name its "
                "column under positions.angle, or cut by series or count"
            )
        acquisition.heard_ns = now_ns
        rows, refused = acquisition.add(block)
        self._note(self._head, Reason.DUPLICATE, refused)
        self._note(self._head, Reason.OUT_OF_RANGE, self._placer.order(acquisition))
        self._placer.add_rows(acquisition, rows)
        self._limit_rows(len(block.row))

    @property
    def _rows_between_looks(self) -> int:
        return max(1, self.config.max_waiting_rows // ROW_LOOKS)

    def _limit_rows(self, count: int) -> None:
        """Let rows go that too many wait for a series with; looked at now and then."""
        self._rows_until_look -= count
        if self._rows_until_look <= 0:
            self._rows_until_look = self._rows_between_looks
            gone, text = self._placer.forget_unused(self.config.max_waiting_rows)
            self._note(self._head, Reason.OVERFLOW, gone)
            self.trouble = text or self.trouble

    def _take_anomaly(self, message: Anomaly) -> None:
        series = self._matcher.series.named(message.series) if message.series is not None else self._head
        explains = (
            message.source == "detector"
            and message.unit == "frames"
            and message.reason.loses_frames
            and message.series is not None
            and series is not None
            and not series.closed
        )
        self._note(series, message.reason, message.count)
        if explains and series is not None:
            series.explained[message.reason] += message.count
            self._newest_delivered = max(self._newest_delivered, series.order)

    def _note(self, series: Series | None, reason: Reason, count: int = 1) -> None:
        if count:
            self._anomalies[reason] += count
            if series is not None:
                series.anomalies[reason] += count

    def _count_stray(self, message: Message) -> None:
        if isinstance(message, FrameBlock):
            self._note(None, Reason.STRAY, len(message.index))

    def _count_what_is_left(self) -> None:
        """When the last projection is done, what came already belongs to none."""
        if self._writer.scan_ended:
            self._note(None, Reason.STRAY, self._unsettled)
            self._unsettled = 0
            self._queue.clear()
            self._head = None

    def _limit_waiting(self, now_ns: int) -> None:
        """Drop the oldest frames without position, when too many frames or series wait for theirs or behind them."""
        while (excess := self._unsettled - self.config.max_waiting_frames) > 0:
            series = next((s for s in self._open_series() if len(s.waiting)), None)
            if series is None:
                return
            self._give_up(series, series.waiting.indices()[:excess], Reason.OVERFLOW)
            self._advance(now_ns)
        while self._is_crowded and self._head is not None and not self._writer.scan_ended:
            self._give_up(self._head, self._head.waiting.indices(), Reason.OVERFLOW)
            self._advance(now_ns)

    @property
    def _is_crowded(self) -> bool:
        """Whether too many series wait for the one before them to end."""
        return len(self._queue) > MOST_OPEN_SERIES

    def _give_up_waiting(self, now_ns: int) -> None:
        for series in self._open_series():
            if not len(series.waiting):
                continue
            acquisition = self._placer.acquisition_of(series)
            heard_ns = self._positions_ns if acquisition is None else acquisition.heard_ns
            last_ns = max(series.waiting.oldest_ns, heard_ns)
            if now_ns - last_ns > self.config.positions_timeout_s * 1e9:
                self._give_up(series, series.waiting.indices(), Reason.UNPAIRED)

    def _advance(self, now_ns: int, finish_reason: str | None = None) -> None:
        self._placer.bind()
        self._placer.place_touched()
        while not self._writer.scan_ended:
            if self._head is None:
                if not self._queue:
                    return
                self._head = self._queue.popleft()
                geometry = self._head.start.geometry
                if geometry is not None:
                    self._cutter.begin(self._head, geometry)
            head = self._head
            if finish_reason is not None:
                self._resolve_finally(head)
            self._unsettled -= sum(map(len, head.resolved))
            self._cutter.take(head)
            reason = finish_reason if finish_reason is not None else self._end_reason(head, now_ns)
            if head.all_arrived:
                reason = "complete" if not head.explained else "incomplete"
            if reason is None or len(head.waiting):
                return
            self._cutter.end(head, reason)
            head.close()
            self._placer.release(head)
            self._head = None
            self._placer.bind()
            self._placer.place_touched()

    def _resolve_finally(self, series: Series) -> None:
        self._placer.bind_finally(series)
        self._placer.place(series, at_once=True)
        self._give_up(series, series.waiting.indices(), Reason.UNPAIRED)

    def _give_up(self, series: Series, indices: Array, reason: Reason) -> None:
        series.resolve(Placed.missing(indices), reason)

    def _end_reason(self, series: Series, now_ns: int) -> str | None:
        """Return why no more frames of a series are expected, None while they are."""
        followed = self._newest_delivered > series.order or self._is_crowded
        if series.ended_ns is None:
            return "superseded" if followed else None
        quiet_s = (now_ns - max(series.ended_ns, series.last_frame_ns)) * 1e-9
        if not followed and quiet_s <= GRACE_S:
            return None
        return "incomplete" if series.frames_received < series.frames_sent else "complete"
