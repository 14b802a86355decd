"""Alerts: what a rule found, from when to when, what it usually means and what to look at next.

A rule raises an alert each time its number has been beyond a bound for long enough; `Episode` is one such time. What a
report, a page or a screen lists is one `Alert` per rule, which `alert_log.AlertLog` makes of all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from esper_analyzer.judging.rules import RULES
from esper_analyzer.judging.rules.rule import Rule, as_count
from esper_schemas.metric.levels import level_at
from esper_schemas.metric.metrics import COMPARISONS, Bands, Level, Limit
from esper_schemas.metric.payload import METRICS

if TYPE_CHECKING:
    from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float64]"

MAX_TITLE = 24
"""Most characters of the title of an alert, so that a list has room for it on a screen of 60 columns."""

_NOT_FINITE = 12.0

MISSING_UPDATES = "missing_updates"
"""The rule name of the alert about missing updates, which no rule raises."""


@dataclass(frozen=True, slots=True)
class Alert:
    """What one rule has found in a run; in a call of `on_alert`, one time that it was raised.

    A list of alerts has one for each rule (and rank) that was ever raised. `update` to `until` are about the first time
    that the rule was raised at its worst level; `count` to `in_force` are about all times. Given to `on_alert`,
    `update` to `until` are about the time that it is called for, `count` and `first` are about all times so far, and
    `last` and `worst` are this one.

    Attributes:
        update: the update at which it was raised.
        metric: the metric or signal; `update` if updates are missing.
        level: warning or critical.
        value: the number at that update; for `update`, how many updates are missing before it.
        message: what was found and since when, what it usually means and what to look at next.
        since: the first of the updates beyond the bound that raised it.
        until: first update at which this time was over; None while it lasts.
        rule: name of the rule; `missing_updates` if updates are missing.
        count: how many times the rule was raised.
        first, last: the updates at which it was first and last raised.
        worst: the worst value from when it was raised until it was over, of all times; a value that is not finite is
            the worst. For `update`, the most updates that are missing in one place.
        worst_update: the update of the worst value.
        lasts: whether the rule is in force now.
        in_force: the level at which it is in force now, which may be less than `level`; None if it is over.
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
    count: int
    first: int
    last: int
    worst: float
    worst_update: int
    lasts: bool
    in_force: Level | None
    rank: int | None = None

    @property
    def title(self) -> str:
        """A short name of what was found, for a list."""
        title = METRICS[self.rule].title if self.rule in METRICS else ""
        return title if 0 < len(title) <= MAX_TITLE else self.rule.replace("_", " ").capitalize()

    @property
    def times(self) -> str:
        """How many times it was raised and when, for example "3 times, first at update 21, last at 90"."""
        if self.count == 1:
            return f"once, at update {self.first}"
        return f"{self.count:,} times, first at update {self.first}, last at {self.last}"

    @property
    def in_short(self) -> str:
        """Its title and its value, for a narrow list."""
        return f"{self.title} {self._shown(self.value)}"

    @property
    def course(self) -> str:
        """As `times`, with the worst value and whether it lasts."""
        worst = f"worst {self._shown(self.worst)} at update {self.worst_update}"
        return f"{self.times}; {worst}; {'ongoing' if self.lasts else 'over'}"

    def _shown(self, value: float) -> str:
        rule = RULES.get(self.rule)
        return f"{value:,.0f}" if rule is None else _shown(rule, value)


@dataclass(slots=True)
class Episode:
    """A stretch of updates in which one rule was beyond a bound: one time that an alert was raised.

    Attributes:
        rule: the rule.
        severity: 1 warning, 2 critical.
        since: first update of the stretch that was beyond the bound.
        update: the update at which the number had been beyond the bound for long enough.
        value: the number at that update.
        detail: further details for the sentence; may be empty.
        until: first update at which it was over; None while it lasts.
        worst, worst_update: the worst number from `update` on, and its update.
        badness: how bad that is; see `badness`.
        rises, falls: whether a higher number, or a lower one, is never better.
    """

    rule: Rule
    severity: int
    since: int
    update: int
    value: float
    detail: str = ""
    until: int | None = None
    worst: float = field(init=False)
    worst_update: int = field(init=False)
    badness: float = field(init=False)
    rises: bool = field(init=False)
    falls: bool = field(init=False)

    def __post_init__(self) -> None:
        self.worst, self.worst_update = self.value, self.update
        self.badness = badness_of(self.rule.bands, self.value)
        limits = (*self.rule.bands.warning, *self.rule.bands.critical)
        self.rises = all(limit.comparison.startswith(">") for limit in limits)
        self.falls = all(limit.comparison.startswith("<") for limit in limits)

    def describe(self, value: float | None, update: int) -> str:
        """Describe the number at `update` in one sentence: its value, the bound it is beyond, and since when."""
        rule = self.rule
        since = f" since update {self.since}" if self.since != update else f" at update {update}"
        if rule.sentence is not None and rule.shown is as_count:  # it says for how long, so that "since" would clash
            return f"{rule.sentence(self.value)}, as of update {self.update}{self.detail}."
        if rule.sentence is not None:
            return f"{rule.sentence(self.value)}{since}{self.detail}."
        bound = None if value is None else _bound(rule, value, self.severity)
        if value is None or not bound:  # it is back within the bound, but not for long enough
            seen = f"{_shown(rule, self.value)}{_bound(rule, self.value, self.severity)} at update {self.update}"
            return f"{rule.title} was {seen}{'' if value is None else f', and is {_shown(rule, value)} now'}."
        return f"{rule.title} is {_shown(rule, value)}{bound}{since}."

    @property
    def level(self) -> Level:
        """Its level, in words."""
        return level_at(self.severity)

    @property
    def message(self) -> str:
        """What was found when it was raised, what it usually means and what to look at next."""
        return f"{self.describe(self.value, self.update)} {self.rule.meaning}"

    def follow(self, update: int, value: float, badness: float) -> None:
        """Note a further value, if it is worse than those before."""
        if badness > self.badness:
            self.worst, self.worst_update, self.badness = value, update, badness

    def follow_one(self, update: int, value: float) -> None:
        """As `follow`, for a value whose badness is not known yet."""
        if self.rises:  # all bounds are above, so that a lower value is not worse
            if -math.inf < value <= self.worst:
                return
        elif self.falls and self.worst <= value < math.inf:
            return
        self.follow(update, float(value), badness_of(self.rule.bands, value))  # a count is an int


def badness(bands: Bands, values: Floats) -> Floats:
    """Return how bad each value is: it grows with the level, and within a level towards its extreme.

    As `levels.badness`, for values (Float64) that were measured and bands that always apply. What is not finite is the
    worst of all where it is critical, and else −1, as what is unknown.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        is_warning, is_critical = _beyond(values, bands.warning), _beyond(values, bands.critical)
        excess = _excess(values, bands.warning or bands.critical)
        if bands.warning and is_critical.any():
            np.copyto(excess, _excess(values, bands.critical), where=is_critical)
        within = excess / (1.0 + np.abs(excess))
        if (is_infinite := np.isinf(excess)).any():
            within[is_infinite] = np.sign(excess[is_infinite])
        found: Floats = np.maximum(4.0 * is_warning, 8.0 * is_critical) + within
    if not (is_finite := np.isfinite(values)).all():
        found[~is_finite] = _NOT_FINITE if bands.nonfinite == "critical" else -1.0
    return found


def badness_of(bands: Bands, value: float) -> float:
    """As `badness`, for one value."""
    if not math.isfinite(value):
        return _NOT_FINITE if bands.nonfinite == "critical" else -1.0
    level = 2 if _is_beyond(value, bands.critical) else 1 if _is_beyond(value, bands.warning) else 0
    limits = bands.critical if level == 2 or not bands.warning else bands.warning
    excess = _excess_of(value, limits[0]) if limits else 0.0
    for limit in limits[1:]:
        excess = max(excess, _excess_of(value, limit))
    return 4.0 * level + (math.copysign(1.0, excess) if math.isinf(excess) else excess / (1.0 + abs(excess)))


def _is_beyond(value: float, limits: Sequence[Limit]) -> bool:
    for limit in limits:  # noqa: SIM110  (a generator takes longer than the rest)
        if COMPARISONS[limit.comparison](value, limit.bound):
            return True
    return False


def _excess_of(value: float, limit: Limit) -> float:
    beyond = value - limit.bound if limit.comparison.startswith(">") else limit.bound - value
    return beyond / (abs(limit.bound) or 1.0)


def ends_a_run(rule: str) -> bool:
    """Whether the rule of this name watches the mechanics without which a run is over; such alerts come first."""
    return rule in RULES and RULES[rule].question == "mechanics" and RULES[rule].gives[1] == "critical"


def _beyond(values: Floats, limits: Sequence[Limit]) -> NDArray[np.bool_]:
    found = np.zeros(len(values), bool)
    for limit in limits:
        found |= COMPARISONS[limit.comparison](values, limit.bound)
    return found


def _excess(values: Floats, limits: Sequence[Limit]) -> Floats:
    """Return how far each value is beyond the nearest bound, relative to the bound; negative on the good side."""
    parts = [
        (values - limit.bound if limit.comparison.startswith(">") else limit.bound - values) / (abs(limit.bound) or 1.0)
        for limit in limits
    ]
    return np.maximum.reduce(parts) if parts else np.zeros(len(values))


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
