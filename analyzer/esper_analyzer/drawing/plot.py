"""The main chart of the screen: the chart of a window of updates, plus cursor, marks of alerts and gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from rich.text import Text

from esper_analyzer.drawing.chart import Beside, Scaling, draw_chart, ends_of
from esper_analyzer.drawing.style import LEVEL_STYLE, Style
from esper_analyzer.live.picture import Event
from esper_analyzer.measuring.buckets import Buckets
from esper_analyzer.measuring.places import BY_UPDATE, Ruler
from esper_schemas.metric.levels import severity_of
from esper_schemas.metric.metrics import Bands

MARGIN = 8
"""Cells of labels and axis, left of the first column of data."""

_MIN_WIDTH, _MIN_HEIGHT = 20, 4
_MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Plot:
    """A chart as text, and the updates that its columns stand for.

    Attributes:
        text: the chart.
        first, last: places on the axis of the first and of the last column of data.
        columns: number of columns of data.
        ruler: the axis.
    """

    text: Text
    first: float
    last: float
    columns: int
    ruler: Ruler = BY_UPDATE

    def column_of(self, update: int) -> int | None:
        """Return the cell of an update, counted from the left edge; None if it is not in the chart."""
        place = self.ruler.at(update)
        if not self.first <= place <= self.last:
            return None
        share = (place - self.first) / ((self.last - self.first) or 1.0)
        return MARGIN + round(share * (self.columns - 1))

    def update_at(self, cell: int) -> int | None:
        """Return the update at a cell; None outside the columns of data."""
        if not MARGIN <= cell < MARGIN + self.columns:
            return None
        share = (cell - MARGIN) / max(1, self.columns - 1)
        return round(self.ruler.update_at(self.first + share * (self.last - self.first)))


def draw_plot(
    buckets: Buckets,
    bands: Bands | None,
    *,
    width: int,
    height: int,
    scaling: Scaling = "auto",
    cursor: int | None = None,
    events: Sequence[Event] = (),
    gaps: Sequence[tuple[int, int]] = (),
    beside: Sequence[Beside] = (),
    ruler: Ruler = BY_UPDATE,
    color: bool = True,
    unicode: bool = True,
) -> Plot:
    """Draw the chart of these buckets as `height` lines of `width` cells.

    Args:
        buckets: the buckets of the window to show.
        bands: thresholds of the metric; those in view are dotted lines.
        width, height: size in cells.
        scaling: scale of the values; `auto` is logarithmic if positive values span more than two powers of ten.
        cursor: the update to draw the cursor at.
        events: marked in the lower axis, alerts as ▲ and new attempts as ◆; of several in one cell, the worst.
        gaps: ranges of missing updates; those with room for it are named.
        beside: further lines, below the curve.
        ruler: the horizontal axis.
        color: whether colours tell the lines apart; if not, each line `beside` is made of its own character.
        unicode: whether to draw the curve with more than ASCII.
    """
    frame = buckets.frame
    if not frame.height or width < _MIN_WIDTH or height < _MIN_HEIGHT:
        return Plot(Text(), 0, 0, max(0, width - MARGIN))
    first, last = ends_of([(ruler, frame), *((other.ruler, other.buckets.frame) for other in beside)]) or (0.0, 0.0)
    style = Style(color=color, unicode=unicode)
    lines = draw_chart(
        buckets, bands, width=width, height=height, style=style, scaling=scaling, beside=beside, ruler=ruler
    )
    rows = [Text.from_ansi(line) for line in lines]
    plot = Plot(Text(), first, last, width - MARGIN, ruler)
    axis = len(rows) - 2
    worst_last = sorted(events, key=lambda event: severity_of(event.level))
    for place, event in {plot.column_of(event.update): event for event in worst_last}.items():
        if place is not None:
            mark = "▲" if event.level in ("warning", "critical") else "◆"
            rows[axis] = _with_cell(rows[axis], place, mark, LEVEL_STYLE[event.level])
    ends = [last + 1 for _, last in gaps]
    known = frame["last"].to_numpy()
    for before, end in zip(np.searchsorted(known, ends) - 1, ends, strict=True):
        if before >= 0:
            _name_gap(rows, plot, int(known[before]), end)
    cell = plot.column_of(cursor) if cursor is not None else None
    if cell is not None:
        for index in range(axis):
            shown = rows[index].plain[cell : cell + 1]
            rows[index] = _with_cell(
                rows[index], cell, shown if shown.strip() else "│", "reverse" * bool(shown.strip())
            )
    return replace(plot, text=Text("\n").join(rows))


def _name_gap(rows: list[Text], plot: Plot, before: int, end: int) -> None:
    """Write "missing" in the middle of the gap between two updates, if it is empty and wide enough."""
    start, stop = plot.column_of(before), plot.column_of(end)
    if start is None or stop is None or stop - start < len(_MISSING) + 4:
        return
    cell, index = (start + stop - len(_MISSING)) // 2, (len(rows) - 2) // 2
    for row in sorted(range(len(rows) - 2), key=lambda row: abs(row - index)):
        text = rows[row]
        text.pad_right(max(0, stop - len(text)))
        if not text.plain[cell - 1 : cell + len(_MISSING) + 1].strip():
            rows[row] = Text.assemble(text[:cell], (_MISSING, "dim"), text[cell + len(_MISSING) :])
            return


def _with_cell(row: Text, cell: int, shown: str, style: str) -> Text:
    if cell >= len(row):
        row.pad_right(cell + 1 - len(row))
    middle = row[cell] if style == "reverse" else Text(shown)
    middle.stylize(style)
    return Text.assemble(row[:cell], middle, row[cell + 1 :])
