"""Measuring by turns: whatever slows the machine for a while slows all that is compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.row import Effort, Row

Task = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Sample:
    """Amount of work per second in each round."""

    rates: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rates)

    @property
    def spread(self) -> float:
        return spread(self.rates)

    def ratio(self, reference: Sample) -> float:
        """Return the median of the ratios of rounds."""
        return statistics.median(a / b for a, b in zip(self.rates, reference.rates, strict=True))


def spread(values: tuple[float, ...] | list[float]) -> float:
    """Return half the interquartile range over the median, 0 for a single value."""
    if len(values) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / 2 / middle if middle else 0.0


def by_turns(tasks: Mapping[str, Task], effort: Effort) -> dict[str, Sample]:
    """Run tasks in turn, every other round in opposite order, and return their rates.

    A task returns how much work it did. One round before those that count compiles and warms up.
    """
    rates: dict[str, list[float]] = {name: [] for name in tasks}
    for task in tasks.values():
        task()
    until = time.perf_counter() + effort.budget_s
    names = list(tasks)
    done = 0
    while done < effort.least_rounds or (done < effort.most_rounds and time.perf_counter() < until):
        for name in names if done % 2 == 0 else reversed(names):
            began = time.perf_counter()
            work = tasks[name]()
            rates[name].append(work / (time.perf_counter() - began))
        done += 1
    return {name: Sample(tuple(values)) for name, values in rates.items()}


def compared(
    name: str,
    unit: str,
    figure: Sample,
    reference: tuple[str, Sample],
    meaning: str,
    details: dict[str, float] | None = None,
) -> Row:
    """Return the row of a rate beside that of a floor or a peer from the same rounds.

    The best round is among the details: on a machine that others use too, it says more of the code than the median.
    """
    text, other = reference
    return Row(
        name=name,
        figure=figure.median,
        unit=unit,
        spread=figure.spread,
        rounds=len(figure.rates),
        reference=text,
        reference_figure=other.median,
        ratio=figure.ratio(other),
        meaning=meaning,
        details={**(details or {}), "best_figure": max(figure.rates), "best_reference_figure": max(other.rates)},
    )
