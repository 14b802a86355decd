"""A log of scalar points as a source of updates, whatever its format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from esper_recorder.importing.account import Account
from esper_recorder.importing.following import READ_ONCE, Following
from esper_recorder.importing.points import NOTHING_YET, PointReader
from esper_recorder.importing.rows import Row, SoFar
from esper_recorder.importing.run_import import OnRead
from esper_recorder.importing.unpacking import Unpacked
from esper_recorder.importing.updates import Updates
from esper_schemas.errors import UsageError
from esper_schemas.run.records import ValueLossDefinition

NOT_READ = "not read: "
"""How a note begins that names what is beside the log."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a person says about a log.

    Attributes:
        mapping: Key of the log -> column; `step` stands for the step of each point.
        definition: Fields of `ValueLossDefinition`.
        source_run: Which run of a log that has several; None if it has one.
    """

    mapping: Mapping[str, str] = field(default_factory=dict)
    definition: Mapping[str, Any] = field(default_factory=dict)
    source_run: str | None = None


def env_of(config: Mapping[str, Any]) -> str | None:
    """Return the environment that hyper-parameters name; None if they name none."""
    named = (config.get(key) for key in ("env_id", "env", "env_name"))
    return next((name for name in named if isinstance(name, str)), None)


class PointLog:
    """One log as a source of updates; see `UpdateSource` for its attributes."""

    device = None

    def __init__(
        self,
        path: Path,
        reader: PointReader,
        given: Given,
        following: Following = READ_ONCE,
        unpacked: Unpacked | None = None,
    ) -> None:
        self.path = path
        self._unpacked = unpacked  # whose files the reader reads
        self.what = reader.what
        self.account = Account()
        self._reader = reader
        self._following = following
        self._asked = (0, False)
        self._updates = Updates(self.account, reader.config, given.mapping, given.definition)

    @property
    def trainer(self) -> str:
        """The trainer whose dialect the log is written in."""
        return self._updates.dialect.name if self._updates.dialect is not None else ""

    @property
    def env(self) -> str | None:
        """The environment, if the hyper-parameters name it."""
        return env_of(self._reader.config)

    @property
    def value_loss_definition(self) -> ValueLossDefinition:
        """What the value loss of the log is."""
        return self._updates.definition

    @property
    def config(self) -> Mapping[str, Any]:
        """The hyper-parameters, and the name of the log."""
        return {**self._reader.config, "imported_from": self.path.name}

    def updates(self, on_read: OnRead) -> Iterator[Row]:
        """Yield the updates; see `UpdateSource.updates`."""
        try:
            for points in self._reader.points(on_read, self.account):
                if points is NOTHING_YET:
                    yield from self._so_far()
                    self._following.wait()
                else:
                    yield from self._updates.feed(points)
            yield from self._updates.finish()
        except UsageError as error:
            unreadable = self.account.unreadable
            rest = ""
            if not self.account.updates:
                rest = f"; not readable: {unreadable}" if unreadable.count else ""
                rest += "".join(f"; {note}" for note in self.account.notes if note.startswith(NOT_READ))
            raise UsageError(f"{self.path}: {error}{rest}") from None

    def _so_far(self) -> Iterator[Row]:
        """Yield the update that is being read if it seems complete; asked once after each change.

        It seems complete with every key that those before it had; the first one, once the log is quiet. A point that
        comes late still belongs to the update, whose row comes once more when the next update begins.
        """
        updates, is_quiet = self._updates, self._following.is_quiet
        if (self.account.records, is_quiet) == self._asked:
            return
        self._asked = (self.account.records, is_quiet)
        if is_quiet:
            yield from updates.settle()
        if updates.is_pending_whole or (is_quiet and updates.is_pending_first):
            row = updates.pending()
            if row is not None:
                yield SoFar(row)
        if is_quiet and updates.dialect is None and self.account.records:
            self._following.say_once(f"{self.path}: no update yet: {updates.why_nothing()}")
