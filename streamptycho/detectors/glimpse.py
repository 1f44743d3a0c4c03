"""What a message of a detector is and to which series it belongs, without decoding it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from streamptycho.messages import Array


@dataclass(frozen=True, slots=True)
class Glimpse:
    """One message: `series` is equal for those of one series only, `number` grows from one series to the next.

    `index` are the images in it.
    """

    kind: Literal["start", "image", "end"]
    series: Hashable
    number: int | None = None
    index: Sequence[int] | Array = ()


@runtime_checkable
class GlimpsingDecoder(Protocol):
    """A `FrameDecoder` whose messages can be sorted before it takes them."""

    def glimpse(self, parts: Sequence[bytes]) -> Glimpse | None:
        """Return what a message is, None if it is unreadable, or not whole."""


@runtime_checkable
class BlockGlimpsingDecoder(Protocol):
    """A `BlockDecoder` and `GlimpsingDecoder` that can look at many messages at once."""

    def glimpse_block(self, data: Array, spans: Array) -> tuple[Array, Array]:
        """Look at messages `data[begin:end]` for the rows of `spans` (N, 2).

        Returns
        -------
        tuple
            Marks (N,), which are equal for images of one series, and 0 for what `glimpse` has to look at; and the
            numbers of the images (N,).
        """


def together(marks: Array) -> list[tuple[int, int]]:
    """Return where runs of equal marks begin and end; those of 0 one by one."""
    if not len(marks):
        return []
    begins = np.flatnonzero(np.append(True, (marks[1:] != marks[:-1]) | (marks[1:] == 0))).tolist()
    return list(zip(begins, [*begins[1:], len(marks)], strict=True))
