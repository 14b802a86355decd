"""Summarises metrics over a whole run: extremes, averages and shares of the levels of health; lazily, in one pass."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl
from polars import selectors

from esper_analyzer.measuring.levels import DEFAULT_THRESHOLDS, Thresholds, badness, bands_of, severity
from esper_schemas.metric.metrics import HISTORY_LENGTH

Value = float | int | bool | datetime | None
"""A recorded value as a Python object; None if nothing was measured."""

_MEDIANS_AT_ONCE = 8  # a median needs its whole column in memory
_RECENT_ROWS = 512  # these newest rows have the last values of nearly every metric


@dataclass(frozen=True, slots=True)
class Summary:
    """One metric over all updates of a view; every field except the counts is None if nothing was measured.

    Attributes:
        measured: number of updates that have a value.
        nonfinite: number of values that are NaN or infinite.
        min, max, mean, median: over the finite values; True counts as 1 and False as 0.
        healthy, warning, critical: share of each level among the values whose level is known.
        worst, worst_update: the most extreme value of the worst level, and its update.
    """

    measured: int = 0
    nonfinite: int = 0
    min: Value = None
    max: Value = None
    mean: float | None = None
    median: float | None = None
    healthy: float | None = None
    warning: float | None = None
    critical: float | None = None
    worst: Value = None
    worst_update: int | None = None


def summarise(
    updates: pl.LazyFrame, names: Iterable[str], thresholds: Thresholds = DEFAULT_THRESHOLDS
) -> dict[str, Summary]:
    """Summarise each named column.

    Args:
        updates: rows with those columns, and `update`.
        names: columns to summarise; everything except medians takes one pass and bounded memory.
        thresholds: thresholds for the levels and the worst value.
    """
    types = updates.collect_schema()
    names = list(names)
    aggregates: list[pl.Expr] = []
    for name in names:
        aggregates += [expr.alias(f"{name}/{key}") for key, expr in _aggregates(name, types[name], thresholds).items()]
    found = updates.select(aggregates).collect(engine="streaming").row(0, named=True)
    measured = [name for name in names if found[f"{name}/measured"] and not types[name].is_temporal()]
    medians: dict[str, float | None] = {}
    for start in range(0, len(measured), _MEDIANS_AT_ONCE):
        batch = measured[start : start + _MEDIANS_AT_ONCE]
        medians |= updates.select(_finite(name, types[name]).median() for name in batch).collect().row(0, named=True)
    return {name: _summary(name, found, medians.get(name)) for name in names}


def histories(updates: pl.LazyFrame, names: Iterable[str], length: int = HISTORY_LENGTH) -> dict[str, list[Value]]:
    """Return the last `length` values of each named column that are not null, newest last."""
    names = list(names)
    updates = updates.select(map(column, names)).with_columns(in_calendar(selectors.temporal()))
    recent = updates.tail(_RECENT_ROWS).collect()
    # Methods of a series select it by its name, which must not be a pattern.
    found = {name: recent[name].alias("values").drop_nulls().tail(length).to_list() for name in names}
    sparse = [name for name in names if len(found[name]) < length]
    if recent.height == _RECENT_ROWS and sparse:
        rest = updates.select(column(name).drop_nulls().tail(length).implode() for name in sparse).collect()
        found |= {name: rest[name][0].to_list() for name in sparse}
    return found


def newest_values(updates: pl.LazyFrame, names: Iterable[str]) -> dict[str, Value]:
    """Return the value of each named column in the last update; None where it was not measured in it.

    Args:
        updates: rows with those columns and `update`, in order of updates, at most one of each rank.
        names: the columns.
    """
    names = list(names)
    columns = dict.fromkeys(["update", *names])
    recent = updates.select(map(column, columns)).with_columns(in_calendar(selectors.temporal())).tail(_RECENT_ROWS)
    last = recent.filter(pl.col("update") == pl.col("update").last()).collect()
    found = {name: last[name].alias("values").drop_nulls() for name in names}
    return {name: values[-1] if len(values) else None for name, values in found.items()}


def column(name: str) -> pl.Expr:
    """Select a column by its exact name, even if that is "*" or looks like a pattern."""
    return selectors.by_name(name).as_expr()


def in_calendar(time: pl.Expr) -> pl.Expr:
    """Return a time, or null outside the years 1 to 9999, which Python cannot hold; any 64 bits may be recorded."""
    first, last = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
    return pl.when(time.is_between(first, last)).then(time)


def _aggregates(name: str, dtype: pl.DataType, thresholds: Thresholds) -> dict[str, pl.Expr]:
    value = column(name)
    if dtype.is_temporal():
        return {"measured": value.count(), "min": in_calendar(value).min(), "max": in_calendar(value).max()}
    finite = _finite(name, dtype)
    aggregates = {
        "measured": value.count(),
        "finite": finite.count(),
        "min": finite.min() if dtype.is_float() else value.min(),
        "max": finite.max() if dtype.is_float() else value.max(),
        "mean": finite.mean(),
    }
    if bands_of(name, thresholds) is not None:
        rank, key = severity(name, thresholds), badness(name, thresholds)
        aggregates |= {f"level {number}": (rank == number).sum() for number in range(3)}
        aggregates["worst"] = pl.struct(value.alias("value"), "update").max_by(key)
        aggregates["badness"] = key.max()
    return aggregates


def _finite(name: str, dtype: pl.DataType) -> pl.Expr:
    value = column(name).cast(pl.Float64)
    return pl.when(value.is_finite()).then(value).alias(name) if dtype.is_float() else value


def _summary(name: str, found: dict[str, Any], median: float | None) -> Summary:
    def get(key: str) -> Any:
        return found.get(f"{name}/{key}")

    measured = get("measured")
    levels = [get(f"level {number}") or 0 for number in range(3)]
    known = sum(levels)
    shares = [count / known for count in levels] if known else [None] * 3
    worst = get("worst") if get("badness") is not None else None
    return Summary(
        measured=measured,
        nonfinite=measured - get("finite") if get("finite") is not None else 0,
        min=get("min"),
        max=get("max"),
        mean=get("mean"),
        median=median,
        healthy=shares[0],
        warning=shares[1],
        critical=shares[2],
        worst=worst["value"] if worst else None,
        worst_update=worst["update"] if worst else None,
    )
