from __future__ import annotations

import math
import random
from datetime import UTC, datetime

import polars as pl
import pytest

from esper_analyzer import trend, trend_of
from esper_schemas import METRICS

NAN, INF = math.nan, math.inf


def halves(older: float, newer: float, count: int = 5) -> list[float | None]:
    """A window whose two halves are constant."""
    return [*[older] * count, *[newer] * count]


@pytest.mark.parametrize(
    ("values", "label", "change"),
    [
        (halves(1.0, 0.8), "improving", -0.2),
        (halves(1.0, 1.2), "declining", 0.2),
        (halves(1.0, 0.8 + 2e-9), "stable", -0.2),
        (halves(1.0, 1.2 - 2e-9), "stable", 0.2),
        (halves(1.0, 1.2 - 5e-10), "declining", 0.2),
        (halves(-1.0, -0.8), "declining", 0.2),
        (halves(-1.0, -1.2), "improving", -0.2),
        (halves(0.0, 0.01), "declining", 0.01),
        (halves(0.0, -0.01), "improving", -0.01),
        (halves(0.0, 0.00999), "stable", 0.00999),
        (halves(1.0, 1.2, 3), "declining", 0.2),
        ([1.0] * 5, "unknown", None),
        ([], "unknown", None),
        ([None] * 20, "unknown", None),
        ([1.0] * 9 + [NAN], "broken", None),
        ([1.0] * 9 + [INF], "broken", None),
        ([NAN] + [1.0] * 10, "stable", 0.0),
        ([99.0, *halves(1.0, 1.2, 3)], "declining", 0.2),
        ([99.0] * 7 + halves(1.0, 1.2), "declining", 0.2),
        ([1.0, None, 1.0, None, 1.0, None, 1.2, None, 1.2, None, 1.2], "declining", 0.2),
    ],
)
def test_the_rule_of_twenty_percent(values: list[float | None], label: str, change: float | None) -> None:
    """The newer half of the last ten values against the older one, bounds included, nulls skipped."""
    found = trend_of("value_loss", values)
    assert found.label == label
    assert found.change == pytest.approx(change, abs=1e-8)
    assert (found.confidence is None) == (change is None)


@pytest.mark.parametrize("metric", [metric for metric in METRICS.values() if metric.trend_threshold is not None])
@pytest.mark.parametrize("sign", [1, -1])
def test_each_metric_has_its_own_threshold_and_direction(metric: object, sign: int) -> None:
    """At its threshold a metric gets better, gets worse or shifts; a little below it is stable."""
    metric = METRICS[metric.name]  # type: ignore[attr-defined]
    threshold = metric.trend_threshold
    assert threshold is not None
    rises = "shifting" if metric.better is None else "improving" if metric.better == "higher" else "declining"
    falls = "shifting" if metric.better is None else "improving" if metric.better == "lower" else "declining"
    assert trend_of(metric, halves(1.0, 1.0 + sign * threshold)).label == (rises if sign > 0 else falls)
    assert trend_of(metric, halves(1.0, 1.0 + sign * (threshold - 1e-6))).label == "stable"


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.trend_threshold is None])
def test_a_trend_that_means_nothing_is_unknown(name: str) -> None:
    """Counters, settings and times have no trend."""
    value = datetime(2026, 1, 1, tzinfo=UTC) if name == "wall_time" else 1.0
    assert trend_of(name, [value] * 10).label == "unknown"  # type: ignore[list-item]


def test_a_metric_of_the_user_shifts() -> None:
    """Of a metric that is not in the table nobody knows which direction is good."""
    assert trend_of("mine", halves(1.0, 2.0)).label == "shifting"
    assert trend(pl.Series([1.0] * 5 + [2.0] * 5)).label == "shifting"


@pytest.mark.parametrize("value", [1e308, 5e-324, -1e308])
def test_extreme_values_do_not_overflow(value: float) -> None:
    """The mean of the largest floats is finite, and equal halves are stable."""
    assert trend_of("value_loss", [value] * 10).label == "stable"
    assert trend_of("value_loss", halves(value, -value)).label != "stable"


def test_the_confidence_tells_a_step_from_noise() -> None:
    """A clean step is as sure as ten values can be; label and all, noise is not."""
    assert trend_of("value_loss", halves(1.0, 2.0)).confidence == pytest.approx(1 - 2 / 252)
    assert trend_of("value_loss", [1.0] * 10).confidence == 0.0
    source = random.Random(0)
    sure = [trend_of("value_loss", [source.lognormvariate(0.0, 0.5) for _ in range(10)]) for _ in range(400)]
    assert sum((found.confidence or 0.0) >= 0.95 for found in sure) < 0.1 * len(sure)
    assert sum(found.label != "stable" for found in sure) > 0.4 * len(sure)
