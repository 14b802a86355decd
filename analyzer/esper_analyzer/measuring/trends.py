"""The trend of a metric: over its last ten values by the plain rule of two halves, and slowly, over its last thirty.

Beside each stands how sure it is that there is one at all: `confidence`, by the test of the module `drift`. At least
`CONFIDENT` (0.95) in either window happens by chance in at most 5 % of rows, also where noise has a memory.

Each function on values has its likes among the expressions, which give for every row of a frame what the function says
of the values up to that row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Literal, TypedDict

import numpy as np
import numpy.typing as npt
import polars as pl
from numpy.lib.stride_tricks import sliding_window_view

from esper_analyzer.measuring.drift import (
    CONFIDENT,
    LONG,
    SHORT,
    Counts,
    Floats,
    Window,
    clipped,
    confidence,
    inside,
    logarithms,
    powers_of_two,
)
from esper_schemas.metric.metrics import DEFAULT_TREND_THRESHOLD, Direction, Metric
from esper_schemas.metric.payload import METRICS

__all__ = [
    "CONFIDENT",
    "CONTEXT_ROWS",
    "Trend",
    "TrendLabel",
    "long_trend",
    "long_trend_change",
    "long_trend_confidence",
    "long_trend_of",
    "trend",
    "trend_change",
    "trend_confidence",
    "trend_of",
    "trend_signals",
    "trend_signals_now",
]

TrendLabel = Literal["improving", "stable", "declining", "shifting", "broken", "unknown"]

CONTEXT_ROWS = LONG.length - 1
"""Rows with a value that must stand in front of new rows, for these to come out as in the whole run."""

TOLERANCE = 1e-9
"""The threshold is inclusive: 1.0 → 1.2 is 0.1999…96 in floats, and counts as 20 %."""

ZERO_MEAN_THRESHOLD = 0.01
"""Where the older mean is 0, the absolute difference is held against this."""

_BLOCK = 8192  # windows worked on at once: they stay in the cache
_ROUNDING = 1e-15


@dataclass(frozen=True, slots=True)
class Trend:
    """Where a metric is going.

    Attributes:
        label: `improving`, `declining` or, where neither direction is good, `shifting`; `stable` below the
            threshold, and for the long window also where the trend is not confident; `broken` if a value of the
            window is not finite; `unknown` with too few values.
        change: signed fraction. Short: by which the mean of the newer half differs from that of the older half, the
            absolute difference where the older mean is 0. Long: from one end of the fitted line to the other. None if
            broken or unknown.
        confidence: 1 − p of a test that the mean moves with time, from 0 to 0.999 (short: to 0.995); None as `change`.
            From `CONFIDENT` on there is a trend, whatever the label says; below, the label may be noise.
    """

    label: TrendLabel
    change: float | None = None
    confidence: float | None = None


UNKNOWN = Trend("unknown")


def trend(
    values: Iterable[float | None] | pl.Series,
    *,
    threshold: float | None = DEFAULT_TREND_THRESHOLD,
    better: Direction | None = None,
) -> Trend:
    """Trend of the last ten values that are there, of at least six; nulls are skipped.

    Args:
        values: values in the order of the updates, newest last.
        threshold: relative change that counts as a trend (inclusive); None where a trend means nothing.
        better: direction that is an improvement; None where neither is.
    """
    return _trend(values, SHORT, threshold, better)


def long_trend(
    values: Iterable[float | None] | pl.Series,
    *,
    threshold: float | None = DEFAULT_TREND_THRESHOLD,
    better: Direction | None = None,
) -> Trend:
    """Slow trend over the last thirty values that are there, of at least fifteen; nulls are skipped.

    A line is fitted (least squares) to the values clipped to the median ± 5 robust standard deviations: to their
    logarithms if all are positive, so that `change` is the growth over the window; else `change` is the rise of the
    line relative to the mean size of the values. It counts if it reaches the threshold *and* is confident.

    Args:
        values, threshold, better: as for `trend`.
    """
    return _trend(values, LONG, threshold, better)


def trend_of(metric: str | Metric, values: Iterable[float | None] | pl.Series) -> Trend:
    """Trend of a metric's values by its own threshold and direction; a name not in the table has the defaults."""
    return trend(values, **_rule(metric))


def long_trend_of(metric: str | Metric, values: Iterable[float | None] | pl.Series) -> Trend:
    """Slow trend of a metric's values by its own threshold and direction; a name not in the table has the defaults."""
    return long_trend(values, **_rule(metric))


def trend_change(metric: str | Metric) -> pl.Expr:
    """`change` of `trend` as of each row (Float64, column `{name}_trend_change`); null where that is None.

    This and its likes look back only. A null is skipped: its row says what the last row with a value said. NaN and
    infinities break the trend for as long as they are in the window. The expressions need the column as a whole: of
    new rows they say the same as in the whole run if `CONTEXT_ROWS` rows that have a value stand in front.
    """
    return _signals([metric], ["trend_change"], None)


def trend_confidence(metric: str | Metric) -> pl.Expr:
    """`confidence` of `trend` as of each row (Float64, column `{name}_trend_confidence`); see `trend_change`."""
    return _signals([metric], ["trend_confidence"], None)


def long_trend_change(metric: str | Metric) -> pl.Expr:
    """`change` of `long_trend` as of each row (Float64, column `{name}_long_trend_change`); see `trend_change`."""
    return _signals([metric], ["long_trend_change"], None)


def long_trend_confidence(metric: str | Metric) -> pl.Expr:
    """`confidence` of `long_trend` as of each row (Float64, column `{name}_long_trend_confidence`)."""
    return _signals([metric], ["long_trend_confidence"], None)


def trend_signals(metrics: Sequence[str | Metric], *, rows: int | None = None) -> pl.Expr:
    """All four of several metrics at once, as the fields of a struct `trends`, named like the single columns.

    Take it apart with `frame.select(trend_signals(…)).unnest("trends")`. One evaluation for all costs a fraction of
    one for each: it is meant for a live run, where one row comes at a time.

    Args:
        metrics: names of columns.
        rows: only the last so many rows are looked at, the fields of those before are null; None for all.
    """
    return _signals(metrics, list(_SIGNALS), rows)


def trend_signals_now(histories: Sequence[Sequence[float]]) -> dict[str, Floats]:
    """The four signals of several metrics as of their last values: the shortest way for a live run, without a frame.

    Args:
        histories: of each metric its last values without nulls, newest last; of more than thirty the last thirty count.

    Returns:
        `trend_change`, `trend_confidence`, `long_trend_change`, `long_trend_confidence`, each of shape [metrics]; NaN
        where the expressions are null.
    """
    found = {}
    for signal, (window, evaluate) in _SIGNALS.items():
        lasts = [history[-window.length :] for history in histories]
        counts = np.array([len(last) for last in lasts], np.int64)
        windows = np.empty((len(lasts), window.length))
        for row, last in zip(windows, lasts, strict=True):
            row[: window.length - len(last)] = last[0] if len(last) else np.nan
            row[window.length - len(last) :] = last
        found[signal] = evaluate(windows, counts)
    return found


class _Rule(TypedDict):
    threshold: float | None
    better: Direction | None


def _rule(metric: str | Metric) -> _Rule:
    known = metric if isinstance(metric, Metric) else METRICS.get(metric)
    if known is None:
        return {"threshold": DEFAULT_TREND_THRESHOLD, "better": None}
    return {"threshold": known.trend_threshold, "better": known.better}


def _trend(
    values: Iterable[float | None] | pl.Series, window: Window, threshold: float | None, better: Direction | None
) -> Trend:
    if threshold is None:
        return UNKNOWN
    last = [float(value) for value in values if value is not None][-window.length :]
    if len(last) < window.smallest:
        return UNKNOWN
    windows = np.array([[last[0]] * (window.length - len(last)) + last])
    if not np.isfinite(windows).all():
        return Trend("broken")
    counts = np.array([len(last)])
    changes, absolute = _change(windows, counts, window)
    change, sure = float(changes[0]), float(confidence(windows, counts, window)[0])
    if absolute[0]:
        threshold = ZERO_MEAN_THRESHOLD
    if abs(change) < threshold - TOLERANCE or (window is LONG and sure < CONFIDENT):
        return Trend("stable", change, sure)
    if better is None:
        return Trend("shifting", change, sure)
    return Trend("improving" if (change < 0) == (better == "lower") else "declining", change, sure)


def _change(windows: Floats, counts: Counts, window: Window) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Changes of windows, NaN where None, and which of them are absolute differences."""
    usable = (counts >= window.smallest) & np.isfinite(windows).all(axis=1)
    change, absolute = np.full(len(windows), np.nan), np.zeros(len(windows), bool)
    if usable.any():
        change[usable], absolute[usable] = (_of_halves if window is SHORT else _of_line)(
            windows[usable], counts[usable]
        )
    return change, absolute


def _of_halves(windows: Floats, counts: Counts) -> tuple[Floats, npt.NDArray[np.bool_]]:
    exponents = powers_of_two(windows)
    values = np.ldexp(windows, -exponents)
    half = counts // 2
    older_half, newer_half = (halves[counts] for halves in _halves())
    older = (values * older_half).sum(axis=1) / half
    newer = (values * newer_half).sum(axis=1) / half
    zero = np.abs(older) <= _ROUNDING * (np.abs(values) * older_half).sum(axis=1)
    with np.errstate(over="ignore"):
        relative = newer / np.where(zero, 1.0, np.abs(older)) - np.sign(older)
        return np.where(zero, np.ldexp(newer, exponents[:, 0]), relative), zero


def _of_line(windows: Floats, counts: Counts) -> tuple[Floats, npt.NDArray[np.bool_]]:
    values = clipped(logarithms(windows), counts)
    rise = (values * _line()[counts]).sum(axis=1)
    size = (np.abs(values) * inside(counts, LONG.length)).sum(axis=1) / counts
    with np.errstate(over="ignore"):
        growth = np.expm1(rise)
    relative = rise / np.where(size > 0.0, size, 1.0)
    return np.where(windows.min(axis=1) > 0.0, growth, relative), np.zeros(len(rise), np.bool_)


@cache
def _halves() -> tuple[Floats, Floats]:
    """By the number of values, which places of a short window are the older and the newer half (1.0, else 0.0)."""
    places, half = np.arange(SHORT.length), np.arange(SHORT.length + 1)[:, None] // 2
    newer = places >= SHORT.length - half
    older = (places >= SHORT.length - 2 * half) & ~newer  # of an odd number the oldest value is left out
    return older.astype(np.float64), newer.astype(np.float64)


@cache
def _line() -> Floats:
    """By the number of values, the weights of the rise of their least-squares line from its first to its last value."""
    weights = np.zeros((LONG.length + 1, LONG.length))
    for count in range(LONG.smallest, LONG.length + 1):
        places = np.arange(count) - (count - 1) / 2
        weights[count, -count:] = places * (count - 1) / (places @ places)
    return weights


_SIGNALS: dict[str, tuple[Window, Callable[[Floats, Counts], Floats]]] = {
    "trend_change": (SHORT, lambda windows, counts: _change(windows, counts, SHORT)[0]),
    "trend_confidence": (SHORT, lambda windows, counts: confidence(windows, counts, SHORT)),
    "long_trend_change": (LONG, lambda windows, counts: _change(windows, counts, LONG)[0]),
    "long_trend_confidence": (LONG, lambda windows, counts: confidence(windows, counts, LONG)),
}


def _signals(metrics: Sequence[str | Metric], signals: Sequence[str], rows: int | None) -> pl.Expr:
    """One signal of one metric as a column, or several as a struct."""
    names = [metric.name if isinstance(metric, Metric) else metric for metric in metrics]
    if len(names) == len(signals) == 1:
        column = pl.col(names[0]).cast(pl.Float64)
        single = column.map_batches(lambda values: _as_of_rows([values], signals, rows)[0], return_dtype=pl.Float64)
        return single.alias(f"{names[0]}_{signals[0]}")
    fields = [f"{name}_{signal}" for signal in signals for name in names]

    def several(columns: pl.Series) -> pl.Series:
        found = _as_of_rows(columns.struct.unnest().get_columns(), signals, rows)
        return pl.DataFrame(dict(zip(fields, found, strict=True))).to_struct("trends")

    together = pl.struct(pl.col(names).cast(pl.Float64))
    return together.map_batches(several, return_dtype=pl.Struct(dict.fromkeys(fields, pl.Float64))).alias("trends")


def _as_of_rows(columns: Sequence[pl.Series], signals: Sequence[str], rows: int | None) -> list[pl.Series]:
    """For each signal, for each column: the signal as of each of the last rows, null before."""
    series, places = [], []
    for column in columns:
        values, there = column.to_numpy(), None
        if column.null_count():
            there = column.is_not_null().to_numpy()
            values = values[there]
        place = np.arange(1, len(column) + 1) if there is None else np.cumsum(there)  # of the row's last value, from 1
        series.append(values)
        places.append(place if rows is None else place[max(len(place) - rows, 0) :])
    pieces = []
    for k, (values, place) in enumerate(zip(series, places, strict=True)):
        first = max(int(place[0]) - 1, 0) if len(place) else len(values)
        ends = [*range(first + _BLOCK, len(values), _BLOCK), len(values)]
        pieces += [(k, start, end) for start, end in pairwise([first, *ends]) if start < end]
    few = sum(end - start for _, start, end in pieces) <= _BLOCK  # all at once, else in blocks that stay in the cache
    found = {signal: [np.full(len(values) + 1, np.nan) for values in series] for signal in signals}  # 0: no value yet
    for batch in [pieces] if few and pieces else [[piece] for piece in pieces]:
        indices = np.concatenate([np.arange(start, end) for _, start, end in batch])
        for window in (SHORT, LONG):
            wanted = [signal for signal in signals if _SIGNALS[signal][0] is window]
            if not wanted:
                continue
            windows = np.concatenate([_windows(series[k], start, end, window.length) for k, start, end in batch])
            counts = np.minimum(indices + 1, window.length)
            for signal in wanted:
                result, done = _SIGNALS[signal][1](windows, counts), 0
                for k, start, end in batch:
                    found[signal][k][start + 1 : end + 1] = result[done : done + end - start]
                    done += end - start
    return [
        pl.Series(_at_rows(values, place, len(column)), nan_to_null=True)
        for signal in signals
        for column, values, place in zip(columns, found[signal], places, strict=True)
    ]


def _at_rows(values: Floats, place: Counts, rows: int) -> Floats:
    """Values at their rows, the last of all `rows`; NaN before."""
    if len(place) == rows:
        return values[place]
    found = np.full(rows, np.nan)
    found[rows - len(place) :] = values[place]
    return found


def _windows(values: Floats, start: int, end: int, length: int) -> Floats:
    """The windows that end with values start to end − 1, those at the beginning filled up with the oldest value."""
    missing = length - 1 - start
    span = values[max(-missing, 0) : end]
    if missing > 0:
        span = np.concatenate([np.repeat(values[:1], missing), span])
    return span[None] if len(span) == length else sliding_window_view(span, length)
