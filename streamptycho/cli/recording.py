"""Recording without reconstruction."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.live import Live

from streamptycho.config import Config, dump
from streamptycho.recording.stream_log import StreamLogWriter
from streamptycho.runtime.supervisor import StopSignal
from streamptycho.stages.instruments import instrument_client
from streamptycho.stages.pixel_mask import keep_mask
from streamptycho.stages.recorder import Recorder

FAILED = 3
LOOK_S = 0.2


def record_to_log(config: Config, log: Path, seconds: float | None) -> int:
    """Record until Ctrl-C, the given time or a failure; return the exit code."""
    console = Console(stderr=True)
    stop = StopSignal()
    config = keep_mask(config, log.with_name(f"{log.name}.mask.npy"))
    writer = StreamLogWriter(log, configuration=dump(config))
    client = instrument_client(config)
    recorder = Recorder(
        client,
        writer,
        sync_s=config.record.sync_s,
        connect_timeout_s=config.record.connect_timeout_s,
        warn_s=config.record.disk_warning_s,
    )
    began = time.monotonic()
    recorder.start()
    with Live(console=console, transient=True) as live:
        while not stop() and recorder.failure is None and (seconds is None or time.monotonic() - began < seconds):
            live.update(f"{recorder.text}: {recorder.records} messages, {recorder.bytes / 1e6:.1f} MB in {log}")
            time.sleep(LOOK_S)
    recorder.stop()
    recorder.join()
    if recorder.failure is not None:
        console.print(recorder.failure, style="red", highlight=False, soft_wrap=True)
        return FAILED
    if recorder.bytes == 0:
        console.print(f"{log}: nothing came from the instruments ({recorder.text})", style="red", highlight=False)
        return FAILED
    console.print(f"{log}: {recorder.records} messages, {recorder.bytes / 1e6:.1f} MB", highlight=False, soft_wrap=True)
    return 0
