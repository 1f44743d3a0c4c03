"""A block of records as runs that can be decoded together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from streamptycho.messages import RECORD_KINDS, RECORD_SOURCES, RawBlock, RawRecord

_POSITIONS, _DATA = RECORD_SOURCES.index("positions"), RECORD_KINDS.index("data")
_RECORDER = RECORD_SOURCES.index("recorder")


def runs(block: RawBlock, tick_ns: int, every_ns: int) -> Iterator[RawBlock | RawRecord]:
    """Yield the records of a block: data of one instrument in one part each together, others alone.

    A run ends with the first record received after `tick_ns`, then `every_ns` later, and so on: what depends on time
    does not depend on how records came in blocks. Up to there positions come before frames: neither waits for the
    other on its way here, so their order says nothing, and a few long runs cost less than many short ones.
    """
    plain = (block.source != _RECORDER) & (block.kind == _DATA) & (np.diff(block.first_part) == 1)
    breaks = np.flatnonzero(~plain[1:] | ~plain[:-1]) + 1
    begin = 0
    for end in [*breaks.tolist(), len(block)]:
        reached_ns = np.maximum.accumulate(block.received_ns[begin:end])
        while begin < end:
            count = int(np.searchsorted(reached_ns, tick_ns, side="right")) + 1 if plain[begin] else 1
            count = min(count, end - begin)
            if reached_ns[count - 1] > tick_ns:
                tick_ns = int(reached_ns[count - 1]) + every_ns
            if plain[begin]:
                yield from _by_instrument(block.some(begin, begin + count))
            else:
                yield block.record(begin)
            begin += count
            reached_ns = reached_ns[count:]


def _by_instrument(run: RawBlock) -> Iterator[RawBlock]:
    """Yield records of one part each, those of the positions first."""
    of_positions = run.source == _POSITIONS
    if of_positions.all() or not of_positions.any():
        yield run
        return
    for chosen in (of_positions, ~of_positions):
        yield replace(
            run,
            source=run.source[chosen],
            kind=run.kind[chosen],
            sequence=run.sequence[chosen],
            received_ns=run.received_ns[chosen],
            first_part=np.arange(np.count_nonzero(chosen) + 1),
            spans=run.spans[chosen],
        )


def holds_positions(run: RawBlock) -> bool:
    """Whether a run is of the position source."""
    return bool(run.source[0] == _POSITIONS)


def joined(run: RawBlock) -> RawRecord:
    """Return the records of a run as one: what was cut anywhere on its way is put together again."""
    content = b"".join([run.data[begin:end].tobytes() for begin, end in run.spans.tolist()])
    return replace(run.record(len(run) - 1), parts=(content,))
