"""The newest values, one after another, and what is asked of them; `rolling` is the same for whole columns.

They are called a dozen times for each update of a live run, so that they keep their values in order as these come.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Sequence


def middle(ordered: Sequence[float]) -> float:
    """Median of at least one value, in order; rounded as polars rounds it."""
    size = len(ordered)
    half = size // 2
    upper = ordered[half]
    if size % 2:
        return upper
    lower = ordered[half - 1]
    return lower + (upper - lower) * 0.5


class Window:
    """The last `size` values; those that are known, in order, are `ordered`."""

    __slots__ = ("_window", "ordered")

    def __init__(self, size: int, values: Iterable[float | None] = ()) -> None:
        self.ordered: list[float] = []
        self._window: deque[float | None] = deque([None] * size)
        for value in values:
            self.push(value)

    def push(self, value: float | None) -> list[float]:
        """Take in a value, None if there is none; return `ordered`."""
        window, ordered = self._window, self.ordered
        gone = window.popleft()
        window.append(value)
        if gone is not None:
            del ordered[bisect_left(ordered, gone)]
        if value is not None:
            insort(ordered, value)
        return ordered


class Median:
    """Median of the last `size` values, as polars' `rolling_median`: None where fewer than `fewest` have one.

    It is a `Window` and its `middle`, written out: half a dozen medians are asked for in each update, and each of the
    two calls would take as long as finding the place of a value.
    """

    __slots__ = ("_fewest", "_ordered", "_window")

    def __init__(self, size: int, fewest: int) -> None:
        self._fewest = fewest
        self._ordered: list[float] = []
        self._window: deque[float | None] = deque([None] * size)

    def __call__(self, value: float | None) -> float | None:
        """Take in a value, None if there is none; return the median now."""
        window, ordered = self._window, self._ordered
        gone = window.popleft()
        window.append(value)
        if gone is not None:
            del ordered[bisect_left(ordered, gone)]
        if value is not None:
            insort(ordered, value)
        size = len(ordered)
        if size < self._fewest:
            return None
        half = size // 2
        upper = ordered[half]
        if size % 2:
            return upper
        lower = ordered[half - 1]
        return lower + (upper - lower) * 0.5


class Highest:
    """The last `size` values, and the highest of them: of equal ones the first, and −∞ of none."""

    __slots__ = ("highest", "values")

    def __init__(self, size: int, values: Iterable[float] = ()) -> None:
        self.values: deque[float] = deque(values, size)
        self.highest = max(self.values, default=-math.inf)

    def push(self, value: float) -> float:
        """Take in a value; return the highest now."""
        values = self.values
        leaves = len(values) == values.maxlen and values[0] == self.highest
        values.append(value)
        if leaves:
            self.highest = max(values)
        elif value > self.highest:
            self.highest = value
        return self.highest


class Lag:
    """The value of so many rows before."""

    __slots__ = ("_window",)

    def __init__(self, rows: int) -> None:
        self._window: deque[float | None] = deque([None] * rows)

    def __call__(self, value: float | None) -> float | None:
        """Take in a value; return the one of `rows` rows before, None if there is none."""
        self._window.append(value)
        return self._window.popleft()
