"""The list of runs as a table of text: as many columns as the width has room for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from rich.text import Text

from esper_analyzer.drawing.style import STATUS_STYLE, fit, level_text
from esper_analyzer.listing.entry import LOSS, STEPS, RunEntry
from esper_analyzer.wording import MISSING, compact, count
from esper_schemas.cleaning import printable

_GAP = 2
_MIN_NAME, _MAX_NAME = 12, 44
_MAX_TEXT = 20
"""A text of a run other than its name is cut to so many cells."""
_END_REASON, _MAX_REASON = "end_reason", 40


@dataclass(frozen=True, slots=True)
class _Column:
    """One column.

    Attributes:
        name: its heading, which is also its name in filters.
        cell: returns what it shows of a run.
        place: which column is left out first where there is no room; 0 stays.
        is_right: whether it is aligned to the right, as numbers are.
    """

    name: str
    cell: Callable[[RunEntry], Text]
    place: int = 0
    is_right: bool = False


def _number(value: float | None) -> Text:
    return Text(compact(value))


def _steps(value: float | None) -> Text:
    """Return a count in at most five characters: `122k`."""
    if value is None:
        return Text(MISSING)
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 10 * size:
            return Text(f"{value / size:.0f}{unit}")
    return Text(f"{value:.0f}")


def age(secs: float | None) -> str:
    """Format an age by its largest unit, as filters take it: `45s`, `12m`, `3h`, `2d`, `9w`."""
    if secs is None:
        return MISSING
    for limit, unit, size in ((100, "s", 1), (6000, "m", 60), (172_800, "h", 3600), (8_640_000, "d", 86_400)):
        if secs < limit:
            return f"{secs / size:.0f}{unit}"
    return f"{secs / 604_800:.0f}w"


def _text(text: str | None, most: int = _MAX_TEXT) -> Text:
    return Text(fit(printable(text), most) if text else MISSING)


def _status(run: RunEntry) -> Text:
    return Text(run.status or MISSING, style=STATUS_STYLE.get(run.status or "", ""))


def _verdict(run: RunEntry) -> Text:
    """Return level, the update since which it holds, the rank that gives it, and whether the files are damaged."""
    if run.level is None:
        return Text("…", style="dim")
    text = level_text(run.level)
    if run.since is not None:
        text.append(f" since {run.since}", style="default")
    if run.rank is not None:
        text.append(f" (rank {run.rank})", style="default")
    return text.append("  damaged", style="bold red") if run.is_damaged else text


_COLUMNS = (
    _Column("status", _status),
    _Column("updates", lambda run: Text(MISSING if run.updates is None else count(run.updates)), 2, is_right=True),
    _Column("return", lambda run: _number(run.returned), is_right=True),
    _Column("steps", lambda run: _steps(run.measured.get(STEPS)), 3, is_right=True),
    _Column("age", lambda run: Text(age(run.age_secs)), 1, is_right=True),
    _Column("env", lambda run: _text(run.env), 4),
    _Column("lr", lambda run: _number(run.learning_rate), 5, is_right=True),
    _Column("loss", lambda run: _number(run.measured.get(LOSS)), 6, is_right=True),
    _Column("verdict", _verdict),
    _Column(_END_REASON, lambda run: _text(run.end_reason, _MAX_REASON), 7),
)


class Table:
    """The runs as lines that fit a width: a heading, and one line for each run.

    The name, the status, the return and the verdict are always there. Of the others, as many are shown as there is
    room for; why a run ended only where one of them says so. A run that cannot be read has the reason in its line.

    Attributes:
        heading: the names of the columns.
        lines: one for each run.
        left_out: the columns for which there is no room.

    Args:
        runs: one line for each.
        width: the most characters of a line.
        without: columns that are not wanted.
    """

    def __init__(self, runs: Sequence[RunEntry], width: int, *, without: Collection[str] = ()) -> None:
        read = [run for run in runs if run.error is None]
        unneeded = set(without) if any(run.end_reason for run in read) else {*without, _END_REASON}
        columns = [column for column in _COLUMNS if column.name not in unneeded]
        cells = {column.name: [column.cell(run) for run in read] for column in columns}
        widths = {
            column.name: max([len(column.name), *(cell.cell_len for cell in cells[column.name])]) for column in columns
        }
        names = [fit(printable(run.name), _MAX_NAME) for run in runs]
        wanted = max([_MIN_NAME, *(Text(name).cell_len for name in names)])
        shown = list(columns)
        while _taken(shown, widths) + min(wanted, _MIN_NAME + width // 20) > width:
            last = max(shown, key=lambda column: column.place)
            if not last.place:
                break
            shown.remove(last)
        name_width = max(_MIN_NAME // 2, min(wanted, width - _taken(shown, widths)))
        self.left_out = [column.name for column in columns if column not in shown]
        self.heading = Text("run".ljust(name_width), style="dim")
        for column in shown:
            self.heading.append(" " * _GAP).append(_aligned(Text(column.name), widths[column.name], column))
        self.lines: list[Text] = []
        rows = iter(range(len(read)))
        for run, name in zip(runs, names, strict=True):
            line = _padded(Text(fit(name, name_width)), name_width)
            if run.error is not None:
                line.append(" " * _GAP).append(printable(run.error), style="bold red")
            else:
                row = next(rows)
                for column in shown:
                    cell = cells[column.name][row]
                    line.append(" " * _GAP).append_text(_aligned(cell, widths[column.name], column))
            line.rstrip()
            line.truncate(width, overflow="ellipsis")
            self.lines.append(line)
        self.heading.truncate(width)

    def remarks(self, found: int) -> list[str]:
        """Say which columns are left out, and how many of the `found` runs."""
        said = []
        if len(self.lines) < found:
            said.append(f"{len(self.lines):,} of {found:,} runs")
        if self.left_out:
            said.append(f"no room for {', '.join(self.left_out)}: widen the terminal, or use --format csv")
        return said

    def __iter__(self) -> Iterator[Text]:
        yield self.heading
        yield from self.lines


def _taken(columns: Sequence[_Column], widths: dict[str, int]) -> int:
    return sum(_GAP + widths[column.name] for column in columns)


def _aligned(cell: Text, width: int, column: _Column) -> Text:
    return _padded(cell, width, is_right=column.is_right)


def _padded(cell: Text, width: int, *, is_right: bool = False) -> Text:
    padding = " " * max(0, width - cell.cell_len)
    return Text(padding).append_text(cell) if is_right else cell.copy().append(padding)
