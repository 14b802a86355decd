"""`Run.plot`: metrics by matplotlib (extra `notebook`), with every extreme and every value that is not finite."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

import polars as pl

from esper_analyzer.drawing.style import drawn_bands
from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.judgement import judge_rank
from esper_analyzer.judging.rules import CHART_OF
from esper_analyzer.measuring.levels import bands_of, loss_ratio
from esper_analyzer.measuring.series import KINDS, Line, course_of
from esper_analyzer.measuring.snapshot import chartable_names
from esper_analyzer.measuring.whole import column
from esper_analyzer.notebook.svg_chart import is_log, limits_of
from esper_analyzer.reading.gaps import numbering_of_index
from esper_analyzer.reading.run_index import rows_of
from esper_analyzer.wording import count
from esper_schemas.cleaning import printable
from esper_schemas.errors import UsageError
from esper_schemas.metric.catalogue import leading
from esper_schemas.metric.levels import PALETTE
from esper_schemas.metric.metrics import Bands

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DEFAULT_PLOTS = tuple(leading(group)[0].name for group in ("losses", "critic", "episodes"))
"""The metrics to plot by default, as far as they were measured: the first of each of the main groups."""

_MAX_MARKED = 100  # up to this many points, each one is marked
_LARGEST = 1e300  # matplotlib's arithmetic on axes overflows beyond this
_MAX_NAMED = 4  # a legend names this many alerts


def new_figure(names: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """Return a figure that pyplot does not know, and its panels, one for each of these metrics."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("plots need matplotlib; install it with pip install matplotlib") from error

    class Plot(Figure):
        """A figure that a notebook shows only as the value of a cell."""

        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png")
            return buffer.getvalue()

    figure = Plot(figsize=(10.0, 1.0 + 2.2 * len(names)), layout="constrained")
    panels = list(figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0])
    for panel, name in zip(panels, names, strict=True):
        panel.set_ylabel(printable(name), parse_math=False)
    return figure, panels


def plot_run(run: JudgedRun, metrics: Sequence[str], *, log: bool | None, rank: int) -> Figure:
    """Plot metrics of a run; see `Run.plot`."""
    run.selected_ranks(rank)
    found = run.look(rank)
    index = found.rank(rank)
    frame = rows_of(index)
    rows = frame.with_columns(loss_ratio())
    names = _chosen(metrics, rows)
    course = course_of(rows, names, numbering_of_index(frame, index).missing)
    alerts = judge_rank(run, index, frame, found.damage_of(rank)).alerts
    figure, panels = new_figure(names)
    for panel, name in zip(panels, names, strict=True):
        for line in course.lines[name]:
            _draw(panel, line, log)
        _shade(panel, drawn_bands(name, bands_of(name, run.settings.thresholds)))
        shown = [alert for alert in alerts if name in (alert.metric, CHART_OF.get(alert.metric))]
        _mark_alerts(panel, shown, course.last or 0)
    if course.first is not None and course.last is not None:
        panels[-1].set_xlim(course.first - 0.5, course.last + 0.5)
    panels[-1].set_xlabel("update")
    figure.suptitle(printable(run.header.run_id), parse_math=False)
    return figure


def _chosen(metrics: Sequence[str], rows: pl.LazyFrame) -> list[str]:
    """Return the metrics to plot. Raise UsageError for one that was not recorded or is not a number."""
    known = chartable_names(rows.collect_schema())
    for name in metrics:
        if name not in known:
            near = get_close_matches(name, known, 3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"for example {', '.join(DEFAULT_PLOTS)}"
            raise UsageError(f"there is no metric {printable(name)!r} to plot; {hint}")
    if metrics:
        return list(dict.fromkeys(metrics))
    counts = rows.select(column(name).count() for name in DEFAULT_PLOTS).collect().row(0, named=True)
    return [name for name in DEFAULT_PLOTS if counts[name]] or ["value_loss"]


def _draw(panel: Axes, line: Line, log: bool | None) -> None:
    """Draw the line with its breaks, set the scale, and mark values that are not finite."""
    values = [math.nan if value is None else max(-_LARGEST, min(value, _LARGEST)) for value in line.values]
    finite = [value for value in values if not math.isnan(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    if is_log(low, high) if log is None else log and any(finite):
        if low > 0.0:
            panel.set_yscale("log")
        else:  # linear around zero, so that no value is left out
            panel.set_yscale("symlog", linthresh=min(abs(value) for value in finite if value))
    mark = "." if len(finite) <= _MAX_MARKED else ""
    panel.plot(line.updates, values, color="tab:blue", linewidth=1.2, marker=mark)
    lone = [
        at for at in range(len(values)) if all(math.isnan(v) for v in (*values[at - 1 : at], *values[at + 1 : at + 2]))
    ]
    panel.plot(line.updates, values, ".", color="tab:blue", markevery=lone)
    frame = panel.get_xaxis_transform()
    for kind, shape, y in ((0, "x", 0.94), (1, "^", 0.94), (2, "v", 0.06)):
        ranges = [(first, last) for first, last, found in line.nonfinite if found == kind]
        if ranges:
            firsts, lasts = zip(*ranges, strict=True)
            updates = sum(last - first + 1 for first, last in ranges)
            panel.hlines([y] * len(ranges), firsts, lasts, color="tab:red", linewidth=2, transform=frame)
            label = f"{KINDS[kind]}, {count(updates)} update{'s' * (updates != 1)}"
            ends = [*firsts, *lasts]
            panel.scatter(ends, [y] * len(ends), marker=shape, color="tab:red", zorder=3, transform=frame, label=label)


def _shade(panel: Axes, bands: Bands | None) -> None:
    """Shade what is beyond the thresholds, without changing the view."""
    bottom, top = panel.get_ylim()
    for level, limit in limits_of(bands):
        low, high = (limit.bound, top) if limit.comparison in (">", ">=") else (bottom, limit.bound)
        if low < top and high > bottom:
            panel.axhspan(max(low, bottom), min(high, top), color=PALETTE[level].color, alpha=0.12, linewidth=0)
            if bottom < limit.bound < top:
                panel.axhline(limit.bound, color=PALETTE[level].color, linewidth=1, linestyle="--")
    panel.set_ylim(bottom, top)


def _mark_alerts(panel: Axes, alerts: Sequence[Alert], newest: int) -> None:
    """Draw a line where each alert was first raised, and shade the updates of the first time at its worst level."""
    for position, alert in enumerate(alerts):
        color = PALETTE[alert.level].color
        metric = printable(alert.metric).replace("$", r"\$")  # else matplotlib reads a formula
        label = f"{alert.level}: {metric}, {alert.times}" if position < _MAX_NAMED else None
        panel.axvline(alert.first, color=color, linewidth=1.2, label=label)
        panel.axvspan(alert.since, newest if alert.until is None else alert.until, color=color, alpha=0.06, linewidth=0)
    if panel.get_legend_handles_labels()[0]:  # beside the panel, so that it covers nothing
        panel.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
