"""What moved first, for the page: the sentences of an explanation, and a little chart of each metric around the moment.

A little chart is drawn here and not by a script, so that it is there on paper and without JavaScript. Its coordinates
are those of a view box of `WIDTH` × `HEIGHT`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from esper_analyzer.drawing.chart import LOG_DECADES
from esper_analyzer.explaining.explain import explain_run
from esper_analyzer.explaining.explanation import Explanation, Moved
from esper_analyzer.explaining.sentences import title
from esper_analyzer.explaining.stages import COST, stage
from esper_analyzer.judging.alerts import MISSING_UPDATES
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.judgement import Judgement
from esper_analyzer.reading.run_index import RunIndex
from esper_analyzer.reporting.report import Report
from esper_analyzer.wording import compact
from esper_schemas.errors import RunDamagedError, UsageError

MAX_LITTLE = 8
"""So many metrics have a little chart; `esper-analyze explain` lists all."""

AROUND = 20
"""So many rows are shown before the first metric moved, and after the update that is explained."""

WIDTH, HEIGHT = 240.0, 72.0
_FIRST, _LAST = 46.0, 236.0  # of the updates; before them are the values at both ends of the scale
_TOP, _BOTTOM = 10.0, 68.0  # of the values; above them are marks of what is not finite
_MARKS = {"up": "▲", "down": "▼", "not finite": "✗", "silent": "–", "new": "+"}


@dataclass(frozen=True, slots=True)
class LittleChart:
    """A metric around the moment. Texts are not escaped yet; the numbers are coordinates.

    Attributes:
        title: what people call the metric.
        course: from where to where it went, and when.
        summary: the chart in words.
        target: id of the metric's own chart on the page; empty if it has none.
        line: commands of an SVG path through the finite values; empty without two of them in a row.
        points: finite values without a neighbour.
        bad: places of values that are not finite.
        band: top and height of the band that the metric left; None if it is too wide for a number.
        left: where the metric first was outside its band; None if that value is not finite.
        moment: place of the update that is explained.
        top, bottom: the values at both ends of the scale; empty if nothing is drawn.
    """

    title: str
    course: str
    summary: str
    target: str
    line: str = ""
    points: Sequence[tuple[float, float]] = ()
    bad: Sequence[float] = ()
    band: tuple[float, float] | None = None
    left: tuple[float, float] | None = None
    moment: float = 0.0
    top: str = ""
    bottom: str = ""


@dataclass(frozen=True, slots=True)
class Moment:
    """What the page shows of an explanation.

    Attributes:
        found: the explanation.
        charts: a chart for each of the first metrics that moved, in their order.
        more: how many metrics moved that have no chart.
        first, last: the updates that the charts show.
    """

    found: Explanation
    charts: Sequence[LittleChart]
    more: int
    first: int
    last: int


def moment_of(
    run: JudgedRun,
    report: Report,
    found: RunIndex,
    ids: Mapping[str, str],
    rank: int | None,
    judged: Mapping[int, Judgement] | None,
) -> Moment | None:
    """Explain the trouble that the run is in, or was in, for the page; None where there is nothing to explain.

    Args:
        run: the run.
        report: its report.
        found: the index that the report was made from.
        ids: the chart of each metric on the page.
        rank: the rank of these charts; None if they show several.
        judged: as for `explain_run`.
    """
    explained = explained_trouble(run, report, found, judged)
    if explained is None:
        return None
    moved = [one for one in explained.moved if not one.is_apart and stage(one.metric) != COST]
    shown = moved[:MAX_LITTLE]
    rows = _around(found.frames()[explained.rank], shown, explained)
    targets = ids if rank in (None, explained.rank) else {}
    charts = [_chart(one, rows, explained.update, targets.get(one.metric, "")) for one in shown]
    first, last = int(rows["update"][0]), int(rows["update"][-1])
    return Moment(explained, charts, len(explained.moved) - len(shown), first, last)


def explained_trouble(
    run: JudgedRun, report: Report, found: RunIndex, judged: Mapping[int, Judgement] | None
) -> Explanation | None:
    """Explain the trouble that the run is in, or was in; None where there is nothing to explain.

    Args:
        run: the run.
        report: its report.
        found: the index that the report was made from.
        judged: as for `explain_run`.
    """
    if all(alert.rule == MISSING_UPDATES for alert in report.alerts) and not report.black_boxes:
        return None
    try:
        explained = explain_run(run, found, judged=judged)
    except (UsageError, RunDamagedError):  # the alert is of rows that can no longer be read
        return None
    return None if explained.chosen == "nothing" else explained


def _around(frame: pl.LazyFrame, shown: Sequence[Moved], explained: Explanation) -> pl.DataFrame:
    """Read the rows around the moment: column `update`, and those of the metrics that are shown and have one."""
    begin = min((one.update for one in shown), default=explained.update)
    update = pl.col("update")
    names = [one.metric for one in shown if one.source == "updates"]
    rows = frame.select("update", *(pl.col(name).cast(pl.Float64) for name in names))
    return pl.concat(
        [
            rows.filter(update < begin).tail(AROUND),
            rows.filter(update.is_between(begin, explained.update)),
            rows.filter(update > explained.update).head(AROUND),
        ]
    ).collect()


def _chart(one: Moved, rows: pl.DataFrame, update: int, target: str) -> LittleChart:
    where = f"update {one.update}" + ("" if one.minibatch is None else f", minibatch {one.minibatch}")
    course = f"{_MARKS[one.direction]} {_course(one)} in {where}"
    name = title(one)
    if one.source != "updates":
        return LittleChart(name, course, "", target)
    measured = rows.select("update", value=one.metric).drop_nulls("value")
    ends = int(rows["update"][0]), max(int(rows["update"][-1]), update)  # a run may break off in an update without row
    usually = "" if one.low is None else f"usually {compact(one.low)} to {compact(one.high)}, then "
    summary = f"{name}, updates {ends[0]} to {ends[1]}: {usually}{course}"
    finite = measured.filter(pl.col("value").is_finite())
    if finite.is_empty():
        return LittleChart(name, course, summary, target)
    band = (one.low, one.high) if one.low is not None and one.high is not None else (math.nan, math.nan)
    scale = _Scale(ends, finite["value"].to_list(), list(filter(math.isfinite, band)))
    lines, points = _lines(measured, scale)
    left = None if one.value is None or not math.isfinite(one.value) else scale.down(one.value)
    return LittleChart(
        title=name,
        course=course,
        summary=summary,
        target=target,
        line="".join(lines),
        points=points,
        bad=[scale.across(at) for at, value in measured.iter_rows() if not math.isfinite(value)],
        band=scale.band(*band),
        left=None if left is None else (scale.across(one.update), left),
        moment=scale.across(update),
        top=compact(scale.high),
        bottom=compact(scale.low),
    )


def _course(one: Moved) -> str:
    if one.direction == "silent":
        return f"{compact(one.usual)} → not measured any more, first"
    if one.direction == "new":
        return f"measured for the first time, {compact(one.value)},"
    return f"{compact(one.usual)} → {compact(one.value)}"


class _Scale:
    """Maps updates and values to the view box; values on a linear scale, or on a logarithmic one if they span much."""

    def __init__(self, ends: tuple[int, int], values: Sequence[float], within: Sequence[float]) -> None:
        self.ends = ends
        least, most = min(values), max(values)
        self.is_log = least > 0.0 and math.log10(most) - math.log10(least) > LOG_DECADES
        if not self.is_log:  # a band may reach beyond the values
            least, most = min(least, *within), max(most, *within)
        self.low, self.high = least, most

    def across(self, update: int) -> float:
        """Return the place of an update."""
        first, last = self.ends
        return round(_FIRST + (_LAST - _FIRST) * ((update - first) / (last - first) if last > first else 0.5), 1)

    def band(self, low: float, high: float) -> tuple[float, float] | None:
        """Return top and height of a band, which is seen however thin it is."""
        if not (math.isfinite(low) and math.isfinite(high)):
            return None  # values near the end of float64 have no band
        top = self.down(high)
        return top, round(max(self.down(low) - top, 1.0), 1)

    def down(self, value: float) -> float:
        """Return the place of a value, at the nearest end of the scale if it is beyond."""
        value = min(max(value, self.low), self.high)
        low, high = self.low, self.high
        if self.is_log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        share = (value / 2 - low / 2) / (high / 2 - low / 2) if low < high else 0.5  # halves do not overflow
        return round(_BOTTOM - share * (_BOTTOM - _TOP), 1)


def _lines(measured: pl.DataFrame, scale: _Scale) -> tuple[list[str], list[tuple[float, float]]]:
    """Return the commands of a path through the finite values, broken where one is not finite, and the lone values."""
    parts: list[list[tuple[float, float]]] = [[]]
    for update, value in measured.iter_rows():
        if math.isfinite(value):
            parts[-1].append((scale.across(update), scale.down(value)))
        else:
            parts.append([])
    lines = ["M" + "L".join(f"{across} {down}" for across, down in part) for part in parts if len(part) > 1]
    return lines, [part[0] for part in parts if len(part) == 1]
