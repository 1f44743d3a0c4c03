"""Which projections are reconstructed once more, because the first time they did not converge."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from streamptycho.messages import DiffractionBatch, ProjectionEnd, ProjectionStart

CLEARLY_WORSE = 2.0
FREE_TRIES = 2
PROJECTIONS_PER_TRY = 8


@dataclass(slots=True, eq=False)
class Held:
    """A projection with its frames, for as long as it may be reconstructed again."""

    start: ProjectionStart
    end: ProjectionEnd | None = None
    batches: list[DiffractionBatch] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    error: float | None = None
    whole: bool = True

    @property
    def frame_bytes(self) -> int:
        """Bytes of the frames."""
        return sum(batch.counts.nbytes for batch in self.batches)


class SecondTries:
    """Keeps the frames of the present projection, and of the first ones until it is known what error is usual.

    The first projection has only a guess of the probe, and any projection with large phase shifts may by bad luck run
    into vortices that neither the engine nor further sweeps remove: it ends with an error far over the usual one. With
    the probe of another projection and another order of visits it has a second chance. The usual error is the lower
    median of all that are finished. There are two tries, and one more with every eight projections: where all are bad,
    as when they are hurried, trying again must not make the reconstruction fall behind.

    Parameters
    ----------
    limit_bytes
        Of the frames that may be held; of a projection that would be over it there is no second try.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._errors: dict[int, float] = {}
        self._waiting: list[Held] = []
        self._here: Held | None = None
        self._tried = 0

    def begin(self, start: ProjectionStart) -> None:
        """Begin to keep a projection."""
        self._here = Held(start)

    def add(self, batch: DiffractionBatch) -> None:
        """Keep frames of the projection that was begun."""
        here = self._here
        if here is None or not here.whole:
            return
        held = here.frame_bytes + sum(other.frame_bytes for other in self._waiting)
        if held + batch.counts.nbytes > self._limit_bytes:
            here.whole = False
            here.batches.clear()
        else:
            here.batches.append(batch)

    def finish(self, end: ProjectionEnd | None, error: float | None, dropped: dict[str, int]) -> None:
        """Take note of how the projection that was begun ended."""
        here, self._here = self._here, None
        if here is None or error is None or not math.isfinite(error):
            return
        self._errors[here.start.projection] = error
        if here.whole and here.batches:
            here.end, here.error, here.dropped = end, error, dropped
            self._waiting.append(here)

    def next(self) -> Held | None:
        """Return a projection to reconstruct again, None if there is none. What is returned is no longer held."""
        if len(self._errors) < 2:
            return None
        usual = sorted(self._errors.values())[(len(self._errors) - 1) // 2]
        bad = [held for held in self._waiting if held.error is not None and held.error > CLEARLY_WORSE * usual]
        self._waiting = bad
        if not bad or self._tried >= FREE_TRIES + len(self._errors) // PROJECTIONS_PER_TRY:
            self._waiting = []
            return None
        self._tried += 1
        return self._waiting.pop(0)

    def better(self, held: Held, error: float | None) -> bool:
        """Whether the second try came to a smaller error, which then counts."""
        if error is None or held.error is None or not error < held.error:
            return False
        self._errors[held.start.projection] = error
        return True
