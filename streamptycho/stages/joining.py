"""Frames and rows that come in small pieces, put together: pairing pays per block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from streamptycho.memory import in_one
from streamptycho.messages import FrameBlock, Message, PositionBlock

JOINED_FRAMES = 256
JOINED_BYTES = 16 << 20


class FrameJoiner:
    """Holds blocks that belong together until they are taken."""

    def __init__(self) -> None:
        self._held: list[FrameBlock] = []
        self._frames = self._bytes = 0

    def put(self, block: FrameBlock, received_ns: int) -> list[FrameBlock]:
        """Hold a block received at `received_ns`; return what must be handed on before it, or because it is enough."""
        ready = self.take() if self._held and not _alike(self._held[0], block) else []
        if block.received_ns is None:
            block = replace(block, received_ns=np.full(len(block.index), received_ns))
        self._held.append(block)
        self._frames += len(block.index)
        self._bytes += block.counts.nbytes
        return ready + self.take() if self._frames >= JOINED_FRAMES or self._bytes >= JOINED_BYTES else ready

    def take(self) -> list[FrameBlock]:
        """Return what is held as one block, if there is anything."""
        held, self._held = self._held, []
        self._frames = self._bytes = 0
        if len(held) < 2:
            return held
        return [
            FrameBlock(
                series=held[0].series,
                index=np.concatenate([block.index for block in held]),
                exposure_start_s=np.concatenate([block.exposure_start_s for block in held]),
                exposure_stop_s=np.concatenate([block.exposure_stop_s for block in held]),
                counts=in_one([block.counts for block in held]),
                received_ns=np.concatenate([block.received_ns for block in held if block.received_ns is not None]),
            )
        ]


def _alike(one: FrameBlock, other: FrameBlock) -> bool:
    same = one.counts.shape[1:] == other.counts.shape[1:] and one.counts.dtype == other.counts.dtype
    return same and one.series == other.series


def joined_rows(messages: Iterable[Message]) -> Iterator[Message]:
    """Yield messages with blocks of rows that follow each other in one acquisition put together."""
    held: list[PositionBlock] = []
    for message in messages:
        if held and not (isinstance(message, PositionBlock) and _follows(held[0], message)):
            yield _one_block(held)
            held = []
        if isinstance(message, PositionBlock):
            held.append(message)
        else:
            yield message
    if held:
        yield _one_block(held)


def _follows(one: PositionBlock, other: PositionBlock) -> bool:
    return one.acquisition == other.acquisition and (one.angle_deg is None) == (other.angle_deg is None)


def _one_block(blocks: list[PositionBlock]) -> PositionBlock:
    if len(blocks) == 1:
        return blocks[0]
    angles = [block.angle_deg for block in blocks if block.angle_deg is not None]
    return PositionBlock(
        acquisition=blocks[0].acquisition,
        row=np.concatenate([block.row for block in blocks]),
        time_s=np.concatenate([block.time_s for block in blocks]),
        xy_m=np.concatenate([block.xy_m for block in blocks]),
        angle_deg=np.concatenate(angles) if angles else None,
    )
