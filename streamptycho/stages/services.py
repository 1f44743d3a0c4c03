"""One service as a process: its stage, its ports, and the files it leaves."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from streamptycho.config import Config, dump
from streamptycho.messages import RawBlock, RawRecord, ServiceStatus
from streamptycho.runtime.lending import Lender, can_lend
from streamptycho.runtime.ports import Sink, Source, Stage
from streamptycho.runtime.pulse import Pulse
from streamptycho.runtime.service import ServiceLoop, Tap
from streamptycho.runtime.sockets import (
    PubSink,
    PullSource,
    PushSink,
    SubSource,
    data_endpoint,
    release_sockets,
    status_endpoint,
)
from streamptycho.runtime.supervisor import StopSignal
from streamptycho.stages.failures import in_words, written_for_people
from streamptycho.stages.folder import RunFolder
from streamptycho.stages.folder_writers import accounting_writer, projection_writer, status_writer, warning_writer
from streamptycho.stages.pipeline import PIPELINE
from streamptycho.stages.read_again import PATIENCE_S, EachOnce, LogFirst, WithoutProjections

# What only one service needs is imported in its function: compiled code and file formats take a second to load.

FAILED = 3
ASK_S = 0.2
LAST_WORDS_S = 1.0
TAIL_SLABS, LENT_SLABS = 10, 14
PREPARED_SLABS = 4


class RecordingError(RuntimeError):
    """The recording broke off: an instrument that does not answer, or a disk that takes no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOptions:
    """What a service is told besides the configuration.

    `replay` is the log to read instead of the instrument, `speed` how fast (None: as fast as possible), `parent` the
    process to live and die with.
    """

    folder: RunFolder
    replay: Path | None = None
    speed: float | None = None
    parent: int | None = None


def run_service(name: str, config: Config, options: ServiceOptions) -> int:
    """Run one service until its work is done; return the exit code of its process."""
    stop = StopSignal(options.parent)
    options.folder.create()
    try:
        SERVICES[name](config, options, stop)
    except Exception as error:  # noqa: BLE001 - the last line of defence: the operator gets a sentence, the log the rest
        sentence = in_words(error)
        with contextlib.suppress(OSError):  # a full disk takes no word of it either
            if not written_for_people(error):
                traceback.print_exc()
            print(f"{name} failed: {sentence}", file=sys.stderr, flush=True)  # noqa: T201
            options.folder.write_status(ServiceStatus(service=name, state="failed", text=sentence))
        _leave_when_sent(FAILED, stop, LAST_WORDS_S)
        stop.ignore()
        return FAILED
    stop.release()
    _leave_when_sent(0, stop)
    return 0


def _leave_when_sent(code: int, stop: StopSignal, at_most_s: float = math.inf) -> None:
    """Let the next service take what waits for it, and come back.

    When nobody is left to take it, or the time is over, the process ends here with the code: no sooner would it end by
    itself than its sockets are empty.
    """
    deadline = time.monotonic() + at_most_s
    sending = threading.Thread(target=release_sockets, name="sending", daemon=True)
    sending.start()
    while sending.is_alive() and time.monotonic() < deadline:
        sending.join(ASK_S)
        if stop.abandoned or stop.orphaned:
            break
    if sending.is_alive():
        stop.ignore()
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(FAILED if stop.orphaned else code)


def _record(config: Config, options: ServiceOptions, stop: StopSignal) -> None:
    from streamptycho.memory import ReusedMemory
    from streamptycho.recording.stream_log import LogTail, StreamLogReader, StreamLogWriter
    from streamptycho.stages.instruments import instrument_client
    from streamptycho.stages.record import LogFeed, RecordStage
    from streamptycho.stages.recorder import Recorder
    from streamptycho.stages.unrecorded import Unrecorded, followed

    addresses = config.pipeline
    lender = _lender(config)
    data = PushSink(data_endpoint(addresses.record, addresses.bind), addresses.record_high_water_mark, lender)
    recorder = log = None
    if options.replay is not None:
        log = StreamLogReader(options.replay)
        feed = LogFeed(log.blocks(), speed=options.speed)
    else:
        tail = LogTail() if lender is None else LogTail(slabs=TAIL_SLABS, allocate=lender.allocate, prepared=LENT_SLABS)
        unrecorded = Unrecorded()
        writer = StreamLogWriter(options.folder.log, configuration=dump(config), tail=tail)
        writer.flush()
        recorder = Recorder(
            instrument_client(config),
            writer,
            sync_s=config.record.sync_s,
            connect_timeout_s=config.record.connect_timeout_s,
            warn_s=config.record.disk_warning_s,
            unrecorded=unrecorded if config.record.when_full == "go_on" else None,
        )
        recorder.start()
        memory = None if lender is None else ReusedMemory(allocate=lender.allocate)
        log_reader = StreamLogReader(options.folder.log, tail, memory)
        feed = LogFeed(followed(log_reader.follow_blocks(), unrecorded))
    ending = False

    def should_stop() -> bool:
        nonlocal ending
        if stop() and not ending:
            ending = True
            if recorder is not None:
                recorder.stop()
            else:
                feed.stop()
        if recorder is not None and recorder.failure is not None:
            feed.stop()
        never_connected = recorder is not None and recorder.failure is not None and recorder.bytes == 0
        return stop.count > 1 or stop.orphaned or never_connected

    _loop(RecordStage(recorder, log), feed, data, config, options, stop, should_stop=should_stop)
    _wait_until_received(lender, stop)
    if recorder is not None:
        recorder.stop()
        recorder.join()
        if recorder.failure is not None:
            raise RecordingError(recorder.failure)


def _ingest(config: Config, options: ServiceOptions, stop: StopSignal) -> None:
    from streamptycho.detectors.image_blocks import SLAB_BYTES
    from streamptycho.memory import ReusedMemory
    from streamptycho.stages.ingest import IngestStage
    from streamptycho.stages.warm_up import warm_up

    addresses, folder = config.pipeline, options.folder
    warm_up(config)
    source: Source = PullSource(data_endpoint(addresses.record), addresses.record_high_water_mark)
    if folder.has_begun("ingest"):
        patience_s = PATIENCE_S + 2 * config.record.sync_s
        source = LogFirst(_log_from_the_start(options), source, patience_s=patience_s)
    lender, memory = _lender(config), None
    if lender is not None:
        memory = ReusedMemory(allocate=lender.allocate)
        memory.prepare(SLAB_BYTES, PREPARED_SLABS)
    _loop(
        IngestStage(config, restamp=options.replay is not None, memory=memory),
        source,
        PushSink(data_endpoint(addresses.ingest, addresses.bind), addresses.high_water_mark, lender),
        config,
        options,
        stop,
        accounting_writer(folder),
        left_out=folder.finished_projections(),
    )
    _wait_until_received(lender, stop)


def _log_from_the_start(options: ServiceOptions) -> Iterator[RawRecord | RawBlock | None]:
    from streamptycho.recording.stream_log import StreamLogReader

    if options.replay is not None:
        return StreamLogReader(options.replay).blocks()
    return StreamLogReader(options.folder.log).follow_blocks()


def _reconstruct(config: Config, options: ServiceOptions, stop: StopSignal) -> None:
    from streamptycho.stages.reconstruct import ReconstructStage

    addresses = config.pipeline
    _loop(
        ReconstructStage(config.reconstruction, time.perf_counter),
        EachOnce(PullSource(data_endpoint(addresses.ingest), addresses.high_water_mark, keeps=True)),
        PushSink(data_endpoint(addresses.reconstruct, addresses.bind), addresses.high_water_mark),
        config,
        options,
        stop,
        projection_writer(config, options.folder),
        warning_writer(options.folder),
    )


def _tomography(config: Config, options: ServiceOptions, stop: StopSignal) -> None:
    from streamptycho.stages.finished_first import FinishedFirst
    from streamptycho.stages.tomogram_files import volume_writer
    from streamptycho.stages.tomography import TomographyStage

    with ThreadPoolExecutor(1, "alignment") as aside:
        stage = TomographyStage(config.scan_id, config.tomography, aside.submit)
        following = PullSource(data_endpoint(config.pipeline.reconstruct), config.pipeline.high_water_mark)
        _loop(
            stage,
            FinishedFirst(options.folder, following, config.scan_id, stopping=stop),
            None,
            config,
            options,
            stop,
            volume_writer(config, options.folder, stage),
        )


def _monitor(config: Config, options: ServiceOptions, stop: StopSignal) -> None:
    from streamptycho.monitor import MonitorServer, Store
    from streamptycho.stages.page_feed import PageFeed

    store = Store(expected_projections=config.projections.count)
    server = MonitorServer(store, config.monitor)
    source = SubSource([status_endpoint(getattr(config.pipeline, name)) for name in PIPELINE])
    feed = PageFeed(source, options.folder, PIPELINE, store.handle)
    server.start()
    try:
        feed.begin()
        while not stop():
            feed.step(0.1)
        feed.finish()
    finally:
        server.stop()
        source.close()


def _simulate(config: Config, options: ServiceOptions, stop: StopSignal) -> None:
    from streamptycho.stages.simulate import simulate

    over = ServiceStatus(service="simulate", state="finished", text="the simulated scan is over")
    simulate(config, stop, when_over=None if options.parent is None else lambda: options.folder.write_status(over))


SERVICES: dict[str, Callable[[Config, ServiceOptions, StopSignal], None]] = {
    "record": _record,
    "ingest": _ingest,
    "reconstruct": _reconstruct,
    "tomography": _tomography,
    "monitor": _monitor,
    "simulate": _simulate,
}


def _lender(config: Config) -> Lender | None:
    """Return who lends the next service what else would be sent, where that is on this machine and allowed."""
    addresses = config.pipeline
    if addresses.shared_memory and can_lend(addresses.bind):
        with contextlib.suppress(OSError):
            return Lender()
    return None


def _wait_until_received(lender: Lender | None, stop: StopSignal) -> None:
    if lender is not None:
        lender.wait_until_received(lambda: stop.abandoned or stop.orphaned)


def _loop(
    stage: Stage,
    source: Source,
    data: Sink | None,
    config: Config,
    options: ServiceOptions,
    stop: StopSignal,
    *taps: Tap,
    should_stop: Callable[[], bool] | None = None,
    left_out: frozenset[int] = frozenset(),
) -> None:
    address = getattr(config.pipeline, stage.name)
    look: Sink = Pulse(PubSink(status_endpoint(address, config.pipeline.bind)))
    if left_out:
        look, data = WithoutProjections(look, left_out), data and WithoutProjections(data, left_out)
    again = options.folder.has_begun(stage.name)
    loop = ServiceLoop(
        stage,
        source,
        data,
        look,
        taps=(*taps, status_writer(options.folder)),
        should_stop=should_stop or stop,
        nobody_takes=lambda: stop.abandoned,
        remark=f"started again at {time.strftime('%H:%M:%S')}" if again else "",
    )
    try:
        loop.run()
    except Exception as error:
        loop.publish_status(failure=in_words(error))
        raise
    finally:
        for port in (source, data, look):
            if port is not None:
                port.close()
