"""Alerts: what a rule found, from when to when, what it usually means and what to look at next."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from esper_analyzer.judging.rules import Rule
from esper_schemas.metric.levels import level_at
from esper_schemas.metric.metrics import COMPARISONS, Level

MAX_ALERTS = 100
"""A report keeps at most this many alerts, the newest, besides older ones that still last."""

MISSING_UPDATES = "missing_updates"
"""The rule name of alerts about missing updates, which no rule raises."""


@dataclass(frozen=True, slots=True)
class Alert:
    """A number was beyond its bound for long enough, or updates are missing.

    Attributes:
        update: the update at which it was raised.
        metric: the metric or signal; `update` if updates are missing before this one.
        level: warning or critical.
        value: the number at that update; for `update`, how many updates are missing.
        message: what was found and since when, what it usually means and what to look at next.
        since: the first of the updates beyond the bound that raised it.
        until: first update at which it was over; None while it lasts.
        rule: name of the rule; `missing_updates` if updates are missing.
        rank: the rank that it is about, in a report; None if there is only one rank, as in a live view.
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
        update: the update at which the number had been beyond the bound for long enough.
        value: the number at that update.
        detail: further details for the sentence; may be empty.
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
        """Return the alert as it is now."""
        message = f"{self.describe(self.value, self.update)} {self.rule.meaning}"
        level, rule = level_at(self.severity), self.rule
        return Alert(self.update, rule.metric, level, self.value, message, self.since, self.until, rule.name)

    def describe(self, value: float | None, update: int) -> str:
        """Describe the number at `update` in one sentence: its value, the bound it is beyond, and since when."""
        rule = self.rule
        since = f" since update {self.since}" if self.since != update else f" at update {update}"
        if rule.sentence is not None:
            return f"{rule.sentence(self.value)}{since}{self.detail}."
        bound = None if value is None else _bound(rule, value, self.severity)
        if value is None or not bound:  # it is back within the bound, but not for long enough
            seen = f"{_shown(rule, self.value)}{_bound(rule, self.value, self.severity)} at update {self.update}"
            return f"{rule.title} was {seen}{'' if value is None else f', and is {_shown(rule, value)} now'}."
        return f"{rule.title} is {_shown(rule, value)}{bound}{since}."


def gap_alerts(missing: Sequence[tuple[int, int]]) -> list[Alert]:
    """Make an alert for each range of missing updates, of the newest ranges only."""
    return [_gap(first, last) for first, last in missing[-MAX_ALERTS:]]


def newest(alerts: Iterable[Alert]) -> list[Alert]:
    """Return the newest alerts, and older ones that last, by update; at the same update the worse one is first."""
    ordered = sorted(alerts, key=lambda alert: (alert.update, alert.level != "critical", alert.metric))
    return [alert for alert in ordered[:-MAX_ALERTS] if alert.until is None] + ordered[-MAX_ALERTS:]


def _bound(rule: Rule, value: float, severity: int) -> str:
    """Write in brackets the bound that a value is beyond; empty if the value is within all bounds."""
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
