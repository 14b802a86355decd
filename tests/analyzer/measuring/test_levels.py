from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import polars as pl
import pytest

from esper_analyzer import level, loss_ratio
from esper_analyzer.measuring.levels import LEVEL_TYPE, level_of, levels_of
from esper_schemas import METRICS, Bands, Level
from esper_schemas.metric.catalogue import LOSS_RATIO_BANDS
from esper_schemas.metric.severity import DEFAULT_THRESHOLDS, badness, severities

BANDED: dict[str, Bands] = {name: metric.bands for name, metric in METRICS.items() if metric.bands}
BANDED["loss_ratio"] = LOSS_RATIO_BANDS

FACTS: list[tuple[str, float, Level]] = [
    ("value_loss", 0.01, "healthy"),
    ("value_loss", 5.0, "healthy"),
    ("value_loss", math.nextafter(5.0, math.inf), "warning"),
    ("value_loss", 20.0, "warning"),
    ("value_loss", math.nextafter(20.0, math.inf), "critical"),
    ("value_loss", 0.001, "healthy"),
    ("value_loss", math.nextafter(0.001, 0.0), "warning"),
    ("value_loss", 0.0, "warning"),
    ("value_loss", -0.0, "warning"),
    ("value_loss", -5e-324, "critical"),
    ("value_loss", math.nan, "critical"),
    ("value_loss", math.inf, "critical"),
    ("value_loss", -math.inf, "critical"),
    ("loss_ratio", 0.2, "healthy"),
    ("loss_ratio", 5.0, "healthy"),
    ("loss_ratio", math.nextafter(0.2, 0.0), "warning"),
    ("loss_ratio", 0.1, "warning"),
    ("loss_ratio", 10.0, "warning"),
    ("loss_ratio", math.nextafter(10.0, math.inf), "critical"),
    ("loss_ratio", math.nextafter(0.1, 0.0), "critical"),
    ("entropy", 0.3, "warning"),
    ("entropy", math.nextafter(0.3, 1.0), "healthy"),
    ("entropy", 0.1, "critical"),
    ("kl_divergence", 0.015, "healthy"),
    ("kl_divergence", 0.03, "warning"),
    ("clip_fraction", 0.25, "warning"),
    ("clip_fraction", 0.30, "critical"),
    ("explained_variance", 0.3, "warning"),
    ("explained_variance", 0.0, "warning"),
    ("explained_variance", -5e-324, "critical"),
    ("explained_variance", math.nan, "unknown"),
    ("nan_grad_count", 0, "healthy"),
    ("nan_grad_count", 1, "warning"),
    ("nan_grad_count", 5, "warning"),
    ("nan_grad_count", 6, "critical"),
    ("policy_loss", -1e9, "healthy"),
    ("policy_loss", math.nan, "critical"),
    ("learning_rate", 1e-3, "unknown"),
]


def boundary_cases() -> Iterator[tuple[str, float]]:
    """Each bound of the table and its two neighbours in floating point."""
    for name, bands in BANDED.items():
        for limit in (*bands.warning, *bands.critical):
            yield name, math.nextafter(limit.bound, -math.inf)
            yield name, limit.bound
            yield name, math.nextafter(limit.bound, math.inf)


def by_hand(bands: Bands, value: float) -> Level:
    """The rule of the table, spelled out without polars."""
    beyond = {
        ">": lambda bound: value > bound,
        ">=": lambda bound: value >= bound,
        "<": lambda bound: value < bound,
        "<=": lambda bound: value <= bound,
    }
    if any(beyond[limit.comparison](limit.bound) for limit in bands.critical):
        return "critical"
    return "warning" if any(beyond[limit.comparison](limit.bound) for limit in bands.warning) else "healthy"


def within_spread(name: str) -> dict[str, float | None]:
    """Values of the other columns with which a band counts."""
    only_if = BANDED[name].only_if
    return {only_if.low: 0.0, only_if.high: 0.0} if only_if else {}


@pytest.mark.parametrize(("name", "value", "expected"), FACTS)
def test_levels_are_those_of_the_definitions(name: str, value: float, expected: Level) -> None:
    """Each threshold stands where the definitions put it, inclusive or not."""
    assert level_of(name, value) == expected


@pytest.mark.parametrize(("name", "value"), list(boundary_cases()))
def test_every_bound_of_the_table_cuts_at_the_exact_value(name: str, value: float) -> None:
    """One unit in the last place beside a bound decides, for every bound of the table."""
    assert level_of(name, value, within_spread(name)) == by_hand(BANDED[name], value)


@pytest.mark.parametrize("name", BANDED)
def test_nothing_measured_is_unknown(name: str) -> None:
    """A null is never healthy and never an alarm."""
    assert level_of(name, None) == "unknown"


@pytest.mark.parametrize("name", [name for name in BANDED if name in METRICS and METRICS[name].dtype == "float64"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_have_the_level_of_the_table(name: str, value: float) -> None:
    """NaN and infinities are what the table says of them, whatever the bounds."""
    assert level_of(name, value, within_spread(name)) == BANDED[name].nonfinite


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0.0, 0.05, "critical"), (0.0, 0.1, "healthy"), (None, 0.05, "healthy")]
)
def test_a_band_counts_only_within_its_spread(low: float | None, high: float, expected: Level) -> None:
    """A small standard deviation of the values is an alarm only where their range is small as well."""
    assert level_of("value_std", 0.001, {"value_min": low, "value_max": high}) == expected


@pytest.mark.parametrize(
    ("value_loss", "policy_loss", "ratio"),
    [
        (1.0, -0.5, 2.0),
        (-1.0, 0.5, 2.0),
        (1.0, 1e-10, 1e10),
        (1.0, math.nextafter(1e-10, 0.0), None),
        (1.0, 0.0, None),
        (math.nan, 0.5, None),
        (1.0, math.inf, None),
        (None, 0.5, None),
    ],
)
def test_the_loss_ratio_is_null_where_it_is_not_defined(
    value_loss: float | None, policy_loss: float | None, ratio: float | None
) -> None:
    """Lv/Lp is a ratio of absolute values, and null where a loss is not finite or the policy loss is near zero."""
    frame = pl.DataFrame(
        {"value_loss": [value_loss], "policy_loss": [policy_loss]},
        schema_overrides=dict.fromkeys(("value_loss", "policy_loss"), pl.Float64),
    )
    assert frame.select(loss_ratio()).item() == ratio


def test_a_column_and_a_single_value_are_judged_alike() -> None:
    """The expression over a column gives what the helper for one value gives."""
    values = [None, 0.0, 0.001, 5.0, 5.1, 20.0, 21.0, -1.0, math.nan, math.inf]
    column = pl.DataFrame({"value_loss": pl.Series(values, dtype=pl.Float64)}).select(level("value_loss"))
    assert column.schema["value_loss"] == LEVEL_TYPE
    assert column["value_loss"].to_list() == [level_of("value_loss", value) for value in values]
    assert levels_of({"value_loss": 6.0, "entropy": 0.05}, ["value_loss", "entropy", "return_std"]) == {
        "value_loss": "warning",
        "entropy": "critical",
        "return_std": "unknown",
    }


def test_badness_orders_by_level_then_extremity_and_puts_the_first_nan_on_top() -> None:
    """The worst value is the most extreme one of the worst level; of values not finite, the earliest."""
    values = [1.0, 6.0, 19.0, 30.0, 500.0, math.nan, math.inf]
    bands, column = DEFAULT_THRESHOLDS["value_loss"], np.array(values)
    keys = badness(bands, column, severities(bands, column), np.arange(len(values))).tolist()
    assert keys[:5] == sorted(keys[:5])
    assert max(keys) == keys[5]
