"""What a rule is: the number that is watched, its bounds, for how long, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Literal

from esper_analyzer.judging.watched import Signal
from esper_analyzer.wording import compact
from esper_schemas.metric.catalogue import STAND_INS
from esper_schemas.metric.metrics import Bands, Level
from esper_schemas.metric.payload import METRICS

Question = Literal["mechanics", "critic", "learning"]

QUESTIONS: dict[Question, str] = {
    "mechanics": "Are the numbers finite, are updates applied, are steps of sane size?",
    "critic": "Does the critic explain what can be explained?",
    "learning": "Does the outcome rise, hold, fall, or not move?",
}
"""The questions of a verdict, in their order."""

WARM_UP_UPDATES = 10
"""Thresholds apply after this many updates; losses that are not finite, and skipped updates, count at once."""

NOTHING: tuple[Level, Level] = ("healthy", "healthy")
SYMPTOM: tuple[Level, Level] = ("healthy", "warning")
WARNS: tuple[Level, Level] = ("warning", "warning")
DECISIVE: tuple[Level, Level] = ("warning", "critical")
"""What a warning alert and a critical alert contribute to the verdict; see `Rule.gives`."""


SUSTAINED = (8, 10)


def as_percent(value: float) -> str:
    """A share as a percentage of three digits."""
    return f"{100 * value:.3g} %"


def as_count(value: float) -> str:
    """A number of updates, or of samples."""
    return f"{value:,.0f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One number that is watched.

    Attributes:
        name: unique name of the rule.
        metric: the metric or signal that is watched; `metric` of its alerts.
        title: name of the number in a sentence.
        value: the number, of the updates, the columns of the course and `PARTS`.
        bands: where the number is a warning or critical.
        bands_of: the metric or signal whose name a user's settings use for other bands; may be empty.
        question: the question of the verdict that it answers; None if it only raises alerts.
        needs: the columns without which it cannot be judged.
        needs_one_of: columns of which one is enough, the best one first.
        hold: (k, n): an alert needs k of the last n updates beyond the bound, including the newest.
        clear: the alert ends after this many consecutive updates within the bound.
        gives: the levels that a warning and a critical alert contribute to the verdict.
        from_row: first row of the run (from 0) that counts; values that are not finite also count before it.
        meaning: what it usually means and what to look at next, in a sentence or two.
        shown: formats a value.
        sentence: describes a value, without full stop, if "title is value (bound)" does not fit.
        chart: the metric whose chart to look at, if that is not `metric`; else empty.
        takes_sliding: whether sliding means of episodes will do for the means that it `needs`; see `STAND_INS`.
    """

    name: str
    metric: str
    title: str
    value: Signal
    bands: Bands
    bands_of: str
    meaning: str
    question: Question | None = None
    needs: tuple[str, ...] = ()
    needs_one_of: tuple[str, ...] = ()
    hold: tuple[int, int] = (3, 5)
    clear: int = 5
    gives: tuple[Level, Level] = NOTHING
    from_row: int = WARM_UP_UPDATES
    shown: Callable[[float], str] = field(default=compact)
    sentence: Callable[[float], str] | None = None
    chart: str = ""
    takes_sliding: bool = True

    def lacks(self, measured: Collection[str]) -> list[str]:
        """Return which of the columns that it needs are not among those that were measured, nor what stands in."""
        missing = [name for name in self.needs if name not in measured]
        if self.needs_one_of and not any(name in measured for name in self.needs_one_of):
            missing.append(self.needs_one_of[0])
        return [name for name in missing if not (self.takes_sliding and STAND_INS.get(name) in measured)]

    @property
    def is_asked(self) -> bool:
        """Whether it asks anything: it has bounds, or watches whether losses are finite; one waits for a user's."""
        is_of_finite = self.question == "mechanics" and self.bands.nonfinite == "critical"
        return bool(self.bands.warning or self.bands.critical) or is_of_finite


def signal_rule(name: str, title: str, value: Signal, bands: Bands, meaning: str, **more: object) -> Rule:
    """Make a rule on a signal, whose name is that of the rule and of its bands in a user\'s settings."""
    return Rule(name=name, metric=name, title=title, value=value, bands=bands, bands_of=name, meaning=meaning, **more)  # type: ignore[arg-type]


def bands_in_table(name: str) -> Bands:
    """The bands that the metrics table has for a metric."""
    bands = METRICS[name].bands
    assert bands is not None
    return bands
