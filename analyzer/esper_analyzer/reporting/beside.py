"""What the report of a long run needs beside its judgement, made by a second process while this one judges the rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import polars as pl

from esper_analyzer.engines.engine import Lost, WorkersFailedError
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.measuring.snapshot import metric_names
from esper_analyzer.measuring.whole import Whole, whole_of
from esper_analyzer.reading.current_rows import Stretch
from esper_analyzer.reading.errors import RUN_ERRORS, quiet_panics
from esper_analyzer.reading.run_index import Ranks, RunIndex
from esper_schemas.metric.catalogue import LOSS_RATIO
from esper_schemas.metric.severity import DEFAULT_THRESHOLDS
from esper_schemas.run.store import StoreUrl

FEWEST = 250
"""The states of fewer segments are combined sooner than a process has started, which takes half a second."""


class WholeBeside:
    """The states of the columns of a run, which a second process combines from those of its segments.

    It is for commands: the process imports the module that began this one, and the script of a user may do anything
    there. Leaving the `with` block ends the process, whatever it does. If somebody kills it, that only costs time.

    Args:
        run, rank, found: as for `build_report`.
    """

    def __init__(self, run: JudgedRun, rank: Ranks, found: RunIndex) -> None:
        self._asked = _asked(run, rank, found)
        self._until_left = ExitStack()
        self._results: Iterator[Whole | Lost | None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._until_left.close()

    def begin(self) -> None:
        """Start the process, if that pays."""
        if self._asked is None:
            return
        from esper_analyzer.engines import local  # a short report needs no `multiprocessing`

        if local.cores() < 2:
            return
        engine = self._until_left.enter_context(local.LocalEngine(1))
        with suppress(OSError):  # no process can be started
            self._results = engine.map(_each, [self._asked])

    def whole(self) -> Whole | None:
        """Wait for what `whole_of` returns in the process; None if there is none, and it is to be asked here."""
        if self._results is None:
            return None
        try:
            found = next(self._results)
        except (OSError, WorkersFailedError):
            return None
        return None if isinstance(found, Lost) else found


@dataclass(frozen=True, slots=True)
class _Asked:
    """The arguments of `whole_of`."""

    stretches: Sequence[Stretch]
    schema: pl.Schema
    names: Sequence[str]


def _asked(run: JudgedRun, rank: Ranks, found: RunIndex) -> _Asked | None:
    """What to ask the process for; None if none is to be started."""
    stretches = found.stretches(found.shown(rank))
    segments = sum(len(stretch.pieces) for stretch in stretches)
    is_near = not isinstance(run.path, StoreUrl)
    if segments < FEWEST or not is_near or run.settings.thresholds != DEFAULT_THRESHOLDS:
        return None
    return _Asked(stretches, found.schema, [*metric_names(found.schema), LOSS_RATIO])


def _each(asked: Sequence[_Asked]) -> list[Whole | None]:
    return [_whole(one) for one in asked]


def _whole(asked: _Asked) -> Whole | None:
    try:
        with quiet_panics():
            return whole_of(asked.stretches, asked.schema, asked.names)
    except RUN_ERRORS:
        return None  # the process that asked finds it out, too, and says it
