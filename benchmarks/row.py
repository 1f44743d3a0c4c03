"""What one line of the table says, and the errors of a measurement that cannot be given."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal


class NotMeasurable(Exception):  # noqa: N818
    """Something that a measurement needs is not on this machine: says what."""


class WrongResult(Exception):  # noqa: N818
    """What was measured is not correct, so that its speed means nothing: says what differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure beside what it is compared with.

    `spread` is half the interquartile range of the rounds over their median. `reference` is a floor or a peer,
    measured in the same rounds; `ratio` is figure over reference, the median of the ratios of each round.
    """

    name: str
    figure: float
    unit: str
    better: Literal["more", "less"] = "more"
    spread: float
    rounds: int
    reference: str
    reference_figure: float
    ratio: float
    meaning: str
    details: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: rounds are repeated for about `budget_s`, between the two numbers."""

    quick: bool
    budget_s: float
    least_rounds: int = 5
    most_rounds: int = 60

    @classmethod
    def of(cls, *, quick: bool) -> Effort:
        return cls(quick, 0.8, most_rounds=30) if quick else cls(quick, 6.0)


@dataclass(frozen=True, slots=True)
class Case:
    """A measurement that gives one or more rows. `slow` ones are left out of a quick run."""

    name: str
    measure: Callable[[Effort], Iterable[Row]]
    slow: bool = False


def number(value: float) -> str:
    """Return a number with three significant digits and no exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    rounded = float(f"{value:.3g}")
    digits = max(0, 2 - math.floor(math.log10(abs(rounded))))
    return f"{rounded:,.{digits}f}"
