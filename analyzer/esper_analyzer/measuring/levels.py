"""Levels of health as polars expressions, made only from thresholds: those of the metrics table or the user's.

The report, the tail, the notebook and the trainer's progress line all use these to judge a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import cast

import polars as pl

from esper_schemas.metric.catalogue import LOSS_RATIO, MIN_POLICY_LOSS
from esper_schemas.metric.levels import LEVELS, severity_of
from esper_schemas.metric.metrics import COMPARISONS, Bands, Level, Limit, Metric
from esper_schemas.metric.severity import DEFAULT_THRESHOLDS, Thresholds

LEVEL_TYPE = pl.Enum(LEVELS)
"""Type of a column of levels, in the order of severity, so that `max` is the worst level."""


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


def _any(value: pl.Expr, limits: tuple[Limit, ...]) -> pl.Expr:
    is_beyond = pl.lit(False)
    for limit in limits:
        is_beyond = is_beyond | cast(pl.Expr, COMPARISONS[limit.comparison](value, limit.bound))
    return is_beyond


def _within_spread(bands: Bands) -> pl.Expr:
    if bands.only_if is None:
        return pl.lit(True)
    return (pl.col(bands.only_if.high) - pl.col(bands.only_if.low) < bands.only_if.bound).fill_null(False)
