"""The signals in step form: each takes one row after another and gives its number, without a query to plan.

A row is a dictionary column → number, None where nothing was measured. For each signal of the module `signals` that
rules watch there is one here, with the same number in the same row; a test holds them against each other. A signal
with a window is a class whose objects keep it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import polars as pl

from esper_analyzer.judging.signals import (
    BASELINE_ROWS,
    COLLAPSE_HORIZON,
    CORRELATION_WINDOW,
    DIGITS,
    LONG_WINDOW,
    MAD_TO_STD,
    MIN_LENGTH,
    MIN_SHARE,
    MIN_SPREAD,
    PERFECT,
    ROUNDING,
    TINY,
    WINDOW,
)
from esper_analyzer.judging.windows import Lag, Median, Window

Row = Mapping[str, float | None]
Step = Callable[[Row], float | None]

_isfinite = math.isfinite


def column(name: str) -> Step:
    """A metric as it was recorded."""
    return lambda row: row[name]


def finite(name: str) -> Step:
    """As `signals.finite`."""

    def step(row: Row) -> float | None:
        value = row[name]
        return value if value is not None and _isfinite(value) else None

    return step


def divide(one: float, other: float) -> float:
    """one / other; NaN or infinite, as IEEE 754 has it, where `other` is 0."""
    if other != 0.0:
        return one / other
    return math.nan if one == 0.0 or math.isnan(one) else math.copysign(math.inf, one) * math.copysign(1.0, other)


class SkippedOfThree:
    """As `signals.skipped_of_three`."""

    def __init__(self) -> None:
        self._window: deque[int] = deque(maxlen=3)

    def __call__(self, row: Row) -> float:
        """Take in a row."""
        is_skipped = bool(row["skipped"])
        self._window.append(int(is_skipped))
        return float(sum(self._window)) if is_skipped else 0.0


def losses_are_zero(row: Row) -> float:
    """As `signals.losses_are_zero`."""
    if row["value_loss"] != 0.0 or row["policy_loss"] != 0.0:
        return 0.0
    past, newest = row["past_value_loss"], row["newest_value_loss"]
    return float(past is None or newest is None or newest >= PERFECT * past)


def explosion(row: Row) -> float | None:
    """As `signals.explosion`."""
    loss, past = row["value_loss"], row["past_value_loss"]
    if loss is None or past is None or not _isfinite(loss):
        return None
    explained = row["explained_variance"]
    if explained is not None and 0.2 < explained < math.inf:
        return 0.0
    loss = max(loss, TINY)
    decades = max(math.log10(loss / past), 0.0)
    std = target_std(row)
    if decades and std is not None and std > TINY:
        share = loss / (std * std)  # std**2 would raise where it overflows
        decades = min(decades, math.log10(share) if share > 1.0 else 0.0)
    return round(decades, DIGITS)


def target_std(row: Row) -> float | None:
    """Standard deviation of the value targets, which are returns divided by `value_target_scale`."""
    std, scale = row["return_std"], row["value_target_scale"]
    if std is None or not _isfinite(std):
        return None
    return divide(std, scale) if scale is not None and _isfinite(scale) else std


# ---------------------------------------------------------------------- the critic


def return_spread(row: Row) -> float | None:
    """As `signals.return_spread`."""
    recorded = row["return_std"]
    if recorded is not None:
        return recorded if _isfinite(recorded) else None
    explained, loss = row["explained_variance"], row["value_loss"]
    if explained is None or loss is None or not (_isfinite(loss) and _isfinite(explained)):
        return None
    unexplained = 1.0 - explained
    return math.sqrt(2.0 * max(loss, 0.0) / unexplained) if unexplained > TINY else None


def critic_error(row: Row) -> float | None:
    """As `signals.critic_error`."""
    recorded, usual = row["return_std"], row["usual_return_std"]
    if recorded is None or not _isfinite(recorded):
        return None
    std = recorded if usual is None else max(recorded, usual)
    loss = row["value_loss"] if row["value_loss_unclipped"] is None else row["value_loss_unclipped"]
    mean = row["return_mean"]
    least = TINY if mean is None or not _isfinite(mean) else max(TINY, ROUNDING * abs(mean))
    if loss is None or not std > least:
        return None
    scale = row["value_target_scale"]
    share = (1.0 if scale is None else scale) / std
    return 2.0 * loss * (share * share)  # share**2 would raise where it overflows


def has_something_to_explain(row: Row, spread: float | None, usual: float | None) -> bool:
    """As `signals.has_something_to_explain`, of a row, its `return_spread`, and the usual one."""
    if spread is not None and (spread <= TINY or (usual is not None and spread < MIN_SPREAD * usual)):
        return False
    std, mean, length = row["return_std"], row["return_mean"], row["episode_length_mean"]
    if std is not None and mean is not None and _isfinite(std) and _isfinite(mean) and std < MIN_SHARE * abs(mean):
        return False
    return length is None or not _isfinite(length) or length >= MIN_LENGTH


def explained_where_varied(row: Row) -> float | None:
    """As `signals.explained_where_varied`."""
    value = row["explained_variance"]
    return value if value is not None and row["explainable"] and _isfinite(value) else None


def value_spread(row: Row) -> float | None:
    """As `signals.value_spread`."""
    value, std = row["value_std"], row["return_std"]
    if value is None or std is None or not (_isfinite(value) and _isfinite(std) and std > TINY):
        return None
    return value / std if row["explainable"] else None


class ValueCollapse:
    """As `signals.value_collapse`, of the medians in a row."""

    def __init__(self) -> None:
        self._before, self._spreads = Lag(WINDOW), Window(LONG_WINDOW)

    def __call__(self, row: Row) -> float | None:
        """Take in a row."""
        loss, spread = row["_loss_median"], row["_spread_median"]
        before, spreads = self._before(loss), self._spreads.push(spread)
        if loss is None or before is None or spread is None:
            return None
        return float(loss < before) * (1.0 - divide(spread, spreads[-1]))


class UnexplainedFall:
    """As `signals.unexplained_fall`, of the medians in a row."""

    def __init__(self) -> None:
        self._loss, self._explained = Lag(CORRELATION_WINDOW), Lag(CORRELATION_WINDOW)

    def __call__(self, row: Row) -> float | None:
        """Take in a row."""
        loss, explained = row["_loss_median"], row["_explained_median"]
        loss_before, explained_before = self._loss(loss), self._explained(explained)
        if loss is None or loss_before is None or explained is None:
            return None
        if explained > 0.5:
            is_unsound = False
        elif explained_before is None:
            return None
        else:
            is_unsound = explained - explained_before < 0.05
        return float(is_unsound) * -divide(loss - loss_before, loss_before)  # rounded as pct_change


# ---------------------------------------------------------------------- the losses against each other


class LossRatioDrift:
    """As `signals.loss_ratio_drift`."""

    def __init__(self) -> None:
        self._policy = Median(WINDOW, WINDOW // 2)

    def __call__(self, row: Row) -> float | None:
        """Take in a row."""
        policy, value, baseline = row["policy_loss"], row["_loss_median"], row["loss_ratio_baseline"]
        median = self._policy(abs(policy) if policy is not None and _isfinite(policy) else None)
        if value is None or median is None or baseline is None:
            return None
        return divide(divide(value, median), baseline)


def loss_ratio_baseline(losses: Sequence[tuple[float | None, float | None]]) -> float | None:
    """As `signals.loss_ratio_baseline`, which takes a hundred times as long to plan as these few rows to compute.

    Args:
        losses: value loss and policy loss of the first rows of a run, at least as many as `BASELINE_ROWS` reaches.
    """
    value, policy = Median(WINDOW, WINDOW // 2), Median(WINDOW, WINDOW // 2)
    ratios = [
        None if above is None or below is None else divide(above, below)
        for above, below in [
            (
                value(one if one is not None and _isfinite(one) else None),
                policy(abs(other) if other is not None and _isfinite(other) else None),
            )
            for one, other in losses[: BASELINE_ROWS[1]]
        ]
    ]
    median = pl.Series(ratios[BASELINE_ROWS[0] :], dtype=pl.Float64).median()
    return median if isinstance(median, float) and _isfinite(median) else None


# ---------------------------------------------------------------------- the policy


def clipped_in_bulk(row: Row) -> float | None:
    """As `signals.clipped_in_bulk`."""
    ratio, clip, fraction = row["ratio_max"], row["clip_range"], row["clip_fraction"]
    if ratio is None or clip is None or fraction is None:
        return None
    if not (_isfinite(ratio) and _isfinite(clip) and _isfinite(fraction)):
        return None
    return float(ratio <= 1.0 + 2.5 * clip) * fraction


def discrete_entropy(row: Row) -> float | None:
    """As `signals.discrete_entropy`."""
    return row["entropy"] if row["is_relative"] == 0.0 else None


class MeanEntropy:
    """As `signals.mean_entropy`, of the entropy in a row."""

    def __init__(self) -> None:
        self._window: deque[float | None] = deque(maxlen=WINDOW // 2)

    def __call__(self, row: Row) -> float | None:
        """Take in a row."""
        value = row["_entropy"]
        self._window.append(value if value is not None and _isfinite(value) else None)
        total = 0.0
        for one in self._window:  # not sum, which from Python 3.12 on rounds otherwise
            if one is None:
                return None
            total += one
        return total * (1.0 / (WINDOW // 2)) if len(self._window) == WINDOW // 2 else None


class CollapseRisk:
    """As `signals.entropy_collapse_risk`, of the mean entropy in a row."""

    def __init__(self) -> None:
        self._before = Lag(WINDOW // 2)

    def __call__(self, row: Row) -> float | None:
        """Take in a row."""
        entropy = row["_mean_entropy"]
        before = self._before(entropy)
        if entropy is None or before is None:
            return None
        velocity = (entropy - before) * (1.0 / (WINDOW // 2))  # as polars divides by a number
        return min(max(-COLLAPSE_HORIZON * velocity / max(entropy - 0.1, TINY), 0.0), 1.0)


# ---------------------------------------------------------------------- any metric


class MedianOf:
    """Median of a column of the row."""

    def __init__(self, name: str, size: int = WINDOW, fewest: int = WINDOW // 2) -> None:
        self._name, self._median = name, Median(size, fewest)

    def __call__(self, row: Row) -> float | None:
        """Take in a row."""
        return self._median(row[self._name])


class MedianBefore:
    """Median of a column in the 50 rows before; as `signals.median_before`."""

    def __init__(self, name: str) -> None:
        self._name, self._median = name, Median(LONG_WINDOW, 20)
        self._now: float | None = None

    def __call__(self, row: Row) -> float | None:
        """Take in a row."""
        before = self._now
        self._now = self._median(row[self._name])
        return before


class SpikeScore:
    """As `signals.spike_score`, of the value and the median before in a row."""

    def __init__(self, value: str, middle: str) -> None:
        self._value, self._middle = value, middle
        self._deviations = Median(LONG_WINDOW, 20)
        self._usual: float | None = None

    def __call__(self, row: Row) -> float | None:
        """Take in a row."""
        value, middle, usual = row[self._value], row[self._middle], self._usual
        deviation = None if value is None or middle is None else value - middle
        self._usual = self._deviations(None if deviation is None else abs(deviation))
        if deviation is None or middle is None or usual is None:
            return None
        return divide(deviation, max(MAD_TO_STD * usual, 0.01 * abs(middle)))


class Plateau:
    """As `signals.plateau`, of the value and the median before in a row."""

    def __init__(self, value: str, middle: str) -> None:
        self._value, self._middle = value, middle
        self._push = Window(LONG_WINDOW).push

    def __call__(self, row: Row) -> float | None:
        """Take in a row."""
        middle, ordered = row[self._middle], self._push(row[self._value])
        if len(ordered) < LONG_WINDOW or middle is None:
            return None
        return divide(ordered[-1] - ordered[0], abs(middle))
