"""Tables of text: CSV, and what is separated by tabs, semicolons, bars or spaces."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any

from esper_recorder.dialects.plain import is_loss
from esper_recorder.importing.account import Account, Named
from esper_recorder.importing.following import READ_ONCE, Following
from esper_recorder.importing.json_lines import MAX_LINE_BYTES
from esper_recorder.importing.log_file import LogFile
from esper_recorder.importing.long_form import LongTable, long_columns
from esper_recorder.importing.one_run import OneRun
from esper_recorder.importing.points import NOTHING_YET, Points
from esper_recorder.importing.records import MAX_COLUMNS, points_of
from esper_recorder.importing.run_import import OnRead
from esper_recorder.importing.table_layout import COMMENT, START_BYTES, Layout, cells_of, is_row, layout_of, reader
from esper_recorder.importing.text_file import TextFile
from esper_recorder.importing.values import MISSING, Decimals, as_number
from esper_recorder.importing.wandb_page import keys_of_page
from esper_schemas.errors import UsageError

_MAX_CELL = 1024 * 1024

_OF_MLFLOW = ("run_id", "key", "value", "step", "timestamp")
"""The header that the page of MLflow exports."""

_OF_PAGE = "exported from the page of W&B, which draws a sample of a long run; __MIN and __MAX are not imported"


def table_in(path: Path) -> Layout | None:
    """Return how the table in a file is laid out; None if it has none.

    Raises:
        OSError: the file cannot be read.
    """
    with TextFile(path) as text:
        return layout_of(text.stream.read(START_BYTES))


class CsvTable:
    """A table with a header as a `PointReader`.

    A table may also be in long form, with a row for each number, or be one that the web page of W&B exports.

    Where the header comes again, as in files that were joined or in a log whose trainer was started again, the rows
    below are read by it, also if it has other columns.

    Args:
        path: The file.
        following: Whether and how it is followed.
        source_run: Which run of a table that has several; None if it has one.
        key: The name of the number, of a table that has one and does not name it.
    """

    what = "numbers"

    def __init__(
        self, path: Path, following: Following = READ_ONCE, source_run: str | None = None, key: str = ""
    ) -> None:
        self.path = path
        self._following = following
        self._source_run = source_run
        self._key = key
        self._is_exported = False  # by a page, and so no longer written
        self._texts: dict[str, int] = {}  # rows of a column that have no number
        self._header: list[str] = []
        self._numbered: Set[str] = frozenset()  # columns with a number in the last row that had all cells
        self._lengths: set[int] = set()  # of rows with fewer cells than the header that are whole
        self._short = Named()
        self.config: dict[str, Any] = {}

    def points(self, on_read: OnRead, account: Account) -> Iterator[Points]:
        """Yield the points of each row; see `PointReader.points`."""
        layout = table_in(self.path)
        if layout is None:
            raise UsageError("expected a table with a header, found none")
        header = _checked(layout.header, account)
        long = self._long_table(header, layout)
        page = keys_of_page(header, self._source_run)
        if page is not None:
            header = page
            account.notes.append(_OF_PAGE)
        self._header, self._lengths = header, _lengths_in(self.path, layout)
        one_run = OneRun(self._source_run if page is None else None)
        is_asked = one_run.is_asked(header)
        headers = Named()
        self._texts = {} if long is None else long.texts
        empty = set() if long is not None else {name for name in header if is_loss(name)}  # so far
        self._is_exported = bool(self._key) or page is not None or tuple(header) == _OF_MLFLOW
        for row, number in self._rows(layout, on_read, account):
            if row is None:
                yield NOTHING_YET
            elif _is_header(row, header):
                header = self._header = [name.strip() for name in row[:MAX_COLUMNS]]
                is_asked = one_run.is_asked(header)
                headers.add(f"line {number}")
            elif any(row[len(header) :]):
                account.unreadable.add(f"line {number} ({len(row):,} cells, the header has {len(header):,})")
            elif is_asked and not one_run.has(dict(zip(header, row, strict=False))):
                continue
            elif long is not None:
                yield from long.add(dict(zip(header, row, strict=False)))
            elif values := self._values_of(self._whole_cells(row, number, account), header, layout.decimals):
                empty.difference_update(values)
                self._numbered = self._numbered if len(row) < len(header) else values.keys()
                blank = [name for name, cell in zip(header, row, strict=False) if not cell] if "" in row else ()
                yield points_of(values, blank)
        one_run.check()
        if long is not None:
            yield from long.rest()
        if self._short.count:
            account.notes.append(f"rows with fewer cells than the header has: {self._short}; the rest of each is empty")
        if headers.count:
            account.notes.append(f"the header comes again: {headers}; the rows below are read by it")
        for name, count in self._texts.items():
            account.left_out.setdefault(name, f"text, in {count:,} rows")
        for name in sorted(empty):
            account.left_out.setdefault(name, "empty in all rows")

    def _rows(self, layout: Layout, on_read: OnRead, account: Account) -> Iterator[tuple[list[str] | None, int]]:
        """Yield each row with the number of its last line; None for it while there is no further one yet."""
        csv.field_size_limit(_MAX_CELL)
        with LogFile(self.path, self._following) as file:
            lines = _Lines(file, layout, self._is_exported, on_read, account)
            rows = reader(lines, layout.delimiter)
            while True:
                began = lines.number + 1
                place = file.offset, lines.number
                try:
                    yield next(rows), lines.number
                except StopIteration:
                    break
                except _NoLineYetError:
                    lines.return_to(*place)  # a row may be several lines, of which only the first are there
                    yield None, lines.number
                except csv.Error as error:
                    where = f"line {began}" if began == lines.number else f"lines {began} to {lines.number}"
                    account.unreadable.add(f"{where} ({error})")

    def _whole_cells(self, row: list[str], number: int, account: Account) -> list[str]:
        """The cells of a row without the last one if the row was cut, and that cell may lack digits.

        Some programs leave out the empty cells at the end of a row. A row was cut if it is the first so short, and the
        row before has a number that this one lacks.
        """
        missing = self._header[len(row) :]
        if not missing:
            return row
        is_first = len(row) not in self._lengths
        self._lengths.add(len(row))
        if is_first and not self._numbered.isdisjoint(missing):
            account.unreadable.add(
                f"the end of line {number} ({len(row):,} cells, the header has {len(self._header):,}: the last of them"
                " may be cut, and is left out)"
            )
            return row[:-1]
        self._short.add(f"line {number}")
        return row

    def _values_of(self, row: list[str], header: list[str], decimals: Decimals) -> dict[str, float]:
        values = {}
        for name, cell in zip(header, row, strict=False):
            number = as_number(cell, decimals) if cell else None
            if number is not None:
                values[name] = number
            elif cell.strip().lower() not in MISSING:
                self._texts[name] = self._texts.get(name, 0) + 1
        values.pop("", None)  # the index of pandas, or the bar at the end of a line
        return values

    def _long_table(self, header: Sequence[str], layout: Layout) -> LongTable | None:
        columns = long_columns(header)
        if columns is None:
            return None
        if not columns.name and not self._key:
            raise UsageError("it has one number only; put the tables of both losses into one folder, and pass that")
        return LongTable(columns, self._key, layout.decimals)


def _is_header(row: list[str], header: list[str]) -> bool:
    """Whether a row is a header again: no number in it, and at least two names and half of those of the header."""
    if not any(cell.strip()[:1].isalpha() for cell in (*row[:1], *row[-1:])):
        return False  # of nearly all rows, which has to be cheap
    names = {name.strip() for name in row} - {""}
    known = len(names.intersection(header))
    return known >= max(2, len(header) / 2) and all(as_number(name) is None for name in names)


def _checked(header: Sequence[str], account: Account) -> list[str]:
    """The names of the columns; the account says which come more than once."""
    if len(header) > MAX_COLUMNS:
        raise UsageError(f"expected a header of 1 to {MAX_COLUMNS:,} columns, found {len(header):,}")
    account.notes += [
        f"the header has {name!a} {count} times; the last of them with a number counts"
        for name, count in Counter(header).items()
        if count > 1 and name
    ]
    return list(header)


def _lengths_in(path: Path, layout: Layout) -> set[int]:
    """How many cells those rows have at the beginning that have fewer than the header, as other rows have, too."""
    with TextFile(path) as text:
        lines = text.stream.read(START_BYTES).decode("utf-8", "replace").splitlines()[layout.before : -1]
    found = Counter(len(cells_of(line, layout.delimiter)) for line in lines if is_row(line))
    return {length for length, count in found.items() if count > 1}


class _NoLineYetError(Exception):
    """A file that is followed has no further line yet."""


class _Lines(Iterator[str]):
    """The whole lines of the rows of a table.

    A last line that ends within a cell may lack a digit, and is left out. Pages that export a table leave out the last
    end of a line: there it counts if it has all of its cells.
    """

    def __init__(self, file: LogFile, layout: Layout, is_exported: bool, on_read: OnRead, account: Account) -> None:
        self.number = 0
        self._file = file
        self._before = layout.before
        self._delimiter = layout.delimiter
        self._cells = len(layout.header)
        self._is_exported = is_exported
        self._on_read = on_read
        self._account = account
        self._others = -1  # lines without cells since the row before: the header is none of them

    def __next__(self) -> str:
        while line := self._read():
            self.number += 1
            if line.endswith(b"\n"):
                text = line.decode("utf-8-sig", "replace").replace("\0", "\ufffd")
                if self.number > self._before and is_row(text):
                    self._count_others()
                    return text
                self._others += (self.number <= self._before and bool(text.strip())) or text.startswith(COMMENT)
                continue
            text = line.decode("utf-8", "replace")
            is_whole = self._is_exported or text.endswith('"')
            if is_whole and len(cells_of(text, self._delimiter)) >= self._cells:
                return text
            is_long = len(line) == MAX_LINE_BYTES
            why = f"longer than {MAX_LINE_BYTES:,} bytes" if is_long else "torn: it does not end"
            while line and not line.endswith(b"\n"):
                line = self._read()
            self._account.unreadable.add(f"line {self.number} ({why})")
        self._count_others()
        raise StopIteration

    def _read(self) -> bytes:
        line = self._file.readline(MAX_LINE_BYTES)
        if line is None:
            raise _NoLineYetError
        self._on_read(len(line))
        return line

    def _count_others(self) -> None:
        if self._others > 0:
            self._account.not_imported["titles and comments"] += self._others
        self._others = 0

    def return_to(self, offset: int, number: int) -> None:
        """Read on behind an earlier line."""
        self.number = number
        self._others = 0 if number else -1
        self._file.return_to(offset)
