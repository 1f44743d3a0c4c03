"""Commands that run the pipeline: prepare, run, close with a summary."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from streamptycho.cli.table import closing_table
from streamptycho.cli.view import JsonView, TerminalView
from streamptycho.config import Config, ConfigError, beside, load, parse
from streamptycho.recording.hdf5 import ResultError
from streamptycho.recording.pictures import show_result
from streamptycho.recording.stream_log import StreamLogReader
from streamptycho.recording.volume_file import read_slices, read_volume
from streamptycho.runtime.sockets import free_ports, is_free
from streamptycho.stages.folder import RunFolder, RunFolderError, write_json
from streamptycho.stages.pipeline import PipelineRun, RunResult
from streamptycho.stages.pixel_mask import keep_mask
from streamptycho.stages.summary import summarise
from streamptycho.stages.truth import correlation_with_truth

RUN_FAILED = 3


@contextlib.contextmanager
def run_folder(out: Path | None, what: str) -> Iterator[RunFolder]:
    """Make the folder of a new run, the given one or a dated one here; it goes again when nothing comes into it.

    Raises
    ------
    RunFolderError
        If it already holds a run, or cannot be made or written.
    """
    path = out or Path(f"streamptycho-{what}-{datetime.now():%Y%m%d-%H%M%S}")
    folder = RunFolder(path.resolve())
    folder.refuse_a_second_run()
    try:
        folder.create()
    except OSError as error:
        reason = error.strerror or error
        raise RunFolderError(f"cannot make the folder {path} ({reason}): choose another with --out") from None
    if not os.access(folder.path, os.W_OK | os.X_OK):
        raise RunFolderError(f"{path} cannot be written: choose another folder with --out")
    try:
        yield folder
    finally:
        folder.remove_if_empty()


def config_of_log(log: Path, config_file: Path | None) -> Config:
    """Return the given configuration, else the one under which the log was recorded.

    Raises
    ------
    ConfigError
        If there is neither, or it cannot be used.
    StreamLogError
        If the log cannot be read.
    """
    if config_file is not None:
        return load(config_file)
    with StreamLogReader(log) as reader:
        text = reader.configuration
    if text is None:
        raise ConfigError(f"{log} begins with no configuration that can be read: give one with --config")
    return beside(parse(text, f"the configuration in {log}"), log.parent)


def run_pipeline(
    config: Config,
    folder: RunFolder,
    *,
    monitor: bool,
    as_json: bool,
    replay: Path | None = None,
    speed: float | None = None,
    simulate: bool = False,
) -> int:
    """Run the services, write `summary.json` and the pictures, print the closing table; return the exit code."""
    console = Console(stderr=as_json)
    view = JsonView() if as_json else TerminalView(console, monitor=monitor)
    config = keep_mask(with_free_monitor_port(config) if monitor else config, folder.pixel_mask)
    run = PipelineRun(config, folder, view, replay=replay, speed=speed, simulate=simulate, monitor=monitor)
    try:
        result = run.run()
    finally:
        view.stop()
    summary = close_run(config, folder, result, simulate=simulate)
    if as_json:
        print(json.dumps(summary))  # noqa: T201
    else:
        console.print(closing_table(summary, replay or folder.log))
        console.print(f"summary  {folder.summary}", highlight=False, soft_wrap=True)
    return RUN_FAILED if result.failures else 0


def close_run(config: Config, folder: RunFolder, result: RunResult, *, simulate: bool) -> dict[str, Any]:
    """Write the summary and the pictures of a run and return the summary."""
    try:
        volume = _volume_summary(config, folder, simulate=simulate)
    except ResultError as error:
        volume = None
        result.failures.append(str(error))
    summary = summarise(folder, result, volume)
    measured = summary["projections"]
    if not any(item["reconstructed"] for item in measured) and not (result.failures or result.stopped_by_operator):
        result.failures.append(nothing_reconstructed(summary))
    try:
        write_json(folder.summary, summary)
        if summary["projections"]:
            with contextlib.suppress(ResultError):
                show_result(folder.path, folder.pictures)
    except OSError as error:
        result.failures.append(f"the summary or the pictures cannot be written: {error.strerror or error}")
    return summary


def nothing_reconstructed(summary: dict[str, Any]) -> str:
    """Return why a run has no projection."""
    if not summary["projections"]:
        return "nothing was reconstructed: the stream has no projection"
    return f"nothing was reconstructed: none of {len(summary['projections'])} measured projections could be used"


def with_free_instrument_ports(config: Config) -> Config:
    """Return the configuration with ports of its own for a simulated instrument."""
    detector, data, control = free_ports(3)
    assert config.simulation is not None
    return config.model_copy(
        update={
            "detector": config.detector.model_copy(update={"endpoint": f"tcp://127.0.0.1:{detector}"}),
            "positions": config.positions.model_copy(update={"host": "127.0.0.1", "port": data}),
            "simulation": config.simulation.model_copy(update={"control_port": control}),
        }
    )


def with_free_monitor_port(config: Config) -> Config:
    """Return the configuration with another port for the page when its own is taken by another run."""
    if config.monitor.port and is_free(config.monitor.host, config.monitor.port):
        return config
    port = free_ports(1, config.monitor.host)[0]
    return config.model_copy(update={"monitor": config.monitor.model_copy(update={"port": port})})


def _volume_summary(config: Config, folder: RunFolder, *, simulate: bool) -> dict[str, Any] | None:
    if not folder.volume.exists():
        return None
    volume = read_slices(folder.volume)
    summary: dict[str, Any] = {
        "shape": [volume.slice_x.shape[0], *volume.slice_z.shape],
        "voxel_m": volume.voxel_m,
        "quantity": volume.quantity,
        "projections_used": volume.projections_used,
        "resolution_m": volume.resolution_m,
        "figures": volume.figures,
        "correlation_with_truth": None,
    }
    if simulate:
        from streamptycho.simulation import truth

        delta, _ = truth(config)
        summary["correlation_with_truth"] = correlation_with_truth(read_volume(folder.volume).data, delta)
    return summary
