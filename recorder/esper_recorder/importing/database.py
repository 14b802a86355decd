"""A database of SQLite with the runs of a tracker, of which one is read, also while it is written."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from esper_recorder.importing.account import Account
from esper_recorder.importing.following import READ_ONCE, Following, Watched
from esper_recorder.importing.points import NOTHING_YET, Points
from esper_recorder.importing.run_import import OnRead
from esper_schemas.errors import UsageError

MAGIC = b"SQLite format 3\0"


@contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database for reading.

    Raises:
        UsageError: SQLite cannot read it.
    """
    # Without rows that wait in a log of SQLite's, nothing is locked, and no file is made beside the database.
    waiting = path.with_name(f"{path.name}-wal")
    is_complete = not waiting.exists() or not waiting.stat().st_size
    place = f"file:{quote(str(path.absolute()))}?mode=ro{'&immutable=1' if is_complete else ''}"
    try:
        with closing(sqlite3.connect(place, uri=True)) as database:
            yield database
    except sqlite3.Error as error:
        raise UsageError(f"expected a database of Trackio or MLflow; SQLite says: {error}") from None


def tables_in(path: Path) -> set[str]:
    """Return the names of the tables of a database.

    Raises:
        UsageError: as `connected`.
    """
    with connected(path) as database:
        return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


class DatabaseRun(ABC):
    """One run of a database as a `PointReader`; each tracker says in its own class where its numbers are.

    Args:
        path: The database.
        wanted: Which of its runs, by name; None if it has only one.
        following: Whether and how it is followed.
    """

    what = "numbers"

    def __init__(self, path: Path, wanted: str | None = None, following: Following = READ_ONCE) -> None:
        self.path = path
        self.config: dict[str, Any] = {}
        self._wanted = wanted
        self._following = following
        self._is_begun = False

    def points(self, on_read: OnRead, account: Account) -> Iterator[Points]:
        """Yield the points of the run; see `PointReader.points`."""
        others: dict[str, str] = {}
        with self.path.open("rb") as file:
            watched = Watched(self.path, file, self._following)
            is_over = False
            while not is_over:
                is_over = watched.is_over
                with connected(self.path) as database:
                    run = self._chosen(self._runs(database))
                    if not self._is_begun:
                        self._begin(self._settings(database, run), account)
                    yield from self._rows(database, run, on_read, account, others)
                if not is_over:
                    yield NOTHING_YET
                    watched.has_changed()  # so that another file in its place is noticed
        for name, kind in others.items():
            account.left_out.setdefault(name, kind)

    def _chosen(self, runs: Sequence[tuple[str, str]]) -> str:
        """The identity of the run that is wanted, by its name or its identity."""
        found = [run for run, name in runs if self._wanted is None or self._wanted in (run, name)]
        if len(found) == 1:
            return found[0]
        shown = ", ".join(name if run == name else f"{name}: {run}" for run, name in runs[:10])
        shown += ", …" if len(runs) > 10 else ""
        if found:
            raise UsageError(f"it has {len(found):,} runs ({shown}); choose one with --source-run")
        raise UsageError(f"it has no run {self._wanted!a}, only: {shown}" if runs else "it has no runs")

    def _begin(self, settings: Mapping[str, Any], account: Account) -> None:
        self._is_begun = True
        self.config |= {key: value for key, value in settings.items() if not key.startswith("_")}
        if self.config:
            account.notes.append(f"the {len(self.config):,} hyper-parameters of the run are in the run's header")

    @abstractmethod
    def _runs(self, database: sqlite3.Connection) -> Sequence[tuple[str, str]]:
        """The identity and the name of each run."""

    @abstractmethod
    def _settings(self, database: sqlite3.Connection, run: str) -> Mapping[str, Any]:
        """The hyper-parameters of a run."""

    @abstractmethod
    def _rows(
        self, database: sqlite3.Connection, run: str, on_read: OnRead, account: Account, others: dict[str, str]
    ) -> Iterator[Points]:
        """Yield the points behind those that were read before."""
