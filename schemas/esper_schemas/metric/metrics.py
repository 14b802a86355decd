"""What a metric is: dtype, unit, sign, thresholds, trend rule, names and place. The metrics are in `payload`.

Thresholds are data, not code: the analyzer turns a `Bands` into one polars expression, the documentation
prints it, and the tests take their boundary cases from it, so that no two places can disagree.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Dtype = Literal["float64", "int64", "int32", "bool", "timestamp"]
Level = Literal["unknown", "healthy", "warning", "critical"]  # in their order, which `levels` derives from here
Direction = Literal["lower", "higher"]
Group = Literal[
    "labels",  # what tells one update from another: its index, its time, why it was skipped; nothing to chart
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
"""Updates kept in a metric's history, and the window of its trend."""

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


@dataclass(frozen=True, slots=True)
class Limit:
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


@dataclass(frozen=True, slots=True)
class Spread:
    """A band counts only where column `high` minus column `low` is below `bound`."""

    low: str
    high: str
    bound: float


@dataclass(frozen=True, slots=True)
class Bands:
    """Where a metric's values become a warning or critical; everything else measured is healthy.

    Critical is looked at first. A null is `unknown`. A NaN or an infinity is `nonfinite`, which is
    `unknown` for the few metrics where NaN is a legitimate "not defined" (explained variance of
    constant returns). `low` is the bound below which a healthy value is shown with the remark "low".
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
"""What is said of a metric beyond its thresholds that declares no meaning."""

MAX_SHORT = 9
"""Characters of the narrow columns that short names stand in."""


_ACRONYMS = {"amp": "AMP", "gpu": "GPU", "kl": "KL", "nan": "NaN", "nrmse": "NRMSE", "td": "TD", "vf": "VF"}


@dataclass(frozen=True, slots=True)
class Metric:
    """One column of an update: what it means, how it is judged, what it is called and where it is shown.

    Attributes:
        name: Column name, keyword of `Recorder.record`, field of `PPOUpdatePayload`.
        dtype: Type of the column; `timestamp` is microseconds, UTC.
        description: One line: meaning and sign.
        unit: Unit, empty for a pure number.
        averaged_over: What the number is a mean over, or taken from.
        better: Direction that is an improvement; None where neither is, so a trend is "shifting".
        trend_threshold: Relative change that counts as a trend; None where a trend means nothing.
        bands: Thresholds of health; None where there is no rule.
        required: Whether every update that was not skipped must carry it.
        title: What pages and sentences call it; made from the name by default.
        short: What narrow columns call it, in at most `MAX_SHORT` characters; made from the title by default.
        meaning: What a value beyond the thresholds usually means, and what to look at next; by default a general
            sentence.
        group: What it is about.
        order: Its place among the metrics that every screen and page shows first; None for all others.
        headline: Whether a page shows its newest value right below the verdict.
        gauge: Ends of the scale of its gauge; None where there is no gauge.
        chart: Metric whose chart shows more of what an alert on it is about; empty for its own.
        watched: Whether an alert is raised where it is beyond its thresholds. Not where rules of the analyzer say more.
        symptom: Whether a critical alert on it makes the verdict a warning; other alerts on thresholds give it nothing.
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
    """A name as the beginning of a sentence."""
    words = [_ACRONYMS.get(word, word) for word in name.split("_")]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])
