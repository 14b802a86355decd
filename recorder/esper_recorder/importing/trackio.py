"""Reads the runs in a database of Trackio, which keeps each call of `log` as JSON in SQLite."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from esper_recorder.importing.account import Account
from esper_recorder.importing.following import READ_ONCE, Following, Watched
from esper_recorder.importing.points import NOTHING_YET, Points, of_record
from esper_recorder.importing.run_import import OnRead
from esper_recorder.importing.values import flatten
from esper_schemas.errors import UsageError

MAGIC = b"SQLite format 3\0"


class TrackioRun:
    """One run of a Trackio database as a `PointReader`.

    Args:
        path: The database.
        run_name: Which of its runs; None if it has only one.
    """

    what = "numbers"

    def __init__(self, path: Path, run_name: str | None = None, following: Following = READ_ONCE) -> None:
        self.path = path
        self._following = following
        self._last_row = -(2**63)
        self._read = 0
        self.config: dict[str, Any] = {}
        self._run_name = run_name

    def points(self, on_read: OnRead, account: Account) -> Iterator[Points]:
        """Yield the points of each call of `log`; see `PointReader.points`."""
        others: dict[str, str] = {}
        with self.path.open("rb") as file:
            watched = Watched(self.path, file, self._following)
            is_over = False
            while not is_over:
                is_over = watched.is_over
                yield from self._rows(on_read, account, others)
                if not is_over:
                    yield NOTHING_YET
                    watched.has_changed()  # so that another file in its place is noticed
        for name, kind in others.items():
            account.left_out.setdefault(name, kind)

    def _rows(self, on_read: OnRead, account: Account, others: dict[str, str]) -> Iterator[Points]:
        """Yield the points of the rows behind those that were read before."""
        # Without rows that wait in a log of SQLite's, nothing is locked, and no file is made beside the database.
        waiting = self.path.with_name(f"{self.path.name}-wal")
        is_complete = not waiting.exists() or not waiting.stat().st_size
        place = f"file:{quote(str(self.path.absolute()))}?mode=ro{'&immutable=1' if is_complete else ''}"
        try:
            with closing(sqlite3.connect(place, uri=True)) as database:
                run = self._run(database)
                if not self._read:
                    self._read_config(database, run, account)
                rows = database.execute(
                    "SELECT rowid, step, timestamp, metrics FROM metrics"
                    " WHERE run_name = ? AND rowid > ? ORDER BY rowid",
                    (run, self._last_row),
                )
                for self._last_row, step, timestamp, metrics in rows:
                    self._read += 1
                    on_read(len(metrics) if isinstance(metrics, str | bytes) else 0)
                    values = _values_of(metrics, others)
                    if values is None:
                        account.unreadable.add(f"row {self._read} of run {run} (its metrics are no JSON object)")
                    elif values:
                        yield of_record(values, step if isinstance(step, int) and step >= 0 else None, _time(timestamp))
        except sqlite3.Error as error:
            raise UsageError(f"expected a database of Trackio; SQLite says: {error}") from None

    def _run(self, database: sqlite3.Connection) -> str:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "metrics" not in tables:
            raise UsageError("expected a database of Trackio, found a SQLite database without a table `metrics`")
        names = [name for (name,) in database.execute("SELECT DISTINCT run_name FROM metrics ORDER BY run_name")]
        if self._run_name is not None and self._run_name in names:
            return self._run_name
        if len(names) == 1 and self._run_name is None:
            return str(names[0])
        shown = ", ".join(map(str, names[:10])) + (", …" if len(names) > 10 else "")
        if self._run_name is None and names:
            raise UsageError(f"it has {len(names):,} runs ({shown}); choose one with --source-run")
        raise UsageError(f"it has no run {self._run_name!a}, only: {shown}" if names else "it has no runs")

    def _read_config(self, database: sqlite3.Connection, run: str, account: Account) -> None:
        found = database.execute("SELECT config FROM configs WHERE run_name = ?", (run,)).fetchone()
        try:
            config = json.loads(found[0]) if found else None
        except (ValueError, TypeError, RecursionError):
            config = None
        own = (
            {key: value for key, value in config.items() if not key.startswith("_")} if isinstance(config, dict) else {}
        )
        if own:
            self.config.update(own)
            account.notes.append(f"the {len(own):,} hyper-parameters of the run are in the run's header")


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


def _time(text: object) -> float | None:
    try:
        time = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if time is None:
        return None
    return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()
