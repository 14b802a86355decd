"""The axis of a comparison: updates, environment steps or seconds of training, and the span that runs share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import polars as pl

from esper_analyzer.measuring.levels import loss_ratio
from esper_analyzer.measuring.places import UNITS, not_recorded, place, secs_of_attempts
from esper_analyzer.measuring.snapshot import metric_names
from esper_analyzer.options import By
from esper_analyzer.reading.run_index import RunIndex
from esper_schemas.errors import UsageError
from esper_schemas.examining.current import rises
from esper_schemas.metric.catalogue import LOSS_RATIO

if TYPE_CHECKING:
    from numpy.typing import NDArray

Rows: TypeAlias = "tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]"
"""What a run measured in the order of an axis: update, position and value, of N rows each."""

_MIN_RUNS_FOR_SHORT = 3

_HELD_ROWS = 16_384
"""The rows of a run of at most so many are held in memory, with 46 bytes each."""


@dataclass(frozen=True, slots=True)
class Axis:
    """The axis that aligns the runs, and the span that all of them have in common, both ends inclusive.

    What updates, steps and time are is said in `measuring.places`.
    """

    by: By
    unit: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Extent:
    """The span of a run's measured values on the axis; `unplaced` of them have no position on it."""

    first: float | None
    last: float | None
    unplaced: int


class MeasuredRows:
    """The rows of one run, with their places on the axes and a metric. Only the columns that it needs are read.

    It opens files only while it reads them, because there may be many runs. It holds the rows of a short run, and reads
    those of a long one again for each thing that is asked.
    """

    def __init__(self, found: RunIndex, metric: str) -> None:
        """Take the rows of one rank of a run, and the name of the metric."""
        self._found = found
        self._held: pl.DataFrame | None = None
        schema = found.schema
        self.names = metric_names(schema)
        self.is_measurable = metric == LOSS_RATIO or metric in self.names
        value = loss_ratio() if metric == LOSS_RATIO else pl.col(metric) if self.is_measurable else pl.lit(None)
        is_time = metric in schema and schema[metric].is_temporal()
        self._value = (pl.lit(None) if is_time else value).cast(pl.Float64)

    def _every(self) -> pl.DataFrame:
        """Every row, with its places on the axes and its `value`; 46 bytes a row."""
        if self._held is not None:
            return self._held
        rows = self._lazy().collect()
        if rows.height <= _HELD_ROWS:
            self._held = rows
        return rows

    def _lazy(self, *, all_attempts: bool = False) -> pl.LazyFrame:
        asked = {
            "value": self._value,
            "is_measured": self._value.is_not_null(),
            "updates": place("updates", {}),
            "steps": place("steps", {}),
        }
        return self._found.updates(all_attempts=all_attempts).select("attempt", "update", "elapsed_secs", **asked)

    @cached_property
    def _secs(self) -> dict[int, float]:
        """The seconds of training of each attempt."""
        are_all_there = all(rises(index.pieces) for index in self._found.ranks.values())
        return secs_of_attempts(self._every().lazy() if are_all_there else self._lazy(all_attempts=True))

    @cached_property
    def _counts(self) -> tuple[int, int]:
        """How many rows measured the metric, and how many of these have no environment steps."""
        rows = self._every()
        is_measured = rows["is_measured"].to_numpy()
        return int(is_measured.sum()), int((is_measured & np.isnan(rows["steps"].to_numpy())).sum())

    def is_empty(self) -> bool:
        """Whether the metric was never measured."""
        return self._counts[0] == 0

    def has_steps(self) -> bool:
        """Whether every row that measured the metric has its environment steps."""
        return self._counts[1] == 0

    def extents(self, by: By) -> tuple[Extent, Extent]:
        """Return the first and last position on the axis of what was measured, and those of all rows."""
        rows = self._every()
        at = self._at(rows, by)
        return _extent(at[rows["is_measured"].to_numpy()]), _extent(at)

    def rows(self, by: By) -> Rows:
        """Return what was measured and has a position on the axis."""
        rows = self._every()
        at = self._at(rows, by)
        is_asked = rows["is_measured"].to_numpy() & np.isfinite(at)
        order = np.flatnonzero(is_asked)[np.argsort(at[is_asked], kind="stable")]
        return rows["update"].to_numpy()[order], at[order], rows["value"].to_numpy()[order]

    def places(self, by: By) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the updates, in ascending order, of all rows that have a position on the axis, and these."""
        rows = self._every()
        updates, at = rows["update"].to_numpy(), self._at(rows, by)
        placed = np.flatnonzero(np.isfinite(at))
        order = placed[np.argsort(updates[placed], kind="stable")]
        return updates[order], at[order]

    def _at(self, rows: pl.DataFrame, by: By) -> NDArray[np.float64]:
        """Return the position of every row on the axis; NaN where that was not recorded."""
        return (rows if by != "time" else rows.select(time=place(by, self._secs)))[by].to_numpy()


def _extent(at: NDArray[np.float64]) -> Extent:
    placed = at[np.isfinite(at)]
    first, last = (float(placed.min()), float(placed.max())) if len(placed) else (None, None)
    return Extent(first, last, len(at) - len(placed))


def default_axis(sources: Sequence[MeasuredRows]) -> By:
    """Return environment steps if every row of every run has them, else updates."""
    return "steps" if all(source.has_steps() for source in sources) else "updates"


def short_ends(extents: Sequence[Extent]) -> tuple[list[int], float]:
    """Return which runs are short, by their places in `extents`, and the position before which a run that ends is.

    A run is short if it ends before half the median span. The spans of all runs are measured from the earliest
    beginning. At least half of the runs are as long as the median, so that of three runs at least two are left; of
    two runs none is short.
    """
    ends = {place: extent.last for place, extent in enumerate(extents) if extent.last is not None}
    if len(ends) < _MIN_RUNS_FOR_SHORT:
        return [], -math.inf
    begin = min(extent.first for extent in extents if extent.first is not None)
    limit = begin + median(end - begin for end in ends.values()) / 2
    return [place for place, end in ends.items() if end < limit], limit


def common_span(by: By, labels: Sequence[str], extents: Sequence[Extent]) -> Axis:
    """Return the span that all runs with values on the axis have in common.

    Raises:
        UsageError: a run recorded nothing on the axis, or the runs have no span in common.
    """
    spans = {
        label: (extent.first, extent.last)
        for label, extent in zip(labels, extents, strict=True)
        if extent.first is not None and extent.last is not None
    }
    for label, extent in zip(labels, extents, strict=True):
        if extent.unplaced and label not in spans:
            raise not_recorded(label, by)
    latest, earliest = max(spans, key=lambda run: spans[run][0]), min(spans, key=lambda run: spans[run][1])
    start, end = spans[latest][0], spans[earliest][1]
    if start > end:
        raise UsageError(
            f"the runs have no {UNITS[by]} in common: {earliest} ends at {end:g}, {latest} begins at {start:g}"
        )
    return Axis(by, UNITS[by], start, end)


def mean_over(at: NDArray[np.float64], values: NDArray[np.float64], start: float, end: float) -> tuple[float, float]:
    """Return the mean over [start, end] of the line through these points, and the share of the span they cover.

    The mean is by the trapezoidal rule, with values interpolated between points and at the ends of the span. If the
    points do not reach an end, the mean is over the part that they cover.

    Args:
        at: ascending positions.
        values: finite values.
    """
    if not len(at) or at[0] > end or at[-1] < start:
        return math.nan, 0.0
    low, high = max(start, float(at[0])), min(end, float(at[-1]))
    if low == high:
        return float(np.interp(low, at, values)), 1.0 if start == end else 0.0
    within = (at > low) & (at < high)
    first, last = np.interp([low, high], at, values)
    x = np.concatenate([[low], at[within], [high]])
    y = np.concatenate([[first], values[within], [last]])
    return float(np.trapezoid(y, x)) / (high - low), (high - low) / (end - start)
