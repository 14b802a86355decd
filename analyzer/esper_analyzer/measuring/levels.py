"""Levels of health as polars expressions, made only from thresholds: those of the metrics table or the user's.

The report, the tail, the notebook and the trainer's progress line all use these to judge a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import cast

import polars as pl

from esper_schemas.metric.catalogue import DECLARED, LOSS_RATIO, MIN_POLICY_LOSS
from esper_schemas.metric.levels import LEVELS, severity_of
from esper_schemas.metric.metrics import COMPARISONS, Bands, Level, Limit, Metric

LEVEL_TYPE = pl.Enum(LEVELS)
"""Type of a column of levels, in the order of severity, so that `max` is the worst level."""

_NOT_FINITE = 2.0


Thresholds = Mapping[str, Bands]
"""Bands by the name of a metric, or `loss_ratio`."""

DEFAULT_THRESHOLDS: Thresholds = {name: metric.bands for name, metric in DECLARED.items() if metric.bands is not None}
"""The thresholds of the metrics table and of Lv/Lp."""


def bands_of(metric: str | Metric, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> Bands | None:
    """Return the thresholds of a metric, or of `loss_ratio`; None if it has none, like a user's own metric."""
    return metric.bands if isinstance(metric, Metric) else thresholds.get(metric)


def loss_ratio() -> pl.Expr:
    """Lv/Lp = abs(value_loss) / abs(policy_loss); null where either is not finite or abs(policy_loss) < 1e-10."""
    value, policy = pl.col("value_loss"), pl.col("policy_loss")
    defined = value.is_finite() & policy.is_finite() & (policy.abs() >= MIN_POLICY_LOSS)
    return pl.when(defined).then(value.abs() / policy.abs()).alias(LOSS_RATIO)


def severity(metric: str | Metric, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> pl.Expr:
    """Return 0 for healthy, 1 for warning, 2 for critical and null for unknown (Int8), by the thresholds.

    A null is unknown, and so is every value of a metric without thresholds. Critical is checked first. A
    band that applies only within a spread of two other columns needs those columns in the frame.
    """
    return _severity(metric.name if isinstance(metric, Metric) else metric, bands_of(metric, thresholds))


@lru_cache(1024)  # a screen asks for the same ones each second
def _severity(name: str, bands: Bands | None) -> pl.Expr:
    if bands is None:
        return pl.lit(None, pl.Int8).alias(name)
    value = pl.col(name).cast(pl.Float64)
    counts = _within_spread(bands)
    return (
        pl.when(value.is_null())
        .then(None)
        .when(~value.is_finite())
        .then(pl.lit(None if bands.nonfinite == "unknown" else severity_of(bands.nonfinite), pl.Int8))
        .when(_any(value, bands.critical) & counts)
        .then(pl.lit(2, pl.Int8))
        .when(_any(value, bands.warning) & counts)
        .then(pl.lit(1, pl.Int8))
        .otherwise(pl.lit(0, pl.Int8))
        .alias(name)
    )


def level(metric: str | Metric, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> pl.Expr:
    """Return the level of each single value of a metric (Enum `LEVEL_TYPE`); see `severity`."""
    return _level(metric.name if isinstance(metric, Metric) else metric, bands_of(metric, thresholds))


@lru_cache(1024)
def _level(name: str, bands: Bands | None) -> pl.Expr:
    return (_severity(name, bands).fill_null(severity_of("unknown")) + 1).cast(pl.UInt8).cat.to(LEVEL_TYPE)


def level_of(
    metric: str | Metric,
    value: float | None,
    row: Mapping[str, float | None] | None = None,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
) -> Level:
    """Return the level of one value of a metric, or of `loss_ratio`, by the same expression as for a whole column.

    Args:
        metric: metric, its name in the metrics table, `loss_ratio`, or any other name (then unknown).
        value: the number; None is unknown.
        row: further values of the same update, for a band that depends on other columns.
        thresholds: by default those of the table, here and in the functions below.
    """
    name = metric.name if isinstance(metric, Metric) else metric
    return levels_of({**(row or {}), name: value}, [metric], thresholds)[name]


def levels_of(
    row: Mapping[str, float | None],
    metrics: Iterable[str | Metric],
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
) -> dict[str, Level]:
    """Return the level of each of these metrics in one update; `row` has its values by column name."""
    names = {metric.name if isinstance(metric, Metric) else metric: metric for metric in metrics}
    levels: dict[str, Level] = dict.fromkeys(names, "unknown")
    judged = {
        name: metric for name, metric in names.items() if row.get(name) is not None and bands_of(metric, thresholds)
    }
    needed = set(judged)
    for metric in judged.values():
        bands = bands_of(metric, thresholds)
        needed |= {bands.only_if.low, bands.only_if.high} if bands and bands.only_if else set()
    frame = pl.DataFrame({name: pl.Series([row.get(name)], dtype=pl.Float64) for name in needed})
    return (
        levels | frame.select(level(metric, thresholds) for metric in judged.values()).to_dicts()[0]
        if judged
        else levels
    )


def badness(metric: str | Metric, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> pl.Expr:
    """Return how bad each value is (Float64): it grows with the level, and within a level towards its extreme.

    The result is between −1 and 1 within a level, plus 4 for each level. Critical values that are not finite are the
    worst, and the earliest of them is worst of all. The excess over a bound is relative to the bound, so that bounds
    of one metric can be compared. Null where the level is unknown.
    """
    name = metric.name if isinstance(metric, Metric) else metric
    bands = bands_of(metric, thresholds)
    rank = severity(metric, thresholds)
    if bands is None:
        return rank.cast(pl.Float64)
    value = pl.col(name).cast(pl.Float64)
    by_level = [_excess(value, limits) for limits in (bands.warning or bands.critical, bands.warning, bands.critical)]
    excess = pl.when(rank == 2).then(by_level[2]).when(rank == 1).then(by_level[1]).otherwise(by_level[0])
    earliness = (1.0 - pl.col("update").clip(0, 10**9) / 1e9).cast(pl.Float64)
    return (
        pl.when(rank.is_null())
        .then(None)
        .when(~value.is_finite())
        .then(4.0 * _NOT_FINITE + 2.0 + earliness)
        .otherwise(4.0 * rank + excess / (1.0 + excess.abs()))
    )


def _any(value: pl.Expr, limits: tuple[Limit, ...]) -> pl.Expr:
    is_beyond = pl.lit(False)
    for limit in limits:
        is_beyond = is_beyond | cast(pl.Expr, COMPARISONS[limit.comparison](value, limit.bound))
    return is_beyond


def _within_spread(bands: Bands) -> pl.Expr:
    if bands.only_if is None:
        return pl.lit(True)
    return (pl.col(bands.only_if.high) - pl.col(bands.only_if.low) < bands.only_if.bound).fill_null(False)


def _excess(value: pl.Expr, limits: tuple[Limit, ...]) -> pl.Expr:
    """Return how far a value is beyond the nearest bound, relative to the bound; negative on the good side."""
    parts = []
    for limit in limits:
        beyond = value - limit.bound if limit.comparison in (">", ">=") else limit.bound - value
        parts.append(beyond / (abs(limit.bound) or 1.0))
    return pl.max_horizontal(parts) if parts else pl.lit(0.0)
