"""Tomography: finished projections become a tomogram that grows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future

from streamptycho.config import TomographyConfig
from streamptycho.messages import Anomaly, Message, ObjectUpdate, ScanEnd, ServiceStatus, VolumeUpdate
from streamptycho.tomography import Aggregator, AggregatorProtocol, AlignmentJob, Refined, aggregator
from streamptycho.tomography.air_level import air_text
from streamptycho.tomography.volume_resolution import resolution_text

REFINE_EVERY = 1.25

Aside = Callable[[Callable[[], Refined]], "Future[Refined]"]


class TomographyStage:
    """Adds every finished projection to the volume and shows its orthoslices.

    Parameters
    ----------
    scan_id
        Identity of the scan.
    config
        Filter, quantity, alignment.
    aside
        Runs a refinement of the alignment somewhere else while projections arrive, as the `submit` of an executor does.
        None refines only when the volume is closed.
    """

    name = "tomography"
    busy = False
    accepts = True

    def __init__(self, scan_id: str, config: TomographyConfig, aside: Aside | None = None) -> None:
        self.aggregator: AggregatorProtocol = aggregator(scan_id, config)
        self._counters: Counter[str] = Counter()
        self._anomalies: Counter[str] = Counter()
        self._text = "waiting for the first projection"
        self.finished = False
        self._aside = aside
        self._refining: tuple[AlignmentJob, Future[Refined]] | None = None
        self._refined_with = 0

    def handle(self, message: Message, now_ns: int) -> Iterator[Message]:
        """Add a projection, or close the volume."""
        if isinstance(message, ObjectUpdate) and message.final:
            self._counters["projections"] += 1
            yield from self._said(self.aggregator.add(message))
            yield from self._update(final=False)
            self._refine()
        elif isinstance(message, ScanEnd):
            yield from self._close()
            yield message

    def work(self, now_ns: int) -> Iterator[Message]:
        """Apply a refinement of the alignment that has come to its end."""
        if self._refining is None or not self._refining[1].done():
            return
        job, done = self._refining
        self._refining = None
        if isinstance(self.aggregator, Aggregator) and not self.finished:
            self._counters["refinements"] += 1
            yield from self._said(self.aggregator.realign(job, done.result()))
            yield from self._update(final=False)
            self._refine()

    def stop(self, now_ns: int) -> Iterator[Message]:
        """Close the volume with the projections that are here."""
        yield from self._close()

    def status(self, now_ns: int) -> ServiceStatus:
        """Return how many projections the volume has."""
        return ServiceStatus(
            service=self.name,
            state="finished" if self.finished else "running" if self._counters["projections"] else "waiting",
            text=self._text,
            counters={**self._counters, "projections_used": self.aggregator.projections_used},
            anomalies=dict(self._anomalies),
        )

    def _said(self, anomalies: list[Anomaly]) -> Iterator[Anomaly]:
        for anomaly in anomalies:
            self._anomalies[anomaly.reason] += anomaly.count
            self._text = anomaly.detail
            yield anomaly

    def _refine(self) -> None:
        if self._aside is None or self._refining is not None or not isinstance(self.aggregator, Aggregator):
            return
        if self.aggregator.projections_used < REFINE_EVERY * self._refined_with:
            return
        job = self.aggregator.alignment()
        if job is not None:
            self._refined_with = self.aggregator.projections_used
            self._refining = job, self._aside(job.run)

    def _close(self) -> Iterator[Message]:
        if not self.finished:
            self.finished = True
            if self._refining is not None:
                self._refining[0].refinement.cut_short()
            yield from self._update(final=True)

    def _update(self, *, final: bool) -> Iterator[Message]:
        update = self.aggregator.update(final=final)
        if isinstance(self.aggregator, Aggregator):
            yield from self._said(self.aggregator.left_out())
        if update is not None:
            self._text = f"volume of {update.projections_used} projections{_progress(update)}"
            yield update
        elif self.aggregator.projections_used:
            count = self.aggregator.projections_used
            some = f"{count} projections" if count > 1 else "1 projection"
            self._text = f"{some} at one angle: a volume takes at least two, a tenth of a degree apart"


def _progress(update: VolumeUpdate) -> str:
    """Return what to tell of noise and resolution, and whether the resolution is what the operator wants."""
    return "".join(f", {said}" for said in (air_text(update), resolution_text(update)) if said)
