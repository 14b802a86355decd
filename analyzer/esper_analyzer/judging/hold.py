"""For how many updates a fall of the return must last before it counts; part of `returns`. Both forms give the same."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float64]"
Rows: TypeAlias = "NDArray[np.int64]"

HELD, HELD_STEPS, HELD_MEASURED = 70, 36_000, 20
"""A return has fallen if it was lower, smoothed, in so many updates, or in so many environment steps if these are fewer
updates; and in so many updates at least, and as many in which it was measured. A dip of a sound run lasts for updates
where rollouts are small, and hardly for one smoothed return where they have thousands of steps."""


class Hold:
    """In how many updates the environments take `HELD_STEPS`, by what they took on average since they were recorded.

    Attributes:
        rows: that number, between `HELD_MEASURED` and `HELD`; `HELD` where it is not known.
    """

    __slots__ = ("_first", "_first_row", "_row", "rows")

    def __init__(self) -> None:
        self.rows = HELD
        self._row, self._first, self._first_row = 0, math.nan, 0

    def step(self, steps: float | None) -> int:
        """Take in the environment steps so far in the next row; return `rows`."""
        self._row += 1
        if steps is None or not math.isfinite(steps):
            return self.rows
        if math.isnan(self._first):
            self._first, self._first_row = float(steps), self._row
            return self.rows
        taken = steps - self._first
        held = HELD_STEPS * (self._row - self._first_row) / taken if taken > 0.0 else HELD
        self.rows = HELD if held >= HELD else HELD_MEASURED if held <= HELD_MEASURED else math.ceil(held)
        return self.rows

    def extend(self, steps: Floats) -> Rows:
        """As `step`, for rows."""
        known = np.flatnonzero(np.isfinite(steps))
        if math.isnan(self._first) and len(known):
            self._first, self._first_row = float(steps[known[0]]), self._row + int(known[0]) + 1
            known = known[1:]
        taken = steps[known] - self._first
        with np.errstate(divide="ignore"):
            held = HELD_STEPS * (self._row + known + 1 - self._first_row) / taken
        held = np.where(taken > 0.0, np.clip(np.ceil(held), HELD_MEASURED, HELD), HELD)
        found = np.append(self.rows, held.astype(np.int64))
        self._row, self.rows = self._row + len(steps), int(found[-1])
        return found[np.searchsorted(known, np.arange(len(steps)), side="right")]
