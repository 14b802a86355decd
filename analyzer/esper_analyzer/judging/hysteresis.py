"""Turns numbers into alerts: finds the band of each number, and how long it must stay there to raise an alert.

Many rows are judged as arrays, one rule after another; one more row costs microseconds.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Sequence
from math import isfinite, isnan
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import polars as pl

from esper_analyzer.judging import rolling
from esper_analyzer.judging.rules.rule import Rule
from esper_schemas.metric.metrics import Bands, Limit

if TYPE_CHECKING:
    from numpy.typing import NDArray

NOT_FINITE = 3
"""Severity of a value that is critical because it is not finite; it raises an alert at once."""

_LARGEST = sys.float_info.max

_ALL_IN_FORCE = (0, 1, 3, 3)
"""By severity of the newest row, the severities in force, added up, that it leaves as they are."""

Flags: TypeAlias = "NDArray[np.bool_]"
Level: TypeAlias = "NDArray[np.int8]"
Rows: TypeAlias = "NDArray[np.intp]"
Levels = dict[int, Level]
"""The severities [rows] of each rule of which any is not 0, by position of the rule, in order."""


class Bounds:
    """The bands of all rules, to judge the numbers of many rows or of one; the results agree with `levels.severity`.

    An inclusive bound is moved to the next floating-point number, so that all comparisons are strict.
    """

    def __init__(self, bands: Sequence[Bands]) -> None:
        # Of each rule the lowest and highest number within all bounds; neither is infinite, so that inf is beyond.
        self._lows: list[float] = []
        self._highs: list[float] = []
        # Of each rule the critical bounds, and the severity of what is not finite.
        self._far: list[tuple[float, float, int]] = []
        for band in bands:
            limits = (*band.warning, *band.critical)
            self._lows.append(max(self._bound(limits, "<"), -_LARGEST))
            self._highs.append(min(self._bound(limits, ">"), _LARGEST))
            not_finite = NOT_FINITE if band.nonfinite == "critical" else 0
            self._far.append((self._bound(band.critical, "<"), self._bound(band.critical, ">"), not_finite))

    def severities(self, numbers: pl.DataFrame) -> Levels:
        """Return the severities of numbers, one column for each rule: 0, 1, 2, or `NOT_FINITE`; 0 for null."""
        found: Levels = {}
        for rule, (number, low, high) in enumerate(zip(numbers.get_columns(), self._lows, self._highs, strict=True)):
            if _are_between(number, low, high):
                continue
            values = rolling.floats(number)
            levels = self._severities(
                rule, values, ~((values >= low) & (values <= high)) & number.is_not_null().to_numpy()
            )
            if levels.any():
                found[rule] = levels
        return found

    def _severities(self, rule: int, values: rolling.Floats, beyond: Flags) -> Level:
        """The severities of one rule; where its values are not `beyond`, they are 0."""
        far_low, far_high, not_finite = self._far[rule]
        levels: Level = beyond.view(np.int8) + (beyond & ((values < far_low) | (values > far_high)))
        is_broken = beyond & ~np.isfinite(values)
        if is_broken.any():
            levels[is_broken] = not_finite
        return levels

    def severities_now(self, numbers: Sequence[float | None]) -> tuple[list[int], list[int]]:
        """As `severities`, for one row, at a fraction of the cost: its severities, and the columns with one above 0."""
        severities = [0] * len(numbers)
        beyond: list[int] = []
        for value, low, high in zip(numbers, self._lows, self._highs, strict=True):
            if value is not None and not low <= value <= high:
                break
        else:  # nothing is outside, as in most rows
            return severities, beyond
        outside = [
            (column, value)
            for column, value, low, high in zip(range(len(numbers)), numbers, self._lows, self._highs, strict=True)
            if value is not None and not low <= value <= high
        ]
        for column, value in outside:
            far_low, far_high, not_finite = self._far[column]
            if not isfinite(value):
                severities[column] = not_finite
            else:  # beyond the critical bounds is beyond both
                severities[column] = 2 if value < far_low or value > far_high else 1
            if severities[column]:
                beyond.append(column)
        return severities, beyond

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


def _are_between(numbers: pl.Series, low: float, high: float) -> bool:
    """Whether every number that is not null is between two bounds; NaN is not."""
    found = numbers.min(), numbers.max(), numbers.sum()  # only the sum takes NaN into account
    lowest, highest, total = (one if isinstance(one, float) else low for one in found)  # without numbers: None
    return low <= lowest and highest <= high and not isnan(total)


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


class Turns(NamedTuple):
    """The alerts of one rule and severity that begin and end in the newest rows, or are in force there.

    They begin and end by turns. If the first of them ends before it begins, it was in force before.

    Attributes:
        rule: position of the rule.
        severity: 1 warning, 2 critical.
        begun: positions of the rows with which they begin.
        since: of each of these, the row of the first value that counted for it; negative if before the newest rows.
        ended: positions of the rows with which they end.
        beyond: positions of all rows with this severity or worse.
    """

    rule: int
    severity: int
    begun: Rows
    since: Rows
    ended: Rows
    beyond: Rows


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

    def advance(self, levels: Levels, rows: int) -> list[Turns]:
        """Add new rows; return the alerts that begin and end with them, and those that go on.

        Args:
            levels: the severities of the rules.
            rows: the number of rows, at least 1.
        """
        before = np.array(self._recent, np.int8).T
        nothing = np.zeros(rows, np.int8)
        turns: list[Turns] = []
        for rule in sorted({*levels, *self._watched}):
            together = np.concatenate([before[rule], levels.get(rule, nothing)])
            turns += [found for severity in (1, 2) if (found := self._turns(together, rule, severity)) is not None]
        last = np.zeros((min(rows, self.memory), len(self._holds)), np.int8)
        for rule, severities in levels.items():
            last[:, rule] = severities[-self.memory :]
        self._recent.extend(last.tolist())
        recent = np.array(self._recent)
        self._watched = {
            rule: self.memory - int(np.flatnonzero(recent[:, rule])[-1])
            for rule in np.flatnonzero(recent.any(axis=0)).tolist()
        }
        return turns

    def _turns(self, levels: Level, rule: int, severity: int) -> Turns | None:
        """The alerts of a rule that begin and end in the newest rows; `levels` has the remembered rows before them."""
        beyond = levels >= severity
        is_in_force = bool(self._in_force[rule] & severity)
        if not is_in_force and not beyond.any():
            return None
        begins, is_clear = self._begins(levels, beyond, rule), self._is_clear(beyond, rule)
        what = begins.view(np.int8) - is_clear.view(np.int8)  # 1 where it is in force, −1 where not, 0 as it was before
        rows = np.flatnonzero((what != 0) & (np.concatenate([[True], what[1:] != what[:-1]])))
        states = what[rows] > 0
        is_turn = states != np.concatenate([[is_in_force], states[:-1]])
        rows, states = rows[is_turn], states[is_turn]
        if len(rows):
            self._in_force[rule] += severity * (int(states[-1]) - is_in_force)
        begun = rows[states]
        since = begun.copy()
        for back in range(1, self._holds[rule][1]):
            since = np.where(beyond[self.memory + begun - back], begun - back, since)
        return Turns(rule, severity, begun, since, rows[~states], np.flatnonzero(beyond[self.memory :]))

    def _begins(self, levels: Level, beyond: Flags, rule: int) -> Flags:
        """Whether an alert begins, or goes on, with each of the newest rows."""
        hits, rows, _ = self._holds[rule]
        newest = beyond[self.memory :]
        if rows == 1:
            return newest
        flags = beyond.view(np.int8)  # a sum of flags as another type would first convert each of them
        count = flags[self.memory :].copy()
        for back in range(1, rows):
            count += flags[self.memory - back : len(beyond) - back]
        is_held: Flags = (count >= hits) | (levels[self.memory :] == NOT_FINITE)
        return newest & is_held

    def _is_clear(self, beyond: Flags, rule: int) -> Flags:
        """Whether none of the rows that an alert needs to end was beyond its bound, up to each of the newest rows."""
        found = beyond[self.memory :].copy()
        for back in range(1, self._holds[rule][2]):
            found |= beyond[self.memory - back : len(beyond) - back]
        return ~found
