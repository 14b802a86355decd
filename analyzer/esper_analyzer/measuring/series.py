"""The course of every metric for a report of bounded size: recorded values at their updates, extremes never lost.

Updates are divided into stretches of equal length. The smallest and the largest finite value of each stretch are kept
at their own updates; a short run keeps every value. Values that are not finite are kept separately, as exact ranges
of updates.

It does not use `History`, which keeps neither a mean nor the updates of its extremes, and whose buckets are powers of
two wide: the points of the report would move.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np
import polars as pl
from polars import selectors

from esper_analyzer.reading.gaps import Numbering, attempts_in

MAX_STRETCHES = 2000
MIN_STRETCHES = 50
_ALL_STRETCHES = 100_000  # over all lines; the size of the file depends on it
_BATCH_ROWS = 65_536

MAX_ANCHORS = 1000
"""At most this many updates have environment steps and time in the file; between them both rise linearly."""

MAX_RANKS = 8
"""With more ranks than this, one line is drawn through the extremes of all ranks together."""

Kind = Literal[0, 1, 2]
"""The kind of a value that is not finite, as an index into `KINDS`."""

KINDS = ("NaN", "+∞", "−∞")

NonFinite = tuple[int, int, Kind]
"""First and last update, both inclusive, of consecutive updates with values of one kind that are not finite."""


@dataclass(slots=True)
class Line:
    """A metric of one rank, or of all ranks together (`rank=None`).

    Attributes:
        rank: the rank.
        updates: update of each point, in ascending order.
        values: value of each point; None where missing updates or values that are not finite break the line.
        nonfinite: all values that are not finite.
        stretches: if points are extremes of several updates, the stretches with a finite value, counted from the
            first update of the run; else empty.
        means: mean of the finite values of each of `stretches`.
    """

    rank: int | None
    updates: list[int] = field(default_factory=list)
    values: list[float | None] = field(default_factory=list)
    nonfinite: list[NonFinite] = field(default_factory=list)
    stretches: list[int] = field(default_factory=list)
    means: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Course:
    """The lines of every metric, by name, one for each of `ranks`, with at most two points per `width` updates.

    `first` is the first update of the first stretch. `missing` has the ranges of updates that no rank has, and
    `missing_of` those of each of `ranks`.
    """

    width: int
    first: int | None
    last: int | None
    ranks: list[int | None]
    lines: dict[str, list[Line]]
    missing: list[tuple[int, int]]
    missing_of: list[list[tuple[int, int]]]


@dataclass(frozen=True, slots=True)
class Axis:
    """An alternative to updates on the axis of a chart: the value at each of `updates`, in ascending order."""

    name: Literal["env_steps", "seconds"]
    updates: list[int]
    values: list[float]


def course_of(
    rows: pl.LazyFrame,
    names: Sequence[str],
    missing: Sequence[tuple[int, int]] = (),
    stretches: int | None = None,
) -> Course:
    """Compute the course of these metrics over all rows, in bounded memory.

    Args:
        rows: columns `update`, `rank` and the metrics (numbers or booleans), in order of rank and update.
        names: the metrics.
        missing: ranges of missing updates, in order, if the rows are of one rank.
        stretches: how many stretches to divide the updates into; by default as many as suit a report.
    """
    update = pl.col("update")
    extent = rows.select(first=update.min(), last=update.max(), ranks=pl.col("rank").unique().sort().implode())
    first, last, found = extent.collect(engine="streaming").row(0)
    if first is None:
        return Course(1, None, None, [], {name: [] for name in names}, [], [])
    ranks: list[int | None] = list(found) if len(found) <= MAX_RANKS else [None]
    wanted = stretches or min(MAX_STRETCHES, max(MIN_STRETCHES, _ALL_STRETCHES // max(1, len(names) * len(ranks))))
    width = math.ceil((last - first + 1) / wanted)
    lines: dict[str, list[Line]] = {name: [] for name in names}
    is_of_one = len(found) == 1
    everywhere = list(missing) if is_of_one else Numbering.of(_distinct(rows)).missing
    missing_of = []
    for rank in ranks:
        of_rank = rows if rank is None or is_of_one else rows.filter(pl.col("rank") == rank)
        own = everywhere if rank is None or is_of_one else Numbering.of(_distinct(of_rank)).missing
        missing_of.append(own)
        for name, line in lines_of_runs([of_rank], names, [own], (first, width))[0].items():
            line.rank = rank
            lines[name].append(line)
    return Course(width, first, last, ranks, lines, everywhere, missing_of)


def _distinct(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Return the distinct updates of these rows, in order; several ranks have the same updates."""
    return rows.select(pl.col("update").unique().sort())


def lines_of_runs(
    runs: Sequence[pl.LazyFrame],
    names: Sequence[str],
    missing: Sequence[Sequence[tuple[int, int]]],
    grid: tuple[int, int],
) -> list[dict[str, Line]]:
    """Compute the lines of several runs on the grid that they share, in one query, which is quick for short runs.

    Memory is bounded for one run; the rows of several are held at once.

    Args:
        runs: the rows of one rank of each run, in order of updates: `update`, and those of the metrics that it has.
        names: the metrics.
        missing: ranges of missing updates of each run, in order.
        grid: the first update of the first stretch, at or before that of all rows, and the length of all stretches.
    """
    made = _lines(runs, names, grid)
    for gaps, lines in zip(missing, made, strict=True):
        for line in lines.values():
            _break(line, gaps, grid[1])
    return made


def _lines(runs: Sequence[pl.LazyFrame], names: Sequence[str], grid: tuple[int, int]) -> list[dict[str, Line]]:
    """Make the lines of each run, without breaks."""
    first, width = grid
    aggregates: list[pl.Expr] = []
    for position in range(len(names)):
        value = pl.col(f"{position}")
        finite = pl.when(value.is_finite()).then(value)
        aggregates += [
            pl.col("update").min_by(finite).alias(f"low_at {position}"),
            finite.min().alias(f"low {position}"),
            pl.col("update").max_by(finite).alias(f"high_at {position}"),
            finite.max().alias(f"high {position}"),
            finite.mean().alias(f"mean {position}"),
            (~value.is_finite()).any().alias(f"nonfinite {position}"),
        ]
    rows = pl.concat([_numbered(rows, names).with_columns(run=pl.lit(run)) for run, rows in enumerate(runs)])
    frame = rows.group_by("run", stretch=(pl.col("update") - first) // width).agg(aggregates).sort("run", "stretch")
    every = frame.collect(engine="streaming" if len(runs) == 1 else "in-memory")
    ends = np.searchsorted(every["run"].to_numpy(), np.arange(len(runs) + 1))
    parts = (every[begin:end] for begin, end in pairwise(ends.tolist()))
    return [
        {name: _line(extremes, position, width, rows, name) for position, name in enumerate(names)}
        for rows, extremes in zip(runs, parts, strict=True)
    ]


def _numbered(rows: pl.LazyFrame, names: Sequence[str]) -> pl.LazyFrame:
    """Return `update` and the metrics, which are named by their positions, because a name may be any text."""
    there = rows.collect_schema()
    return rows.select(
        "update",
        *(
            (_column(name) if name in there else pl.lit(None, pl.Float64)).alias(f"{position}")
            for position, name in enumerate(names)
        ),
    )


def _line(extremes: pl.DataFrame, position: int, width: int, rows: pl.LazyFrame, name: str) -> Line:
    """Make the line of a metric from its extremes and means, and from its rows as far as they are not finite."""
    line = Line(None)
    line.updates, line.values = _points(extremes, position)
    if width > 1:
        means = extremes[f"mean {position}"].to_numpy()  # null becomes NaN
        is_known = np.isfinite(means)
        line.stretches = extremes["stretch"].to_numpy()[is_known].tolist()
        line.means = means[is_known].tolist()
    if extremes[f"nonfinite {position}"].any():
        line.nonfinite = list(nonfinite_ranges(rows, name))
    return line


def _points(extremes: pl.DataFrame, position: int) -> tuple[list[int], list[float | None]]:
    """The lowest and the highest point of each stretch, in order; only one where they are equal."""
    has_none = extremes[f"low {position}"].has_nulls()
    known = extremes.filter(pl.col(f"low {position}").is_not_null()) if has_none else extremes
    low_at, low, high_at, high = (
        known[f"{part} {position}"].to_numpy() for part in ("low_at", "low", "high_at", "high")
    )
    turned = high_at < low_at
    updates = np.column_stack([np.where(turned, high_at, low_at), np.where(turned, low_at, high_at)])
    values = np.column_stack([np.where(turned, high, low), np.where(turned, low, high)])
    is_point = np.column_stack([np.ones(len(low), bool), low != high])
    equal = low == high
    updates[equal, 0], values[equal, 0] = low_at[equal], low[equal]
    return updates[is_point].tolist(), values[is_point].tolist()


def axes_of(rows: pl.LazyFrame, course: Course) -> list[Axis]:
    """Make the axes of environment steps and of seconds since the first update, from the lowest rank, if recorded.

    Args:
        rows: columns `update`, `rank`, `env_steps` and `wall_time`, as `Run.updates` returns them.
        course: the course of the same rows.
    """
    if course.first is None or course.last is None:
        return []
    width = math.ceil((course.last - course.first + 1) / MAX_ANCHORS)
    lowest = rows.filter(pl.col("rank") == pl.col("rank").min())
    anchors = (
        lowest.group_by(stretch=(pl.col("update") - course.first) // width)
        .agg(pl.col("update").max(), pl.col("env_steps").max(), pl.col("wall_time").max(), begin=pl.min("wall_time"))
        .sort("stretch")
        .with_columns(seconds=(pl.col("wall_time") - pl.col("begin").min()).dt.total_microseconds() / 1e6)
        .collect(engine="streaming")
    )
    axes = []
    names: tuple[Literal["env_steps"], Literal["seconds"]] = ("env_steps", "seconds")
    for name in names:
        known = anchors.select("update", pl.col(name).cum_max()).drop_nulls()
        if known[name].n_unique() > 1:
            axes.append(Axis(name, known["update"].to_list(), known[name].to_list()))
    return axes


def attempts_of(rows: pl.LazyFrame) -> list[tuple[int, int]]:
    """Return each attempt of the lowest rank except the first, with the first update that it recorded."""
    lowest = rows.filter(pl.col("rank") == pl.col("rank").min())
    return attempts_in(lowest)[1:]


def nonfinite_ranges(rows: pl.LazyFrame, name: str) -> Iterator[NonFinite]:
    """Yield ranges of consecutive updates whose values of a metric are NaN, +∞ or −∞; reads rows in batches."""
    value = _column(name)
    kind = pl.when(value.is_nan()).then(0).when(value > 0).then(1).otherwise(2).cast(pl.Int8)
    found = rows.filter(~value.is_finite()).select("update", kind=kind).sort("update")
    open_range: NonFinite | None = None
    for batch in found.collect_batches(chunk_size=_BATCH_ROWS, maintain_order=True):
        updates, kinds = batch["update"].to_numpy(), batch["kind"].to_numpy()
        begins = np.flatnonzero((np.diff(updates, prepend=updates[:1] - 2) > 1) | (np.diff(kinds, prepend=-1) != 0))
        ends = np.append(begins[1:] - 1, len(updates) - 1)
        for first, last, mark in zip(
            updates[begins].tolist(), updates[ends].tolist(), kinds[begins].tolist(), strict=False
        ):
            if open_range is not None and open_range[2] == mark and first <= open_range[1] + 1:
                open_range = (open_range[0], last, open_range[2])
                continue
            if open_range is not None:
                yield open_range
            open_range = (first, last, mark)
    if open_range is not None:
        yield open_range


def _column(name: str) -> pl.Expr:
    """Select a metric as numbers, by its exact name; `pl.col` would interpret names such as "*" or "^v.*$"."""
    return selectors.by_name(name).as_expr().cast(pl.Float64)


def _break(line: Line, missing: Iterable[tuple[int, int]], width: int) -> None:
    """Break the line where at least `width` updates are missing between two points, or are not finite."""
    ranges = [*missing, *((first, last) for first, last, _ in line.nonfinite)]
    starts = {bisect_right(line.updates, a): a for a, b in ranges if b - a + 1 >= width}
    updates: list[int] = []
    values: list[float | None] = []
    done = 0
    for position, start in sorted(starts.items()):
        updates += [*line.updates[done:position], start]
        values += [*line.values[done:position], None]
        done = position
    line.updates = updates + line.updates[done:]
    line.values = values + line.values[done:]
