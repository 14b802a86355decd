"""Tables in long form: a row for each number, with its name in one column and its value in another."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from esper_recorder.importing.merging import in_log_order
from esper_recorder.importing.numbering import as_steps
from esper_recorder.importing.points import Points
from esper_recorder.importing.values import Decimals, as_number, utc_of

_NAMES = ("tag", "metric_name", "metricname", "attribute_path", "metric", "key", "variable", "name")
_OF_MANY = frozenset({"metric", "key", "variable", "name"})
_VALUES = ("value", "metric_value", "metricvalue", "float_value")
_STEPS = ("step", "global_step", "_step", "iteration")
_TIMES = ("wall_time", "timestamp", "time")
"""What trackers and data frames call the columns, in small letters: TensorBoard, tbparse, MLflow, Comet, Neptune, Aim
and pandas.melt."""

_MOST_COLUMNS = 7
"""A table with more, and a column whose name says little, such as `name`, may as well have a column for each number."""

_SEPARATORS = re.compile(r"[\s.-]+")


@dataclass(frozen=True, slots=True)
class LongColumns:
    """The columns of a table in long form; empty for one that it does not have.

    Attributes:
        name: The column with the names of numbers. A table without it has one number.
        value, step, time: The columns with its values, their steps and their times.
    """

    name: str
    value: str
    step: str
    time: str

    @property
    def read(self) -> list[str]:
        """Those of them that the table has."""
        return [column for column in (self.name, self.value, self.step, self.time) if column]


def long_columns(header: Collection[str]) -> LongColumns | None:
    """Return the columns of a table in long form; None if a table with these columns has a column for each number."""
    words = {_SEPARATORS.sub("_", name.strip().lower()): name for name in header}
    name, value, step, time = (
        next((words[word] for word in known if word in words), "") for known in (_NAMES, _VALUES, _STEPS, _TIMES)
    )
    if not value or any("loss" in word for word in words):
        return None
    if name and (len(words) <= _MOST_COLUMNS or not any(words.get(word) == name for word in _OF_MANY)):
        return LongColumns(name, value, step, time)
    is_one = bool(step) and len(words) <= len([value, step, time])
    return LongColumns("", value, step, time) if is_one else None


class LongTable:
    """Turns the rows of a table in long form into points.

    Rows in the order in which they were logged are passed on as they come: there are others between the first two of
    a number. Where the table has one number after another, all rows are kept until its end, and are put in the order of
    their times or steps.

    Args:
        columns: Its columns.
        key: The name of its number, if it has only one.
        decimals: As for `as_number`.

    Attributes:
        columns: Its columns.
        texts: How many rows of each number have a value that is none.
    """

    def __init__(self, columns: LongColumns, key: str = "", decimals: Decimals | None = None) -> None:
        self.texts: dict[str, int] = {}
        self.columns = columns
        self._key = key
        self._decimals = decimals
        self._kept: dict[str, Points] = {}
        self._last = ""
        self._is_in_order: bool | None = False if key else None

    def add(self, row: Mapping[str, Any]) -> Iterator[Points]:
        """Take a row, with its cells by column; yield the points that come before those of the next row."""
        columns = self.columns
        key = self._key or str(row.get(columns.name) or "").strip()
        number = self._number(row.get(columns.value))
        if number is None or not key:
            if key and row.get(columns.value) not in (None, ""):
                self.texts[key] = self.texts.get(key, 0) + 1
            return
        step, time = as_steps(self._number(row.get(columns.step))), self._time(row.get(columns.time))
        if self._is_in_order is None and key in self._kept:
            self._is_in_order = key != self._last
        self._last = key
        if self._is_in_order:
            yield from self._kept.values()
            self._kept = {}
            yield Points([key], [step], [time], [number])
            return
        kept = self._kept.setdefault(key, Points([], [], [], []))
        for column, value in zip(kept[:4], (key, step, time, number), strict=True):
            assert isinstance(column, list)
            column.append(value)

    def rest(self) -> Iterator[Points]:
        """Yield the points that were kept."""
        if self._kept:
            yield in_log_order(list(self._kept.values()))
            self._kept = {}

    def _number(self, cell: object) -> float | None:
        if isinstance(cell, str):
            return as_number(cell, self._decimals)
        try:
            return None if cell is None else float(cell)  # type: ignore[arg-type]  # or a Decimal
        except (TypeError, ValueError, OverflowError):
            return None

    def _time(self, cell: object) -> float | None:
        if isinstance(cell, datetime):
            return cell.timestamp()
        time = self._number(cell)
        return utc_of(cell) if time is None else time


def long_table(header: Collection[str]) -> LongTable | None:
    """Return a table in long form that names its numbers; None if a table with these columns is another one."""
    columns = long_columns(header)
    return LongTable(columns) if columns is not None and columns.name else None
