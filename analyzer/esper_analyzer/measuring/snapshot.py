"""The current state of a run: last value, history, trend and level of each metric, from a frame of updates."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from esper_analyzer.measuring.drift import LONG
from esper_analyzer.measuring.levels import DEFAULT_THRESHOLDS, Thresholds, levels_of, loss_ratio
from esper_analyzer.measuring.summary import Value, histories
from esper_analyzer.measuring.trends import Trend, long_trend_of, trend_of
from esper_schemas.metric.catalogue import LOSS_RATIO
from esper_schemas.metric.metrics import HISTORY_LENGTH, Level

NOT_METRICS = ("run_id", "rank", "attempt", "seq", "dropped_before")


@dataclass(frozen=True, slots=True)
class MetricState:
    """One metric now.

    Attributes:
        last: the newest value that was measured; None if there is none.
        history: the last values that were measured, newest last (at most 10, unless asked for otherwise).
        trend: where they are going, by the last ten.
        long_trend: where they have been going slowly, by the last thirty.
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
    """Columns that are metrics: those of the table, then the user's own."""
    return [name for name in schema if name not in NOT_METRICS]


def take_snapshot(
    updates: pl.LazyFrame, length: int = HISTORY_LENGTH, *, thresholds: Thresholds = DEFAULT_THRESHOLDS
) -> Snapshot:
    """State after the last row of `updates`, with histories of up to `length` values, levels by `thresholds`."""
    with_ratio = updates.with_columns(loss_ratio())
    names = metric_names(with_ratio.collect_schema())
    found = histories(with_ratio, names, max(length, LONG.length))
    levels = levels_of({name: as_number(values[-1]) for name, values in found.items() if values}, found, thresholds)
    metrics = {name: state_of(name, values, levels[name], length) for name, values in found.items()}
    last = metrics["update"].last
    return Snapshot(int(last) if isinstance(last, int) else None, metrics)


def state_of(name: str, values: list[Value], level: Level, length: int = HISTORY_LENGTH) -> MetricState:
    """State of a metric whose last 30 measured values (or more) are these, newest last, with a history of `length`."""
    numbers = [as_number(value) for value in values]
    rule = name if name != LOSS_RATIO else ""  # Lv/Lp has the trend rule of a metric that the table does not know
    return MetricState(
        last=values[-1] if values else None,
        history=values[-length:],
        trend=trend_of(rule, numbers),
        long_trend=long_trend_of(rule, numbers),
        level=level,
    )


def updates_per_sec(newest: pl.DataFrame) -> float | None:
    """Speed over the last 50 of these rows, of the last one's attempt; None if there is no telling."""
    if newest.height < 2:
        return None
    attempts, elapsed = (newest[name].tail(50).to_list() for name in ("attempt", "elapsed_secs"))
    pairs = zip(attempts, elapsed, strict=True)
    secs = [one for attempt, one in pairs if attempt == attempts[-1] and one is not None]
    span = secs[-1] - secs[0] if len(secs) > 1 else 0.0
    return (len(secs) - 1) / span if span > 0.0 else None


def as_number(value: Value) -> float | None:
    """A value as float; a time in seconds since 1970."""
    if value is None:
        return None
    return value.timestamp() if isinstance(value, datetime) else float(value)
