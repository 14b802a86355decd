"""`plot_runs`: metrics of several runs in one figure by matplotlib (extra `notebook`), with bands of seed groups."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.settings import DEFAULT_SETTINGS
from esper_analyzer.measuring.levels import loss_ratio
from esper_analyzer.measuring.series import course_of
from esper_analyzer.notebook.plots import DEFAULT_PLOTS, new_figure
from esper_analyzer.options import By
from esper_analyzer.reporting.comparison.axis import MeasuredRows
from esper_analyzer.reporting.comparison.compare import Compared, check_metric, compared
from esper_analyzer.reporting.comparison.reading import Reading
from esper_analyzer.reporting.comparison.text import ranked_groups
from esper_schemas.cleaning import printable
from esper_schemas.metric.catalogue import RETURNS

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

Band = Literal["mean", "median"]
Points: TypeAlias = "tuple[NDArray[np.float64], NDArray[np.float64]]"
"""Ascending places on the axis, and values; NaN breaks the line."""

_GRID = 240
_MAX_NAMED = 20  # a legend names this many runs and groups


def plot_runs(
    runs: Sequence[JudgedRun | str | os.PathLike[str]],
    *metrics: str,
    root: str | os.PathLike[str] = "runs",
    by: By | None = None,
    band: Band | None = "mean",
    group_by: Sequence[str] | None = None,
) -> Figure:
    """Plot metrics of several runs, one panel each, the best run first in the legend.

    Lines keep both extremes of each stretch of a long run. Runs that differ only in the seed are a group, drawn as
    its centre and a band over those of its runs that have come so far, at least two. Runs that end before half the
    median span are left out, as in `compare`. Needs matplotlib (extra `notebook`).

    Args:
        runs: at least two opened runs, paths or names.
        metrics: metrics of the table, your own, or `loss_ratio`. By default episode return, value loss and explained
            variance, as far as any run has measured them.
        root: folder of the runs given by name.
        by: the axis, as in `compare`.
        band: `mean` with the smallest and the largest run, `median` with the quartiles; None draws no groups.
        group_by: group runs with equal values of these hyper-parameters instead.

    Returns:
        A figure that is not registered with pyplot, as that of `Run.plot`.

    Raises:
        UsageError: matplotlib is not installed, or as `compare`.
        NotARunError, RunDamagedError: as `compare`.
    """
    found = compared(
        runs, root=root, settings=DEFAULT_SETTINGS, by=by, metric=metrics[0] if metrics else None, better=None,
        rank="first", group=band is not None, group_by=group_by if band is not None else None,
        with_metrics=True,
    )  # fmt: skip
    comparison = found.comparison
    names = _chosen(found, metrics)
    figure, panels = new_figure(names)
    groups = [group for group in ranked_groups(comparison) if len(group.runs) > 1]
    group_of = {label: at for at, group in enumerate(groups) for label in group.runs}
    alone = [label for label in comparison.best_first if label not in group_of]
    drawn = {
        label: _lines(found.readings[label], found.sources[label], names, comparison.axis.by)
        for label in comparison.best_first
    }
    for panel, name in zip(panels, names, strict=True):
        for label, lines in drawn.items():
            if name in lines:
                number = group_of.get(label)
                color = f"C{number if number is not None else len(groups) + alone.index(label)}"
                is_alone = number is None
                text = printable(label).replace("$", r"\$") if is_alone else None
                panel.plot(*lines[name][0], color=color, linewidth=1.2 if is_alone else 0.6, label=text,
                           alpha=1.0 if is_alone else 0.35)  # fmt: skip
        for at, group in enumerate(groups):
            members = [drawn[label][name][1] for label in group.runs if name in drawn[label]]
            places, low, centre, high = _together(members, band or "mean")
            panel.plot(places, centre, color=f"C{at}", linewidth=2.0, label=f"{group.name}: {len(group.runs)} runs")
            panel.fill_between(places, low, high, color=f"C{at}", alpha=0.2, linewidth=0)
    handles, texts = panels[0].get_legend_handles_labels()
    panels[0].legend(handles[:_MAX_NAMED], texts[:_MAX_NAMED], fontsize="small", loc="upper left",
                     bbox_to_anchor=(1.0, 1.0))  # fmt: skip
    panels[-1].set_xlabel(comparison.axis.unit)
    return figure


def _chosen(found: Compared, metrics: Sequence[str]) -> list[str]:
    """Return the metrics to plot. Raise UsageError for one that no run has."""
    readings = found.readings.values()
    for name in metrics:
        check_metric(name, [MeasuredRows(reading.found, name) for reading in readings])
    if metrics:
        return list(dict.fromkeys(metrics))
    measured = found.measured
    return [name for name in dict.fromkeys([*RETURNS, *DEFAULT_PLOTS]) if name in measured]


def _lines(reading: Reading, source: MeasuredRows, names: Sequence[str], by: By) -> dict[str, tuple[Points, Points]]:
    """Return the line of each metric that the run has measured, on the axis, and the means that its band is made of."""
    rows = reading.found.updates().with_columns(loss_ratio())
    schema = rows.collect_schema()
    course = course_of(rows, [name for name in names if name in schema], reading.missing)
    updates, places = source.places(by)
    lines = {}
    for name, (line, *_) in ((name, of_ranks) for name, of_ranks in course.lines.items() if of_ranks):
        if line.updates and len(updates):
            values = np.array([math.nan if value is None else value for value in line.values])
            points = np.interp(np.array(line.updates, dtype=np.float64), updates, places), values
            middles = (course.first or 0) + (np.array(line.stretches) + 0.5) * course.width
            means = np.interp(middles, updates, places), np.array(line.means)
            lines[name] = points, means if course.width > 1 else points
    return lines


def _together(
    members: Sequence[Points], band: Band
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return places with the low end, the centre and the high end of the runs there, at least two."""
    known = [(places[np.isfinite(values)], values[np.isfinite(values)]) for places, values in members]
    known = [points for points in known if len(points[0])]
    if len(known) < 2:
        nothing = np.empty(0)
        return nothing, nothing, nothing, nothing
    grid = np.linspace(min(places[0] for places, _ in known), max(places[-1] for places, _ in known), _GRID)
    table = np.array([np.interp(grid, *points, left=math.nan, right=math.nan) for points in known])
    enough = np.isfinite(table).sum(axis=0) >= 2
    grid, table = grid[enough], table[:, enough]
    if band == "mean":
        return grid, np.nanmin(table, axis=0), np.nanmean(table, axis=0), np.nanmax(table, axis=0)
    low, centre, high = np.nanquantile(table, [0.25, 0.5, 0.75], axis=0)
    return grid, low, centre, high
