"""One service as a process: its stage, its ports, and the files it leaves."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from streamptycho import positions
from streamptycho.config import Config, dump
from streamptycho.messages import Anomaly, Message, ObjectUpdate, ProjectionEnd, ServiceStatus
from streamptycho.recording.nexus import Provenance, write_projection
from streamptycho.recording.stream_log import LogTail, StreamLogReader, StreamLogWriter
from streamptycho.runtime.instrument_client import InstrumentClient
from streamptycho.runtime.ports import Sink, Source, Stage
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
from streamptycho.stages.finished_first import FinishedFirst
from streamptycho.stages.folder import RunFolder, append_json
from streamptycho.stages.ingest import IngestStage
from streamptycho.stages.reconstruct import ReconstructStage
from streamptycho.stages.record import LogFeed, RecordStage
from streamptycho.stages.recorder import Recorder
from streamptycho.stages.tomogram_files import volume_writer
from streamptycho.stages.tomography import TomographyStage
from streamptycho.stages.unrecorded import Unrecorded, followed

FAILED = 3
ASK_S = 0.2
LAST_WORDS_S = 1.0


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
    addresses = config.pipeline
    data = PushSink(data_endpoint(addresses.record, addresses.bind), addresses.record_high_water_mark)
    recorder = log = None
    if options.replay is not None:
        log = StreamLogReader(options.replay)
        feed = LogFeed(log.blocks(), speed=options.speed)
    else:
        tail, unrecorded = LogTail(), Unrecorded()
        writer = StreamLogWriter(options.folder.log, configuration=dump(config), tail=tail)
        writer.flush()
        target = positions.decoder(config.positions)
        client = InstrumentClient(
            config.detector.endpoint,
            config.positions.host,
            config.positions.port,
            target.request(),
            subscribe=target.transport == "zmq_sub",
        )
        recorder = Recorder(
            client,
            writer,
            sync_s=config.record.sync_s,
            connect_timeout_s=config.record.connect_timeout_s,
            warn_s=config.record.disk_warning_s,
            unrecorded=unrecorded if config.record.when_full == "go_on" else None,
        )
        recorder.start()
        feed = LogFeed(followed(StreamLogReader(options.folder.log, tail).follow_blocks(), unrecorded))
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
    if recorder is not None:
        recorder.stop()
        recorder.join()
        if recorder.failure is not None:
            raise RecordingError(recorder.failure)


def _ingest(config: Config, options: ServiceOptions, stop: StopSignal) -> None:
    addresses = config.pipeline
    _loop(
        IngestStage(config, restamp=options.replay is not None),
        PullSource(data_endpoint(addresses.record), addresses.record_high_water_mark),
        PushSink(data_endpoint(addresses.ingest, addresses.bind), addresses.high_water_mark),
        config,
        options,
        stop,
        accounting_writer(options.folder),
    )


def _reconstruct(config: Config, options: ServiceOptions, stop: StopSignal) -> None:
    addresses = config.pipeline
    _loop(
        ReconstructStage(config.reconstruction, time.perf_counter),
        PullSource(data_endpoint(addresses.ingest), addresses.high_water_mark),
        PushSink(data_endpoint(addresses.reconstruct, addresses.bind), addresses.high_water_mark),
        config,
        options,
        stop,
        projection_writer(config, options.folder),
        warning_writer(options.folder),
    )


def _tomography(config: Config, options: ServiceOptions, stop: StopSignal) -> None:
    with ThreadPoolExecutor(1, "alignment") as aside:
        stage = TomographyStage(config.scan_id, config.tomography, aside.submit)
        following = PullSource(data_endpoint(config.pipeline.reconstruct), config.pipeline.high_water_mark)
        _loop(
            stage,
            FinishedFirst(options.folder, following),
            None,
            config,
            options,
            stop,
            volume_writer(config, options.folder, stage),
        )


def _monitor(config: Config, options: ServiceOptions, stop: StopSignal) -> None:
    from streamptycho.monitor import MonitorServer, Store

    store = Store(expected_projections=config.projections.count)
    server = MonitorServer(store, config.monitor)
    addresses = config.pipeline
    services = (addresses.record, addresses.ingest, addresses.reconstruct, addresses.tomography)
    source = SubSource([status_endpoint(address) for address in services])
    server.start()
    try:
        while not stop():
            message = source.get(0.1)
            if message is not None:
                store.handle(message)
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


def _loop(
    stage: Stage,
    source: Source,
    data: Sink | None,
    config: Config,
    options: ServiceOptions,
    stop: StopSignal,
    *taps: Tap,
    should_stop: Callable[[], bool] | None = None,
) -> None:
    address = getattr(config.pipeline, stage.name)
    look = PubSink(status_endpoint(address, config.pipeline.bind))
    loop = ServiceLoop(
        stage,
        source,
        data,
        look,
        taps=(*taps, status_writer(options.folder)),
        should_stop=should_stop or stop,
        nobody_takes=lambda: stop.abandoned,
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


def status_writer(folder: RunFolder) -> Tap:
    """Return a tap that keeps the newest status in the folder of the run, as long as the disk takes it."""

    def write(message: Message) -> None:
        if isinstance(message, ServiceStatus):
            with contextlib.suppress(OSError):
                folder.write_status(message)

    return write


def accounting_writer(folder: RunFolder) -> Tap:
    """Return a tap that notes what became of the frames of every projection."""

    def write(message: Message) -> None:
        if isinstance(message, ProjectionEnd):
            folder.append_accounting(message)

    return write


def warning_writer(folder: RunFolder) -> Tap:
    """Return a tap that notes what is wrong with whole projections."""

    def write(message: Message) -> None:
        if isinstance(message, Anomaly) and message.source == "reconstruct" and message.detail:
            append_json(folder.warnings, {"reason": message.reason, "count": message.count, "text": message.detail})

    return write


def projection_writer(config: Config, folder: RunFolder) -> Tap:
    """Return a tap that writes every finished projection."""
    configuration = dump(config)

    def write(message: Message) -> None:
        if not isinstance(message, ObjectUpdate) or not message.final:
            return
        provenance = Provenance(
            configuration=configuration, end_s=message.last_frame_ns * 1e-9, dropped=message.dropped
        )
        write_projection(folder.projection(message.projection), message, provenance)
        append_json(
            folder.reconstructed,
            {
                "projection": message.projection,
                "angle_deg": message.angle_deg,
                "error": message.error,
                "noise_floor": message.noise_floor,
                "correction_rms_m": message.correction_rms_m,
                "mode_power": message.mode_power,
                "resolution_m": message.resolution_m,
                "sweeps": message.sweeps,
                "frames": len(message.index),
                "dropped": message.dropped,
                "latency_s": max(0, time.time_ns() - message.last_frame_ns) * 1e-9,
            },
        )

    return write
