"""A page of small charts of any metrics as text, with one of them chosen."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.text import Text

from esper_analyzer.drawing.braille import small_chart
from esper_analyzer.drawing.style import fit
from esper_analyzer.measuring.history import History
from esper_analyzer.measuring.places import BY_UPDATE, Ruler
from esper_analyzer.wording import number
from esper_schemas.cleaning import printable
from esper_schemas.metric.catalogue import DECLARED

CELL_WIDTH, CELL_HEIGHT = 38, 5
"""Cells that a chart needs at least, with its title and an empty line below it."""


def places(width: int, height: int) -> tuple[int, int]:
    """Return the charts beside and above one another in so many cells, at least one each."""
    return max(1, width // CELL_WIDTH), max(1, height // CELL_HEIGHT)


def grid(
    names: Sequence[str],
    chosen: str,
    values: Sequence[float | None],
    history: History,
    width: int,
    height: int,
    *,
    unicode: bool,
    pinned: Collection[str] = (),
    ruler: Ruler = BY_UPDATE,
) -> list[Text]:
    """Draw the metrics of a page, each with its newest value above its course; the chosen one is marked.

    Args:
        names, values: the metrics, as many as `places` says at most, and their newest values.
        chosen: the marked one.
        history: their courses; one that is not in it is still being read.
        width, height: cells there are.
        unicode: whether to draw with more than ASCII.
        pinned: the metrics with a mark of their own.
        ruler: the horizontal axis of all of them.
    """
    columns, rows = places(width, height)
    used = max(1, min(rows, -(-len(names) // columns)))
    cell, lines_each = width // columns, min(12, height // used)
    blocks = []
    for name, value in zip(names, values, strict=True):
        shown, room = number(value), cell - 2
        mark, title = "▶" if name == chosen else " ", name.replace("_", " ") if name in DECLARED else printable(name)
        head = (
            Text(mark)
            .append("●" if name in pinned else " ", style="cyan")
            .append(fit(title, room - len(shown) - 4), style="bold" * (name == chosen))
        )
        head.append(shown.rjust(room - head.cell_len))
        is_read = name in history.names
        chart = (
            small_chart(history.of(name), room - 2, lines_each - 2, unicode=unicode, ruler=ruler)
            if is_read
            else ["reading …"]
        )
        blocks.append([head, *(Text("  ").append(line, style="cyan") for line in chart)])
    lines = []
    for start in range(0, len(blocks), columns):
        for at in range(lines_each):
            line = Text()
            for block in blocks[start : start + columns]:
                part = block[at].copy() if at < len(block) else Text()
                part.pad_right(cell - part.cell_len)
                line.append_text(part)
            lines.append(line)
    return lines[:height]
