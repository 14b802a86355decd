"""The trends of a metric: a short one that compares the halves of its last ten values, and a slow one over thirty.

Each trend has a `confidence` that there is a trend at all, by the test of the module `drift`. A confidence of at least
`CONFIDENT` (0.95) in either window happens by chance in at most 5 % of rows, even in autocorrelated noise.

Each function on values has a counterpart among the expressions. For every row of a frame, the expression returns what
the function returns for the values up to that row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np
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

if TYPE_CHECKING:
    import numpy.typing as npt

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
"""New rows need this many earlier rows with a value in front of them to get the same results as in the whole run."""

TOLERANCE = 1e-9
"""The threshold is inclusive: 1.0 → 1.2 is 0.1999…96 in floats, and counts as 20 %."""

ZERO_MEAN_THRESHOLD = 0.01
"""If the older mean is 0, this is the threshold of the absolute difference."""

_BLOCK = 8192  # windows processed at once, so that they stay in the cache
_ROUNDING = 1e-15


@dataclass(frozen=True, slots=True)
class Trend:
    """The direction of a metric.

    Attributes:
        label: `improving`, `declining` or, if neither direction is better, `shifting`; `stable` below the
            threshold, and for the long window also if the trend is not confident; `broken` if a value of the
            window is not finite; `unknown` with too few values.
        change: a signed fraction. Short: the relative change from the mean of the older half to that of the newer half,
            or the absolute difference if the older mean is 0. Long: the change from one end of the fitted line to the
            other. None if broken or unknown.
        confidence: 1 − p of a test that the mean moves with time, from 0 to 0.999 (short: to 0.995); None as `change`.
            From `CONFIDENT` on there is a trend, whatever the label is; below it, the label may be noise.
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
    """Return the trend of the last ten values, or of at least six; nulls are skipped.

    Args:
        values: values in the order of the updates, newest last.
        threshold: relative change that counts as a trend (inclusive); None if a trend is meaningless.
        better: direction that is an improvement; None if neither is.
    """
    return _trend(values, SHORT, threshold, better)


def long_trend(
    values: Iterable[float | None] | pl.Series,
    *,
    threshold: float | None = DEFAULT_TREND_THRESHOLD,
    better: Direction | None = None,
) -> Trend:
    """Return the slow trend of the last thirty values, or of at least fifteen; nulls are skipped.

    A line is fitted (least squares) to the values, clipped to the median ± 5 robust standard deviations. If all values
    are positive, it is fitted to their logarithms, and `change` is the growth over the window; otherwise `change` is
    the rise of the line relative to the mean size of the values. The trend counts if `change` reaches the threshold
    *and* is confident.

    Args:
        values, threshold, better: as for `trend`.
    """
    return _trend(values, LONG, threshold, better)


def trend_of(metric: str | Metric, values: Iterable[float | None] | pl.Series) -> Trend:
    """Return the trend of a metric's values by its own threshold and direction, or the defaults if not in the table."""
    return trend(values, **_rule(metric))


def long_trend_of(metric: str | Metric, values: Iterable[float | None] | pl.Series) -> Trend:
    """As `trend_of`, for the slow trend."""
    return long_trend(values, **_rule(metric))


def trend_change(metric: str | Metric) -> pl.Expr:
    """`change` of `trend` as of each row (Float64, column `{name}_trend_change`); null where that is None.

    This expression and the next ones never look ahead. A null is skipped: its row repeats the result of the last row
    with a value. NaN and infinities break the trend while they are in the window. The expressions need the whole
    column: new rows get the same results as in the whole run if `CONTEXT_ROWS` rows with a value precede them.
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
    """All four signals of several metrics at once, as fields of a struct `trends` named like the single columns.

    Unpack it with `frame.select(trend_signals(…)).unnest("trends")`. One evaluation for all metrics costs a fraction
    of one for each. It is meant for a live run, where rows arrive one at a time.

    Args:
        metrics: names of columns.
        rows: evaluate only this many rows at the end, with null in the rows before; None for all rows.
    """
    return _signals(metrics, list(_SIGNALS), rows)


def trend_signals_now(histories: Sequence[Sequence[float]]) -> dict[str, Floats]:
    """Return the four signals of several metrics as of their last values: the fastest way for a live run.

    Args:
        histories: the last values of each metric without nulls, newest last; only the last thirty count.

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
    """Return the changes of windows, with NaN for None, and which of them are absolute differences."""
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
    """Return, by number of values, the places of the older and the newer half of a short window (1.0, else 0.0)."""
    places, half = np.arange(SHORT.length), np.arange(SHORT.length + 1)[:, None] // 2
    newer = places >= SHORT.length - half
    older = (places >= SHORT.length - 2 * half) & ~newer  # an odd number leaves out the oldest value
    return older.astype(np.float64), newer.astype(np.float64)


@cache
def _line() -> Floats:
    """Return, by number of values, the weights for the rise of their least-squares line over the window."""
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
    """Return one signal of one metric as a column, or several as a struct."""
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
    """Return, for each signal and each column, the signal as of each of the last rows, null before."""
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
    """Return the values at their rows, the last of all `rows`; NaN before."""
    if len(place) == rows:
        return values[place]
    found = np.full(rows, np.nan)
    found[rows - len(place) :] = values[place]
    return found


def _windows(values: Floats, start: int, end: int, length: int) -> Floats:
    """Return the windows that end with values start to end − 1; short ones are padded with the oldest value."""
    missing = length - 1 - start
    span = values[max(-missing, 0) : end]
    if missing > 0:
        span = np.concatenate([np.repeat(values[:1], missing), span])
    return span[None] if len(span) == length else sliding_window_view(span, length)
