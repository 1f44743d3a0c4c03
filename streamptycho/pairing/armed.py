"""What was armed in the course of a scan: known for as long as anything may ask for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

import numpy as np

KEPT_OVER = 256


class _Item(Protocol):
    @property
    def order(self) -> int: ...

    @property
    def name(self) -> str: ...


ItemT = TypeVar("ItemT", bound=_Item)


class Armed(Generic[ItemT]):
    """The series, or the acquisitions, of a scan in the order in which they were armed.

    The newest `KEPT_OVER` of those that are over stay, because they may be the nearest to others that come late and
    because what comes for them is late and not stray. Older ones are forgotten: a scan has no largest number of them.

    Attributes
    ----------
    count
        How many were armed.
    first_s, newest_s
        When the first and the last were armed, NaN when that is unknown or none was.
    newest
        What was armed last.
    """

    def __init__(self) -> None:
        self.count = 0
        self.first_s = self.newest_s = np.nan
        self.newest: ItemT | None = None
        self._items: dict[int, ItemT] = {}
        self._by_name: dict[str, ItemT] = {}
        self._over: deque[ItemT] = deque()
        self._orders = np.zeros(0, np.int64)
        self._times_s = np.zeros(0)

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[ItemT]:
        return iter(self._items.values())

    def add(self, item: ItemT, time_s: float) -> None:
        """Take note of what was armed at a Unix time, NaN if that is unknown; its order must be `count`."""
        if not self.count:
            self.first_s = time_s
        self.newest, self.newest_s = item, time_s
        self.count += 1
        self._items[item.order] = self._by_name[item.name] = item
        self._orders = np.append(self._orders, item.order)
        self._times_s = np.append(self._times_s, time_s)

    def at(self, order: int) -> ItemT | None:
        """Return what was armed after `order` others, None when it is forgotten or to come."""
        return self._items.get(order)

    def named(self, name: str) -> ItemT | None:
        """Return what was last armed under a name."""
        return self._by_name.get(name)

    def time_of_s(self, item: ItemT) -> float:
        """Return when it was armed."""
        return float(self._times_s[np.searchsorted(self._orders, item.order)])

    def nearest(self, time_s: float) -> ItemT | None:
        """Return what was armed nearest to a time, None when no time is known."""
        distance = np.abs(self._times_s - time_s)
        if not np.isfinite(distance).any():
            return None
        return self._items[int(self._orders[np.nanargmin(distance)])]

    def end(self, item: ItemT) -> None:
        """Take note that an item is over, and forget the one that was over first."""
        self._over.append(item)
        if len(self._over) <= KEPT_OVER:
            return
        gone = self._over.popleft()
        del self._items[gone.order]
        if self._by_name[gone.name] is gone:
            del self._by_name[gone.name]
        at = np.searchsorted(self._orders, gone.order)
        self._orders, self._times_s = np.delete(self._orders, at), np.delete(self._times_s, at)
