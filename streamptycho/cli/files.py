"""Commands on existing data: import to a stream log, reconstruct in one process."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from streamptycho.cli.check import require_usable
from streamptycho.cli.orientation import named, orientation_of_dataset, orientation_of_log
from streamptycho.cli.runs import RUN_FAILED, close_run, config_of_log
from streamptycho.cli.table import closing_table
from streamptycho.config import Config, ConfigError, parse, parse_section, read_text
from streamptycho.recording.import_log import write_log
from streamptycho.recording.importers import ImportLayout, load_dataset
from streamptycho.recording.stream_log import StreamLogReader, is_stream_log
from streamptycho.stages.folder import RunFolder
from streamptycho.stages.in_process import InProcessPipeline, records_of
from streamptycho.stages.pipeline import RunResult
from streamptycho.stages.pixel_mask import keep_mask
from streamptycho.stages.record import RecordStage


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
    if source.is_file() and is_stream_log(source):
        raise ConfigError(
            f"{source} is a stream log already: streamptycho replay {source}, or to find the orientation "
            f"streamptycho reconstruct {source} --orientation auto"
        )
    dataset = load_dataset(source, layout)
    chosen = orientation_of_dataset(dataset, orientation, console)
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
    projections: str | None = None,
) -> int:
    """Reconstruct a log, or a data file by way of a log in the folder, with all sweeps; return the exit code."""
    console = Console(stderr=as_json)
    only = None if projections is None else numbers_in(projections)
    log = source
    if not is_stream_log(source):
        dataset = load_dataset(source)
        chosen = orientation_of_dataset(dataset, orientation or "identity", console)
        log = folder.log
        write_log(dataset, log, orientation=chosen, scan_id=source.name.split(".")[0])
    config = _changed(config_of_log(log, config_file), changes)
    require_usable(config)
    if log is source and orientation is not None:
        chosen = (
            named(orientation) if orientation != "auto" else orientation_of_log(StreamLogReader(log), config, console)
        )
        config = config.model_copy(update={"positions": config.positions.model_copy(update={"orientation": chosen})})
    folder.create()
    config = keep_mask(config, folder.pixel_mask)
    result = RunResult()
    began = time.monotonic()
    reader = StreamLogReader(log)
    with _progress(console) as progress:
        task = progress.add_task("reconstructing", total=reader.summary().bytes)
        pipeline = InProcessPipeline(config, folder, only=only)
        pipeline.run(records_of(reader.blocks(), lambda size: progress.advance(task, size)))
    result.duration_s = time.monotonic() - began
    folder.write_status(RecordStage(log=reader).status(time.time_ns()))
    if reader.damage:
        console.print(reader.damage, style="yellow", highlight=False, markup=False)
    summary = close_run(config, folder, result, simulate=False)
    if as_json:
        print(json.dumps(summary))  # noqa: T201
    else:
        console.print(closing_table(summary, log))
        console.print(f"summary  {folder.summary}", highlight=False, soft_wrap=True)
    return RUN_FAILED if result.failures else 0


def numbers_in(text: str) -> frozenset[int]:
    """Return the numbers that a list like 3,7-9 names.

    Raises
    ------
    ConfigError
        If it is no such list.
    """
    numbers: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,7})\s*(?:-\s*(\d{1,7})\s*)?", part)
        if found is None or int(found[2] or found[1]) < int(found[1]):
            raise ConfigError(f"--projections must be numbers and ranges like 3,7-9, got {text!r}")
        numbers.update(range(int(found[1]), int(found[2] or found[1]) + 1))
    return frozenset(numbers)


def _changed(config: Config, changes: dict[str, Any]) -> Config:
    """Return the configuration with what the command line replaces, validated again."""
    tree = config.model_dump(mode="json")
    tree["reconstruction"].update({key: value for key, value in changes.items() if value is not None})
    tree["reconstruction"]["min_sweeps"] = min(tree["reconstruction"]["min_sweeps"], tree["reconstruction"]["sweeps"])
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
