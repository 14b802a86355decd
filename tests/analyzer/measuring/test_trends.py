from __future__ import annotations

import math
import random
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal, assert_series_equal

from esper_analyzer.measuring.trends import (
    CONFIDENT,
    CONTEXT_ROWS,
    long_trend,
    long_trend_change,
    long_trend_confidence,
    long_trend_of,
    trend,
    trend_change,
    trend_confidence,
    trend_of,
    trend_signals,
    trend_signals_now,
)
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
    """A clean step is as sure as ten values can be; equal values are not, and noise is not, whatever its label."""
    assert trend_of("value_loss", halves(1.0, 2.0)).confidence == pytest.approx(0.995)
    assert trend_of("value_loss", [1.0] * 10).confidence == 0.0
    source = random.Random(0)
    noise = [trend_of("value_loss", [source.lognormvariate(0.0, 0.5) for _ in range(10)]) for _ in range(400)]
    assert sum((found.confidence or 0.0) >= CONFIDENT for found in noise) < 0.02 * len(noise)
    assert sum(found.label != "stable" for found in noise) > 0.4 * len(noise)


@pytest.mark.parametrize(
    ("values", "label", "change"),
    [
        ([1.03**t for t in range(30)], "declining", 1.03**29 - 1),
        ([9.0, 9.0, *(1.03**-t for t in range(30))], "improving", 1.03**-29 - 1),
        ([1.03**t for t in range(15)], "declining", 1.03**14 - 1),
        ([1.03**t for t in range(14)], "unknown", None),
        ([1.003**t for t in range(30)], "stable", 1.003**29 - 1),
        ([-1.0 - t for t in range(30)], "improving", -29 / 15.5),
        ([NAN, *(1.03**t for t in range(30))], "declining", 1.03**29 - 1),
        ([NAN, *(1.03**t for t in range(29))], "broken", None),
        ([*(1.03**t for t in range(29)), INF], "broken", None),
        ([value for t in range(30) for value in (1.03**t, None)], "declining", 1.03**29 - 1),
        ([0.0] * 30, "stable", 0.0),
        ([1.0, 2.0] * 15, "stable", None),
    ],
)
def test_the_slow_trend(values: list[float | None], label: str, change: float | None) -> None:
    """Growth of the line through the last thirty values, from fifteen on, nulls skipped; a trend if it is sure too."""
    found = long_trend_of("value_loss", values)
    assert found.label == label
    if change is not None:
        assert found.change == pytest.approx(change, rel=1e-9, abs=1e-12)
    assert (found.confidence is None) == (label in ("unknown", "broken"))


def test_the_slow_trend_finds_what_the_short_one_calls_stable() -> None:
    """+3 % per update: the halves of ten values differ by 16 %, which is below 20 %."""
    values = [1.03**t for t in range(40)]
    assert trend_of("value_loss", values).label == "stable"
    assert long_trend_of("value_loss", values).label == "declining"


def test_a_large_change_that_is_not_sure_is_no_slow_trend() -> None:
    """The long label needs both, the change and the confidence."""
    source = random.Random(1)
    found = [long_trend([source.lognormvariate(0.0, 1.0) for _ in range(30)]) for _ in range(200)]
    large = [one for one in found if abs(one.change or 0.0) >= 0.2]
    assert len(large) > 100
    assert all((one.label == "stable") == ((one.confidence or 0.0) < CONFIDENT) for one in large)


def test_the_slow_trend_has_the_metric_s_direction() -> None:
    """Rising is better for explained variance, neither for entropy, and a setting has no trend."""
    values = [1.03**t for t in range(30)]
    assert long_trend_of("explained_variance", values).label == "improving"
    assert long_trend_of("entropy", values).label == "shifting"
    assert long_trend_of("mine", values).label == "shifting"
    assert long_trend_of("learning_rate", values).label == "unknown"


@pytest.mark.parametrize("value", [1e308, 5e-324, -1e308, 1e-300])
def test_the_slow_trend_takes_extreme_values(value: float) -> None:
    """The largest and the smallest floats neither overflow nor vanish."""
    assert long_trend_of("value_loss", [value] * 30).label == "stable"
    assert long_trend_of("value_loss", [value] * 15 + [value / 2] * 15).confidence is not None
    assert long_trend_of("value_loss", [value * (-1) ** t for t in range(30)]).label == "stable"


SIGNALS = {
    "trend_change": (trend_change, trend, "change"),
    "trend_confidence": (trend_confidence, trend, "confidence"),
    "long_trend_change": (long_trend_change, long_trend, "change"),
    "long_trend_confidence": (long_trend_confidence, long_trend, "confidence"),
}


def rough_series(seed: int, rows: int = 160) -> list[float | None]:
    """Random values of either sign, in stretches all positive, with nulls, and NaN and infinities now and then."""
    source = random.Random(seed)
    values: list[float | None] = [source.lognormvariate(0.0, 0.3) for _ in range(rows)]
    values = [None if source.random() < 0.15 * (seed % 3) else value for value in values]
    if seed % 2:
        values[rows // 3] = source.choice([NAN, INF, -INF])
        values[: rows // 5] = [source.gauss(0.0, 1.0) for _ in range(rows // 5)]
    return values


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("seed", range(4))
def test_an_expression_says_of_each_row_what_the_function_says(signal: str, seed: int) -> None:
    """Row by row the same number as of the values up to it, with nulls, NaN and infinities in between."""
    expression, function, attribute = SIGNALS[signal]
    values = rough_series(seed)
    column = pl.DataFrame({"m": values}).select(expression("m")).to_series()
    expected = [getattr(function(values[: row + 1]), attribute) for row in range(len(values))]
    assert any(one is not None for one in expected)
    assert_series_equal(column, pl.Series(f"m_{signal}", expected, pl.Float64), rel_tol=1e-9, abs_tol=1e-12)


def test_all_signals_of_several_metrics_come_at_once() -> None:
    """The struct holds the four columns of each metric, for the rows asked for."""
    frame = pl.DataFrame(
        {"a": rough_series(2), "b": rough_series(3), "c": [None] * 160}, schema_overrides={"c": pl.Int64}
    )
    single = frame.select([expression(name) for expression, _, _ in SIGNALS.values() for name in ("a", "b", "c")])
    assert_frame_equal(frame.select(trend_signals(["a", "b", "c"])).unnest("trends"), single, check_column_order=False)
    last = frame.lazy().select(trend_signals(["a", "b", "c"], rows=5)).unnest("trends").collect()
    assert_frame_equal(last.tail(5), single.tail(5), check_column_order=False)
    assert last.head(155).null_count().row(0) == (155,) * 12


def test_the_signals_of_now_are_those_of_the_last_row() -> None:
    """Without a frame the same numbers come out, for histories of any length."""
    histories = [
        [],
        [1.0],
        *([float(t % 7) + 0.5 for t in range(count)] for count in (6, 14, 15, 29, 30, 80)),
        [NAN] * 40,
    ]
    now = trend_signals_now(histories)
    for k, history in enumerate(histories):
        frame = pl.DataFrame({"m": [None, *history]}, schema={"m": pl.Float64})
        last = frame.select(trend_signals(["m"])).unnest("trends").row(-1)
        assert [now[signal][k] for signal in SIGNALS] == pytest.approx(
            [NAN if value is None else value for value in last], rel=1e-9, nan_ok=True
        )


@pytest.mark.parametrize("new", [1, 7])
def test_new_rows_need_only_their_context(new: int) -> None:
    """With `CONTEXT_ROWS` values in front of them, new rows come out as in the whole run."""
    frame = pl.DataFrame({"m": rough_series(0)})
    whole = frame.select(trend_signals(["m"])).unnest("trends")
    for end in range(CONTEXT_ROWS + new, 160, 13):
        part = frame[end - new - CONTEXT_ROWS : end].select(trend_signals(["m"], rows=new)).unnest("trends")
        assert_frame_equal(part.tail(new), whole[end - new : end], rel_tol=1e-9)


def test_long_runs_are_worked_on_in_blocks() -> None:
    """Past the size of a block nothing changes: the last rows of 20,000 come out as from the end alone."""
    frame = pl.DataFrame({"m": [float(value) for value in np.random.default_rng(0).lognormal(0.0, 0.3, 20_000)]})
    whole = frame.select(trend_signals(["m"])).unnest("trends")
    for end in (8192, 8193, 8222, 16384, 16385, 20_000):
        part = frame[end - 60 : end].select(trend_signals(["m"])).unnest("trends")
        assert_frame_equal(part.tail(30), whole[end - 30 : end], rel_tol=1e-9)


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_frame_without_rows_has_no_trend(signal: str) -> None:
    """An empty column stays empty, one of nulls stays null."""
    expression = SIGNALS[signal][0]
    assert pl.DataFrame({"m": []}, schema={"m": pl.Float64}).select(expression("m")).height == 0
    assert pl.DataFrame({"m": [None, None]}).select(expression("m")).to_series().to_list() == [None, None]
