"""Reads a table that is one JSON document: a list of records, an object of columns, or an object of series."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from esper_recorder.importing.account import Account
from esper_recorder.importing.following import READ_ONCE, Following, RewrittenError, Watched
from esper_recorder.importing.merging import in_time_order
from esper_recorder.importing.numbering import as_steps
from esper_recorder.importing.one_run import OneRun
from esper_recorder.importing.points import NOTHING_YET, Points, of_record
from esper_recorder.importing.records import CONFIG_KEY, points_of
from esper_recorder.importing.run_import import OnRead
from esper_recorder.importing.text_file import TextFile
from esper_recorder.importing.values import flatten, utc_of
from esper_schemas.errors import UsageError

MAX_BYTES = 64 * 1024 * 1024
"""A larger document is not read: as a whole it takes some ten times as much memory."""

_FEWEST_ROWS = 2  # a list of one record may as well be a setting

_LOOKED_AT = 100

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
    for row in _rows_in(document)[:_LOOKED_AT]:
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

    A table is a list of objects, such as the `log_history` of `trainer_state.json`; or an object of columns, each of
    them a list, or an object from a row's index to its value as pandas writes it.
    """
    if isinstance(document, list):
        rows = [row for row in document if isinstance(row, dict)]
        return rows if len(rows) == len(document) >= _FEWEST_ROWS else ()
    if not isinstance(document, dict):
        return ()
    tables = [found for value in document.values() if isinstance(value, list) and (found := _rows_in(value))]
    if tables:
        return tables[0] if len(tables) == 1 else ()
    columns = {key: _column(value) for key, value in document.items()}
    lengths = {len(column) for column in columns.values()}
    if len(lengths) != 1 or max(lengths) < _FEWEST_ROWS:
        return ()
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _series_in(document: object) -> Points | None:
    """The points of an object of series, in the order of their times; None of another document.

    Sacred writes `{"loss": {"steps": [1, 2], "timestamps": ["2026-11-27T20:54:04.115482", …], "values": [0.5, 0.4]}}`,
    with times in UTC.
    """
    if not isinstance(document, dict) or not document:
        return None
    found = Points([], [], [], [])
    for key, series in document.items():
        if not isinstance(series, dict) or not series.keys() >= {"steps", "timestamps", "values"}:
            return None
        columns = [_column(series[name]) for name in ("steps", "timestamps", "values")]
        for step, time, value in zip(*columns, strict=False):
            values: dict[str, float] = {}
            flatten({key: value}, "", values, {})
            for column, more in zip(found[:4], of_record(values, _step_of(step), utc_of(time))[:4], strict=True):
                assert isinstance(column, list)
                column += more
    return in_time_order([found])


def _step_of(value: object) -> int | None:
    try:
        return as_steps(float(value)) if isinstance(value, int | float) else None
    except OverflowError:
        return None


def _column(value: object) -> Sequence[Any]:
    if isinstance(value, list):
        return value
    if isinstance(value, dict) and list(value) == [str(place) for place in range(len(value))]:
        return list(value.values())
    return ()


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
            settings = document.get(CONFIG_KEY) if isinstance(document, dict) else None
            if isinstance(settings, dict):
                self.config.update(settings)
            for row in rows:
                on_read(0)
                if one_run.has(row):
                    values: dict[str, float] = {}
                    flatten({key: value for key, value in row.items() if key != CONFIG_KEY}, "", values, others)
                    if values:
                        yield points_of(values)
            one_run.check()
            watched.note_read(os.fstat(opened.file.fileno()).st_size)
            while not watched.is_over:
                yield NOTHING_YET
                if watched.has_changed():
                    raise RewrittenError
        for name, kind in others.items():
            account.left_out.setdefault(name, kind)
