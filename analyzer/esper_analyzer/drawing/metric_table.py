"""The table of metrics on a terminal: last value, the last ten, trend and level of each."""

from __future__ import annotations

from rich.text import Text

from esper_analyzer.drawing.sparklines import sparkline
from esper_analyzer.drawing.style import LEVEL_STYLE, level_text, trend_mark
from esper_analyzer.measuring.levels import DEFAULT_THRESHOLDS, Thresholds, bands_of
from esper_analyzer.measuring.snapshot import MetricState, as_number
from esper_analyzer.measuring.summary import Value
from esper_analyzer.wording import number
from esper_schemas.metric.catalogue import LOSS_RATIO, leading
from esper_schemas.metric.metrics import Level

LOSSES = {metric.name: metric.short for metric in leading("losses")}
FURTHER = {metric.name: metric.short for metric in leading() if metric.group != "losses"}
"""Short names of the metrics shown first: the losses, then the others."""

WIDE = 78
"""From this width on, the rows have the trend in words and its confidence."""

VERY_WIDE = 98
"""From this width on, the rows have the slow trend, too."""

INDENT = 2


def table_head(width: int) -> Text:
    """Return the heading above the rows of `metric_row`."""
    trend = f"{'trend':11}{'sure':>4}  " if width >= WIDE else ""
    trend += f"{'over 30':10}{'sure':>4}  " if width >= VERY_WIDE else ""
    return Text(f"{'':{INDENT}}{'':9}{'last':>10}  {'last 10':10}  {'change':10}{trend}level", style="dim")


def metric_row(
    name: str, title: str, state: MetricState, width: int, thresholds: Thresholds = DEFAULT_THRESHOLDS
) -> Text:
    """Return one row of the table: 55 cells, 72 with the trend in words and its confidence, 88 with the slow trend."""
    style = LEVEL_STYLE[state.level] if name == LOSS_RATIO else alarm_style(state.level) or "bold"
    line = Text(" " * INDENT).append(title.ljust(9)).append(number(as_number(state.last)).rjust(10), style=style)
    line.append("  ").append(sparkline(map(as_number, state.history)).ljust(10), style="cyan").append("  ")
    mark = trend_mark(state.trend) if state.history else Text()
    line.append_text(mark).append(" " * (10 - len(mark)))
    if width >= WIDE:
        sure = state.trend.confidence
        line.append((state.trend.label if state.history else "").ljust(11), style=mark.style)
        line.append(f"{'' if sure is None else f'{100 * sure:.0f}%':>4}  ", style="dim")
    if width >= VERY_WIDE:
        slow = state.long_trend
        mark = trend_mark(slow) if slow.change is not None else Text()
        line.append_text(mark).append(" " * (10 - len(mark)))
        line.append(f"{'' if slow.confidence is None else f'{100 * slow.confidence:.0f}%':>4}  ", style="dim")
    line.append_text(level_text(state.level))
    if name == "value_loss" and state.level == "healthy" and is_low(name, state.last, thresholds):
        line.append(", low", style="dim")
    return line


def is_low(name: str, value: Value, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> bool:
    """Whether a healthy value is so small that it gets the remark "low"."""
    bands, size = bands_of(name, thresholds), as_number(value)
    return bool(bands and bands.low is not None and size is not None and size < bands.low)


def alarm_style(level: Level) -> str:
    """Return the colour of a warning or a critical level; an empty style for the others."""
    return LEVEL_STYLE[level] if level in ("warning", "critical") else ""
