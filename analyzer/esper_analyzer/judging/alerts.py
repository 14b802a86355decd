"""Alerts: what a rule saw, from when to when, what it usually means and what to look at next."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from esper_analyzer.judging.rules import Rule
from esper_schemas.metric.levels import level_at
from esper_schemas.metric.metrics import COMPARISONS, Level

MAX_ALERTS = 100
"""Of the alerts that are over, the newest this many are kept in a report."""

MISSING_UPDATES = "missing_updates"
"""Stands for a rule where updates are missing."""


@dataclass(frozen=True, slots=True)
class Alert:
    """Something was beyond its bound for long enough.

    Attributes:
        update: the update at which it was raised.
        metric: the metric or signal; `update` where updates are missing before this one.
        level: warning or critical.
        value: the number at that update; how many updates are missing for `update`.
        message: what was seen and since when, what it usually means and what to look at next.
        since: first update of those beyond the bound that raised it.
        until: first update at which it was over; None while it lasts.
        rule: name of the rule; `missing_updates` where updates are missing.
        rank: the rank that it is about, in a report; None where only one rank is looked at, as live.
    """

    update: int
    metric: str
    level: Level
    value: float
    message: str
    since: int
    until: int | None
    rule: str
    rank: int | None = None


@dataclass(slots=True)
class Episode:
    """A stretch of updates in which one rule was beyond a bound; it becomes an `Alert`.

    Attributes:
        rule: the rule.
        severity: 1 warning, 2 critical.
        since: first update of the stretch that was beyond the bound.
        update: the update at which it had been so for long enough.
        value: the number at that update.
        detail: what else is known, for the sentence; may be empty.
        until: first update at which it was over; None while it lasts.
    """

    rule: Rule
    severity: int
    since: int
    update: int
    value: float
    detail: str = ""
    until: int | None = None

    def alert(self) -> Alert:
        """The alert as it stands now."""
        message = f"{self.describe(self.value, self.update)} {self.rule.meaning}"
        level, rule = level_at(self.severity), self.rule
        return Alert(self.update, rule.metric, level, self.value, message, self.since, self.until, rule.name)

    def describe(self, value: float | None, update: int) -> str:
        """One sentence on the number as it is at `update`: how large, beyond which bound, since when."""
        rule = self.rule
        since = f" since update {self.since}" if self.since != update else f" at update {update}"
        if rule.sentence is not None:
            return f"{rule.sentence(self.value)}{since}{self.detail}."
        bound = None if value is None else _bound(rule, value, self.severity)
        if value is None or not bound:  # it has come back, and not been so for long enough
            seen = f"{_shown(rule, self.value)}{_bound(rule, self.value, self.severity)} at update {self.update}"
            return f"{rule.title} was {seen}{'' if value is None else f', and is {_shown(rule, value)} now'}."
        return f"{rule.title} is {_shown(rule, value)}{bound}{since}."


def gap_alerts(missing: Sequence[tuple[int, int]]) -> list[Alert]:
    """An alert for each range of missing updates; only of the newest."""
    return [_gap(first, last) for first, last in missing[-MAX_ALERTS:]]


def newest(alerts: Iterable[Alert]) -> list[Alert]:
    """The newest alerts, and older ones that last, in order of their updates; the worse first where two share one."""
    ordered = sorted(alerts, key=lambda alert: (alert.update, alert.level != "critical", alert.metric))
    return [alert for alert in ordered[:-MAX_ALERTS] if alert.until is None] + ordered[-MAX_ALERTS:]


def _bound(rule: Rule, value: float, severity: int) -> str:
    """The bound that a value is beyond, in brackets; empty if it is beyond none."""
    if not math.isfinite(value):
        return " (not finite)"
    limits = rule.bands.critical if severity == 2 else (*rule.bands.warning, *rule.bands.critical)
    for limit in limits:
        if COMPARISONS[limit.comparison](value, limit.bound):
            return f" ({limit.comparison} {rule.shown(limit.bound)})"
    return ""


def _shown(rule: Rule, value: float) -> str:
    return rule.shown(value) if math.isfinite(value) else "NaN" if math.isnan(value) else str(value)


def _gap(first: int, last: int) -> Alert:
    count = last - first + 1
    what = f"Update {first} is missing." if count == 1 else f"Updates {first} to {last} are missing."
    meaning = "Usually the trainer or its log lost them, or numbers its updates with gaps."
    message = f"{what} {meaning}"
    return Alert(last + 1, "update", "warning", float(count), message, first, last + 1, MISSING_UPDATES)
