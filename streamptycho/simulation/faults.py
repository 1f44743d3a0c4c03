"""What goes wrong on purpose, and the truth of what did."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from streamptycho.config import FaultsConfig

Frame = tuple[int, int]
"""(projection, index within it)."""


class ImageEvent(NamedTuple):
    """The message of one frame, due `due_s` after the start of the run."""

    due_s: float
    frame: Frame
    parts: tuple[bytes, ...]


class RowPiece(NamedTuple):
    """Rows `begin` to `end` (exclusive) of those offered, or a lost connection before them."""

    kind: Literal["rows", "disconnect"]
    begin: int
    end: int


@dataclass(slots=True)
class Tally:
    """What the instrument did: exposures and rows it made, and the fault that each of some of them got.

    A corrupted frame was sent, cut short. A reordered frame left after its successor. Rows withheld were captured
    and never sent.
    """

    frames: int = 0
    dropped: list[Frame] = field(default_factory=list)
    duplicated: list[Frame] = field(default_factory=list)
    reordered: list[Frame] = field(default_factory=list)
    corrupted: list[Frame] = field(default_factory=list)
    rows: int = 0
    rows_withheld: int = 0
    disconnections: int = 0

    def counts(self) -> dict[str, int]:
        """Return the number of everything, by name."""
        return {
            "frames": self.frames,
            "dropped": len(self.dropped),
            "duplicated": len(self.duplicated),
            "reordered": len(self.reordered),
            "corrupted": len(self.corrupted),
            "rows": self.rows,
            "rows_withheld": self.rows_withheld,
            "disconnections": self.disconnections,
        }


def disturb_images(
    images: Iterable[ImageEvent], config: FaultsConfig, rng: np.random.Generator, tally: Tally
) -> Iterator[ImageEvent]:
    """Yield the messages of one series as they leave the detector, at most one fault to each frame."""
    edges = np.cumsum([config.drop_frames, config.duplicate_frames, config.reorder_frames, config.corrupt_frames])
    held: ImageEvent | None = None
    for image in images:
        tally.frames += 1
        fault = int(np.searchsorted(edges, rng.random(), side="right"))
        if fault == 0:
            tally.dropped.append(image.frame)
            continue
        if fault == 2 and held is None:
            held = image
            continue
        if fault == 3:
            tally.corrupted.append(image.frame)
            image = image._replace(parts=_cut(image.parts))
        yield image
        if fault == 1:
            tally.duplicated.append(image.frame)
            yield image
        if held is not None:
            tally.reordered.append(held.frame)
            yield held._replace(due_s=image.due_s)
            held = None
    if held is not None:
        yield held


def row_pieces(config: FaultsConfig, sent: int, count: int) -> list[RowPiece]:
    """Return what happens to `count` rows offered after `sent` rows of the run."""
    stop, cut = config.stop_positions_after_rows, config.disconnect_positions_after_rows
    allowed = count if stop is None else min(count, max(stop - sent, 0))
    if cut is None or not (sent < cut <= sent + allowed or cut == sent == 0):
        return [RowPiece("rows", 0, allowed)] if allowed else []
    at = cut - sent
    pieces = [RowPiece("rows", 0, at), RowPiece("disconnect", at, at), RowPiece("rows", at, allowed)]
    return [piece for piece in pieces if piece.kind == "disconnect" or piece.end > piece.begin]


def positions_stopped(config: FaultsConfig, offered: int) -> bool:
    """Return whether the position source has fallen silent for good after `offered` rows of the run."""
    stop = config.stop_positions_after_rows
    return stop is not None and offered >= stop


def _cut(parts: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return the parts with the largest cut at half: damage that no decoder can take for data."""
    largest = max(range(len(parts)), key=lambda k: len(parts[k]))
    return tuple(part[: len(part) // 2] if k == largest else part for k, part in enumerate(parts))
