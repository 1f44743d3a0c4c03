"""Which of the eight orientations of the positions is right: asked for, or found from the data."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from rich.console import Console

from streamptycho.config import ORIENTATIONS, Config, ConfigError, Orientation
from streamptycho.geometry import Geometry
from streamptycho.messages import Array, DiffractionBatch, Message, ProjectionEnd, ProjectionStart, RawBlock, RawRecord
from streamptycho.ptychography.orientation import OrientationResult, find_orientation
from streamptycho.ptychography.probe import read_probe
from streamptycho.recording.importers import Dataset
from streamptycho.recording.stream_log import StreamLogReader
from streamptycho.stages.ingest import IngestStage

JUDGED_FRAMES = 400
MAX_HELD_BYTES = 2 << 30


class OrientationNotFoundError(ValueError):
    """A recording from which the orientation cannot be found."""


def orientation_of_dataset(dataset: Dataset, asked: str, console: Console) -> Orientation:
    """Return the asked orientation, or with "auto" the one with which the data agree best."""
    if asked != "auto":
        return named(asked)
    side = dataset.geometry.shape[0]
    top, left = ((n - side) // 2 for n in dataset.counts.shape[1:])
    distance = np.linalg.norm(dataset.xy_m - np.median(dataset.xy_m, axis=0), axis=1)
    chosen = np.sort(np.argsort(distance)[:JUDGED_FRAMES])
    counts = dataset.counts[chosen, top : top + side, left : left + side]
    with console.status("trying the eight orientations"):
        result = find_orientation(counts, dataset.xy_m[chosen], dataset.geometry, probe=dataset.probe)
    return _told(result, console)


def orientation_of_log(reader: StreamLogReader, config: Config, console: Console) -> Orientation:
    """Return the orientation with which the first projection of a recording agrees best.

    Raises
    ------
    OrientationNotFoundError
        If there is no projection with frames that have positions.
    EngineError
        If the frames cannot be reconstructed, see `find_orientation`.
    """
    how = config.reconstruction
    with console.status("reading the first projection"):
        counts, xy_m, geometry = first_projection(reader.blocks(), config)
    with console.status("trying the eight orientations"):
        result = find_orientation(
            counts,
            xy_m,
            geometry,
            probe=read_probe(how.probe),
            probe_start=None if how.probe.start == "file" else how.probe,
            modes=how.modes,
            max_frames=JUDGED_FRAMES,
            device=how.device,
            upsampling=how.upsampling,
            propagator=how.propagator,
            source_distance_m=how.source_distance_m,
        )
    return _told(result, console)


def first_projection(records: Iterable[RawRecord | RawBlock], config: Config) -> tuple[Array, Array, Geometry]:
    """Return counts (N, n, n), positions (N, 2) in the axes of the stage, and geometry of the first projection.

    Of a very large one its first frames.
    """
    stage_axes = config.positions.model_copy(update={"orientation": "identity"})
    stage = IngestStage(config.model_copy(update={"positions": stage_axes}), restamp=True)
    geometry: Geometry | None = None
    batches: list[DiffractionBatch] = []
    for message in _ingested(stage, records):
        if isinstance(message, ProjectionStart):
            geometry = message.geometry
        elif isinstance(message, DiffractionBatch):
            batches.append(message)
        over = isinstance(message, ProjectionEnd) and batches
        if over or sum(batch.counts.nbytes for batch in batches) > MAX_HELD_BYTES:
            break
    if geometry is None or not batches:
        raise OrientationNotFoundError(
            f"no frame of this recording has a position: {stage.status(0).text}. Replay it to see what is missing"
        )
    counts = np.concatenate([batch.counts for batch in batches])
    return counts, np.concatenate([batch.xy_m for batch in batches]), geometry


def named(orientation: str) -> Orientation:
    """Return the orientation of that name.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if orientation not in ORIENTATIONS:
        raise ConfigError(f"--orientation must be auto or one of {', '.join(ORIENTATIONS)}, got {orientation!r}")
    return orientation


def _ingested(stage: IngestStage, records: Iterable[RawRecord | RawBlock]) -> Iterable[Message]:
    now_ns = 0
    for record in records:
        now_ns = int(record.received_ns[-1] if isinstance(record, RawBlock) else record.received_ns)
        yield from stage.handle(record, now_ns)
    yield from stage.stop(now_ns)


def _told(result: OrientationResult, console: Console) -> Orientation:
    for name, error in sorted(result.errors.items(), key=lambda item: item[1]):
        chosen = "  <- chosen" if name == result.best else ""
        console.print(f"  {name:<16} error {error:.4f}{chosen}", highlight=False, soft_wrap=True)
    if result.twin_decided_by is None:
        console.print(
            f"{result.best} and {result.twin} fit equally well: compare the pictures of both with the sample",
            style="yellow",
            soft_wrap=True,
        )
    console.print(f"for the configuration: positions.orientation: {result.best}", highlight=False, soft_wrap=True)
    return result.best
