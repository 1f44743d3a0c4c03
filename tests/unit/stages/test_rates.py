"""Rates of the last seconds."""

from __future__ import annotations

import pytest

from streamptycho.stages.rates import Rate

MS = 1_000_000


def test_the_rate_is_that_of_the_window():
    rate = Rate(window_s=2.0)
    for k in range(1000):
        rate.add(3, k * 10 * MS)
    assert rate.per_s(999 * 10 * MS) == pytest.approx(300, rel=0.01)
    assert rate.per_s(20_000 * MS) == 0


def test_a_rate_that_nobody_asks_for_takes_no_memory():
    rate = Rate(window_s=1.0)
    for k in range(5000):
        rate.add(1, k * 10 * MS)
    assert len(rate._events) <= 101
