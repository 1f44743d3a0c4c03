"""Tomography: finished projections become a tomogram that grows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from streamptycho.config import TomographyConfig
from streamptycho.messages import Message, ObjectUpdate, ScanEnd, ServiceStatus, VolumeUpdate
from streamptycho.tomography import AggregatorProtocol, aggregator


class TomographyStage:
    """Adds every finished projection to the volume and shows its orthoslices.

    Parameters
    ----------
    scan_id
        Identity of the scan.
    config
        Filter, quantity, alignment.
    """

    name = "tomography"
    busy = False
    accepts = True

    def __init__(self, scan_id: str, config: TomographyConfig) -> None:
        self.aggregator: AggregatorProtocol = aggregator(scan_id, config)
        self._counters: Counter[str] = Counter()
        self._anomalies: Counter[str] = Counter()
        self._text = "waiting for the first projection"
        self.finished = False

    def handle(self, message: Message, now_ns: int) -> Iterator[Message]:
        """Add a projection, or close the volume."""
        if isinstance(message, ObjectUpdate) and message.final:
            self._counters["projections"] += 1
            for anomaly in self.aggregator.add(message):
                self._anomalies[anomaly.reason] += anomaly.count
                self._text = anomaly.detail
                yield anomaly
            yield from self._update(final=False)
        elif isinstance(message, ScanEnd):
            yield from self._close()
            yield message

    def work(self, now_ns: int) -> Iterator[Message]:
        """Nothing to do between projections."""
        return iter(())

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

    def _close(self) -> Iterator[VolumeUpdate]:
        if not self.finished:
            self.finished = True
            yield from self._update(final=True)

    def _update(self, *, final: bool) -> Iterator[VolumeUpdate]:
        update = self.aggregator.update(final=final)
        if update is not None:
            self._text = f"volume of {update.projections_used} projections"
            yield update
