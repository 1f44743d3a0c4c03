"""The whole pipeline in one process: the same stages, called one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from streamptycho.config import Config
from streamptycho.messages import Message, RawBlock, RawRecord
from streamptycho.runtime.ports import Stage, travels_as_data
from streamptycho.runtime.service import Tap
from streamptycho.stages.folder import RunFolder
from streamptycho.stages.folder_writers import accounting_writer, projection_writer, status_writer, warning_writer
from streamptycho.stages.ingest import IngestStage
from streamptycho.stages.reconstruct import ReconstructStage
from streamptycho.stages.tomogram_files import volume_writer
from streamptycho.stages.tomography import TomographyStage


class InProcessPipeline:
    """Ingest, reconstruct and tomography on records of a log, without sockets.

    Every projection gets all its sweeps: nothing waits behind it that could hurry it.

    Parameters
    ----------
    config
        The beamline.
    folder
        Where results go, None to keep nothing.
    see
        Called with every message that any stage makes.
    only
        Numbers of the projections that are wanted, None for all.
    """

    def __init__(
        self,
        config: Config,
        folder: RunFolder | None = None,
        see: Callable[[Message], None] = lambda message: None,
        *,
        only: frozenset[int] | None = None,
    ) -> None:
        self._only = only
        reconstruct_config = config.reconstruction.model_copy(update={"min_sweeps": config.reconstruction.sweeps})
        self.ingest = IngestStage(config, restamp=True)
        self.reconstruct = ReconstructStage(reconstruct_config, time.perf_counter)
        self.tomography = TomographyStage(config.scan_id, config.tomography)
        self._stages: list[Stage] = [self.ingest, self.reconstruct, self.tomography]
        self._taps: list[Tap] = [see]
        if folder is not None:
            folder.create()
            self._taps += [
                accounting_writer(folder),
                projection_writer(config, folder),
                warning_writer(folder),
                volume_writer(config, folder, self.tomography),
                status_writer(folder),
            ]

    def run(self, records: Iterable[RawRecord | RawBlock]) -> None:
        """Feed the records and finish the scan."""
        for record in records:
            self._feed(0, record)
            if self.ingest.finished:
                break
        if not self.ingest.finished:
            self._hand_on(0, self.ingest.stop(time.time_ns()))
        for stage in self._stages:
            for tap in self._taps:
                tap(stage.status(time.time_ns()))

    def _feed(self, position: int, message: Message) -> None:
        stage = self._stages[position]
        self._hand_on(position, stage.handle(message, time.time_ns()))
        while not stage.accepts:
            self._hand_on(position, stage.work(time.time_ns()))

    def _hand_on(self, position: int, outputs: Iterable[Message]) -> None:
        for message in outputs:
            if self._only is not None and getattr(message, "projection", None) not in (None, *self._only):
                continue
            for tap in self._taps:
                tap(message)
            if travels_as_data(message) and position + 1 < len(self._stages):
                self._feed(position + 1, message)


def records_of(
    reader: Iterable[RawRecord | RawBlock], progress: Callable[[int], None]
) -> Iterator[RawRecord | RawBlock]:
    """Yield the records and report how many bytes have passed."""
    for record in reader:
        yield record
        progress(len(record.data) if isinstance(record, RawBlock) else sum(map(len, record.parts)))
