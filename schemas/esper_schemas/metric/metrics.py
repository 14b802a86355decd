"""The class `Metric`: dtype, unit, sign, thresholds, trend, names and place. The metrics themselves are in `payload`.

Thresholds are data, not code. The analyzer turns a `Bands` into one polars expression, the documentation prints it,
and the tests take their boundary cases from it, so they cannot disagree.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Dtype = Literal["float64", "int64", "int32", "bool", "timestamp"]
Level = Literal["unknown", "healthy", "warning", "critical"]  # in order of severity; `levels` uses this order
Direction = Literal["lower", "higher"]
Group = Literal[
    "labels",  # index, time, reason for a skip: they identify or describe an update; nothing to chart
    "losses",
    "critic",
    "policy",
    "gradients",
    "episodes",
    "returns",  # and the advantages
    "settings",
    "work",
    "cost",
    "other",
]

HISTORY_LENGTH = 10
"""Number of updates in a metric's history, and the window of its trend."""

DEFAULT_TREND_THRESHOLD = 0.20
"""Relative change between the halves of the trend window that counts as a trend (inclusive)."""

COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}

SKIP_REASONS: dict[int, str] = {
    0: "other",
    1: "non-finite loss",
    2: "non-finite gradient",
    3: "KL divergence over its limit",
    4: "mixed-precision overflow",
    5: "no valid samples",
}
"""Meaning of each `skip_reason` code. Codes are never reused."""


class Limit(NamedTuple):
    """One threshold: `value <comparison> bound` puts a value into the band that holds this limit."""

    comparison: Literal[">", ">=", "<", "<="]
    bound: float

    def __str__(self) -> str:
        return f"{self.comparison} {self.bound:g}"


def above(bound: float) -> Limit:
    """Values greater than `bound`."""
    return Limit(">", bound)


def at_least(bound: float) -> Limit:
    """Values greater than or equal to `bound`."""
    return Limit(">=", bound)


def below(bound: float) -> Limit:
    """Values smaller than `bound`."""
    return Limit("<", bound)


def at_most(bound: float) -> Limit:
    """Values smaller than or equal to `bound`."""
    return Limit("<=", bound)


class Spread(NamedTuple):
    """A band counts only where column `high` minus column `low` is below `bound`."""

    low: str
    high: str
    bound: float


@dataclass(frozen=True, slots=True)
class Bands:
    """The thresholds of a metric for warning and critical; every other measured value is healthy.

    Critical is checked first. A null is `unknown`. A NaN or an infinity has the level `nonfinite`: this is `unknown`
    for the few metrics where NaN means "not defined" (explained variance of constant returns). A healthy value below
    `low` is shown with the remark "low".
    """

    warning: tuple[Limit, ...] = ()
    critical: tuple[Limit, ...] = ()
    nonfinite: Level = "critical"
    low: float | None = None
    only_if: Spread | None = None

    def __str__(self) -> str:
        parts = []
        for name, limits in (("warning", self.warning), ("critical", self.critical)):
            if limits:
                parts.append(f"{name} {' or '.join(map(str, limits))}")
        if self.nonfinite == "critical":
            parts.append("not finite is critical")
        if self.only_if:
            parts.append(f"only if {self.only_if.high} − {self.only_if.low} < {self.only_if.bound:g}")
        return "; ".join(parts)


GENERAL_MEANING = "This is beyond what is usual; look at the losses, and at what changed shortly before."
"""Meaning of a metric with thresholds that declares no meaning of its own."""

MAX_SHORT = 9
"""Most characters of a short name, which is the width of a narrow column."""


_ACRONYMS = {"amp": "AMP", "gpu": "GPU", "kl": "KL", "nan": "NaN", "nrmse": "NRMSE", "td": "TD", "vf": "VF"}


@dataclass(frozen=True, slots=True)
class Metric:
    """One column of an update: its meaning, its thresholds, its names and where it is shown.

    Attributes:
        name: Column name, keyword of `Recorder.record`, field of `PPOUpdatePayload`.
        dtype: Type of the column; `timestamp` is microseconds, UTC.
        description: One line: meaning and sign.
        unit: Unit, empty for a pure number.
        averaged_over: What the number is a mean over, or taken from.
        better: Direction that is an improvement; None if neither is, so a trend is "shifting".
        trend_threshold: Relative change that counts as a trend; None if a trend has no meaning.
        bands: Thresholds; None if no value is judged.
        required: Whether every update that was not skipped must carry it.
        title: Name on pages and in sentences; by default made from `name`.
        short: Name in narrow columns, at most `MAX_SHORT` characters; by default made from the title.
        meaning: What a value beyond the thresholds usually means, and what to look at next; by default a general
            sentence.
        group: Topic of the metric.
        order: Position among the metrics that every screen and page shows first; None for all others.
        headline: Whether pages show its newest value right below the verdict.
        gauge: Ends of the scale of its gauge; None if it has no gauge.
        chart: Metric whose chart explains an alert on this one better; empty for its own chart.
        watched: Whether a value beyond the thresholds raises an alert; False where rules of the analyzer say more.
        symptom: Whether a critical alert on it makes the verdict a warning; other threshold alerts do not change it.
    """

    name: str
    dtype: Dtype
    description: str
    unit: str = ""
    averaged_over: str = ""
    better: Direction | None = None
    trend_threshold: float | None = None
    bands: Bands | None = None
    required: bool = False
    title: str = ""
    short: str = ""
    meaning: str = ""
    group: Group = "other"
    order: int | None = None
    headline: bool = False
    gauge: tuple[float, float] | None = None
    chart: str = ""
    watched: bool = True
    symptom: bool = False

    def __post_init__(self) -> None:
        title = self.title or _title(self.name)
        object.__setattr__(self, "title", title)  # the class is frozen
        if not self.short:
            object.__setattr__(self, "short", title if len(title) <= MAX_SHORT else f"{title[: MAX_SHORT - 1]}.")
        if self.bands is not None and not self.meaning:
            object.__setattr__(self, "meaning", GENERAL_MEANING)


def _title(name: str) -> str:
    """Turn a name into the start of a sentence."""
    words = [_ACRONYMS.get(word, word) for word in name.split("_")]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])
