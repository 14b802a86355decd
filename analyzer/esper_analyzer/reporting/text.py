"""The report as text within 80 columns: verdict, losses, every metric, alerts, black boxes, files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from textwrap import wrap

from rich.cells import cell_len
from rich.text import Text

from esper_analyzer.drawing.metric_table import LOSSES, metric_row, table_head
from esper_analyzer.drawing.style import STATUS_STYLE, fit, level_text, trend_style
from esper_analyzer.explaining.explanation import Explanation
from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.verdict import Verdict, beside, grouped
from esper_analyzer.measuring.snapshot import MetricState, as_number
from esper_analyzer.measuring.trends import Trend
from esper_analyzer.reporting.black_boxes import GAP, Column, file_line, has_table, heading, main_columns, moved_line
from esper_analyzer.reporting.report import Report
from esper_analyzer.reporting.sections import (
    BlackBoxSection,
    IntegritySection,
    MetricSection,
    RunSection,
    UpdatesSection,
)
from esper_analyzer.wording import compact, count, duration, is_advisory, missing, size, trend_words
from esper_schemas.cleaning import printable
from esper_schemas.examining.faults import Fault
from esper_schemas.metric.catalogue import DECLARED, LOSS_RATIO, is_label
from esper_schemas.metric.severity import DEFAULT_THRESHOLDS, Thresholds
from esper_schemas.run.ending import status_word

WIDTH = 80
MIN_WIDTH = 40
WIDE_TABLE = 86
"""From this width on, the table of metrics has the trends with their numbers."""
MAX_FAULTS = 20
MOST_SENTENCES = 2
"""Of what moved first."""
MIN_REASON = 30
"""Where fewer cells are left beside the status, why the run ended has a line of its own."""

_NAME_WIDTH, _SHORT_TREND, _NARROW_TREND = 21, 10, 16


def report_lines(
    report: Report,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    columns: int = WIDTH,
    explained: Explanation | None = None,
) -> Iterator[Text]:
    """Yield the lines of the report as text.

    Args:
        report: the report.
        thresholds: those that it was made with.
        columns: of the terminal. If it has less than 80, the tables of the black boxes have fewer columns; from
            `WIDE_TABLE` on, the trends of all metrics have numbers.
        explained: what moved first, whose first sentences are said below the verdict.
    """
    width = max(MIN_WIDTH, min(columns, WIDTH))
    yield from _heading(report.run, report.updates, report.metrics)
    if report.thresholds is not None:
        yield from _wrapped(f"thresholds from {printable(report.thresholds)}", "  ", "  ")
    yield Text()
    since = report.verdict.since
    beginning = f" since update {since}" if since is not None else ""
    yield Text("Verdict  ").append_text(level_text(report.verdict.level)).append(beginning)
    for ranks, finding in grouped(report.verdict.findings):
        yield from _wrapped(ranks + finding.said, "  - ", "    ")
    yield from _questions(report.verdict)
    if explained is not None:
        yield from _moved_first(explained)
    if report.updates.rows:
        yield from _losses(report, thresholds)
        yield from _metrics(report, is_wide=columns >= WIDE_TABLE)
        yield from _alerts(report.alerts, several=len(report.run.ranks) > 1)
    yield from _black_boxes(report.black_boxes, report.black_boxes_left_out, width)
    yield from _integrity(report.integrity)


def _questions(verdict: Verdict) -> Iterator[Text]:
    """Return the answer to each question of the verdict, without a reason that stands above."""
    for name, answer in verdict.questions.items():
        head = Text(f"  {name:9}  ").append_text(level_text(answer.level))
        yield from _after(head, 23, beside(verdict, name))


def _moved_first(explained: Explanation) -> Iterator[Text]:
    """Return the first sentences of an explanation, but for a first metric that has come back, which says little."""
    first = next(iter(explained.moved), None)
    if first is None or first.lasts or first.direction == "not finite":
        said = [*explained.sentences[:MOST_SENTENCES], "`esper-analyze explain` says more."]
        yield from _after(Text("  moved first"), 23, " ".join(said))


def _after(head: Text, indent: int, text: str) -> Iterator[Text]:
    """Return a text behind a head, in lines that are indented like it."""
    lines = wrap(printable(text), WIDTH, initial_indent=" " * indent, subsequent_indent=" " * indent)
    yield head.append(lines[0][len(head) :] if lines else "", style="dim")
    yield from (Text(line, style="dim") for line in lines[1:])


def name_and_ending(run_id: str, status: str, end_reason: str | None, *, is_imported: bool) -> Iterator[Text]:
    """Yield the name of a run, its status, and why it ended where that is known, as one line or two."""
    word = Text(status_word(status, is_imported=is_imported), style=STATUS_STYLE[status])
    head = Text().append(fit(printable(run_id), WIDTH - 14), style="bold").append("  ").append_text(word)
    reason, room = printable(end_reason or ""), WIDTH - head.cell_len - 2
    if reason and room >= MIN_REASON:
        yield head.append(f": {fit(reason, room)}")
    else:
        yield head
        if reason:
            yield Text(fit(f"  {reason}", WIDTH))


def _heading(run: RunSection, updates: UpdatesSection, metrics: Mapping[str, MetricSection]) -> Iterator[Text]:
    yield from name_and_ending(run.run_id, run.status, run.end_reason, is_imported=run.is_imported)
    yield from _wrapped(printable(run.path), "  ", "  ", style="dim")
    parts = [" on ".join(printable(part) for part in (run.trainer, run.env) if part)]
    parts += [printable(run.device)] if run.device else []
    parts += [describe_ranks(run)] if describe_ranks(run) else []
    parts += [f"{run.attempts} attempts"] if run.attempts != 1 else []
    steps, begun, ended = metrics["env_steps"].last, metrics["wall_time"].min, metrics["wall_time"].max
    parts += [f"{count(int(as_number(steps) or 0))} steps"] if steps is not None else []
    if isinstance(begun, datetime) and isinstance(ended, datetime):
        parts.append(f"{begun:%Y-%m-%d %H:%M} UTC, {duration((ended - begun).total_seconds())}")
    yield from _wrapped(" · ".join(part for part in parts if part), "  ", "  ")
    yield from _wrapped(describe_updates(updates), "  ", "  ")
    if end := describe_end(run, ended):
        yield from _wrapped(end, "  ", "  ", style="dim")


def describe_end(run: RunSection, last: object) -> str:
    """Say what is known of the end of a training of which there is a log only; empty for a run that was recorded.

    Args:
        run: the run.
        last: time of the last row, where it has one.
    """
    if not run.is_imported:
        return ""
    where = f" ends at {last:%Y-%m-%d %H:%M} UTC" if isinstance(last, datetime) else " has no times"
    return f"The log{where}; whether the training finished is unknown."


def describe_ranks(run: RunSection) -> str:
    """Describe which ranks a report is on; empty for a run of one rank."""
    if run.world_size == 1 and len(run.ranks) < 2 and run.rank in (None, 0):
        return ""
    total = max(run.world_size, len(run.ranks))
    if len(run.ranks) < 2:
        return f"rank {run.rank} of {total}" if run.rank is not None else f"{total} ranks"
    return f"{total} ranks" if run.rank is None else f"verdict on {len(run.ranks)} ranks, numbers of rank {run.rank}"


def describe_updates(updates: UpdatesSection) -> str:
    """Describe the updates and what is missing of them, as one sentence without a full stop."""
    if not updates.rows:
        return "no updates yet"
    parts = [f"{count(updates.rows)} updates, {updates.first} to {updates.last}"]
    if updates.rows == 1:
        parts = [f"1 update, number {updates.first}"]
    if updates.missing:
        parts.append(f"{count(updates.missing_count)} missing ({missing(updates.missing, updates.stride, 5)})")
    for number, what in (
        (updates.skipped, "skipped"),
        (updates.dropped, "dropped"),
        (updates.superseded, "superseded"),
    ):
        parts += [f"{count(number)} {what}"] if number else []
    return ", ".join(parts)


def _losses(report: Report, thresholds: Thresholds) -> Iterator[Text]:
    yield Text()
    yield table_head(WIDTH)
    for name, title in LOSSES.items():
        if name != LOSS_RATIO:
            yield metric_row(name, title, _state(report.metrics[name]), WIDTH, thresholds)
            continue
        none = Trend("unknown")
        state = MetricState(report.ratio.last, [], none, none, report.ratio.health.level)
        yield metric_row(name, title, state, WIDTH, thresholds, median=_median(report, LOSS_RATIO, report.ratio.median))
    yield from _long_trends(report)
    if is_advisory(LOSS_RATIO, report.ratio.health.level):
        yield from _wrapped(DECLARED[LOSS_RATIO].meaning, "  ", "  ", style="dim")


def _long_trends(report: Report) -> Iterator[Text]:
    """Yield the slow trends of the losses, if there are enough updates to tell."""
    trends = []
    for name, title in LOSSES.items():
        slow = report.metrics[name].long_trend if name in report.metrics else Trend("unknown")
        words = trend_words(name, slow)
        if words.full:
            trends.append(f"{title} {words.full}" + (f" ({words.sure} sure)" if words.sure else ""))
    if trends:
        yield from _wrapped(f"Over 30 updates: {'; '.join(trends)}", "  ", "  ", style="dim")


def _state(metric: MetricSection) -> MetricState:
    return MetricState(metric.last, metric.history, metric.trend, metric.long_trend, metric.health.level)


def _median(report: Report, name: str, median: float | None) -> str | None:
    return None if median is None else report.median_sign(name) + compact(median)


def _metrics(report: Report, *, is_wide: bool) -> Iterator[Text]:
    yield Text()
    room = _NARROW_TREND if is_wide else _SHORT_TREND
    heads = "".join(head.rjust(9) for head in ("last", "min", "median", "max"))
    yield Text(f"  {'metric':{_NAME_WIDTH}}{heads}  {'trend':{room}} level", style="dim")
    for name, metric in report.metrics.items():
        if metric.nonfinite is None or is_label(name):
            continue
        line = Text(f"  {fit(printable(name), _NAME_WIDTH):{_NAME_WIDTH}}")
        for value in (
            compact(metric.last),
            compact(metric.min),
            _median(report, name, metric.median),
            compact(metric.max),
        ):
            line.append((value or "").rjust(9))
        words = trend_words(name, metric.trend)
        line.append("  ").append(f"{words.narrow if is_wide else words.short:{room}} ", style=trend_style(words))
        if metric.health.level != "unknown":
            line.append_text(level_text(metric.health.level))
        line.rstrip()
        yield line
        if metric.nonfinite:
            yield Text(f"    {count(metric.nonfinite)} not finite", style="bold red")


def _alerts(alerts: Sequence[Alert], *, several: bool) -> Iterator[Text]:
    yield Text()
    if not alerts:
        yield Text("Alerts  none")
        return
    yield Text("Alerts, by first update; what ends a run and the worst come first")
    width = max(len(str(alert.first)) for alert in alerts)
    indent = width + 13
    for alert in alerts:
        line = Text(f"  {alert.first:>{width}}  ").append_text(level_text(alert.level))
        rank = f"Rank {alert.rank}: " if several else ""
        head, *rest = wrap(f"{rank}{alert.title}, {alert.course}", WIDTH - indent, break_on_hyphens=False)
        yield line.append(" " * max(0, indent - line.cell_len)).append(head)
        rest += wrap(printable(alert.message), WIDTH - indent, break_on_hyphens=False)
        yield from (Text(" " * indent + more, style="dim") for more in rest)


def _black_boxes(boxes: Sequence[BlackBoxSection], left_out: int, width: int) -> Iterator[Text]:
    if not boxes:
        return
    yield Text()
    yield Text("Black box")
    for number, box in enumerate(boxes):
        yield from _wrapped(heading(box), "  - ", "    ", width=width)
        yield from _wrapped(file_line(box), "    ", "    ", style="dim", width=width)
        if has_table(boxes, number):
            yield from _wrapped(moved_line(box), "    ", "    ", style="bold", width=width)
            shown, others = main_columns(box, width=width - 2)
            yield from _minibatches(shown)
            if others:
                yield Text(f"    {count(others)} more column{'s' * (others != 1)} in the file", style="dim")
        if number == 0 and left_out:
            yield Text(f"  … and {count(left_out)} more")


def _minibatches(columns: Sequence[Column]) -> Iterator[Text]:
    if not columns:
        return
    head = Text("  ", style="dim")
    for column in columns:
        head.append(_right(fit(printable(column.name), column.width), column.width + GAP))
    yield head
    for at in range(len(columns[0].cells)):
        line = Text("  ")
        for column in columns:
            line.append(_right(column.cells[at], column.width + GAP), "bold red" if column.not_finite[at] else "")
        yield line


def _right(text: str, width: int) -> str:
    return " " * (width - cell_len(text)) + text


def _integrity(integrity: IntegritySection) -> Iterator[Text]:
    sealed, active = integrity.segments_sealed, integrity.segments_active
    yield Text()
    total = f"{sealed} sealed segment{'s' * (sealed != 1)}, {active} active, {size(integrity.bytes)}"
    faults = len(integrity.faults)
    yield Text(f"Files  {total}, {f'{faults} fault' + 's' * (faults != 1) if faults else 'no faults'}")
    for fault in integrity.faults[:MAX_FAULTS]:
        style = "bold red" if fault.is_damage else ""
        yield from _wrapped(describe_fault(fault), "  - ", "    ", style=style)
    if faults > MAX_FAULTS:
        yield Text(f"  … and {faults - MAX_FAULTS} more")


def describe_fault(fault: Fault) -> str:
    """Return kind, place and message of a fault as one line."""
    where = "no rank" if fault.rank is None else f"rank {fault.rank}"
    where += f", segment {fault.segment}" if fault.segment is not None else ""
    where += f", offset {fault.offset}" if fault.offset is not None else ""
    return f"{fault.kind}: {where}: {printable(fault.message)}"


def _wrapped(text: str, first: str, rest: str, style: str = "", width: int = WIDTH) -> Iterator[Text]:
    lines = wrap(text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
    for line in lines:
        yield Text(line, style=style)
