"""Logs of records, one line or row each: CSV, JSON lines and Parquet."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from esper_recorder.importing.account import Account, Named
from esper_recorder.importing.following import READ_ONCE, Following, RewrittenError, Watched
from esper_recorder.importing.json_lines import MAX_LINE_BYTES, NO_LINE_YET, read_lines
from esper_recorder.importing.log_file import LogFile
from esper_recorder.importing.numbering import as_steps
from esper_recorder.importing.one_run import OneRun
from esper_recorder.importing.points import NOTHING_YET, Points, of_record
from esper_recorder.importing.run_import import OnRead
from esper_recorder.importing.values import as_number, flatten
from esper_schemas.errors import UsageError

STEP_KEYS = ("step", "global_step", "_step")
"""Columns and keys that have the step of a record, in logs of any trainer; the first of them counts.

`_step` counts the records of W&B. Where W&B was handed the points of TensorBoard, `global_step` is their step.
"""

TIME_KEYS = ("_timestamp",)
"""Columns and keys that have the time of a record, in seconds since 1970."""

CONFIG_KEY = "config"
"""The object in a record that has hyper-parameters and no results, as RLlib writes it."""

_MAX_COLUMNS = 5000
_MAX_CELL = 1024 * 1024
_MAX_GROUP_BYTES = 512 * 1024 * 1024


def points_of(values: Mapping[str, float]) -> Points:
    """Return the points of a record; its step and time are those of the keys that have them in any log."""
    rest = dict(values)
    step = time = None
    for key in STEP_KEYS:
        if step is None and (step := as_steps(rest.get(key))) is not None:
            del rest[key]
    for key in TIME_KEYS:
        time = rest.pop(key, time)
    return of_record(rest, step, time)


class CsvTable:
    """A table with a header, separated by commas, tabs or semicolons, as a `PointReader`.

    Between tabs or semicolons, a number may have a decimal comma. Where the header comes again, as in files that were
    joined or in a log whose trainer was started again, the rows below are read by it, also if it has other columns.
    """

    what = "numbers"

    def __init__(self, path: Path, following: Following = READ_ONCE, source_run: str | None = None) -> None:
        self.path = path
        self._following = following
        self._source_run = source_run
        self.config: dict[str, Any] = {}

    def points(self, on_read: OnRead, account: Account) -> Iterator[Points]:
        """Yield the points of each row; see `PointReader.points`."""
        texts: dict[str, int] = {}
        headers = Named()
        one_run = OneRun(self._source_run)
        with LogFile(self.path, self._following) as file:
            lines = _Lines(file, on_read, account)
            first = next(lines, "")
            delimiter = delimiter_of(first)
            header = _header(first, delimiter, account)
            is_asked = one_run.is_asked(header)
            rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
            while True:
                began = lines.number + 1
                place = file.offset, lines.number
                try:
                    row = next(rows)
                except StopIteration:
                    break
                except _NoLineYetError:
                    lines.return_to(*place)  # a row may be several lines, of which only the first are there
                    yield NOTHING_YET
                    continue
                except csv.Error as error:
                    where = f"line {began}" if began == lines.number else f"lines {began} to {lines.number}"
                    account.unreadable.add(f"{where} ({error})")
                    continue
                if _is_header(row, header):
                    header = [name.strip() for name in row[:_MAX_COLUMNS]]
                    is_asked = one_run.is_asked(header)
                    headers.add(f"line {lines.number}")
                    continue
                if len(row) > len(header):
                    account.unreadable.add(f"line {lines.number} ({len(row):,} cells, the header has {len(header):,})")
                    continue
                if is_asked and not one_run.has(dict(zip(header, row, strict=False))):
                    continue
                values = {}
                for name, cell in zip(header, row, strict=False):
                    if cell.strip():
                        number = as_number(cell, has_decimal_commas=delimiter != ",")
                        if number is None:
                            texts[name] = texts.get(name, 0) + 1
                        else:
                            values[name] = number
                if values:
                    yield points_of(values)
        one_run.check()
        if headers.count:
            account.notes.append(f"the header comes again: {headers}; the rows below are read by it")
        for name, count in texts.items():
            account.left_out.setdefault(name, f"text, in {count:,} rows")


def _is_header(row: list[str], header: list[str]) -> bool:
    """Whether a row is a header again: no number in it, and at least two names and half of those of the header."""
    if not any(cell.strip()[:1].isalpha() for cell in (*row[:1], *row[-1:])):
        return False  # of nearly all rows, which has to be cheap
    names = {name.strip() for name in row} - {""}
    known = len(names.intersection(header))
    return known >= max(2, len(header) / 2) and all(as_number(name) is None for name in names)


def delimiter_of(line: str) -> str:
    """What separates the cells of a table with this header."""
    return max(",", "\t", ";", key=line.count)


def _header(line: str, delimiter: str, account: Account) -> list[str]:
    """The names of the columns; the account says which come more than once."""
    csv.field_size_limit(_MAX_CELL)
    try:
        header = [name.strip() for name in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])]
    except csv.Error as error:
        raise UsageError(f"expected a header with the names of columns, found one that is no CSV ({error})") from None
    if not 0 < len(header) <= _MAX_COLUMNS:
        raise UsageError(f"expected a header of 1 to {_MAX_COLUMNS:,} columns, found {len(header):,}")
    account.notes += [
        f"the header has {name!a} {count} times; the last of them with a number counts"
        for name, count in Counter(header).items()
        if count > 1
    ]
    return header


class _NoLineYetError(Exception):
    """A file that is followed has no further line yet."""


class _Lines(Iterator[str]):
    """The whole lines of a file as text. A last line without its end may lack a digit, and is left out."""

    def __init__(self, file: LogFile, on_read: OnRead, account: Account) -> None:
        self.number = 0
        self._file = file
        self._on_read = on_read
        self._account = account

    def __next__(self) -> str:
        while line := self._read():
            self.number += 1
            if line.endswith(b"\n"):
                return line.decode("utf-8-sig", "replace").replace("\0", "\ufffd")
            is_long = len(line) == MAX_LINE_BYTES
            why = f"longer than {MAX_LINE_BYTES:,} bytes" if is_long else "torn: it does not end"
            while line and not line.endswith(b"\n"):
                line = self._read()
            self._account.unreadable.add(f"line {self.number} ({why})")
        raise StopIteration

    def _read(self) -> bytes:
        line = self._file.readline(MAX_LINE_BYTES)
        if line is None:
            raise _NoLineYetError
        self._on_read(len(line))
        return line

    def return_to(self, offset: int, number: int) -> None:
        """Read on behind an earlier line."""
        self.number = number
        self._file.return_to(offset)


class JsonLines:
    """A JSON object on each line as a `PointReader`; nested keys are joined with `/`.

    In `{"step": 3, "data": {…}}`, as verl writes it, the numbers are those of `data`.
    """

    what = "numbers"

    def __init__(self, path: Path, following: Following = READ_ONCE, source_run: str | None = None) -> None:
        self.path = path
        self._following = following
        self._source_run = source_run
        self.config: dict[str, Any] = {}

    def points(self, on_read: OnRead, account: Account) -> Iterator[Points]:
        """Yield the points of each line; see `PointReader.points`."""
        others: dict[str, str] = {}
        one_run = OneRun(self._source_run)
        with LogFile(self.path, self._following) as file:
            for line in read_lines(file):
                if line is NO_LINE_YET:
                    yield NOTHING_YET
                    continue
                on_read(line.size)
                record = line.value
                if not isinstance(record, dict):
                    if line.start.strip():
                        account.unreadable.add(f"line {line.number} ({line.problem or 'JSON, but not an object'})")
                    continue
                if record.keys() == {"step", "data"} and isinstance(record["data"], dict):
                    record = {**record["data"], "step": record["step"]}
                settings = record.pop(CONFIG_KEY, None)
                if isinstance(settings, dict) and not self.config:
                    self.config.update(settings)
                if not one_run.has(record):
                    continue
                values: dict[str, float] = {}
                flatten(record, "", values, others)
                if values:
                    yield points_of(values)
        one_run.check()
        if self.config:
            account.notes.append(
                f"the {len(self.config):,} hyper-parameters under {CONFIG_KEY} are in the run's header"
            )
        for name, kind in list(others.items())[:_MAX_COLUMNS]:
            account.left_out.setdefault(name, kind)


class ParquetTable:
    """A Parquet file as a `PointReader`. Such a file never grows: one that is followed is read anew if it changes."""

    what = "numbers"

    def __init__(self, path: Path, following: Following = READ_ONCE) -> None:
        self.path = path
        self._following = following
        self.config: dict[str, Any] = {}

    def points(self, on_read: OnRead, account: Account) -> Iterator[Points]:
        """Yield the points of each row; see `PointReader.points`."""
        with self.path.open("rb") as opened:
            watched = Watched(self.path, opened, self._following)
            yield from self._rows(on_read, account)
            watched.note_read(os.fstat(opened.fileno()).st_size)
            while not watched.is_over:
                yield NOTHING_YET
                if watched.has_changed():
                    raise RewrittenError

    def _rows(self, on_read: OnRead, account: Account) -> Iterator[Points]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.path) as file:
                if file.metadata.num_columns > _MAX_COLUMNS:
                    raise UsageError(f"it has {file.metadata.num_columns:,} columns; the limit is {_MAX_COLUMNS:,}")
                names = []
                for column in file.schema_arrow:
                    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
                        names.append(column.name)
                    else:
                        account.left_out[column.name] = f"{column.type}, no number"
                for group in range(file.num_row_groups):
                    size = file.metadata.row_group(group).total_byte_size
                    if size > _MAX_GROUP_BYTES:
                        raise UsageError(f"row group {group} takes {size:,} bytes; the limit is {_MAX_GROUP_BYTES:,}")
                    on_read(0)
                    for batch in file.iter_batches(1024, row_groups=[group], columns=names, use_threads=False):
                        for row in batch.to_pylist():
                            values = {name: float(value) for name, value in row.items() if value is not None}
                            if values:
                                yield points_of(values)
        except pa.ArrowException as error:
            raise UsageError(f"it is no readable Parquet file: {' '.join(str(error).split())[:200]}") from None
