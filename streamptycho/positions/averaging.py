"""Several rows per exposure, averaged to one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np

from streamptycho.messages import AcquisitionEnd, AcquisitionStart, Array, PositionBlock, Reason
from streamptycho.positions import PositionDecoder, PositionMessage
from streamptycho.positions.reading import lost_rows

MAX_UNFINISHED = 256


class AveragingDecoder:
    """Makes one row of every `rows_per_frame` rows of another decoder: their mean position, angle and time.

    Row k of the result is the mean of rows k n to (k + 1) n - 1. One of which a row is missing is left out, and its
    rows are counted as missing: the mean of the others would lie beside the exposure.

    Parameters
    ----------
    source
        The decoder of the source.
    rows_per_frame
        How many rows belong to one exposure, at least 2.
    """

    def __init__(self, source: PositionDecoder, rows_per_frame: int) -> None:
        self._source = source
        self._n = rows_per_frame
        self._unfinished: dict[int, dict[int, Array]] = {}
        self._angles = False
        self._acquisition = ""

    @property
    def transport(self) -> Literal["tcp", "zmq_sub"]:
        """How the bytes of the source come."""
        return self._source.transport

    def request(self) -> bytes:
        """Return what a client sends after connecting."""
        return self._source.request()

    def connected(self) -> None:
        """Take note of a new connection."""
        self._source.connected()

    def feed(self, data: bytes, received_ns: int) -> Iterator[PositionMessage]:
        """Take the next bytes and yield what they complete, see `PositionDecoder`."""
        yield from self._averaged(self._source.feed(data, received_ns))

    def disconnected(self) -> Iterator[PositionMessage]:
        """Take note of a lost connection: exposures that are half there may be completed by the next one."""
        yield from self._averaged(self._source.disconnected())

    def flush(self) -> Iterator[PositionMessage]:
        """End what is in progress."""
        yield from self._averaged(self._source.flush())

    def _averaged(self, messages: Iterator[PositionMessage]) -> Iterator[PositionMessage]:
        for message in messages:
            if isinstance(message, PositionBlock):
                yield from self._rows(message)
            elif isinstance(message, AcquisitionStart):
                self._acquisition = message.acquisition
                yield replace(message, missed=-(-message.missed // self._n))
            elif isinstance(message, AcquisitionEnd):
                yield from self._give_up(0)
                yield replace(message, rows=message.rows // self._n)
            else:
                yield message

    def _rows(self, block: PositionBlock) -> Iterator[PositionMessage]:
        self._angles = block.angle_deg is not None
        angle_deg = block.angle_deg if block.angle_deg is not None else np.zeros(len(block.row))
        values = np.column_stack([block.time_s, block.xy_m, angle_deg])
        frames, parts = np.divmod(block.row, self._n)
        whole, merged = self._whole(frames, parts, values)
        rest = ~np.isin(frames, whole)
        late = []
        for frame, part, value in zip(frames[rest].tolist(), parts[rest].tolist(), values[rest], strict=True):
            together = self._unfinished.setdefault(frame, {})
            together[part] = value
            if len(together) == self._n:
                late.append((frame, np.mean(list(self._unfinished.pop(frame).values()), axis=0)))
        if late:
            whole = np.concatenate([whole, [frame for frame, _ in late]])
            merged = np.concatenate([merged, [mean for _, mean in late]])
            order = np.argsort(whole, kind="stable")
            whole, merged = whole[order], merged[order]
        if len(whole):
            yield PositionBlock(
                acquisition=block.acquisition,
                row=whole.astype(np.int64),
                time_s=merged[:, 0],
                xy_m=merged[:, 1:3],
                angle_deg=merged[:, 3] if self._angles else None,
            )
        yield from self._give_up(MAX_UNFINISHED)

    def _whole(self, frames: Array, parts: Array, values: Array) -> tuple[Array, Array]:
        """Return the frames all of whose rows are in a block one after the other, and the means of these rows."""
        begin = np.flatnonzero(parts == 0)
        begin = begin[begin + self._n <= len(frames)]
        last = begin + self._n - 1
        begin = begin[(frames[last] == frames[begin]) & (parts[last] == self._n - 1)]
        if not len(begin):
            return np.zeros(0, np.int64), np.zeros((0, 4))
        rows = begin[:, None] + np.arange(self._n)
        return frames[begin], values[rows].mean(axis=1)

    def _give_up(self, keep: int) -> Iterator[PositionMessage]:
        lost = 0
        while len(self._unfinished) > keep:
            lost += len(self._unfinished.pop(next(iter(self._unfinished))))
        if lost:
            detail = f"exposures of which not all {self._n} rows came (positions.rows_per_frame)"
            yield lost_rows(Reason.MISSING, lost, detail)
