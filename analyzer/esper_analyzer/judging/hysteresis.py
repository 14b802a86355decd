"""Turns numbers into alerts: finds the band of each number, and how long it must stay there to raise an alert.

Many rows are judged as arrays, one rule after another; one more row costs microseconds.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from math import isfinite
from typing import NamedTuple

import numpy as np
import polars as pl

from esper_analyzer.judging.rules import Rule
from esper_schemas.metric.metrics import Bands, Limit

NOT_FINITE = 3
"""Severity of a value that is critical because it is not finite; it raises an alert at once."""

_LARGEST = sys.float_info.max

_ALL_IN_FORCE = (0, 1, 3, 3)
"""By severity of the newest row, the severities in force, added up, that it leaves as they are."""

Levels = np.ndarray[tuple[int, int], np.dtype[np.int8]]
Level = np.ndarray[tuple[int], np.dtype[np.int8]]
Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]


class Bounds:
    """The bands of all rules as arrays, to judge all numbers at once; the results agree with `levels.severity`.

    An inclusive bound is moved to the next floating-point number, so that all comparisons are strict.
    """

    def __init__(self, bands: Sequence[Bands]) -> None:
        self._above = [np.array([self._bound(limits, ">") for limits in band]) for band in self._by_severity(bands)]
        self._below = [np.array([self._bound(limits, "<") for limits in band]) for band in self._by_severity(bands)]
        self._is_broken = [band.nonfinite == "critical" for band in bands]
        pairs = [zip(*both, strict=True) for both in zip(self._above, self._below, strict=True)]
        bounds = list(zip(*(((float(a), float(b)) for a, b in pair) for pair in pairs), strict=True))
        # Of each rule the lowest and highest number within all bounds; neither is infinite, so that inf is beyond.
        self._within = [(max(below, -_LARGEST), min(above, _LARGEST)) for (above, below), _ in bounds]
        self._far = [
            (below, above, NOT_FINITE if is_broken else 0)
            for (_, (above, below)), is_broken in zip(bounds, self._is_broken, strict=True)
        ]

    def severities(self, numbers: pl.DataFrame) -> Levels:
        """Return 0, 1, 2, or `NOT_FINITE`, for each row and column of numbers; 0 for null."""
        values = numbers.to_numpy()  # null becomes NaN
        levels: Levels = np.zeros((numbers.height, numbers.width), np.int8)
        for above, below in zip(self._above, self._below, strict=True):
            levels += (values > above) | (values < below)
        is_broken = ~np.isfinite(values)
        levels[is_broken] = 0
        nulls = numbers.null_count().row(0)
        for column in np.flatnonzero((is_broken.sum(axis=0) > nulls) & self._is_broken).tolist():
            levels[is_broken[:, column] & numbers.to_series(column).is_not_null().to_numpy(), column] = NOT_FINITE
        return levels

    def severities_now(self, numbers: Sequence[float | None]) -> tuple[list[int], list[int]]:
        """As `severities`, for one row, at a fraction of the cost: its severities, and the columns with one above 0."""
        severities, beyond = [0] * len(numbers), []
        for column, (value, (low, high)) in enumerate(zip(numbers, self._within, strict=True)):
            if value is None or low <= value <= high:
                continue
            far_low, far_high, not_finite = self._far[column]
            if not isfinite(value):
                severities[column] = not_finite
            else:  # beyond the critical bounds is beyond both
                severities[column] = 2 if value < far_low or value > far_high else 1
            if severities[column]:
                beyond.append(column)
        return severities, beyond

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


class Change(NamedTuple):
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

    Rows may come in portions or one by one, in any order of the two; both forms continue the same state.

    Attributes:
        memory: number of earlier rows that are remembered; `since` reaches back at most this far.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._holds = [(*rule.hold, rule.clear) for rule in rules]
        self.memory = max(max(rows, clear) for _, rows, clear in self._holds)
        # The severities of the rows before the next one, as in `_levels`, and the rules that were lately beyond a bound
        # with the number of rows since: every alert in force is of one of these.
        self._recent: deque[Sequence[int]] = deque([[0] * len(rules)] * self.memory, maxlen=self.memory)
        self._watched: dict[int, int] = {}
        self._in_force = [0] * len(rules)  # the severities in force, 1 and 2, added up

    def step(self, levels: Sequence[int], beyond: Iterable[int]) -> list[Change]:
        """As `advance`, for one row, at a fraction of the cost.

        Args:
            levels: the severities [rules] of the row.
            beyond: the rules whose severity is not 0.
        """
        self._recent.append(levels)
        watched = self._watched
        for rule in beyond:
            watched[rule] = 0
        if not watched:
            return []
        changes: list[Change] = []
        in_force = self._in_force
        for rule in tuple(watched):
            level = levels[rule]
            if _ALL_IN_FORCE[level] != in_force[rule]:
                changes += self._change(rule, level)
            watched[rule] += 1
            if watched[rule] > self.memory:
                del watched[rule]
        return sorted(changes)

    def _change(self, rule: int, level: int) -> list[Change]:
        """The alerts of one rule that begin and end with the newest row, whose severity is `level`."""
        changes = []
        hits, rows, clear = self._holds[rule]
        for severity in (1, 2):
            is_in_force = self._in_force[rule] & severity
            if level >= severity:
                if not is_in_force and (first := self._begin(rule, severity, level, hits, rows)) is not None:
                    self._in_force[rule] += severity
                    changes.append(Change(0, rule, severity, True, first))
            elif is_in_force and all(self._recent[i][rule] < severity for i in range(-clear, 0)):
                self._in_force[rule] -= severity
                changes.append(Change(0, rule, severity, False, 0))
        return changes

    def _begin(self, rule: int, severity: int, level: int, hits: int, rows: int) -> int | None:
        """Return the first of the rows that raise an alert with the newest one, which is row 0; None if they do not."""
        if rows == 1:
            return 0
        lately = [self._recent[i][rule] >= severity for i in range(-rows, 0)]
        return lately.index(True) - rows + 1 if sum(lately) >= hits or level == NOT_FINITE else None

    def advance(self, levels: Levels) -> list[Change]:
        """Add the severities [rows, rules] of new rows; return the alerts that begin and end with them, in order."""
        together = np.concatenate([np.array(self._recent, np.int8), levels])
        columns = np.ascontiguousarray(together.T)
        watched = np.flatnonzero(columns.any(axis=1)).tolist()
        changes = [
            change for severity in (1, 2) for rule in watched for change in self._changes(columns[rule], rule, severity)
        ]
        last = together[-self.memory :]
        self._recent.extend(last.tolist())
        self._watched = {
            rule: self.memory - int(np.flatnonzero(last[:, rule])[-1])
            for rule in np.flatnonzero(last.any(axis=0)).tolist()
        }
        return sorted(changes)

    def _changes(self, levels: Level, rule: int, severity: int) -> Iterator[Change]:
        """Yield the alerts of a rule that begin and end in the newest rows; `levels` has the remembered rows before."""
        beyond = levels >= severity
        is_in_force = bool(self._in_force[rule] & severity)
        if not is_in_force and not beyond.any():
            return
        state = self._state(levels, beyond, rule, is_in_force)
        for row in np.flatnonzero(state != np.concatenate([[is_in_force], state[:-1]])).tolist():
            if state[row]:
                end = self.memory + row + 1
                start = end - self._holds[rule][1]
                since = start + int(beyond[start:end].argmax()) - self.memory
                self._in_force[rule] += severity
            else:
                since = row
                self._in_force[rule] -= severity
            yield Change(row, rule, severity, bool(state[row]), since)

    def _state(self, levels: Level, beyond: Flags, rule: int, is_in_force: bool) -> Flags:
        """Return whether the alert of a rule is in force after each of the newest rows."""
        hits, rows, clear = self._holds[rule]
        count = np.concatenate([[0], np.cumsum(beyond, dtype=np.int32)])  # up to, and without, each row
        up_to = count[self.memory + 1 :]
        held = up_to - count[self.memory + 1 - rows : len(count) - rows] >= hits
        is_clear = up_to == count[self.memory + 1 - clear : len(count) - clear]
        begins = beyond[self.memory :] & (held | (levels[self.memory :] == NOT_FINITE))
        # A row with neither keeps the state of the last row that had one of them.
        last = np.maximum.accumulate(np.where(begins | is_clear, np.arange(len(begins)), -1))
        state: Flags = np.where(last >= 0, begins[np.maximum(last, 0)], is_in_force)
        return state
