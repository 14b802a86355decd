"""Alerts: the updates at which a metric entered a worse level than it had the update before."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from esper_analyzer.health import LEVELS, LOSS_RATIO, bands_of, severity
from esper_analyzer.verdict import WARM_UP_UPDATES
from esper_schemas.metrics import COMPARISONS, Bands, Level
from esper_schemas.payload import METRICS

MAX_ALERTS = 100
"""The newest this many alerts are kept."""


@dataclass(frozen=True, slots=True)
class Alert:
    """A metric entered a worse level.

    Attributes:
        update: where it did.
        metric: which one; `update` where updates are missing before this one.
        level: the level that it entered.
        value: the metric's value; the number of missing updates for `update`.
        message: one line with the value and the threshold that it crossed.
    """

    update: int
    metric: str
    level: Level
    value: float
    message: str


def find_alerts(updates: pl.LazyFrame, names: Iterable[str], missing: Sequence[tuple[int, int]] = ()) -> list[Alert]:
    """The newest alerts of a run, the newest last.

    Thresholds apply after the first 10 updates; a value that is not finite counts from the first one on.
    Lv/Lp gives no alerts, since it is beyond its thresholds in sound runs too.

    Args:
        updates: rows in order.
        names: metrics to look at: those that have been beyond a threshold at all.
        missing: ranges of missing updates.
    """
    found = [_gap(first, last) for first, last in missing[-MAX_ALERTS:]]
    for name in names:
        if name == LOSS_RATIO or bands_of(name) is None:
            continue
        for update, value, level in entries(updates, name).tail(MAX_ALERTS).collect().iter_rows():
            found.append(Alert(update, name, LEVELS[level + 1], float(value), describe(name, float(value), level)))
    order = list(METRICS)
    found.sort(key=lambda alert: (alert.update, order.index(alert.metric)))
    return found[-MAX_ALERTS:]


def entries(updates: pl.LazyFrame, name: str) -> pl.LazyFrame:
    """Rows (`update`, `value`, `severity`) at which a metric entered a worse level than its value before."""
    bands = bands_of(name)
    others = [bands.only_if.low, bands.only_if.high] if bands and bands.only_if else []
    value = pl.col(name).cast(pl.Float64)
    rows = updates.select("update", name, *others).with_row_index("row")
    rows = rows.filter(pl.col(name).is_not_null()).select("row", "update", value=value, severity=_counted(name))
    before = pl.col("severity").shift(1).fill_null(0)
    entered = (pl.col("severity") > before) & (pl.col("severity") > 0)
    in_force = (pl.col("row") >= WARM_UP_UPDATES) | ~pl.col("value").is_finite()
    return rows.filter(entered & in_force).select("update", "value", "severity")


def _counted(name: str) -> pl.Expr:
    """Severity of each value; three skipped updates in a row are critical."""
    if name != "skipped":
        return severity(name).fill_null(0)
    skipped = pl.col(name).cast(pl.Int8)
    in_a_row = skipped + skipped.shift(1).fill_null(0) + skipped.shift(2).fill_null(0)
    return pl.when(in_a_row == 3).then(2).otherwise(skipped).cast(pl.Int8)


def describe(name: str, value: float, severity: int) -> str:
    """One line on a metric's value: which threshold it crossed."""
    if name == "skipped":
        return "the third update in a row was skipped" if severity == 2 else "the update was skipped"
    if not math.isfinite(value):
        return f"{name} is {'NaN' if math.isnan(value) else value}"
    limit = _limit(bands_of(name), value, severity)
    return f"{name} {value:.4g} is {LEVELS[severity + 1]}{f' ({limit})' if limit else ''}"


def _limit(bands: Bands | None, value: float, severity: int) -> str:
    limits = () if bands is None else bands.critical if severity == 2 else bands.warning
    return next((str(limit) for limit in limits if COMPARISONS[limit.comparison](value, limit.bound)), "")


def _gap(first: int, last: int) -> Alert:
    count = last - first + 1
    what = f"update {first} is missing" if count == 1 else f"updates {first} to {last} are missing"
    return Alert(last + 1, "update", "warning", float(count), what)
