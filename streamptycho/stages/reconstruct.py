"""Reconstruct: diffraction batches become complex projections, while the scan runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

from streamptycho.config import ReconstructionConfig
from streamptycho.messages import (
    Anomaly,
    Array,
    DiffractionBatch,
    Message,
    ObjectUpdate,
    ProjectionEnd,
    ProjectionStart,
    Reason,
    ScanEnd,
    ServiceStatus,
)
from streamptycho.ptychography import Engine, engine
from streamptycho.stages.advice import advice, most_frequent
from streamptycho.stages.latency import Latencies
from streamptycho.stages.rates import Rate
from streamptycho.stages.second_try import Held, SecondTries

LEAST_KEPT = 0.1
PAIRED_TO_VISIBLE = "paired_to_visible"
RECEIVED_TO_FINAL = "received_to_final"


class ReconstructStage:
    """One projection at a time: takes frames as they come, sweeps in between, finishes when told that all are here.

    While a projection is finished the next one waits before the door: `accepts` is False from its first message on,
    and the stream log holds what is behind it. A projection is finished after `sweeps`, or after `min_sweeps` when
    the next one waits. One that ends far worse than others is reconstructed again, see `SecondTries`; if that is better
    there is a second final update of it. One that has hardly any of its frames left is no result and is not handed on.

    Parameters
    ----------
    config
        The engine and its targets.
    clock
        Seconds, for the time budget of the engine.
    """

    name = "reconstruct"

    def __init__(self, config: ReconstructionConfig, clock: Callable[[], float]) -> None:
        self._config = config
        self._engine: Engine = engine(config, clock=clock)
        self._start: ProjectionStart | None = None
        self._end: ProjectionEnd | None = None
        self._next: ProjectionStart | ScanEnd | None = None
        self._counters: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._here: Counter[str] = Counter()
        self._taken = 0
        self._rate = Rate()
        self._error: float | None = None
        self._next_preview_ns = 0
        self._latency_s = 0.0
        self._latencies = Latencies(PAIRED_TO_VISIBLE, RECEIVED_TO_FINAL)
        self._unseen: list[tuple[int, int]] = []
        self._arrivals: list[Array] = []
        self._tries = SecondTries(int(config.second_try_gib * 2**30))
        self._again: Held | None = None
        self.finished = False

    @property
    def busy(self) -> bool:
        """Whether frames wait to be reconstructed, or the projection to be finished."""
        if self._start is None or self.finished:
            return False
        return self._end is not None or (self._engine.frames > 0 and self._engine.sweeps < self._config.sweeps)

    @property
    def accepts(self) -> bool:
        """False while the next projection waits for this one."""
        return self._next is None

    def handle(self, message: Message, now_ns: int) -> Iterator[Message]:
        """Take the next message of this projection, or keep the first of the next one."""
        if isinstance(message, ProjectionStart | ScanEnd):
            self._next = message
            if self._start is None or self._comes_again(message):
                yield from self._turn_over()
        elif isinstance(message, DiffractionBatch):
            yield from self._add(message)
        elif isinstance(message, ProjectionEnd):
            self._end = message

    def work(self, now_ns: int) -> Iterator[Message]:
        """Reconstruct for one slice; finish the projection when its target is reached."""
        if not self.busy:
            return
        if self._engine.frames:
            progress = self._engine.step(self._config.slice_s)
            self._error = progress.error if progress.error is not None else self._error
            self._counters["updates"] += progress.updates
            self._rate.add(progress.updates, now_ns)
        if self._end is not None and self._target_reached():
            yield from self._finish(now_ns)
        elif self._engine.frames and now_ns >= self._next_preview_ns:
            self._next_preview_ns = now_ns + int(self._config.preview_s * 1e9)
            update = self._engine.update()
            if update is not None:
                self._seen(now_ns)
                yield update

    def stop(self, now_ns: int) -> Iterator[Message]:
        """Hand on the projection in progress as it is."""
        if self._start is not None:
            self._tries = SecondTries(0)
            yield from self._finish(now_ns)

    def status(self, now_ns: int) -> ServiceStatus:
        """Return what is being reconstructed and how well."""
        if self.finished:
            text = f"{self._counters['projections']} projections reconstructed"
        elif self._start is None:
            text = "waiting for the first paired frames"
        else:
            error = f", error {self._error:.4f}" if self._error is not None else ""
            again = " once more" if self._again is not None else ""
            text = (
                f"projection {self._start.projection}{again}: {self._engine.frames} frames, "
                f"sweep {self._engine.sweeps:.1f} of {self._config.sweeps}{error}"
            )
        return ServiceStatus(
            service=self.name,
            state="finished" if self.finished else "running" if self._start is not None else "waiting",
            text=text,
            counters=dict(self._counters),
            dropped=dict(self._dropped),
            rates={"updates_per_s": self._rate.per_s(now_ns)},
            lag_s=self._latency_s,
            latencies=self._latencies.counts(),
            latency_sums_s=self._latencies.sums_s(),
        )

    def _add(self, batch: DiffractionBatch) -> Iterator[Message]:
        if self._start is None or batch.projection != self._start.projection:
            self._dropped[Reason.STRAY] += len(batch.index)
            return
        self._counters["frames"] += len(batch.index)
        self._taken += len(batch.index)
        if batch.paired_ns:
            self._unseen.append((batch.paired_ns, len(batch.index)))
        if batch.received_ns is not None:
            self._arrivals.append(batch.received_ns)
        self._tries.add(batch)
        for anomaly in self._engine.add(batch):
            self._here[anomaly.reason] += anomaly.count
            yield anomaly

    def _comes_again(self, message: ProjectionStart | ScanEnd) -> bool:
        """Whether it is the projection in progress that begins once more: who gives it was started again."""
        here = self._start if self._end is None and self._again is None else None
        again = here is not None and isinstance(message, ProjectionStart) and message.projection == here.projection
        if again:
            self._unseen.clear()
            self._arrivals.clear()
        return again

    def _seen(self, now_ns: int) -> None:
        """Take note that all frames so far are in a picture."""
        for paired_ns, frames in self._unseen:
            self._latencies[PAIRED_TO_VISIBLE].add(paired_ns, now_ns, frames)
        self._unseen.clear()

    def _target_reached(self) -> bool:
        hurried = isinstance(self._next, ProjectionStart)
        target = self._config.min_sweeps if hurried else self._config.sweeps
        return self._engine.frames == 0 or self._engine.sweeps >= target

    def _finish(self, now_ns: int) -> Iterator[Message]:
        assert self._start is not None
        if self._again is not None:
            yield from self._finish_again(self._again)
            return
        here = {reason: count for reason, count in self._here.items() if count}
        end, update = self._end, None
        received = max(self._taken, end.frames_received if end else 0)
        if self._engine.frames >= LEAST_KEPT * received:
            update = self._engine.update(final=True)
        yield from self._warnings(self._start.projection, received, here)
        if update is not None:
            fault = self._engine.fault_of_overlap()
            if fault is not None:
                detail = f"projection {self._start.projection}: {fault}"
                yield Anomaly(source="reconstruct", reason=Reason.OUT_OF_RANGE, unit="messages", detail=detail)
            dropped = Counter(end.dropped if end else {})
            dropped.update(here)
            last_frame_ns = end.last_frame_ns if end else now_ns
            self._latency_s = max(0, now_ns - last_frame_ns) * 1e-9
            self._counters["projections"] += 1
            self._seen(now_ns)
            for arrivals_ns in self._arrivals:
                self._latencies[RECEIVED_TO_FINAL].add(arrivals_ns, now_ns)
            self._tries.finish(end, update.error, dict(dropped))
            yield self._completed(update, end, dict(dropped), last_frame_ns)
        else:
            self._counters["projections_left_out"] += 1
        self._dropped.update(here)
        self._unseen.clear()
        self._arrivals.clear()
        self._start = self._end = None
        yield from self._turn_over()

    def _warnings(self, projection: int, received: int, here: dict[str, int]) -> Iterator[Message]:
        sentence, reason = advice(projection, received, here), most_frequent(here)
        if sentence is not None and reason is not None:
            yield Anomaly(source="reconstruct", reason=Reason(reason), count=here[reason], detail=sentence)

    def _finish_again(self, held: Held) -> Iterator[Message]:
        update = self._engine.update(final=True)
        if update is not None and self._tries.better(held, update.error):
            self._counters["projections_improved"] += 1
            last_frame_ns = held.end.last_frame_ns if held.end else update.last_frame_ns
            yield self._completed(update, held.end, held.dropped, last_frame_ns)
        self._again = self._start = self._end = None
        yield from self._turn_over()

    def _try_again(self, held: Held) -> None:
        self._engine.begin(held.start)
        self._again, self._start, self._end, self._error = held, held.start, held.end, None
        self._counters["second_tries"] += 1
        for batch in held.batches:
            self._engine.add(batch)

    def _completed(
        self, update: ObjectUpdate, end: ProjectionEnd | None, dropped: dict[str, int], last_frame_ns: int
    ) -> ObjectUpdate:
        angle_deg = end.angle_deg if end is not None and end.angle_deg is not None else update.angle_deg
        return replace(update, angle_deg=angle_deg, dropped=dropped, last_frame_ns=last_frame_ns)

    def _turn_over(self) -> Iterator[Message]:
        """Try one again that did not converge, or begin the projection that waits, or end the scan."""
        held = self._tries.next()
        if held is not None:
            self._try_again(held)
            return
        following, self._next = self._next, None
        if isinstance(following, ScanEnd):
            self.finished = True
            yield following
        elif following is not None:
            self._engine.begin(following)
            self._start, self._end, self._error = following, None, None
            self._here.clear()
            self._taken = 0
            self._tries.begin(following)
