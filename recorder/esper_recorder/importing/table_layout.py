"""How a table of text is laid out: where its header is, what separates its cells, and how its numbers are written."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from esper_recorder.importing.values import Decimals, as_number, decimals_of

START_BYTES = 1024 * 1024
_MOST_LINES = 300
_MOST_TITLES = 20  # lines before a header that are neither blank nor comments
_LOOKED_AT = 100  # rows
_DELIMITERS = (",", "\t", ";")
_OF_PROSE = ("|", " ")
"""What separates words of a text, too: between them, a header has a loss, and the row below it has numbers."""

COMMENT = "#"
"""How a line begins that is no row. What numpy.savetxt writes has its header in one."""

_RULE = "-:=| \t\r\n"
"""What the line below the header of a table in Markdown is made of."""

_INDEX = [str(at) for at in range(_LOOKED_AT + 1)]

_EXCEL = "sep="
"""How the line begins that tells Excel what separates cells."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of one table.

    Attributes:
        before: The number of lines before the first row, header included.
        header: The names of the columns; empty for a column without a name.
        delimiter: What separates cells; a space stands for any number of them.
        decimals: What separates decimals.
    """

    before: int
    header: tuple[str, ...]
    delimiter: str
    decimals: Decimals

    @property
    def is_of_prose(self) -> bool:
        """Whether cells are separated by what separates words of a text, too."""
        return self.delimiter in _OF_PROSE


def layout_of(start: bytes) -> Layout | None:
    """Return how a table is laid out that begins with these bytes of UTF-8; None of any other text.

    Before the header there may be blank lines, comments that begin with `#`, titles, and the `sep=;` of Excel. A header
    is no row of numbers. There is a number in a row below it, if there are any rows.

    Args:
        start: Up to the first MiB of a text. A last line without its end is not looked at.
    """
    text = start[:START_BYTES].decode("utf-8-sig", "replace")
    if text.lstrip().startswith("#{"):
        return None  # a Monitor of Stable-Baselines3, which logs episodes
    lines = [line.rstrip("\r") for line in text.split("\n", _MOST_LINES)[:-1]]
    titles, asked, comment = 0, "", ""
    for place, line in enumerate(lines):
        if titles > _MOST_TITLES:
            break
        if not line.strip():
            continue
        if line.startswith(_EXCEL) and len(line) > len(_EXCEL):
            asked = line[len(_EXCEL)]
            continue
        if line.startswith(COMMENT):
            comment = line.lstrip(COMMENT)
            continue
        rows = list(islice(filter(is_row, lines[place + 1 :]), _LOOKED_AT))
        for delimiter in [asked] if asked else [max(_DELIMITERS, key=line.count), *_OF_PROSE]:
            if comment and (found := _below(comment, [line, *rows], delimiter, place, is_first=False)):
                return found
            if found := _below(line, rows, delimiter, place + 1, is_first=not titles):
                return found
        titles += 1
    return None


def is_row(line: str) -> bool:
    """Whether a line below the header has cells: a blank one, a comment, and a rule of Markdown have none."""
    return not line.startswith(COMMENT) and bool(line.lstrip(_RULE))


def cells_of(line: str, delimiter: str) -> list[str]:
    """Return the cells of a line; none of a line that is no whole row."""
    try:
        return [cell.strip() for cell in next(reader([line], delimiter), [])]
    except csv.Error:
        return []


def reader(lines: Iterator[str] | Sequence[str], delimiter: str) -> Iterator[list[str]]:
    """Return a reader of rows, which may be several lines; it raises `csv.Error` for a row that cannot be read."""
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)


def _rows_of(lines: Sequence[str], delimiter: str) -> Iterator[list[str]]:
    """Yield the cells of each row, which may be several lines; none of what is no whole row."""
    rows = reader(lines, delimiter)
    while True:
        try:
            yield [cell.strip() for cell in next(rows)]
        except csv.Error:
            yield []
        except StopIteration:
            return


def _below(line: str, rows: Sequence[str], delimiter: str, before: int, *, is_first: bool) -> Layout | None:
    """Return the layout of a table whose header is `line`; None if that is no header of these rows.

    The first line may be a header of rows that lack cells, or of no rows yet. Another line is taken for a header only
    if the row below it has as many cells.
    """
    is_prose = delimiter in _OF_PROSE
    if delimiter not in line.strip() or (is_prose and "loss" not in line.lower()):
        return None
    header = cells_of(line, delimiter)
    if not _are_names(header, must_be_all=not is_first or is_prose):
        return None
    below = _rows_of(rows, delimiter)
    first = next(below, [])
    if (is_prose or not is_first) and not _is_dense(header, first):
        return None  # of most lines of a long text, without a look at more rows
    cells = [row for row in (first, *below) if row]
    if cells and all(len(row) == len(header) + 1 and row[0] in _INDEX[at : at + 2] for at, row in enumerate(cells)):
        header.insert(0, "")  # which R and the text of a data frame of pandas leave out
    whole = [row for row in cells if not any(row[len(header) :])]  # a row with more cells is no row of this table
    if not is_first and whole[:1] != cells[:1]:
        return None
    has_numbers = any(as_number(cell, "unclear") is not None for row in whole for cell in row)
    if not has_numbers and any(any(row) for row in cells):
        return None
    decimals = decimals_of(cell for row in whole for cell in row)
    if decimals is None:  # all that have a comma may be thousands
        is_comma = delimiter == ";" and has_numbers and not any("." in cell for row in whole for cell in row)
        decimals = "comma" if is_comma else "unclear"
    return Layout(before, tuple(header), delimiter, decimals)


def _is_dense(header: Sequence[str], row: Sequence[str]) -> bool:
    """Whether a row has as many cells as the header, and a number for half of its names."""
    numbers = sum(as_number(cell, "unclear") is not None for cell in row)
    return len(row) >= len(header) and numbers >= sum(map(bool, header)) / 2


def _are_names(header: Sequence[str], *, must_be_all: bool) -> bool:
    """Whether cells are names of columns: two or more, and not all of them numbers."""
    names = [name for name in header if name]
    numbers = sum(as_number(name) is not None for name in names)
    is_text = all(name.replace("\t", "").isprintable() and name[0] not in "{[<" for name in names)
    return len(names) > 1 and is_text and not (numbers if must_be_all else numbers == len(names))
