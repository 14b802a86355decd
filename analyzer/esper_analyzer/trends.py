"""The trend of a metric: has the newer half of its last ten values moved against the older half?

The label follows one plain rule; beside it stand the signed change and how far it rises out of the noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Literal

import numpy as np
import polars as pl

from esper_schemas.metrics import DEFAULT_TREND_THRESHOLD, HISTORY_LENGTH, Direction, Metric
from esper_schemas.payload import METRICS

TrendLabel = Literal["improving", "stable", "declining", "shifting", "broken", "unknown"]

MIN_VALUES = 6
"""A trend needs at least this many values."""

TOLERANCE = 1e-9
"""The threshold is inclusive: 1.0 → 1.2 is 0.1999…96 in floats, and counts as 20 %."""

ZERO_MEAN_THRESHOLD = 0.01
"""Where the older mean is 0, the absolute difference is held against this."""


@dataclass(frozen=True, slots=True)
class Trend:
    """Where a metric is going.

    Attributes:
        label: `improving`, `declining` or, where neither direction is good, `shifting`; `stable` below the
            threshold; `broken` if a value of the window is not finite; `unknown` with fewer than 6 values.
        change: signed fraction by which the mean of the newer half differs from that of the older half; the
            absolute difference where the older mean is 0; None if broken or unknown.
        confidence: 1 − p of an exact permutation test on the difference of the two means: the share of all ways
            to split the window into halves whose means differ by less. At most 0.992 for 10 values; None as
            `change`. It assumes that values do not depend on their order when there is no trend.
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
    """Trend of the last ten values that are there; nulls are skipped.

    Args:
        values: values in the order of the updates, newest last.
        threshold: relative change that counts as a trend (inclusive); None where a trend means nothing.
        better: direction that is an improvement; None where neither is.
    """
    if threshold is None:
        return UNKNOWN
    window = [float(value) for value in values if value is not None][-HISTORY_LENGTH:]
    if len(window) < MIN_VALUES:
        return UNKNOWN
    if not all(map(math.isfinite, window)):
        return Trend("broken")
    half = len(window) // 2
    older, newer = window[-2 * half : -half], window[-half:]  # of an odd number the oldest is left out
    older_mean, newer_mean = _mean(older), _mean(newer)
    if older_mean == 0.0:
        change, threshold = newer_mean, ZERO_MEAN_THRESHOLD
    else:
        change = newer_mean / abs(older_mean) - math.copysign(1.0, older_mean)
    return Trend(_label(change, threshold, better), change, _confidence(older + newer))


def trend_of(metric: str | Metric, values: Iterable[float | None] | pl.Series) -> Trend:
    """Trend of a metric's values by its own threshold and direction; a name not in the table has the defaults."""
    known = metric if isinstance(metric, Metric) else METRICS.get(metric)
    if known is None:
        return trend(values)
    return trend(values, threshold=known.trend_threshold, better=known.better)


def _label(change: float, threshold: float, better: Direction | None) -> TrendLabel:
    if abs(change) < threshold - TOLERANCE:
        return "stable"
    if better is None:
        return "shifting"
    return "improving" if (change < 0) == (better == "lower") else "declining"


def _mean(values: list[float]) -> float:
    try:
        return math.fsum(values) / len(values)
    except OverflowError:
        return math.fsum(value / len(values) for value in values)


def _confidence(window: list[float]) -> float:
    """Share of all splits into halves whose means differ by less than those of the split as it is."""
    scale = max(map(abs, window))
    if scale == 0.0:
        return 0.0
    splits = _splits(len(window))
    differences = np.abs(splits @ (np.asarray(window) / scale))
    observed = differences[0] - 1e-12 * len(window)  # equal differences may come out apart by rounding
    return float(np.mean(differences < observed))


@cache
def _splits(count: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Every way to split `count` values into two halves, as rows of −1 and 1; first the one as it is."""
    half = count // 2
    rows = np.ones((math.comb(count, half), count))
    for row, older in zip(rows, combinations(range(count), half), strict=True):
        row[list(older)] = -1.0
    return rows
