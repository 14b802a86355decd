"""Medians, ranks and extremes of moving windows are those of a sorted list, to the bit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from esper_analyzer.judging import rolling
from esper_analyzer.judging.windows import middle

LONG = rolling._FEW + 5000
"""More rows than polars gets, and than fit in one group."""


def windows(values: list[float], size: int) -> list[list[float]]:
    """The values that are known among the last `size` ones, in order, for each of them."""
    lists = [values[max(0, end - size) : end] for end in range(1, len(values) + 1)]
    return [sorted(value for value in one if not math.isnan(value)) for one in lists]


def with_holes(rows: int, holes: float, seed: int = 0) -> NDArray[np.float64]:
    """Numbers of which some are alike, and some are missing one by one or in long stretches."""
    rng = np.random.default_rng(seed)
    values = np.where(rng.random(rows) < 0.5, np.round(rng.lognormal(size=rows), 1), rng.normal(size=rows) * 1e3)
    values[rng.random(rows) < holes] = math.nan
    values[rows // 3 : rows // 3 + round(200 * holes)] = math.nan
    return values


@pytest.mark.parametrize("rows", [1, 60, LONG])
@pytest.mark.parametrize("holes", [0.0, 0.02, 0.5, 0.97, 1.0])
@pytest.mark.parametrize(("size", "fewest"), [(10, 5), (20, 14), (30, 1), (50, 20)])
def test_medians_are_those_of_sorted_windows(size: int, fewest: int, holes: float, rows: int) -> None:
    """However many values are missing; null where there are too few."""
    values = with_holes(rows, holes)
    column = pl.Series("x", values, nan_to_null=True)
    found = column.to_frame().select(rolling.median(pl.col("x"), size, fewest)).to_series()
    expected = [middle(one) if len(one) >= fewest else None for one in windows(values.tolist(), size)]
    assert found.to_list() == expected
    assert found.name == "x"


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 70),
    rows=st.integers(1, 300),
    data=st.data(),
)
def test_ranks_are_those_of_sorted_windows(seed: int, size: int, rows: int, data: Any) -> None:
    """For windows of any size, and any ranks."""
    first = data.draw(st.integers(1, size))
    ranks = (first, data.draw(st.integers(first, size)))
    values = np.random.default_rng(seed).integers(0, 50, rows + size - 1).astype(np.float64)
    found = np.array(rolling.ranked(values, size, ranks))
    expected = np.sort(np.lib.stride_tricks.sliding_window_view(values, size), axis=1).T
    assert np.array_equal(found, expected[ranks[0] - 1 : ranks[1]])


@pytest.mark.parametrize("holes", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("size", [1, 10, 25, 50, 60])
def test_extremes_are_those_of_windows(size: int, holes: float) -> None:
    """What is missing is left out, or makes the extreme unknown."""
    values = with_holes(400, holes)
    known = windows(values.tolist(), size)
    full = [one if len(one) == size else [] for one in known]
    for of_two, place, of in ((np.fmax, -1, known), (np.fmin, 0, known), (np.maximum, -1, full), (np.minimum, 0, full)):
        found = pl.DataFrame({"x": values}).select(rolling.extreme(pl.col("x"), of_two, size)).to_series()
        assert found.to_list() == [one[place] if one else None for one in of]


def test_infinite_values_are_values() -> None:
    """Although what is missing counts as infinite for a while."""
    values = np.where(np.arange(LONG) % 3 == 0, math.inf, np.where(np.arange(LONG) % 7 == 0, math.nan, 1.0))
    assert rolling.medians(values, 10)[9:].tolist() == [middle(one) for one in windows(values.tolist(), 10)][9:]
