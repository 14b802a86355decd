"""Turns numbers into alerts: finds the band of each number, and how long it must stay there to raise an alert.

All rules are processed together, as arrays of rows × rules, so that one more row costs microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import polars as pl

from esper_analyzer.judging.rules import Rule
from esper_schemas.metric.metrics import Bands, Limit

NOT_FINITE = 3
"""Severity of a value that is critical because it is not finite; it raises an alert at once."""

Levels = np.ndarray[tuple[int, int], np.dtype[np.int8]]
Flags = np.ndarray[tuple[int, int], np.dtype[np.bool_]]


class Bounds:
    """The bands of all rules as arrays, to judge all numbers at once; the results agree with `levels.severity`.

    An inclusive bound is moved to the next floating-point number, so that all comparisons are strict.
    """

    def __init__(self, bands: Sequence[Bands]) -> None:
        self._above = [np.array([self._bound(limits, ">") for limits in band]) for band in self._by_severity(bands)]
        self._below = [np.array([self._bound(limits, "<") for limits in band]) for band in self._by_severity(bands)]
        self._is_broken = [band.nonfinite == "critical" for band in bands]
        pairs = [zip(*both, strict=True) for both in zip(self._above, self._below, strict=True)]
        self._bounds = list(zip(*(((float(a), float(b)) for a, b in pair) for pair in pairs), strict=True))

    def severities_now(self, numbers: Sequence[float | None]) -> Levels:
        """As `severities`, for one row: [1, columns], at a fraction of the cost."""
        severities = [0] * len(numbers)
        for column, value in enumerate(numbers):
            if value is None:
                continue
            if not isfinite(value):
                severities[column] = NOT_FINITE if self._is_broken[column] else 0
                continue
            for above, below in self._bounds[column]:
                severities[column] += value > above or value < below
        return np.array([severities], np.int8)

    def severities(self, numbers: pl.DataFrame) -> Levels:
        """Return 0, 1, 2, or `NOT_FINITE`, for each row and column of numbers; 0 for null."""
        values = numbers.to_numpy()  # null becomes NaN
        present = np.array([numbers.get_column(name).is_not_null() for name in numbers.columns]).T
        levels: Levels = np.zeros((numbers.height, numbers.width), np.int8)
        for above, below in zip(self._above, self._below, strict=True):
            levels += (values > above) | (values < below)
        is_broken = ~np.isfinite(values)
        levels[is_broken] = 0
        levels[is_broken & present & np.array(self._is_broken)] = NOT_FINITE
        return levels

    @staticmethod
    def _by_severity(bands: Sequence[Bands]) -> list[list[tuple[Limit, ...]]]:
        return [[(*band.warning, *band.critical) for band in bands], [band.critical for band in bands]]

    @staticmethod
    def _bound(limits: tuple[Limit, ...], side: str) -> float:
        """Return the bound on one side beyond which a value is in the band; infinite if there is none."""
        far = np.inf if side == ">" else -np.inf
        bounds = [
            np.nextafter(limit.bound, -far) if limit.comparison.endswith("=") else limit.bound
            for limit in limits
            if limit.comparison.startswith(side)
        ]
        return float(min(bounds, default=far) if side == ">" else max(bounds, default=far))


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """An alert of one rule and severity begins or ends.

    Attributes:
        row: position among the newest rows.
        rule: position of the rule.
        severity: 1 warning, 2 critical.
        begins: whether it begins.
        since: row of the first value beyond the bound that counted for the alert; negative if before the newest rows.
    """

    row: int
    rule: int
    severity: int
    begins: bool
    since: int


class Hysteresis:
    """The alerts in force: one begins after k of n rows beyond its bound, and ends after m rows within it.

    Attributes:
        memory: number of earlier rows that are remembered; `since` reaches back at most this far.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        holds = np.array([rule.hold for rule in rules])
        self._hits, self._rows = holds[:, 0], holds[:, 1]
        self._clear = np.array([rule.clear for rule in rules])
        self.memory = int(max(self._rows.max(), self._clear.max()))
        self._levels = np.zeros((self.memory, len(rules)), np.int8)  # of the rows before the next one
        self._in_force = np.zeros((3, len(rules)), bool)  # by severity

    def advance(self, levels: Levels) -> list[Change]:
        """Add the severities [rows, rules] of new rows; return the alerts that begin and end with them, in order."""
        self._levels = np.concatenate([self._levels, levels])
        watched = np.flatnonzero(self._levels.any(axis=0))  # every alert in force was recently beyond its bound
        changes: list[Change] = []
        for severity in (1, 2) if len(watched) else ():
            state = self._state(severity, watched)
            before = self._in_force[severity, watched][None]
            differs = np.diff(np.concatenate([before, state]).astype(np.int8), axis=0)
            for row, column in np.argwhere(differs).tolist():
                rule, begins = int(watched[column]), bool(differs[row, column] > 0)
                since = self._since(row, rule, severity) if begins else row
                changes.append(Change(row, rule, severity, begins, since))
            self._in_force[severity, watched] = state[-1]
        self._levels = self._levels[-self.memory :]
        return sorted(changes)

    def _state(self, severity: int, rules: Any) -> Flags:
        """Return whether the alert of each of these rules is in force after each of the newest rows: [rows, rules]."""
        levels, column = self._levels[:, rules], np.arange(len(rules))
        hits = np.zeros((len(levels) + 1, len(rules)), np.int32)  # up to, and without, each row
        np.cumsum(levels >= severity, axis=0, out=hits[1:])
        end = np.arange(self.memory + 1, len(levels) + 1)[:, None]
        held = hits[end, column] - hits[end - self._rows[rules], column] >= self._hits[rules]
        clear = hits[end, column] == hits[end - self._clear[rules], column]
        now = levels[self.memory :]
        begins = (now >= severity) & (held | (now == NOT_FINITE))
        # A row with neither keeps the state of the last row that had one of them.
        last = np.maximum.accumulate(np.where(begins | clear, np.arange(len(now))[:, None], -1), axis=0)
        state: Flags = np.where(last >= 0, begins[np.maximum(last, 0), column], self._in_force[severity, rules])
        return state

    def _since(self, row: int, rule: int, severity: int) -> int:
        end = self.memory + row + 1
        start = end - int(self._rows[rule])
        return start + int(np.argmax(self._levels[start:end, rule] >= severity)) - self.memory
