"""How long frames take from one place of the pipeline to another, as histograms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from streamptycho.messages import LATENCY_BOUNDS_S, Array

_BOUNDS_NS = np.array([round(bound * 1e9) for bound in LATENCY_BOUNDS_S], dtype=np.int64)


class LatencyHistogram:
    """Counts frames by how long they took; see `ServiceStatus.latencies`."""

    def __init__(self) -> None:
        self._counts = np.zeros(len(_BOUNDS_NS) + 1, dtype=np.int64)
        self._sum_ns = 0

    def add(self, since_ns: Array | int, now_ns: int, frames: int = 1) -> None:
        """Count frames that set out at `since_ns` and are here at `now_ns`; a clock set back counts as no time.

        Parameters
        ----------
        since_ns
            (N,) int64, one time per frame; or one time for all `frames`.
        """
        took_ns = np.maximum(now_ns - np.atleast_1d(np.asarray(since_ns, dtype=np.int64)), 0)
        each = frames if np.ndim(since_ns) == 0 else 1
        at = np.searchsorted(_BOUNDS_NS, took_ns)
        self._counts += each * np.bincount(at, minlength=len(self._counts))
        self._sum_ns += each * int(took_ns.sum())

    @property
    def counts(self) -> list[int]:
        """How many frames fell under each bound and not under the one before, then those over the last."""
        return [int(count) for count in self._counts]

    @property
    def sum_s(self) -> float:
        """The sum of all times."""
        return self._sum_ns * 1e-9


class Latencies:
    """Histograms by name."""

    def __init__(self, *names: str) -> None:
        self._of = {name: LatencyHistogram() for name in names}

    def __getitem__(self, name: str) -> LatencyHistogram:
        return self._of[name]

    def counts(self) -> dict[str, list[int]]:
        """Return the histograms, as a status carries them."""
        return {name: histogram.counts for name, histogram in self._of.items()}

    def sums_s(self) -> dict[str, float]:
        """Return the sums of their times."""
        return {name: histogram.sum_s for name, histogram in self._of.items()}


def quantile_s(counts: list[int], part: float) -> float | None:
    """Return the time within which a part of the frames was, None without frames or where it is over the last bound.

    Within a bin the frames are taken to be spread evenly over the logarithm of their times, under the first bound over
    the times themselves.
    """
    total = sum(counts)
    if total == 0:
        return None
    reached = np.cumsum(counts)
    at = int(np.searchsorted(reached, part * total))
    if at >= len(LATENCY_BOUNDS_S):
        return None
    upper_s, share = LATENCY_BOUNDS_S[at], 1 - (float(reached[at]) - part * total) / counts[at]
    if at == 0:
        return round(upper_s * share, 9)
    lower_s = LATENCY_BOUNDS_S[at - 1]
    return round(float(lower_s * (upper_s / lower_s) ** share), 9)


def described(statuses: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return for every histogram that services left: frames, mean, and the times that half, 90 and 99 % kept to."""
    found: dict[str, dict[str, Any]] = {}
    for status in statuses.values():
        for name, counts in status.get("latencies", {}).items():
            frames = sum(counts)
            if frames:
                total_s = status.get("latency_sums_s", {}).get(name, 0.0)
                found[name] = {
                    "frames": frames,
                    "mean_s": round(total_s / frames, 6),
                    **{f"p{round(100 * part)}_s": quantile_s(counts, part) for part in (0.5, 0.9, 0.99)},
                    "bounds_s": list(LATENCY_BOUNDS_S),
                    "counts": counts,
                }
    return found
