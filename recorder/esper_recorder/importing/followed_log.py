"""A log that is followed, as a source of updates: waited for, read while it is written, and read anew if rewritten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from esper_recorder.importing.account import Account
from esper_recorder.importing.finding import NothingYetError, find_source
from esper_recorder.importing.following import Following, RewrittenError, wait_until_settled
from esper_recorder.importing.point_log import Given
from esper_recorder.importing.rows import ANEW, Row
from esper_recorder.importing.run_import import OnRead, UpdateSource
from esper_schemas.errors import UsageError
from esper_schemas.run.records import ValueLossDefinition


class FollowedLog:
    """The log at a path, whatever is there now and later; see `UpdateSource` for its attributes.

    Raises:
        UsageError: what is there already is no log of a PPO.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path, given: Given, following: Following) -> None:
        self.path = path
        self._given = given
        self._following = following
        self._source: UpdateSource | None = self._found()

    def _found(self) -> UpdateSource | None:
        try:
            found = find_source(self.path, self._given, self._following)
        except NothingYetError as error:
            self._following.say_once(f"waiting: {error}")
            return None
        except FileNotFoundError:
            self._following.note_gone(self.path)
            return None
        self._following.note_there()
        return found

    def updates(self, on_read: OnRead) -> Iterator[Row]:
        """Yield the updates; see `UpdateSource.updates`. Before the log is read from its beginning again, yield `ANEW`.

        Raises:
            UsageError: as `UpdateSource.updates`, and if no log ever turned up.
        """
        has_rows = False
        while True:
            while self._source is None:
                if self._following.is_over and has_rows:
                    return
                if self._following.is_over:
                    problem = self._following.problem or f"{self.path}: there was nothing to import until the end"
                    raise UsageError(problem)
                self._following.wait()
                self._source = self._found()
            try:
                for row in self._source.updates(on_read):
                    has_rows = True
                    yield row
                return
            except UsageError:
                if not (self._following.is_over and has_rows):
                    raise
                return  # what was imported is no longer there
            except RewrittenError:
                self._following.say_once(f"{self.path} was rewritten; it is read again from its beginning")
            wait_until_settled(self.path, self._following)
            yield ANEW
            self._source = self._found()

    # ------------------------------------------------------------------ what the source says of itself

    @property
    def _there(self) -> UpdateSource:
        assert self._source is not None, "asked before the first update"
        return self._source

    @property
    def trainer(self) -> str:
        """As of `UpdateSource`."""
        return self._there.trainer

    @property
    def env(self) -> str | None:
        """As of `UpdateSource`."""
        return self._there.env

    @property
    def device(self) -> str | None:
        """As of `UpdateSource`."""
        return self._there.device

    @property
    def value_loss_definition(self) -> ValueLossDefinition:
        """As of `UpdateSource`."""
        return self._there.value_loss_definition

    @property
    def config(self) -> Mapping[str, Any]:
        """As of `UpdateSource`."""
        return self._there.config

    @property
    def what(self) -> str:
        """As of `UpdateSource`."""
        return self._there.what if self._source is not None else "numbers"

    @property
    def account(self) -> Account:
        """As of `UpdateSource`; an empty one while nothing is there."""
        return self._there.account if self._source is not None else Account()
