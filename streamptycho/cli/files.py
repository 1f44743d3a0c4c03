"""Commands on existing data: import to a stream log, reconstruct in one process."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from streamptycho.cli.check import require_usable
from streamptycho.cli.runs import close_run, config_of_log
from streamptycho.cli.table import closing_table
from streamptycho.config import (
    ORIENTATIONS,
    Config,
    ConfigError,
    Orientation,
    parse,
    parse_section,
    read_text,
)
from streamptycho.messages import Array
from streamptycho.ptychography.orientation import find_orientation
from streamptycho.recording.import_log import write_log
from streamptycho.recording.importers import Dataset, ImportLayout, load_dataset
from streamptycho.recording.stream_log import StreamLogReader, is_stream_log
from streamptycho.stages.folder import RunFolder
from streamptycho.stages.in_process import InProcessPipeline, records_of
from streamptycho.stages.pipeline import RunResult
from streamptycho.stages.pixel_mask import keep_mask
from streamptycho.stages.record import RecordStage

JUDGED_FRAMES = 400


def import_to_log(
    source: Path,
    log: Path,
    orientation: str,
    protocol: str,
    layout_file: Path | None,
    geometry: dict[str, float | None],
    rate_hz: float,
) -> None:
    """Write the stream log of existing data and say what is in it."""
    console = Console(stderr=True)
    layout = parse_section(ImportLayout, read_text(layout_file), str(layout_file)) if layout_file else ImportLayout()
    layout = layout.model_copy(update={key: value for key, value in geometry.items() if value is not None})
    dataset = load_dataset(source, layout)
    chosen = _orientation(dataset, orientation, console)
    with _progress(console) as progress:
        task = progress.add_task("writing", total=len(dataset.counts))
        write_log(
            dataset,
            log,
            protocol=protocol,
            orientation=chosen,
            rate_hz=rate_hz,
            scan_id=source.name.split(".")[0],
            progress=lambda done, total: progress.update(task, completed=done),
        )
    summary = StreamLogReader(log).summary()
    frames, rows, columns = dataset.counts.shape
    console.print(
        f"{log}: {frames} frames of {columns} x {rows} px, {dataset.counts.dtype}, {summary.bytes / 1e6:.1f} MB, "
        f"object pixel {dataset.geometry.object_pixel_m * 1e9:.2f} nm, orientation {chosen}\n"
        f"now: streamptycho replay {log}",
        highlight=False,
        soft_wrap=True,
    )


def reconstruct_batch(
    source: Path,
    folder: RunFolder,
    config_file: Path | None,
    orientation: str | None,
    changes: dict[str, Any],
    *,
    as_json: bool,
) -> int:
    """Reconstruct a log, or a data file by way of a log in the folder, with all sweeps; return the exit code."""
    console = Console(stderr=as_json)
    folder.create()
    log = source
    if not is_stream_log(source):
        dataset = load_dataset(source)
        log = folder.log
        chosen = _orientation(dataset, orientation or "identity", console)
        write_log(dataset, log, orientation=chosen, scan_id=source.name.split(".")[0])
    elif orientation == "auto":
        raise ConfigError("--orientation auto needs a data file: for a log name one of the eight, or import it again")
    config = _changed(config_of_log(log, config_file), changes, None if log is folder.log else orientation)
    require_usable(config)
    config = keep_mask(config, folder.pixel_mask)
    result = RunResult()
    began = time.monotonic()
    reader = StreamLogReader(log)
    with _progress(console) as progress:
        task = progress.add_task("reconstructing", total=reader.summary().bytes)
        pipeline = InProcessPipeline(config, folder)
        pipeline.run(records_of(reader.blocks(), lambda size: progress.advance(task, size)))
    result.duration_s = time.monotonic() - began
    folder.write_status(RecordStage(log=reader).status(time.time_ns()))
    if reader.damage:
        console.print(reader.damage, style="yellow", highlight=False, markup=False)
    summary = close_run(config, folder, result, simulate=False)
    if as_json:
        print(json.dumps(summary))  # noqa: T201
    else:
        console.print(closing_table(summary))
        console.print(f"summary  {folder.summary}", highlight=False, soft_wrap=True)
    return 0


def _orientation(dataset: Dataset, asked: str, console: Console) -> Orientation:
    """Return the asked orientation, or the one with which the data agree best."""
    if asked != "auto":
        if asked not in ORIENTATIONS:
            raise ConfigError(f"--orientation must be auto or one of {', '.join(ORIENTATIONS)}, got {asked!r}")
        return asked
    counts, xy_m = _judged(dataset)
    with console.status("trying the eight orientations"):
        result = find_orientation(counts, xy_m, dataset.geometry, probe=dataset.probe)
    for name, error in sorted(result.errors.items(), key=lambda item: item[1]):
        console.print(
            f"  {name:<16} error {error:.4f}{'  <- chosen' if name == result.best else ''}",
            highlight=False,
            soft_wrap=True,
        )
    return result.best


def _judged(dataset: Dataset) -> tuple[Array, Array]:
    """Return the frames nearest to the middle of the scan, as many as are worth trying."""
    distance = np.linalg.norm(dataset.xy_m - np.median(dataset.xy_m, axis=0), axis=1)
    chosen = np.sort(np.argsort(distance)[:JUDGED_FRAMES])
    side = dataset.geometry.shape[0]
    top, left = ((n - side) // 2 for n in dataset.counts.shape[1:])
    return dataset.counts[chosen, top : top + side, left : left + side], dataset.xy_m[chosen]


def _changed(config: Config, changes: dict[str, Any], orientation: str | None) -> Config:
    """Return the configuration with what the command line replaces, validated again."""
    tree = config.model_dump(mode="json")
    tree["reconstruction"].update({key: value for key, value in changes.items() if value is not None})
    tree["reconstruction"]["min_sweeps"] = min(tree["reconstruction"]["min_sweeps"], tree["reconstruction"]["sweeps"])
    if orientation is not None:
        tree["positions"]["orientation"] = orientation
    return parse(json.dumps(tree), "the command line")


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
