"""The table of losses on a terminal: last value, the last ten, trend and level of each."""

from __future__ import annotations

from dataclasses import dataclass

from rich.text import Text

from esper_analyzer.drawing.sparklines import sparkline
from esper_analyzer.drawing.style import LEVEL_STYLE, alarm_style, metric_level_text, trend_style
from esper_analyzer.measuring.levels import bands_of
from esper_analyzer.measuring.snapshot import MetricState, as_number
from esper_analyzer.measuring.summary import Value
from esper_analyzer.wording import number, trend_words
from esper_schemas.metric.catalogue import LOSS_RATIO, leading
from esper_schemas.metric.severity import DEFAULT_THRESHOLDS, Thresholds

LOSSES = {metric.name: metric.short for metric in leading("losses")}
FURTHER = {metric.name: metric.short for metric in leading() if metric.group != "losses"}
"""Short names of the metrics shown first: the losses, then the others."""

INDENT = 2

_TITLE, _NUMBER, _HISTORY = 7, 10, 10
_LOW = ", low"


@dataclass(frozen=True, slots=True)
class _Columns:
    """Which columns fit, and their widths in cells: the trend in words and how sure it is, the same over 30 updates."""

    history: int = _HISTORY + 2
    trend: int = 16
    sure: int = 0
    slow: int = 0
    has_low: bool = True

    @classmethod
    def of(cls, width: int) -> _Columns:
        if width < 58:
            return cls(history=0, trend=16 if width >= 46 else 10, has_low=False)
        if width < WIDE:
            return cls(has_low=width >= 58 + len(_LOW))
        return cls(trend=23, sure=5, slow=16 if width >= VERY_WIDE else 0)

    @property
    def middle(self) -> int:
        """Width of everything between the last value and the level."""
        slow = self.slow + len(_sure(self, "")) if self.slow else 0
        return self.history + self.trend + len(_sure(self, "")) + slow


WIDE = 76
"""From this width on, the rows have the whole trend in words and its confidence."""

VERY_WIDE = 98
"""From this width on, the rows have the slow trend, too."""


def table_head(width: int) -> Text:
    """Return the heading above the rows of `metric_row`."""
    columns = _Columns.of(width)
    history = f"{'last 10':{_HISTORY}}  " if columns.history else ""
    trend = f"{'trend':{columns.trend}}{_sure(columns, 'sure')}"
    slow = f"{'over 30':{columns.slow}}{_sure(columns, 'sure')}" if columns.slow else ""
    return Text(f"{'':{INDENT + _TITLE}}{'last':>{_NUMBER}}  {history}{trend}{slow}level", style="dim")


def metric_row(
    name: str,
    title: str,
    state: MetricState,
    width: int,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    *,
    median: str | None = None,
) -> Text:
    """Return one row of the table.

    It has 40 cells without the last ten values, 58 with them, 75 with the whole trend in words and its confidence, and
    98 with the slow trend.

    Args:
        name, title, state: the metric.
        width: cells there are.
        thresholds: those that the level was judged by.
        median: shown instead of history and trend.
    """
    columns = _Columns.of(width)
    style = LEVEL_STYLE[state.level] if name == LOSS_RATIO else alarm_style(name, state.level) or "bold"
    line = Text(" " * INDENT).append(title.ljust(_TITLE))
    line.append(number(as_number(state.last)).rjust(_NUMBER), style=style).append("  ")
    if median is not None:
        line.append(f"median {median}".ljust(columns.middle), style="dim")
    else:
        if columns.history:
            line.append(sparkline(map(as_number, state.history)).ljust(_HISTORY), style="cyan").append("  ")
        words = trend_words(name, state.trend)
        shown = words.full if columns.sure else words.narrow if columns.trend >= 16 else words.short
        line.append(f"{shown:{columns.trend}}", style=trend_style(words))
        line.append(_sure(columns, words.sure), style="dim")
        if columns.slow:
            words = trend_words(name, state.long_trend)
            line.append(f"{words.narrow:{columns.slow}}", style=trend_style(words))
            line.append(_sure(columns, words.sure), style="dim")
    if bands_of(name, thresholds) is not None:  # else there is no level to speak of
        line.append_text(metric_level_text(name, state.level))
    if columns.has_low and name == "value_loss" and state.level == "healthy" and is_low(name, state.last, thresholds):
        line.append(_LOW, style="dim")
    return line


def _sure(columns: _Columns, text: str) -> str:
    return f"{text:>{columns.sure}}  " if columns.sure else " "


def is_low(name: str, value: Value, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> bool:
    """Whether a healthy value is so small that it gets the remark "low"."""
    bands, size = bands_of(name, thresholds), as_number(value)
    return bool(bands and bands.low is not None and size is not None and size < bands.low)
