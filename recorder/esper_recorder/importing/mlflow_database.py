"""Reads the runs in a database of MLflow, `mlflow.db`, which is where it keeps them by default since version 3."""

from __future__ import annotations

import math
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from esper_recorder.importing.account import Account
from esper_recorder.importing.database import DatabaseRun
from esper_recorder.importing.mlflow import OF_SYSTEM
from esper_recorder.importing.numbering import as_steps
from esper_recorder.importing.points import Points
from esper_recorder.importing.run_import import OnRead
from esper_recorder.importing.values import as_setting

TABLES = {"metrics", "params", "runs", "experiments"}

_BATCH = 10_000


class MlflowDatabaseRun(DatabaseRun):
    """One run of a database of MLflow as a `PointReader`; each value of a metric is one point."""

    _last_row = -(2**63)

    def _runs(self, database: sqlite3.Connection) -> Sequence[tuple[str, str]]:
        found = database.execute(
            "SELECT run_uuid, name FROM runs WHERE run_uuid IN (SELECT run_uuid FROM metrics) ORDER BY start_time"
        )
        return [(str(run), str(name or run)) for run, name in found]

    def _settings(self, database: sqlite3.Connection, run: str) -> Mapping[str, Any]:
        found = database.execute("SELECT key, value FROM params WHERE run_uuid = ? LIMIT 1000", (run,))
        return {str(key): as_setting(str(value)) for key, value in found}

    def _rows(
        self, database: sqlite3.Connection, run: str, on_read: OnRead, account: Account, others: dict[str, str]
    ) -> Iterator[Points]:
        rows = database.execute(
            "SELECT rowid, key, CAST(step AS REAL), CAST(coalesce(timestamp, 0) AS REAL),"
            " CAST(coalesce(value, 0) AS REAL), is_nan OR value IS NULL"
            " FROM metrics WHERE run_uuid = ? AND rowid > ? ORDER BY rowid",
            (run, self._last_row),
        )
        while batch := rows.fetchmany(_BATCH):
            self._last_row = batch[-1][0]
            on_read(0)
            points = [row for row in batch if not str(row[1]).startswith(OF_SYSTEM)]
            if len(points) < len(batch):
                account.not_imported["metrics of the machine"] += len(batch) - len(points)
            if points:
                _, keys, steps, times, values, nans = zip(*points, strict=True)
                yield Points(
                    [str(key) for key in keys],
                    [as_steps(step) for step in steps],
                    [time / 1000 for time in times],
                    [_number(value, is_nan) for value, is_nan in zip(values, nans, strict=True)],
                )


def _number(value: float, is_nan: object) -> float:
    """The number that was logged: MLflow stores infinity as the largest float, and NaN beside a value of 0."""
    if is_nan:
        return math.nan
    return math.copysign(math.inf, value) if abs(value) >= sys.float_info.max else float(value)
