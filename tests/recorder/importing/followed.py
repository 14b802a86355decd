"""A log that is followed in this process, by a thread, while a test writes it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.waiting import wait_until

from esper_analyzer import open_run
from esper_recorder.importing.account import Account
from esper_recorder.importing.command import import_log
from esper_recorder.importing.following import Following
from esper_recorder.importing.point_log import Given
from esper_recorder.train.signals import Signals
from esper_schemas.errors import EsperError


def rows_of(run: Path) -> list[dict[str, Any]]:
    """The rows that count, without what tells two recordings apart, columns by name; none if there is no run yet."""
    try:
        rows = open_run(run).updates().collect().to_dicts()
    except EsperError:
        return []
    ignored = {"attempt", "seq", "run_id", "dropped_before"}
    return [{name: value for name, value in sorted(row.items()) if name not in ignored} for row in rows]


@dataclass
class Followed:
    """A log that is being followed.

    Attributes:
        run: The run that it becomes.
        lines: What the command says.
        error: What ended it, if it was an error.
        account: The balance; empty until the end.
    """

    run: Path
    lines: list[str] = field(default_factory=list)
    error: EsperError | None = None
    account: Account = field(default_factory=Account)

    def await_rows(self, count: int) -> list[dict[str, Any]]:
        """Wait until so many rows are there, and return them."""
        wait_until(lambda: self.error is not None or len(rows_of(self.run)) == count, f"there are not {count} rows")
        assert self.error is None, self.error
        return rows_of(self.run)

    def await_line(self, part: str) -> None:
        """Wait until the command has said something."""
        wait_until(lambda: any(part in line for line in self.lines), f"it does not say {part}")


@contextmanager
def followed(log: Path, run: Path, given: Given | None = None) -> Iterator[Followed]:
    """Follow a log inside the block; at its end everything has been read, and the run is sealed."""
    found, is_over = Followed(run), threading.Event()

    def follow() -> None:
        following = Following(is_over.is_set, say=found.lines.append)
        try:
            _, source = import_log(log, run.parent, run.name, given or Given(), Signals(), following)
            found.account = source.account
        except EsperError as error:
            found.error = error

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield found
    finally:
        is_over.set()
        thread.join()
