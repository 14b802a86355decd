"""A comparison as one HTML page without a network: every metric with all runs in one chart, bands of seed groups."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from esper_analyzer.measuring.levels import loss_ratio
from esper_analyzer.measuring.series import Line, lines_of_runs
from esper_analyzer.options import By
from esper_analyzer.reporting.comparison.axis import MeasuredRows
from esper_analyzer.reporting.comparison.compare import Compared
from esper_analyzer.reporting.comparison.groups import Group
from esper_analyzer.reporting.comparison.reading import Reading
from esper_analyzer.reporting.comparison.text import position, ranked_groups
from esper_analyzer.reporting.html_charts import MEAN_DIGITS, coded, coded_ranges, pack, rounded
from esper_analyzer.reporting.page import CHART_SCRIPTS, environment, page_scripts, page_styles, policy
from esper_schemas.cleaning import printable
from esper_schemas.metric.catalogue import DECLARED, LOSS_RATIO, RETURNS, is_label, leading

SCRIPTS = (*CHART_SCRIPTS, "overlay.js", "compare.js")
MAX_CHARTS = 12
MAX_STRETCHES = 2000
MIN_STRETCHES = 50
_ALL_STRETCHES = 180_000  # over all lines; 50 runs with 12 metrics have 300 each, and the file about 3 MB
_MAX_ANCHORS = 200  # places of a run's updates on another axis; between them it rises linearly
_ROWS_AT_ONCE = 65_536
_DIGITS = 7  # of a value in the file: all that a float32 has
_MAX_DIFFERENCES = 40
_MAX_VALUES = 8
Axes = dict[str, list[dict[str, Any]]]

_AXES: dict[By, str] = {"steps": "env_steps", "time": "seconds"}


@dataclass(frozen=True, slots=True)
class ChartTexts:
    """The texts around a chart. Names from a run are not escaped yet."""

    id: str
    name: str
    title: str
    description: str


def comparison_html(found: Compared) -> str:
    """Return the comparison as one HTML document that needs no other files and no network.

    Each line keeps the smallest and the largest finite value of each of its stretches of updates, and their mean. A
    stretch has the same updates in all runs. Short runs are in the charts, switched off, and in no band.

    Raises:
        NotARunError, RunDamagedError: the files of a run can no longer be read.
    """
    comparison = found.comparison
    charts = [_texts(at, name) for at, name in enumerate(_charted(found))]
    order = [*comparison.best_first, *(run.label for run in comparison.short)]
    axes = _axes([found.sources[label] for label in order])
    styles, scripts = page_styles("compare.css"), page_scripts(SCRIPTS)
    data = pack(_data(found, charts, order, axes))
    return (
        environment()
        .get_template("compare.html.jinja")
        .render(
            made=comparison,
            title=_title(comparison.metric),
            runs={run.label: run for run in comparison.runs},
            groups=ranked_groups(comparison),
            charts=charts,
            axes=list(axes),
            order=comparison.best_first,
            group_title=group_title,
            at=lambda value: position(value, comparison.axis.by),
            differences=[
                _difference(key, values, len(comparison.runs))
                for key, values in list(comparison.differences.items())[:_MAX_DIFFERENCES]
            ],
            more_differences=max(0, len(comparison.differences) - _MAX_DIFFERENCES),
            data=Markup(data),  # Base64 needs no escaping
            styles=styles,
            scripts=scripts,
            policy=policy(styles, scripts),
        )
    )


def _charted(found: Compared) -> list[str]:
    """Return the metrics to chart: the return, the compared metric, those shown first everywhere, then the others."""
    recorded = found.measured
    own = [name for name in recorded if name not in DECLARED]
    directed = [name for name, metric in DECLARED.items() if metric.better is not None]
    first = [*RETURNS, found.comparison.metric, *(metric.name for metric in leading())]
    order = dict.fromkeys([*first, *directed, *own, *DECLARED])
    return [name for name in order if name in recorded and not is_label(name)][:MAX_CHARTS]


def _texts(at: int, name: str) -> ChartTexts:
    metric = DECLARED.get(name)
    about = "; ".join(filter(None, (metric.description, metric.averaged_over))) if metric else "added by the user"
    return ChartTexts(f"chart-{at}", name, _title(name), about)


def _title(name: str) -> str:
    return DECLARED[name].title if name in DECLARED else name


def _data(found: Compared, charts: Sequence[ChartTexts], order: Sequence[str], axes: Axes) -> dict[str, Any]:
    """Return the data of the page: updates as differences, ranges as `coded_ranges` returns them.

    Args:
        found: the comparison, and the readings of its runs.
        charts: the charts.
        order: the labels of the runs, the best first, short ones last; lines name their run by its place.
        axes: the axes besides updates, each with the places of every run in that order.
    """
    comparison = found.comparison
    readings = [found.readings[label] for label in order]
    ends = [reading.ends for reading in readings]
    first = min((first for first, _ in ends if first is not None), default=0)
    last = max((last for _, last in ends if last is not None), default=0)
    width = stretch_width(last - first + 1, len(charts) * len(readings))
    lines = _lines_of(readings, [chart.name for chart in charts], (first, width))
    groups = [group for group in ranked_groups(comparison) if len(group.runs) > 1]
    group_of = {label: at for at, group in enumerate(groups) for label in group.runs}
    short = {run.label for run in comparison.short}
    return {
        "run": f"{len(order)} runs",
        "first": first,
        "last": last,
        "width": width,
        "by": _AXES.get(comparison.axis.by, ""),
        "axes": [{"name": name, "runs": places} for name, places in axes.items()],
        "runs": [
            {
                "name": printable(label),
                "first": first_of_run,
                "last": last_of_run,
                "group": group_of.get(label),
                "short": label in short,
            }
            for label, (first_of_run, last_of_run) in zip(order, ends, strict=True)
        ],
        "groups": [{"name": group.name, "title": printable(group_title(group))} for group in groups],
        "charts": [
            {
                "id": chart.id,
                "name": printable(chart.name),
                "title": printable(chart.title),
                "main": chart is charts[0],
                "log": chart.name == LOSS_RATIO,
                "median": _median(of_run[chart.name] for of_run in lines if chart.name in of_run),
                "lines": [
                    line_data(run, of_run[chart.name]) for run, of_run in enumerate(lines) if chart.name in of_run
                ],
            }
            for chart in charts
        ],
    }


def stretch_width(updates: int, lines: int) -> int:
    """Return how many updates a stretch has, so that the file is bounded whatever the number of lines."""
    stretches = min(MAX_STRETCHES, max(MIN_STRETCHES, _ALL_STRETCHES // max(1, lines)))
    return math.ceil(updates / stretches)


def _lines_of(readings: Sequence[Reading], names: Sequence[str], grid: tuple[int, int]) -> list[dict[str, Line]]:
    """Return, for each run, the line of each of these metrics that it has measured."""
    made: list[dict[str, Line]] = []
    for group in _groups_of(readings):
        rows = [reading.found.updates().with_columns(loss_ratio()) for reading in group]
        made += lines_of_runs(rows, names, [reading.missing for reading in group], grid)
    return [{name: line for name, line in lines.items() if line.values or line.nonfinite} for lines in made]


def _groups_of(readings: Sequence[Reading]) -> Iterator[list[Reading]]:
    """Yield the runs, as many at once as are read together: a long one by itself, because its files stay open."""
    group: list[Reading] = []
    for reading in readings:
        if group and sum(one.updates for one in [*group, reading]) > _ROWS_AT_ONCE:
            yield group
            group = []
        group.append(reading)
    if group:
        yield group


def line_data(run: int, line: Line) -> dict[str, Any]:
    """Return a line as the page reads it."""
    return {
        "run": run,
        "updates": coded(line.updates),
        "values": rounded(line.values, _DIGITS),
        "nonfinite": coded_ranges(line.nonfinite),
        "stretches": coded(line.stretches),
        "means": rounded(line.means, MEAN_DIGITS),
    }


def _axes(sources: Sequence[MeasuredRows]) -> Axes:
    """Return the axes on which every run is, by their names on the page."""
    every = {name: [_places(source, by) for source in sources] for by, name in _AXES.items()}
    return {name: [place for place in places if place] for name, places in every.items() if all(places)}


def _places(source: MeasuredRows, by: By) -> dict[str, Any] | None:
    """Return where some updates of a run are on an axis, which rises; None for a run that is not on it."""
    updates, at = source.places(by)
    if not len(updates):
        return None
    kept = np.unique(np.append(np.arange(0, len(updates), math.ceil(len(updates) / _MAX_ANCHORS)), len(updates) - 1))
    return {
        "updates": coded(updates[kept]),
        "values": rounded(np.maximum.accumulate(at)[kept], 9),
    }


def _median(lines: Iterable[Line]) -> float | None:
    """Return the median of what is drawn, which stands for that of all values: it only decides on the kind of axis."""
    drawn = [value for line in lines for value in line.means or line.values if value is not None]
    return float(np.median(drawn)) if drawn else None


def group_title(group: Group) -> str:
    """Return the name of a group with the settings that distinguish it."""
    settings = ", ".join(f"{key} {value}" for key, value in list(group.settings.items())[:3])
    return f"{group.name}: {settings}" if settings else group.name


def _difference(key: str, values: Mapping[str, Any], runs: int) -> tuple[str, str]:
    """Return a hyper-parameter and its values, each with the number of runs that have it."""
    numbers = Counter("none" if value is None else str(value) for value in values.values())
    shown = [f"{value[:80]} ({number} run{'s' * (number != 1)})" for value, number in numbers.most_common(_MAX_VALUES)]
    shown += [f"{len(numbers) - _MAX_VALUES} more values"] if len(numbers) > _MAX_VALUES else []
    shown += [f"not set ({runs - len(values)})"] if len(values) < runs else []
    return key, ", ".join(shown)
