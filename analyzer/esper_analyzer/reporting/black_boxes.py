"""Black boxes in words and tables, the same in every format of the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from rich.cells import cell_len

from esper_analyzer.measuring.summary import Value
from esper_analyzer.reporting.sections import BlackBoxSection
from esper_analyzer.wording import compact, count
from esper_schemas.cleaning import printable

MAIN = ("policy_loss", "value_loss", "grad_norm", "ratio_max", "kl_divergence")
"""The numbers of a minibatch that a table shows first among those that did not move."""

MOVED_STEPS = 3.0
"""A number has moved if its last value is so many mean steps, from minibatch to minibatch, away from its median. Of
noise it is about one; of a straight line four and a half; of one jump at the end nine."""

MAX_MOVED, MAX_NAME = 4, 40
"""So many numbers that moved are named above a table, with at most so many characters of their names."""

MAX_CELLS, GAP = 16, 2
"""On a terminal, a longer name of a column is cut, and this is the space before a column."""

_SHOWN_PLACES = ("epoch", "minibatch")
_PLACES = ("seq", "elapsed_secs", *_SHOWN_PLACES)
"""Columns that say which minibatch it is."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table of minibatches.

    Attributes:
        name: its name, not cleaned for printing.
        values: the values, oldest first.
        cells: the values as text.
    """

    name: str
    values: list[Value]
    cells: list[str]

    @property
    def width(self) -> int:
        """Cells that the column takes on a terminal."""
        return max(min(MAX_CELLS, cell_len(printable(self.name))), *map(cell_len, self.cells))

    @property
    def not_finite(self) -> list[bool]:
        """Whether each value is NaN or infinite."""
        return [isinstance(value, float) and not math.isfinite(value) for value in self.values]

    @property
    def has_changed(self) -> bool:
        """Whether the values differ, or one of them is not finite."""
        return len(set(map(str, self.values))) > 1 or any(self.not_finite)

    @property
    def has_moved(self) -> bool:
        """Whether the last value left what came before, or is not finite; see `MOVED_STEPS`."""
        if any(self.not_finite):
            return True
        from statistics import fmean, median

        values = [float(value) for value in self.values if isinstance(value, (int, float))]
        if len(values) < 3:
            return False
        largest = max(map(abs, values)) or 1.0  # so that no difference overflows
        values = [value / largest for value in values]
        mean_step = fmean(abs(after - before) for before, after in pairwise(values))
        return mean_step > 0.0 and abs(values[-1] - median(values)) >= MOVED_STEPS * mean_step


def heading(box: BlackBoxSection) -> str:
    """Return where and when something broke, and what, as one line that is safe to show."""
    place = f"Update {box.update}"
    if box.update is None:
        place = f"After update {box.after_update}"
        if box.after_update is None:
            place = f"Before the first row of attempt {box.attempt}"
    return printable(f"{place}, {_time(box.written)}, {box.trigger.replace('_', ' ')}: {box.reason}")


def file_line(box: BlackBoxSection) -> str:
    """Return the file of a black box and how much is in it, as one line."""
    line = f"{box.file}, {count(box.minibatches)} minibatch{'es' * (box.minibatches != 1)}"
    if box.not_written:
        line += f"; the same in {count(box.not_written)} later update{'s' * (box.not_written != 1)}"
    return line


def has_table(boxes: Sequence[BlackBoxSection], at: int) -> bool:
    """Whether the minibatches of a black box are shown: those of the first and of the newest are."""
    return at in (0, len(boxes) - 1)


def moved_line(box: BlackBoxSection) -> str:
    """Return which numbers moved in the last minibatches, from where to where, as one line; "" if none did."""
    moved = [column for column in _numbers(box) if column.has_moved]
    told = [f"{_cut(column.name)} {_course(column)}" for column in moved[:MAX_MOVED]]
    if len(moved) > MAX_MOVED:
        told.append(f"and {count(len(moved) - MAX_MOVED)} more")
    return printable(f"Moved: {', '.join(told)}") if told else ""


def all_columns(box: BlackBoxSection) -> list[Column]:
    """Return which minibatch each of the last ones is, then its numbers, the most telling first.

    Numbers that are not finite come first, then those that moved, then those that changed, each in the order of `MAIN`
    and of the file. `update` is shown where the minibatches are of several updates.
    """
    return [*_places(box), *_numbers(box)]


def main_columns(
    box: BlackBoxSection, *, width: int | None = None, most: int | None = None
) -> tuple[list[Column], int]:
    """Return the first of `all_columns`, and how many are left out. Those that did not change are, unless none did.

    Args:
        box: the black box.
        width: cells of the table on a terminal; None for any.
        most: most columns besides those that say which minibatch it is; None for any.
    """
    places, numbers = _places(box), _numbers(box)
    room = math.inf if width is None else width - sum(GAP + column.width for column in places)
    chosen: list[Column] = []
    for column in [column for column in numbers if column.has_changed] or numbers:
        if GAP + column.width <= room and (most is None or len(chosen) < most):
            chosen.append(column)
            room -= GAP + column.width
    return [*places, *chosen], len(numbers) - len(chosen)


def _places(box: BlackBoxSection) -> list[Column]:
    if not box.last:
        return []
    update = _column("update", box.last_updates)
    of_file = [
        _column(name, [minibatch[name] for minibatch in box.last]) for name in _SHOWN_PLACES if name in box.last[0]
    ]
    return [update, *of_file] if update.has_changed else of_file


def _numbers(box: BlackBoxSection) -> list[Column]:
    if not box.last:
        return []
    names = [name for name in box.last[0] if name not in _PLACES]
    return sorted((_column(name, [minibatch[name] for minibatch in box.last]) for name in names), key=_rank)


def _rank(column: Column) -> tuple[bool, bool, bool, int]:
    main = MAIN.index(column.name) if column.name in MAIN else len(MAIN)
    return not any(column.not_finite), not column.has_moved, not column.has_changed, main


def _column(name: str, values: Sequence[Value]) -> Column:
    return Column(name, list(values), [_cell(name, value) for value in values])


def _course(column: Column) -> str:
    """From the first value that was passed to the first one that is not finite, or else to the last one."""
    broken = [cell for cell, not_finite in zip(column.cells, column.not_finite, strict=True) if not_finite]
    cells = [cell for cell, value in zip(column.cells, column.values, strict=True) if value is not None]
    first, last = cells[0], (broken or cells[-1:])[0]
    return first if first == last else f"{first} → {last}"


def _cut(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}…"


def _cell(name: str, value: Value) -> str:
    if isinstance(value, int):
        return str(value)
    if name == "epoch" and isinstance(value, float) and value.is_integer():
        value = int(value)
    return compact(value)


def _time(written: str) -> str:
    """Return the time of a record for people; the text itself if it is not a time."""
    try:
        return f"{datetime.fromisoformat(written).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError):
        return written
