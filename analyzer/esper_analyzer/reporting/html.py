"""The report as one HTML page without a network: verdict, interactive charts, tables."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from markupsafe import Markup

from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.judgement import Judgement
from esper_analyzer.judging.rules import CHART_OF
from esper_analyzer.judging.rules.rule import Rule
from esper_analyzer.judging.verdict import DAMAGE, REMARK, Reason, beside, grouped
from esper_analyzer.measuring.levels import loss_ratio
from esper_analyzer.measuring.series import attempts_of, axes_of, course_of
from esper_analyzer.reading.run_index import Ranks, RunIndex, joined, looked_at
from esper_analyzer.reporting.black_boxes import all_columns, file_line, has_table, heading, moved_line
from esper_analyzer.reporting.html_charts import Chart, chart_data, chart_of, pack
from esper_analyzer.reporting.moment import moment_of
from esper_analyzer.reporting.page import CHART_SCRIPTS, environment, page_scripts, page_styles, policy
from esper_analyzer.reporting.report import Report
from esper_analyzer.reporting.sections import MetricSection, RatioSection
from esper_analyzer.reporting.text import (
    describe_end,
    describe_fault,
    describe_ranks,
    describe_updates,
)
from esper_analyzer.wording import compact, duration, missing, trend_words
from esper_schemas.metric.catalogue import (
    DECLARED,
    EPISODE_RETURN,
    LOSS_RATIO,
    RETURNS,
    SLIDING_RETURN,
    is_label,
    leading,
)
from esper_schemas.metric.metrics import COMPARISONS, Level, Limit

SCRIPTS = (*CHART_SCRIPTS, "report.js")
MAX_REASONS = 6
MAX_CONFIG = 500
MAX_TEXT = 500
MAX_FAULTS = 200
MAX_MISSING = 100


@dataclass(frozen=True, slots=True)
class Tile:
    """A number below the verdict, with its level and a remark."""

    title: str
    value: str
    level: Level
    remark: str


@dataclass(frozen=True, slots=True)
class ReasonLine:
    """A reason of the verdict on the page: the finding, its meaning, and a link to where to look.

    Attributes:
        found: what was found.
        meaning: what that usually means.
        target: id of the element that the link points to; empty without a link.
        where: text of the link.
        is_remark: whether this is a remark rather than a reason for the level of the verdict.
    """

    found: str
    meaning: str
    target: str
    where: str
    is_remark: bool


def report_html(
    run: JudgedRun,
    report: Report,
    rank: Ranks = "first",
    found: RunIndex | None = None,
    judged: Mapping[int, Judgement] | None = None,
) -> str:
    """Return the report as one HTML document that needs no other files and no network.

    Args:
        run: the run of the report. The charts read its rows in bounded memory.
        report: the report that `run.report(rank)` returned.
        rank: the same; None for all ranks, with a line for each (one line for all if there are more than 8).
        found: the index that the report was made from, so that the charts show the same moment; by default a new one.
        judged: the judgements that the report was made from, so that no row is judged again.

    Raises:
        NotARunError, FormatVersionError: as in `Run.updates`.
    """
    sections: dict[str, MetricSection | RatioSection] = dict(report.metrics)
    if report.ratio.last is not None or report.ratio.median is not None:
        sections[LOSS_RATIO] = report.ratio
    names = _charted(report, sections)
    found = found or run.look(looked_at(rank))
    frames = found.frames()
    rows = joined(frames[number] for number in found.shown(rank)).with_columns(loss_ratio())
    course = course_of(rows, names, report.updates.missing)
    settings = run.settings
    charts = [chart_of(at, name, sections[name], course.lines[name], settings) for at, name in enumerate(names)]
    ids = {chart.name: chart.id for chart in charts}
    by_id = {chart.id: chart for chart in charts}
    links = ids | {about: ids[name] for about, name in CHART_OF.items() if name in ids}
    axes = axes_of(rows, course)
    data = pack(chart_data(report, course, axes, attempts_of(rows), charts, links, settings))
    is_of_several = len(course.ranks) > 1 or course.ranks == [None]
    styles, scripts = page_styles(), page_scripts(SCRIPTS)
    header = run.header
    identity = {
        "created": header.created,
        "host": header.host,
        "git commit": header.git_commit,
        "run uuid": header.run_uuid,
        "format": header.format,
        "thresholds": report.thresholds,
    }
    return (
        environment()
        .get_template("report.html.jinja")
        .render(
            report=report,
            status=report.run.described_ending,
            ranks_shown=describe_ranks(report.run),
            since=report.verdict.since,
            reasons=_reasons(report.verdict.findings, {link: by_id[at] for link, at in links.items()}),
            beside={name: beside(report.verdict, name) for name in report.verdict.questions},
            max_reasons=MAX_REASONS,
            tiles=[] if is_of_several else _tiles(report, run.settings.rules),
            moment=moment_of(run, report, found, ids, None if is_of_several else report.run.rank, judged),
            is_of_several=is_of_several,
            axes=axes,
            charts=charts,
            main=[chart for chart in charts if chart.is_main],
            other=[chart for chart in charts if not chart.is_main],
            width=course.width,
            ranks=course.ranks,
            ids=ids,
            links=links,
            alerts=report.alerts,
            of_ranks=len(report.run.ranks) > 1,
            black_boxes=[
                (heading(box), file_line(box), moved_line(box), all_columns(box))
                if has_table(report.black_boxes, number)
                else (heading(box), file_line(box), "", [])
                for number, box in enumerate(report.black_boxes)
            ],
            updates=describe_updates(report.updates),
            end=describe_end(report.run, report.metrics["wall_time"].max),
            missing=missing(report.updates.missing, report.updates.stride, MAX_MISSING),
            recorded={
                name: metric for name, metric in report.metrics.items() if _is_recorded(metric) and not is_label(name)
            },
            config=_flat(header.config),
            definition=_flat(header.value_loss_definition),
            versions=_flat(header.versions),
            identity={key: str(value) for key, value in identity.items() if value is not None},
            faults=[(fault, describe_fault(fault)) for fault in report.integrity.faults[:MAX_FAULTS]],
            duration=_duration(report),
            data=Markup(data),  # Base64 needs no escaping, and cleaning it would take long
            styles=styles,
            scripts=scripts,
            policy=policy(styles, scripts),
        )
    )


def _critic_error(report: Report, rules: Sequence[Rule]) -> Iterator[Tile]:
    """Yield a tile with the critic's error, the most telling number of a critic, if it is known."""
    value = report.signals.get("critic_error")
    rule = next((rule for rule in rules if rule.metric == "critic_error"), None)
    if value is None or rule is None or not math.isfinite(value):
        return
    worst: Level = "healthy"
    levels: tuple[tuple[Level, tuple[Limit, ...]], ...] = (
        ("warning", rule.bands.warning),
        ("critical", rule.bands.critical),
    )
    for level, limits in levels:
        if any(COMPARISONS[limit.comparison](value, limit.bound) for limit in limits):
            worst = level
    yield Tile("Critic's error", rule.shown(value), worst, "of the targets' usual variance")


def _tiles(report: Report, rules: Sequence[Rule]) -> list[Tile]:
    """Return the tiles: the return, which people look at first, then how the critic does, then the rest."""
    headlines = sorted(_headlines(report), key=lambda tile: tile[0] not in RETURNS)
    at = sum(name in RETURNS for name, _ in headlines)
    tiles = [tile for _, tile in headlines]
    return [*tiles[:at], *_critic_error(report, rules), *tiles[at:]]


def _headlines(report: Report) -> Iterator[tuple[str, Tile]]:
    for metric in leading():
        if metric.headline and _is_recorded(found := report.metrics[metric.name]):
            trend = trend_words(metric.name, found.trend).full
            yield metric.name, Tile(metric.title, compact(found.last), found.health.level, trend)
    sliding = report.metrics.get(SLIDING_RETURN)
    if sliding is not None and _is_recorded(sliding) and not _is_recorded(report.metrics[EPISODE_RETURN]):
        trend = trend_words(SLIDING_RETURN, sliding.trend).full
        yield (
            SLIDING_RETURN,
            Tile(f"{DECLARED[EPISODE_RETURN].title}, sliding mean", compact(sliding.last), "unknown", trend),
        )


def _charted(report: Report, sections: Mapping[str, MetricSection | RatioSection]) -> list[str]:
    """Return the metrics to chart, the main ones first."""
    recorded = [
        name
        for name, section in sections.items()
        if not is_label(name) and (isinstance(section, RatioSection) or _is_recorded(section))
    ]
    if not report.updates.rows:
        return []
    first = (RETURNS if metric.name == EPISODE_RETURN else (metric.name,) for metric in leading())
    main = [name for names in first for name in names if name in recorded]
    return main + [name for name in recorded if name not in main]


def _is_recorded(metric: MetricSection) -> bool:
    return metric.nonfinite is not None


def _reasons(findings: Sequence[Reason], charts: Mapping[str, Chart]) -> list[ReasonLine]:
    """Return the reasons, each linked to the chart of what its rule watches, or to the faults of the files."""
    lines = []
    for ranks, finding in grouped(findings):
        target, where = ("files-title", "the faults") if finding.rule == DAMAGE else ("", "")
        chart = charts.get(finding.metric) if finding.metric is not None else None
        if chart is not None:
            target, where = chart.id, chart.title
        lines.append(ReasonLine(ranks + finding.text, finding.meaning, target, where, finding.rule == REMARK))
    return lines


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Flatten nested settings to pairs of a dotted name and a short text."""
    flat: list[tuple[str, str]] = []
    stack: list[tuple[str, Any]] = [(f"{prefix}{key}", value) for key, value in reversed(list(values.items()))]
    while stack:
        name, value = stack.pop()
        if isinstance(value, Mapping) and value:
            stack += [(f"{name}.{key}", inner) for key, inner in reversed(list(value.items()))]
        elif len(flat) == MAX_CONFIG:
            return [*flat, ("…", f"only the first {MAX_CONFIG} are shown")]
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            flat.append((name[:MAX_TEXT], text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"))
    return flat


def _duration(report: Report) -> str:
    begun, ended = report.metrics["wall_time"].min, report.metrics["wall_time"].max
    if not isinstance(begun, datetime) or not isinstance(ended, datetime):
        return ""
    return f"{begun:%Y-%m-%d %H:%M} UTC, {duration((ended - begun).total_seconds())}"
