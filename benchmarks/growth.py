"""How time grows with size: the exponent of a power law through measured times."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from benchmarks.row import Row, number

BEST_OF = 5


def best_seconds(tasks: Mapping[int, Callable[[], object]], rounds: int = BEST_OF) -> dict[int, float]:
    """Return the least time of each task, of several rounds after one that does not count."""
    for task in tasks.values():
        task()
    seconds: dict[int, list[float]] = {size: [] for size in tasks}
    for _ in range(rounds):
        for size, task in tasks.items():
            began = time.perf_counter()
            task()
            seconds[size].append(time.perf_counter() - began)
    return {size: min(found) for size, found in seconds.items()}


def exponent(name: str, seconds: Mapping[int, float], expected: float, facts: str) -> Row:
    """Return a row with the exponent of seconds over size, beside what the arithmetic has."""
    sizes = np.array(list(seconds), dtype=np.float64)
    found = float(np.polyfit(np.log(sizes), np.log(list(seconds.values())), 1)[0])
    listed = ", ".join(f"{size}: {number(1000 * spent)}" for size, spent in seconds.items())
    return Row(
        name=f"growth law: {name}",
        figure=found,
        unit="exponent",
        better="less",
        spread=0.0,
        rounds=BEST_OF,
        reference="what the arithmetic has",
        reference_figure=expected,
        ratio=found / expected,
        meaning=f"{facts}, ms: {listed}",
        details={f"seconds_{size}": spent for size, spent in seconds.items()},
    )
