"""Tells a longer version of a log from another log of the same name, by what was imported from it."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

from esper_schemas.errors import EsperError, NotARunError, RunExistsError
from esper_schemas.examining.run import count_all_segments
from esper_schemas.run.directory import RunDirectory
from esper_schemas.run.records import check_run_id

Row = Mapping[str, Any]


class Fingerprint:
    """The SHA-256 of the rows of an import: see "Imported runs" in FORMAT.md.

    The last row has a checksum of its own. A log that ends in the middle of an update has a last row that is still
    incomplete, and a longer version of that log then has another one.

    Attributes:
        updates: How many rows it covers.
    """

    def __init__(self) -> None:
        self.updates = 0
        self._before = hashlib.sha256()  # of all rows but the last
        self._last = b""
        self._names: tuple[str, ...] = ()  # of the latest row, as most rows are alike
        self._heading = b""
        self._pick: Callable[[Row], Any] = dict
        self._pack = struct.Struct("").pack

    def add(self, row: Row) -> None:
        """Take one more row, of at least two columns."""
        self._before.update(self._last)
        self._last = self.bytes_of(row)
        self.updates += 1

    def bytes_of(self, row: Row) -> bytes:
        """Return a row as it is hashed."""
        names = tuple(row)
        if names != self._names:
            self._names, ordered = names, sorted(names)
            self._heading = (",".join(ordered) + "\n").encode()
            self._pick = itemgetter(*ordered)
            self._pack = struct.Struct(f"<{len(ordered)}d").pack
        return self._heading + self._pack(*self._pick(row))

    def to_dict(self) -> dict[str, Any]:
        """The fingerprint as `attempts/K.json` keeps it."""
        return {
            "updates": self.updates,
            "sha256": self._before.hexdigest(),
            "last_sha256": hashlib.sha256(self._last).hexdigest(),
        }


def earlier_import(root: Path, run_id: str) -> Mapping[str, Any] | None:
    """Return the fingerprint of the import that made a run; None if there is no such run, or nothing in it.

    Raises:
        UsageError: the run id is not valid.
        RunExistsError: there is such a run, and its latest attempt was not imported to its end.
    """
    run = RunDirectory(root / check_run_id(run_id))
    try:
        header = run.header()
        attempts = run.rank(0).attempts()
    except NotARunError:
        if run.path.is_dir() or not run.path.exists():
            return None  # the folder of another tool is joined
        raise _taken(run.path) from None
    except EsperError:
        raise _taken(run.path) from None
    imported = attempts[-1].imported if attempts else {}
    is_open = bool(attempts) and attempts[-1].status is None
    if is_open and "imported_from" in header.config and count_all_segments(run):
        raise RunExistsError(
            f"run {run.path} exists already, and the import that made it was killed or is still at work, so nothing"
            " says how far it came: remove that folder and import again, or choose another name with --run-id"
        )
    if not any(attempt.rows for attempt in attempts) and not imported:
        return None
    if not isinstance(imported.get("updates"), int):
        raise _taken(run.path)
    return imported


def _taken(path: Path) -> RunExistsError:
    return RunExistsError(
        f"run {path} exists already, and no import of a log made it: choose another name with --run-id, or another"
        " folder with --out"
    )
