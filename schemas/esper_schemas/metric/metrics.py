"""What a metric is: its dtype, unit, sign, thresholds and trend rule. The metrics themselves are in `payload`.

Thresholds are data, not code: the analyzer turns a `Bands` into one polars expression, the documentation
prints it, and the tests take their boundary cases from it, so that no two places can disagree.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Dtype = Literal["float64", "int64", "int32", "bool", "timestamp"]
Level = Literal["healthy", "warning", "critical", "unknown"]
Direction = Literal["lower", "higher"]

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


LOSS_RATIO_BANDS = Bands(
    warning=(below(0.2), above(5.0)),
    critical=(below(0.1), above(10.0)),
    nonfinite="unknown",
)
"""Bands of the Lv/Lp ratio, abs(value_loss) / abs(policy_loss), which is derived and never recorded."""

MIN_POLICY_LOSS = 1e-10
"""The Lv/Lp ratio is null where abs(policy_loss) is smaller than this."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One column of an update: what it means and how it is judged.

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
