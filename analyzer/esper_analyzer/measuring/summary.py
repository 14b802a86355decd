"""Summarises metrics over a whole run: extremes, averages and shares of the levels of health; in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl
from polars import selectors

from esper_analyzer.measuring.whole import Whole, column, whole_of
from esper_analyzer.reading.current_rows import Stretch
from esper_schemas.metric.catalogue import LOSS_RATIO
from esper_schemas.metric.metrics import HISTORY_LENGTH
from esper_schemas.metric.severity import DEFAULT_THRESHOLDS, Thresholds
from esper_schemas.segment.column_state import At, ColumnState

Value = float | int | bool | datetime | None
"""A recorded value as a Python object; None if nothing was measured."""

_MEDIANS_AT_ONCE = 8  # a median needs its whole column in memory
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RECENT_ROWS = 512  # these newest rows have the last values of nearly every metric


@dataclass(frozen=True, slots=True)
class Summary:
    """One metric over all updates of a view; every field except the counts is None if nothing was measured.

    Attributes:
        measured: number of updates that have a value.
        nonfinite: number of values that are NaN or infinite.
        total: exact sum of integers and booleans; None for other types.
        min, max, mean, median: over the finite values; True counts as 1 and False as 0.
        median_is_approximate: whether the median is that of a t-digest, whose rank is right to about 2 %.
        healthy, warning, critical: share of each level among the values whose level is known.
        worst, worst_update: the most extreme value of the worst level, and its update; of equal ones the first.
    """

    measured: int = 0
    nonfinite: int = 0
    total: int | None = None
    min: Value = None
    max: Value = None
    mean: float | None = None
    median: float | None = None
    median_is_approximate: bool = False
    healthy: float | None = None
    warning: float | None = None
    critical: float | None = None
    worst: Value = None
    worst_update: int | None = None


def summarise(
    stretches: Sequence[Stretch],
    rows: pl.LazyFrame,
    names: Sequence[str],
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    whole: Whole | None = None,
) -> dict[str, Summary]:
    """Summarise metrics of some rows.

    The numbers come from the column states that were stored at sealing, or else from the rows, and are the same.

    Args:
        stretches: the segments that have the rows, of one rank after another.
        rows: the rows, with `loss_ratio`, for exact medians.
        names: the metrics; `loss_ratio` may be one of them.
        thresholds: thresholds for the levels and the worst value.
        whole: what `whole_of` returned for all this; by default it is asked for.
    """
    types = rows.collect_schema()
    if whole is None:
        schema = pl.Schema({name: dtype for name, dtype in types.items() if name != LOSS_RATIO})
        whole = whole_of(stretches, schema, names, thresholds)
    found, inexact = whole.states, whole.medians
    left = {name: one for name, one in found.items() if name not in inexact}
    medians = {**inexact, **_exact_medians(rows, left, types)}
    return {
        name: _summary(found[name], types[name], medians.get(name), name in inexact) if name in found else Summary()
        for name in names
    }


def _exact_medians(rows: pl.LazyFrame, states: Mapping[str, ColumnState], types: pl.Schema) -> dict[str, float]:
    """The medians of columns that need no digest, or have none."""
    found: dict[str, float] = {}
    from_rows = []
    for name, state in states.items():
        if types[name].is_temporal() or state.mean is None or state.smallest is None:
            continue
        if state.is_constant:
            found[name] = float(state.smallest[0])
        elif types[name] == pl.Boolean:
            found[name] = 0.5 * ((2 * (state.total or 0) >= state.finite) + (2 * (state.total or 0) > state.finite))
        else:
            from_rows.append(name)
    for start in range(0, len(from_rows), _MEDIANS_AT_ONCE):
        batch = from_rows[start : start + _MEDIANS_AT_ONCE]
        found |= rows.select(_finite(name, types[name]).median() for name in batch).collect().row(0, named=True)
    return found


def histories(
    updates: pl.LazyFrame,
    names: Iterable[str],
    length: int = HISTORY_LENGTH,
    summaries: Mapping[str, Summary] | None = None,
) -> dict[str, list[Value]]:
    """Return the last `length` values of each named column that are not null, newest last.

    Args:
        updates: rows with those columns.
        names: the columns.
        length: how many values.
        summaries: of the columns of these rows, if they are known: no row is searched for more values than there are.
    """
    names = list(names)
    there = {name: length if summaries is None else min(length, summaries[name].measured) for name in names}
    updates = updates.select(map(column, names)).with_columns(in_calendar(selectors.temporal()))
    recent = updates.tail(_RECENT_ROWS).collect()
    found = {name: _known(recent[name]).tail(length).to_list() for name in names}
    sparse = [name for name in names if len(found[name]) < there[name]]
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
    found = {name: _known(last[name]) for name in names}
    return {name: values[-1] if len(values) else None for name, values in found.items()}


def _known(values: pl.Series) -> pl.Series:
    """Return the values that are not null; most columns have only such, or none, and need no query."""
    unknown = values.null_count()
    if unknown in (0, len(values)):
        return values.head(len(values) - unknown)
    return values.alias("values").drop_nulls()  # the query selects it by its name, which must not be a pattern


def in_calendar(time: pl.Expr) -> pl.Expr:
    """Return a time, or null outside the years 1 to 9999, which Python cannot hold; any 64 bits may be recorded."""
    first, last = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
    return pl.when(time.is_between(first, last)).then(time)


def _finite(name: str, dtype: pl.DataType) -> pl.Expr:
    value = column(name).cast(pl.Float64)
    return pl.when(value.is_finite()).then(value).alias(name) if dtype.is_float() else value


def _summary(state: ColumnState, dtype: pl.DataType, median: float | None, is_inexact: bool) -> Summary:
    known = sum(state.levels) if state.levels is not None else 0
    shares = [count / known for count in state.levels] if state.levels is not None and known else [None] * 3
    return Summary(
        measured=state.measured,
        nonfinite=state.measured - state.finite,
        total=state.total,
        min=_in_type(state.smallest, dtype),
        max=_in_type(state.largest, dtype),
        mean=state.mean,
        median=median,
        median_is_approximate=is_inexact,
        healthy=shares[0],
        warning=shares[1],
        critical=shares[2],
        worst=state.worst.value if state.worst else None,
        worst_update=state.worst.update if state.worst else None,
    )


def _in_type(at: At | None, dtype: pl.DataType) -> Value:
    if at is None:
        return None
    return _EPOCH + timedelta(microseconds=at[0]) if dtype.is_temporal() else at[0]
