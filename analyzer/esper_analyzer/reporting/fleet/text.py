"""A fleet as text: how many runs are how bad, the groups of seeds, and the runs, the worst first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from esper_analyzer.drawing.style import LEVEL_STYLE, fit
from esper_analyzer.listing.text import Table
from esper_analyzer.reporting.comparison.text import settings_text
from esper_analyzer.reporting.fleet.fleet import Fleet
from esper_analyzer.reporting.fleet.seeds import SeedGroup
from esper_analyzer.wording import compact, count

MIN_HEIGHT = 12
"""A text of fewer lines would say nothing."""

_HEADS = ("group", "runs", "critical", "warning", "median", "lowest", "highest")
_GAP = "  "


def table_of(fleet: Fleet, width: int) -> Table:
    """Return the runs as `runs` lists them, without the age."""
    return Table(fleet.runs, width, without=("age",))


def fleet_lines(fleet: Fleet, table: Table, width: int, height: int | None = None) -> Iterator[Text]:
    """Yield the lines of the text, none longer than `width` columns.

    Args:
        fleet: the fleet.
        table: `table_of` it.
        width: columns.
        height: the most lines, at least `MIN_HEIGHT`; None for all. The groups have a third of them at most, and the
            last line says what is left out.
    """
    groups = list(_groups(fleet.groups, width)) if fleet.groups else []
    runs = table.lines
    if height is not None:
        height = max(height, MIN_HEIGHT)
        needed = 3 + len(runs) + (1 + len(groups) if groups else 0)
        if needed > height:
            groups = groups[: max(3, height // 3)]
            runs = runs[: height - 4 - (1 + len(groups) if groups else 0)]
    yield _summary(fleet, width)
    if groups:
        yield Text()
        yield from groups
    yield Text()
    yield table.heading
    yield from runs
    left = {"group": len(fleet.groups) - max(0, len(groups) - 2), "run": len(table.lines) - len(runs)}
    said = [f"{count(number)} {noun}{'s' * (number != 1)}" for noun, number in left.items() if number]
    if said:
        yield Text(fit(f"left out: {', '.join(said)}; all in a pipe, or with -o", width), style="dim")


def _summary(fleet: Fleet, width: int) -> Text:
    line = Text(f"{count(len(fleet.runs))} run{'s' * (len(fleet.runs) != 1)}{': ' * bool(fleet.runs)}")
    bad = {"cannot be read": fleet.unreadable, "damaged": fleet.damaged}
    parts = [Text(f"{count(number)} {what}", style="bold red") for what, number in bad.items() if number]
    parts += [
        Text(f"{count(number)} {level}", style=LEVEL_STYLE[level]) for level, number in fleet.levels.items() if number
    ]
    line.append_text(Text(", ").join(parts))
    line.truncate(width, overflow="ellipsis")
    return line


def _groups(groups: Sequence[SeedGroup], width: int) -> Iterator[Text]:
    """Yield a title, a heading, and a line for each group."""
    rows = [_cells(group) for group in groups]
    widths = [max(len(cell) for cell in column) for column in zip(_HEADS, *rows, strict=True)]
    yield Text(fit("Groups of seeds, the worst first, with the newest returns of their runs", width), style="bold")
    yield Text(fit(_joined(_HEADS, widths), width), style="dim")
    for group, cells in zip(groups, rows, strict=True):
        yield Text(fit(f"{_joined(cells, widths)}{_GAP}{settings_text(group.settings)}".rstrip(), width))


def _cells(group: SeedGroup) -> tuple[str, ...]:
    returns = group.returns
    bad = (number for level, number in group.levels.items() if level in ("critical", "warning"))
    numbers = (compact(returns.median), compact(returns.lowest), compact(returns.highest))
    return (group.name, count(len(group.runs)), *(count(number) for number in bad), *numbers)


def _joined(cells: Sequence[str], widths: Sequence[int]) -> str:
    aligned = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
    return _GAP.join([cells[0].ljust(widths[0]), *aligned[1:]])
