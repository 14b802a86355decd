"""The report as GitHub Flavored Markdown, short enough to paste into an issue or a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.verdict import Verdict, beside, grouped
from esper_analyzer.reporting.black_boxes import Column, file_line, has_table, heading, main_columns, moved_line
from esper_analyzer.reporting.report import Report
from esper_analyzer.reporting.sections import BlackBoxSection, IntegritySection, MetricSection, UpdatesSection
from esper_analyzer.reporting.text import (
    describe_end,
    describe_fault,
    describe_ranks,
    describe_updates,
)
from esper_analyzer.wording import compact, count, is_advisory, level_word, size, trend_words
from esper_schemas.cleaning import printable
from esper_schemas.metric.catalogue import LOSS_RATIO, leading
from esper_schemas.metric.levels import PALETTE
from esper_schemas.metric.metrics import Level

MAX_REASONS = 12
MAX_ALERTS = 40
"""More rules than there are, so that only a run of many ranks leaves alerts out; their number is said."""

MAX_FAULTS = 10
MAX_BLACK_BOXES = 5
MAX_COLUMNS = 6
MAX_TEXT = 300

_NO_WIDTH = "&#8203;"  # a zero-width space; it breaks mentions, references and addresses
_MARKUP = re.compile(r"[\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_LINKED = re.compile(r"@|#(?=\w)|:(?=/)|\b(?:www|mailto|xmpp)(?=[.:])|\bGH(?=-)", re.IGNORECASE)


def report_markdown(report: Report) -> str:
    """Return the report in under 100 lines: verdict, main metrics, alerts, black boxes, updates and files."""
    lines = [
        *_heading(report),
        "",
        *_reasons([ranks + finding.said for ranks, finding in grouped(report.verdict.findings)]),
        *_questions(report.verdict),
        *_metrics(report),
        *_alerts(report.alerts, several=len(report.run.ranks) > 1),
        *_black_boxes(report.black_boxes, report.black_boxes_left_out),
        *_files(report.updates, report.integrity),
    ]
    return "\n".join(lines) + "\n"


def _questions(verdict: Verdict) -> Iterator[str]:
    """Return one line for each question, without a reason that stands above."""
    yield ""
    for name, answer in verdict.questions.items():
        reason = f": {plain(said)}" if (said := beside(verdict, name)) else ""
        yield f"- {name} {_level(answer.level)}{reason}"


def plain(text: object) -> str:
    """Escape a text of the run, so that Markdown shows it without markup, HTML, mentions, references or links."""
    shown = printable(str(text))
    shown = shown if len(shown) <= MAX_TEXT else shown[:MAX_TEXT] + "…"
    parted = _LINKED.sub(lambda found: found[0] + "\0", shown)  # printable() has removed any NUL of the text
    escaped = _MARKUP.sub(r"\\\g<0>", parted)
    start = re.match(r"\d*[-+#=.)]", escaped)
    escaped = escaped[: start.end() - 1] + "\\" + escaped[start.end() - 1 :] if start else escaped
    escaped = re.sub("^>", "&gt;", escaped.replace("&", "&amp;").replace("<", "&lt;"))
    return escaped.replace("\0", _NO_WIDTH)


def _heading(report: Report) -> Iterator[str]:
    run = report.run
    since = report.verdict.since
    beginning = f" since update {since}" if since is not None else ""
    yield f"### {_level(report.verdict.level)}{beginning}: {plain(run.run_id)}"
    yield ""
    parts = [
        plain(run.described_ending),
        " on ".join(plain(part) for part in (run.trainer, run.env) if part),
    ]
    parts += [plain(run.device)] if run.device else []
    parts += [describe_ranks(run)] if describe_ranks(run) else []
    parts += [f"{run.attempts} attempts"] if run.attempts != 1 else []
    parts += [f"thresholds from {plain(report.thresholds)}"] if report.thresholds is not None else []
    yield " · ".join(part for part in [*parts, describe_updates(report.updates)] if part)
    if end := describe_end(run, report.metrics["wall_time"].max):
        yield ""
        yield end


def _reasons(reasons: Sequence[str]) -> Iterator[str]:
    for reason in reasons[:MAX_REASONS]:
        yield f"- {plain(reason)}"
    if len(reasons) > MAX_REASONS:
        yield f"- and {len(reasons) - MAX_REASONS} more"


def _metrics(report: Report) -> Iterator[str]:
    rows = []
    for metric in leading():
        found, ratio = report.metrics.get(metric.name), report.ratio
        if metric.name == LOSS_RATIO and ratio.median is not None:
            middle = f"{compact(ratio.last)} | median {report.median_sign(LOSS_RATIO)}{compact(ratio.median)}"
            rows.append(f"| {metric.title} | {middle} | {_metric_level(metric.name, ratio.health.level)} |")
        elif found is not None and found.nonfinite is not None:
            rows.append(_metric(metric.name, metric.title, found))
    if not rows:
        return
    yield ""
    yield "| metric | last | trend of 10 | level |"
    yield "| --- | ---: | --- | --- |"
    yield from rows


def _metric(name: str, title: str, metric: MetricSection) -> str:
    level = _metric_level(name, metric.health.level) if metric.health.level != "unknown" else ""
    bad = f" ({count(metric.nonfinite)} not finite)" if metric.nonfinite else ""
    return f"| {title} | {compact(metric.last)}{bad} | {trend_words(name, metric.trend).full} | {level} |"


def _alerts(alerts: Sequence[Alert], *, several: bool) -> Iterator[str]:
    yield ""
    if not alerts:
        yield "No alerts."
        return
    shown = alerts[:MAX_ALERTS]
    most = f", {len(shown)} of {len(alerts)}" if len(alerts) > len(shown) else ""
    yield f"<details><summary>Alerts{most}: what ends a run and the worst first</summary>"
    yield ""
    yield "| first at update | level | alert | message |"
    yield "| ---: | --- | --- | --- |"
    for alert in shown:
        rank = f"Rank {alert.rank}: " if several else ""
        what = plain(f"{rank}{alert.title}, {alert.course}")
        yield f"| {alert.first} | {_level(alert.level)} | {what} | {plain(alert.message)} |"
    yield ""
    yield "</details>"


def _black_boxes(boxes: Sequence[BlackBoxSection], left_out: int) -> Iterator[str]:
    if not boxes:
        return
    shown = [*boxes[:1], *boxes[1:][-(MAX_BLACK_BOXES - 1) :]]
    left_out += len(boxes) - len(shown)
    yield ""
    yield "<details><summary>Black box: the last minibatches before something broke</summary>"
    for number, box in enumerate(shown):
        yield ""
        yield f"{plain(heading(box))} ({plain(file_line(box))})"
        if has_table(shown, number):
            if moved := moved_line(box):
                yield ""
                yield f"**{plain(moved)}**"
            yield from _minibatches(main_columns(box, most=MAX_COLUMNS)[0])
        if number == 0 and left_out:
            yield ""
            yield f"and {count(left_out)} more"
    yield ""
    yield "</details>"


def _minibatches(columns: Sequence[Column]) -> Iterator[str]:
    if not columns:
        return
    yield ""
    yield f"| {' | '.join(plain(column.name) for column in columns)} |"
    yield f"|{' ---: |' * len(columns)}"
    for cells in zip(*(column.cells for column in columns), strict=True):
        yield f"| {' | '.join(cells)} |"


def _files(updates: UpdatesSection, integrity: IntegritySection) -> Iterator[str]:
    faults = integrity.faults
    sealed, active = integrity.segments_sealed, integrity.segments_active
    yield ""
    yield (
        f"Updates: {count(updates.rows)}, {count(updates.missing_count)} missing, {count(updates.skipped)} skipped, "
        f"{count(updates.dropped)} dropped, {count(updates.superseded)} superseded. "
        f"Files: {sealed} sealed segment{'s' * (sealed != 1)}, {active} active, {size(integrity.bytes)}, "
        f"{f'{len(faults)} fault' + 's' * (len(faults) != 1) + ':' if faults else 'no faults.'}"
    )
    if faults:
        yield ""
    for fault in faults[:MAX_FAULTS]:
        yield f"- {'**damage** ' if fault.is_damage else ''}{plain(describe_fault(fault))}"
    if len(faults) > MAX_FAULTS:
        yield f"- and {len(faults) - MAX_FAULTS} more"


def _level(level: Level) -> str:
    return f"{PALETTE[level].sign} {level}"


def _metric_level(name: str, level: Level) -> str:
    return level_word(name, level) if is_advisory(name, level) else _level(level)
