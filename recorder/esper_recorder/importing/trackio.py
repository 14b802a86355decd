"""Reads the runs in a database of Trackio, which keeps each call of `log` as JSON in SQLite."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from esper_recorder.importing.account import Account
from esper_recorder.importing.database import DatabaseRun
from esper_recorder.importing.points import Points, of_record
from esper_recorder.importing.run_import import OnRead
from esper_recorder.importing.values import flatten, utc_of

TABLES = {"metrics", "configs"}


class TrackioRun(DatabaseRun):
    """One run of a Trackio database as a `PointReader`; each call of `log` is one record."""

    _last_row = -(2**63)
    _read = 0

    def _runs(self, database: sqlite3.Connection) -> Sequence[tuple[str, str]]:
        names = database.execute("SELECT DISTINCT run_name FROM metrics ORDER BY run_name")
        return [(str(name), str(name)) for (name,) in names]

    def _settings(self, database: sqlite3.Connection, run: str) -> Mapping[str, Any]:
        found = database.execute("SELECT config FROM configs WHERE run_name = ?", (run,)).fetchone()
        try:
            config = json.loads(found[0]) if found else None
        except (ValueError, TypeError, RecursionError):
            config = None
        return config if isinstance(config, dict) else {}

    def _rows(
        self, database: sqlite3.Connection, run: str, on_read: OnRead, account: Account, others: dict[str, str]
    ) -> Iterator[Points]:
        rows = database.execute(
            "SELECT rowid, step, timestamp, metrics FROM metrics WHERE run_name = ? AND rowid > ? ORDER BY rowid",
            (run, self._last_row),
        )
        for self._last_row, step, timestamp, metrics in rows:
            self._read += 1
            on_read(len(metrics) if isinstance(metrics, str | bytes) else 0)
            values = _values_of(metrics, others)
            if values is None:
                account.unreadable.add(f"row {self._read} of run {run} (its metrics are no JSON object)")
            elif values:
                yield of_record(values, step if isinstance(step, int) and step >= 0 else None, utc_of(timestamp))


def _values_of(metrics: object, others: dict[str, str]) -> dict[str, float] | None:
    try:
        record = json.loads(metrics) if isinstance(metrics, str | bytes) else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    values: dict[str, float] = {}
    flatten(record, "", values, others)
    return values
