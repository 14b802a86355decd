"""The main chart: a window of a metric's course as plotext draws it, with scale, cursor and marks of alerts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import polars as pl
from rich.text import Text

from esper_analyzer.app.picture import Event
from esper_analyzer.buckets import Buckets
from esper_analyzer.chart import LOG_DECADES, draw_chart
from esper_analyzer.health import LEVELS
from esper_analyzer.style import LEVEL_STYLE, Style
from esper_schemas.metrics import Bands, Limit

Scale = Literal["auto", "log", "linear"]
SCALES: tuple[Scale, ...] = ("auto", "log", "linear")

MARGIN = 8
"""Cells left of the first column of data: labels, and the axis."""

_MIN_WIDTH, _MIN_HEIGHT = 20, 4


@dataclass(frozen=True, slots=True)
class Plot:
    """A chart as text, and which update each of its columns stands for.

    Attributes:
        text: the chart.
        first, last: updates at the first and at the last column of data.
        columns: number of those columns.
    """

    text: Text
    first: int
    last: int
    columns: int

    def column_of(self, update: int) -> int | None:
        """Cell, from the left edge, of an update; None if it is not in the chart."""
        if not self.first <= update <= self.last:
            return None
        share = (update - self.first) / max(1, self.last - self.first)
        return MARGIN + round(share * (self.columns - 1))

    def update_at(self, cell: int) -> int | None:
        """The update at a cell; None left of the axis."""
        if not MARGIN <= cell < MARGIN + self.columns:
            return None
        share = (cell - MARGIN) / max(1, self.columns - 1)
        return self.first + round(share * (self.last - self.first))


def draw_plot(
    buckets: Buckets,
    bands: Bands | None,
    *,
    width: int,
    height: int,
    scale: Scale = "auto",
    cursor: int | None = None,
    events: Iterable[Event] = (),
    unicode: bool = True,
) -> Plot:
    """The chart of these buckets, `height` lines of `width` cells.

    Args:
        buckets: of the window that is to be shown.
        bands: thresholds of the metric, drawn as dotted lines where they are in view.
        width, height: size in cells.
        scale: of the values; `auto` is logarithmic where positive values span more than two powers of ten.
        cursor: update to draw the cursor at.
        events: marked in the lower axis: alerts ▲, new attempts ◆; where several meet, the worst.
        unicode: whether the curve may be drawn with more than ASCII.
    """
    frame = buckets.frame
    if not frame.height or width < _MIN_WIDTH or height < _MIN_HEIGHT:
        return Plot(Text(), 0, 0, max(0, width - MARGIN))
    first, last = int(frame["first"][0]), int(frame["last"][-1])
    base: float | None = None
    if scale == "log":
        frame, bands, base = _logarithms(frame, bands)
    elif scale == "linear":
        frame = _for_linear_scale(frame)
    style = Style(color=True, unicode=unicode)
    lines = draw_chart(Buckets(frame, buckets.width), bands, width=width, height=height, style=style)
    rows = [Text.from_ansi(line) for line in lines]
    if base is not None:
        rows = [_relabelled(row, base) for row in rows]
    plot = Plot(Text(), first, last, width - MARGIN)
    axis = len(rows) - 2
    for place, event in {plot.column_of(event.update): event for event in sorted(events, key=_severity)}.items():
        if place is not None:
            mark = "▲" if event.level in ("warning", "critical") else "◆"
            rows[axis] = _with_cell(rows[axis], place, mark, LEVEL_STYLE[event.level])
    cell = plot.column_of(cursor) if cursor is not None else None
    if cell is not None:
        for index in range(axis):
            shown = rows[index].plain[cell : cell + 1]
            rows[index] = _with_cell(
                rows[index], cell, shown if shown.strip() else "│", "reverse" * bool(shown.strip())
            )
    return Plot(Text("\n").join(rows), plot.first, plot.last, plot.columns)


def _severity(event: Event) -> int:
    return LEVELS.index(event.level)


def _with_cell(row: Text, cell: int, shown: str, style: str) -> Text:
    if cell >= len(row):
        row.pad_right(cell + 1 - len(row))
    middle = row[cell] if style == "reverse" else Text(shown)
    middle.stylize(style)
    return Text.assemble(row[:cell], middle, row[cell + 1 :])


def _logarithms(frame: pl.DataFrame, bands: Bands | None) -> tuple[pl.DataFrame, Bands | None, float]:
    """Common logarithms of the values above that of the smallest, which is returned; what is not positive is put there.

    The chart then draws them on a linear scale, since the smallest is 0.
    """
    positive = pl.concat([frame["min"], frame["max"]]).drop_nulls()
    positive = positive.filter(positive > 0.0)
    lowest = float(positive.min() or 1.0)  # type: ignore[arg-type]
    base = float(math.floor(math.log10(lowest)))
    height = [pl.max_horizontal(pl.col(name), pl.lit(lowest)).log10() - base for name in ("min", "max")]
    kept = [
        pl.when(pl.col(name).is_not_null()).then(one).alias(name)
        for name, one in zip(("min", "max"), height, strict=True)
    ]
    logs = frame.with_columns(kept)
    if logs["min"].drop_nulls().len() and float(logs["min"].min() or 0.0) > 0.0:  # type: ignore[arg-type]
        logs = _for_linear_scale(logs)
    if bands is None:
        return logs, None, base
    return logs, Bands(_log_limits(bands.warning, base), _log_limits(bands.critical, base)), base


def _log_limits(limits: tuple[Limit, ...], base: float) -> tuple[Limit, ...]:
    return tuple(Limit(limit.comparison, math.log10(limit.bound) - base) for limit in limits if limit.bound > 0.0)


def _for_linear_scale(frame: pl.DataFrame) -> pl.DataFrame:
    """The smallest value as 0 where the chart would take a logarithmic scale: less than a hundredth of its height."""
    low, high = frame["min"].min(), frame["max"].max()
    if not isinstance(low, float) or not isinstance(high, float) or low <= 0.0:
        return frame
    if math.log10(high) - math.log10(low) <= LOG_DECADES:
        return frame
    return frame.with_columns(pl.when(pl.col("min") == low).then(0.0).otherwise(pl.col("min")).alias("min"))


def _relabelled(row: Text, base: float) -> Text:
    """A line of a chart of logarithms, labelled with the values themselves."""
    label = row.plain[: MARGIN - 1].strip()
    if row.plain[MARGIN - 1 : MARGIN] not in ("┤", "┼", "+") or not label:
        return row
    try:
        exponent = float(label) + base
    except ValueError:
        return row
    value = 10.0**exponent if -307 < exponent < 308 else math.nan
    text = f"{value:.3g}" if 1e-4 <= value < 1e5 else f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    text = text if math.isfinite(value) else f"1e{exponent:.0f}"
    return Text.assemble((text.rjust(MARGIN - 1), "bright_black"), row[MARGIN - 1 :])
