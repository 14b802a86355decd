"""The snapshot of a run: the last value, history, trend and level of each metric, from a frame of updates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from esper_analyzer.measuring.drift import LONG
from esper_analyzer.measuring.levels import levels_of, loss_ratio
from esper_analyzer.measuring.summary import Summary, Value, histories, newest_values
from esper_analyzer.measuring.trends import Trend, long_trend_of, trend_of
from esper_schemas.metric.catalogue import LOSS_RATIO
from esper_schemas.metric.metrics import HISTORY_LENGTH, Level
from esper_schemas.metric.severity import DEFAULT_THRESHOLDS, Thresholds

NOT_METRICS = ("run_id", "rank", "attempt", "seq", "dropped_before")


@dataclass(frozen=True, slots=True)
class MetricState:
    """The current state of one metric.

    Attributes:
        last: the value of the last update; None if it was not measured in it.
        history: the last measured values, newest last (at most 10, unless another length is requested).
        trend: trend of the last ten values.
        long_trend: slow trend of the last thirty values.
        level: level of the last value by the table's thresholds.
    """

    last: Value
    history: list[Value]
    trend: Trend
    long_trend: Trend
    level: Level


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The current state of a run: the last update, and each metric by name; `loss_ratio` is Lv/Lp."""

    update: int | None
    metrics: dict[str, MetricState]

    def __getitem__(self, name: str) -> MetricState:
        return self.metrics[name]


def metric_names(schema: pl.Schema) -> list[str]:
    """Return the columns that are metrics: those of the table, then the user's own."""
    return [name for name in schema if name not in NOT_METRICS]


def chartable_names(schema: pl.Schema) -> list[str]:
    """Return the metrics that are numbers or booleans, so that a chart or a series can show them."""
    return [name for name in metric_names(schema) if schema[name].is_numeric() or schema[name] == pl.Boolean]


def take_snapshot(
    updates: pl.LazyFrame,
    length: int = HISTORY_LENGTH,
    *,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    summaries: Mapping[str, Summary] | None = None,
) -> Snapshot:
    """Return the state after the last row of `updates`, with up to `length` values of history for each metric.

    Args:
        updates: the rows.
        length: number of values in a history.
        thresholds: thresholds for the levels.
        summaries: of all metrics of these rows, and of `loss_ratio`, if they are known, which saves reading.
    """
    with_ratio = updates.with_columns(loss_ratio())
    names = metric_names(with_ratio.collect_schema())
    found = histories(with_ratio, names, max(length, LONG.length), summaries)
    newest = newest_values(with_ratio, names)
    levels = levels_of({name: as_number(value) for name, value in newest.items()}, names, thresholds)
    metrics = {name: state_of(name, values, newest[name], levels[name], length) for name, values in found.items()}
    last = metrics["update"].last
    return Snapshot(int(last) if isinstance(last, int) else None, metrics)


def state_of(name: str, values: list[Value], last: Value, level: Level, length: int = HISTORY_LENGTH) -> MetricState:
    """Return the state of a metric.

    Args:
        name: the metric.
        values: at least its last 30 measured values, newest last.
        last: its value in the last update, which may not have been measured.
        level: the level of that.
        length: number of values in the history.
    """
    numbers = [as_number(value) for value in values]
    rule = name if name != LOSS_RATIO else ""  # Lv/Lp has the trend rule of a metric that is not in the table
    return MetricState(
        last=last,
        history=values[-length:],
        trend=trend_of(rule, numbers),
        long_trend=long_trend_of(rule, numbers),
        level=level,
    )


def updates_per_sec(newest: pl.DataFrame) -> float | None:
    """Return the speed over the last 50 rows that belong to the newest attempt; None if it is unknown."""
    timed = _timed(newest, "update")
    span = timed[-1][1] - timed[0][1] if len(timed) > 1 else 0.0
    return (len(timed) - 1) / span if span > 0.0 else None


def steps_per_sec(newest: pl.DataFrame) -> float | None:
    """Return the environment steps per second over the same rows; None if it is unknown, or they do not rise."""
    timed = _timed(newest, "env_steps")
    span, steps = (timed[-1][1] - timed[0][1], timed[-1][0] - timed[0][0]) if len(timed) > 1 else (0.0, 0)
    return steps / span if span > 0.0 and steps > 0 else None


def _timed(newest: pl.DataFrame, name: str) -> list[tuple[int, float]]:
    """Return a count and the seconds of those of the last 50 rows of the newest attempt that have both."""
    if newest.height < 2 or name not in newest.columns:
        return []
    rows = newest.select("attempt", name, "elapsed_secs").tail(50).rows()
    return [(count, secs) for attempt, count, secs in rows if attempt == rows[-1][0] and None not in (count, secs)]


def as_number(value: Value) -> float | None:
    """Convert a value to float; a time becomes seconds since 1970."""
    if value is None:
        return None
    return value.timestamp() if isinstance(value, datetime) else float(value)
