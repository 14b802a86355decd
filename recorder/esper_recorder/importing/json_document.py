"""Reads a table that is one JSON document: records, columns, rows apart from the names of columns, or series."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from esper_recorder.importing.account import Account
from esper_recorder.importing.following import READ_ONCE, Following, RewrittenError, Watched
from esper_recorder.importing.long_form import long_table
from esper_recorder.importing.merging import in_log_order
from esper_recorder.importing.numbering import as_steps
from esper_recorder.importing.one_run import OneRun
from esper_recorder.importing.points import NOTHING_YET, Points, of_record
from esper_recorder.importing.records import CONFIG_KEY, STEP_KEYS, points_of
from esper_recorder.importing.run_import import OnRead
from esper_recorder.importing.text_file import TextFile
from esper_recorder.importing.values import as_number, empty_keys, flatten, utc_of
from esper_schemas.errors import UsageError

MAX_BYTES = 64 * 1024 * 1024
"""A larger document is not read: as a whole it takes some ten times as much memory."""

_FEWEST_ROWS = 2  # a list of one record may as well be a setting

_LOOKED_AT = 100

_SERIES = (("steps", "values", "timestamps"), ("x", "y", "times"))
"""What Sacred and ClearML call the columns of a series: steps, values and times."""

Rows = Sequence[Mapping[str, Any]]


def has_rows(path: Path) -> bool:
    """Whether a file is one JSON document with a table in it that has a loss, as settings have none.

    Raises:
        OSError: it cannot be read.
    """
    if path.stat().st_size > MAX_BYTES:
        return False
    with TextFile(path) as text:
        first = text.stream.readline(MAX_BYTES)
        if first.rstrip().endswith(b"}") and text.stream.read(1):
            return False  # JSON lines
    values: dict[str, float] = {}
    document = _load(path)
    if (series := _series_in(document)) is not None:
        return any("loss" in key.lower() for key in series.keys)
    rows = _rows_in(document)[:_LOOKED_AT]
    if rows and (long := long_table(rows[0])) is not None:
        return any("loss" in str(row.get(long.columns.name)).lower() for row in rows)
    for row in rows:
        flatten(row, "", values, {})
    return any("loss" in key.lower() for key in values)


def _load(path: Path) -> object:
    with TextFile(path) as text:
        content = text.stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        return None
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _rows_in(document: object) -> Rows:
    """The records of a document; none if it has no table, or more than one.

    A table is a list of objects, such as the `log_history` of `trainer_state.json`; an object of columns, each of them
    a list as long as those of the losses, or an object from a row's index to its value; an object of rows by their
    index; or `columns` and `data`. The last three are as pandas writes them. An index that does not count the rows from
    0 is their step.
    """
    if isinstance(document, list):
        rows = [row for row in document if isinstance(row, dict)]
        return rows if len(rows) == len(document) >= _FEWEST_ROWS else ()
    if not isinstance(document, dict):
        return ()
    if rows := _split_rows_in(document):
        return rows
    tables = [found for value in document.values() if isinstance(value, list) and (found := _rows_in(value))]
    if tables:
        return tables[0] if len(tables) == 1 else ()
    values = list(document.values())
    if all(isinstance(value, dict) for value in values):
        if _is_index(document):
            return _with_index(list(document), values) if len(values) >= _FEWEST_ROWS else ()
        index = list(values[0]) if values else []
        if not _is_index(index) or any(list(value) != index for value in values):
            return ()
        document = dict(zip(document, [list(value.values()) for value in values], strict=True))
    else:
        index = []
    columns = {key: _column(value) for key, value in document.items()}
    lengths = {len(column) for key, column in columns.items() if column and "loss" in key.lower()}
    if len(lengths) != 1 or max(lengths) < _FEWEST_ROWS:
        return ()
    columns = {key: column for key, column in columns.items() if len(column) in lengths}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return _with_index(index, rows)


def _split_rows_in(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The records of a document that has the names of its columns apart from its rows; none of another document."""
    columns, rows = (document.get(key) for key in ("columns", "data"))
    if not (isinstance(columns, list) and isinstance(rows, list) and all(isinstance(name, str) for name in columns)):
        return []
    made = [dict(zip(columns, row, strict=False)) for row in rows if isinstance(row, list)]
    return _with_index(_column(document.get("index")), made)


def _besides(document: object, rows: Rows) -> Iterator[tuple[str, int]]:
    """The columns of a document that are longer or shorter than its table, and how long they are."""
    if rows and isinstance(document, dict) and any(key in document for key in rows[0]):
        for key, value in document.items():
            if isinstance(value, list) and key not in rows[0]:
                yield key, len(value)


def _is_index(keys: Iterable[str]) -> bool:
    return all(key.isdecimal() for key in keys)


def _with_index(index: Sequence[Any], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records with their index as their step, unless they have one, or it only counts them."""
    numbers = [as_number(str(key)) for key in index]
    has_step = any(key in row for row in rows for key in STEP_KEYS)
    if has_step or len(numbers) != len(rows) or numbers == list(range(len(rows))):
        return rows
    return [{STEP_KEYS[0]: number, **row} for number, row in zip(numbers, rows, strict=True)]


def _series_in(document: object) -> Points | None:
    """The points of an object of series, in the order of their times; None of another document.

    Sacred writes `{"loss": {"steps": [1, 2], "timestamps": ["2026-11-27T20:54:04.115482", …], "values": [0.5, 0.4]}}`,
    with times in UTC. ClearML writes `{"losses": {"value": {"x": [1, 2], "y": [0.5, 0.4]}}}`.
    """
    found: list[Points] = []
    return in_log_order(found) if isinstance(document, dict) and _add_series(document, "", found) else None


def _add_series(document: Mapping[str, Any], prefix: str, found: list[Points]) -> bool:
    """Add the series of an object, and of those in it, which are one level deep; False if it has anything else."""
    for key, series in document.items():
        if not isinstance(series, dict):
            return False
        names = next((names for names in _SERIES if series.keys() >= {*names[:2]}), None)
        if names is None:
            if prefix or not series or not _add_series(series, f"{key}/", found):
                return False
            continue
        steps, values, times = (_column(series.get(name)) for name in names)
        points = Points([], [], [], [])
        for step, value, time in zip_longest(steps, values[: len(steps)], times[: len(steps)]):
            numbers: dict[str, float] = {}
            flatten({f"{prefix}{key}": value}, "", numbers, {})
            for column, more in zip(points[:4], of_record(numbers, _step_of(step), utc_of(time))[:4], strict=True):
                assert isinstance(column, list)
                column += more
        found.append(points)
    return bool(found)


def _step_of(value: object) -> int | None:
    try:
        return as_steps(float(value)) if isinstance(value, int | float) else None
    except OverflowError:
        return None


def _column(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


class JsonDocument:
    """A table in a JSON document as a `PointReader`. One that is followed is read anew when it changes."""

    what = "numbers"

    def __init__(self, path: Path, following: Following = READ_ONCE, source_run: str | None = None) -> None:
        self.path = path
        self._following = following
        self._source_run = source_run
        self.config: dict[str, Any] = {}

    def points(self, on_read: OnRead, account: Account) -> Iterator[Points]:
        """Yield the points of each record; see `PointReader.points`."""
        others: dict[str, str] = {}
        one_run = OneRun(self._source_run)
        with TextFile(self.path) as opened:
            watched = Watched(self.path, opened.file, self._following)
            document = _load(self.path)
            series = _series_in(document)
            rows = _rows_in(document) if series is None else ()
            if series is not None:
                yield series
            elif not rows:
                raise UsageError("expected a JSON document with a list of records, found none")
            account.left_out |= {
                key: f"a list of {count:,}, not of {len(rows):,}" for key, count in _besides(document, rows)
            }
            settings = document.get(CONFIG_KEY) if isinstance(document, dict) else None
            if isinstance(settings, dict):
                self.config.update(settings)
            long = long_table(rows[0]) if rows else None
            for row in rows:
                on_read(0)
                if one_run.has(row) and long is not None:
                    yield from long.add(row)
                elif long is None and one_run.has(row):
                    values: dict[str, float] = {}
                    record = {key: value for key, value in row.items() if key != CONFIG_KEY}
                    flatten(record, "", values, others)
                    if values:
                        yield points_of(values, empty_keys(record))
            one_run.check()
            if long is not None:
                yield from long.rest()
            watched.note_read(os.fstat(opened.file.fileno()).st_size)
            while not watched.is_over:
                yield NOTHING_YET
                if watched.has_changed():
                    raise RewrittenError
        for name, kind in others.items():
            account.left_out.setdefault(name, kind)
