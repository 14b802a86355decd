"""A run on disk: its header, ranks, attempts, status, faults, and its updates as one lazy frame."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

import polars as pl
import pyarrow as pa

from esper_analyzer.reading.errors import DATA_ERRORS
from esper_analyzer.reading.run_index import RunIndex
from esper_analyzer.reading.staleness import is_stale
from esper_schemas.cleaning import printable
from esper_schemas.errors import EsperError, NotARunError, RunDamagedError
from esper_schemas.examining.faults import Fault
from esper_schemas.examining.run import count_all_segments, examine_run, find_run
from esper_schemas.examining.segment import Depth
from esper_schemas.run.directory import (
    ATTEMPTS,
    RunDirectory,
    has_writer,
    numbers_in,
    read_attempts,
    resolve_run,
)
from esper_schemas.run.records import Attempt, RunHeader

Status = Literal["live", "stale", "finished", "failed", "interrupted", "crashed", "unknown"]

Made = TypeVar("Made")

GOING_ON: frozenset[str] = frozenset({"live", "stale", "unknown"})
"""Statuses in which more may come."""

_WORST_FIRST: tuple[Status, ...] = ("crashed", "failed", "unknown", "stale", "live", "interrupted", "finished")


def locate_run(run: str | os.PathLike[str] | None, root: str | os.PathLike[str] = "runs") -> RunDirectory:
    """The folder of a run: a path, a name under `root`, or the latest run under `root` if None.

    Raises:
        NotARunError: there is no such run.
        RunDamagedError: its header is gone.
    """
    try:
        return resolve_run(None if run is None else Path(run), Path(root))
    except NotARunError:
        if run is None:
            raise
        directory = find_run(Path(run), Path(root))
        if not count_all_segments(directory):  # it may be about to be made
            raise
        raise RunDamagedError(f"{directory.header_path} is missing; `esper-rec repair` recreates it") from None


class RunReader:
    """What reads one run. Each call looks at the disk anew, so the object may be kept while the run goes on.

    Attributes:
        path: the run's folder.
        header: who wrote the run, and how (`run.json`).

    Raises:
        NotARunError, RunDamagedError, FormatVersionError: the header is not there, cannot be read, or is newer.
    """

    def __init__(self, directory: RunDirectory) -> None:
        if any("\udc80" <= char <= "\udcff" for char in str(directory.path)):  # bytes that are no UTF-8
            raise NotARunError(f"the path {str(directory.path)!a} is not valid UTF-8; rename the folder")
        self.directory = directory
        self.path = directory.path
        self.header: RunHeader = directory.header()
        self._damaged: set[int] = set()  # ranks

    def __repr__(self) -> str:
        ranks = ", ".join(map(str, self.ranks())) or "none"
        return f"<{type(self).__name__} {printable(str(self.path))} {self.status()}, ranks: {ranks}>"

    def ranks(self) -> list[int]:
        """Ranks that have written anything, in order."""
        return [rank.rank for rank in self.directory.ranks()]

    def attempts(self, rank: int = 0) -> list[Attempt]:
        """Attempts of a rank, oldest first; RunDamagedError if the record of one cannot be read."""
        return self.directory.rank(rank).attempts()

    def status(self, rank: int | None = 0) -> Status:
        """State of a rank; None asks for the worst of all ranks.

        `live` and `stale` mean that a process holds the lock; `stale`, that nothing was written for longer than
        60 s and 10 times the usual gap between updates. `crashed` means that nobody holds the lock and the last
        attempt has no end; `unknown` that the last attempt has no end, and whether the lock is held cannot be told.
        """
        if rank is None:
            found = {self.status(number) for number in self.ranks()} or {"crashed"}
            return next(status for status in _WORST_FIRST if status in found)
        is_written = None
        attempts: list[Attempt] = []
        try:
            with self.directory.rank(rank).open() as folder:
                is_written = has_writer(folder)
                if is_written:
                    return "stale" if is_stale(folder) else "live"
                attempts = read_attempts(folder)
        except (FileNotFoundError, NotARunError):
            return "crashed"
        except (EsperError, OSError):
            pass  # a fault, which an examination tells
        status = attempts[-1].status if attempts else None
        if status not in _WORST_FIRST:  # a word that says nothing of an end
            status = None
        return status or ("crashed" if is_written is False else "unknown")

    def updates(self, rank: int | None = None, *, all_attempts: bool = False) -> pl.LazyFrame:
        """The recorded updates, one row each, sealed and active segments alike.

        Args:
            rank: only this rank; all ranks if None.
            all_attempts: every row as recorded, ordered by (rank, seq), in place of the rows that no later
                row supersedes, ordered by (rank, update).

        Returns:
            Columns `run_id`, `rank`, `attempt`, `seq`, `dropped_before`, those of the metrics table, then
            every metric that the user added (Float64); all of them also for an empty run. A segment whose
            size or footer is wrong is left out; `faults` lists it, and checks every byte besides. The sealed files
            are open as long as the frame lives.

        Raises:
            NotARunError: the run has no such rank.
            FormatVersionError: a segment was written by a newer Esper.
        """
        return self.look(rank, "records").updates(all_attempts=all_attempts)

    def faults(self, rank: int | None = None) -> list[Fault]:
        """Everything about the run's files that is not as promised; empty if all is well."""
        return self.look(rank).faults

    def selected_ranks(self, rank: int | None) -> list[int]:
        """The ranks that `rank` means; rank 0 may be asked for before it has written anything."""
        ranks = self.ranks()
        if rank is None:
            return ranks
        if rank not in ranks and (rank != 0 or ranks):
            known = ", ".join(map(str, ranks)) or "none"
            raise NotARunError(f"{self.path} has no rank {rank} (its ranks: {known}); choose one with --rank")
        return [rank] if ranks else []

    def attempt_count(self, rank: int) -> int:
        """Number of attempts of a rank, whether their records can be read or not."""
        try:
            with self.directory.rank(rank).open() as folder:
                return len(numbers_in(folder.names(ATTEMPTS), ".json", 4))
        except (EsperError, OSError):
            return 0

    def dropped_by_attempts(self, rank: int) -> int:
        """Rows dropped by all attempts of a rank, as their records say; behind the newest row only they know."""
        try:
            return sum(attempt.dropped_rows for attempt in self.attempts(rank))
        except (EsperError, OSError):
            return 0

    def is_there(self) -> bool:
        """Whether the run's folder is still there."""
        try:
            self.directory.open().close()
        except NotARunError:
            return False
        except EsperError:
            pass  # it is, and cannot be opened
        return True

    def look(self, rank: int | None = None, depth: Depth = "checksums") -> RunIndex:
        """Examine the run as it is now; what was found is handed on, so that nothing is looked at twice.

        Args:
            rank: only this rank, and the run as a whole; all ranks if None.
            depth: how deep to look. A rank that was once found to be damaged is looked at down to its checksums each
                time, so that a segment is left out until it is sound again.

        Raises:
            NotARunError: the run, or the rank, is not there.
            RunUnreadableError, RunDamagedError: the folder may not be opened, or cannot be looked into.
            FormatVersionError: a segment was written by a newer Esper.
        """
        ranks = self.selected_ranks(rank)
        if depth == "records" and not self._damaged.isdisjoint(ranks):
            depth = "checksums"
        try:
            with self.directory.open() as folder:
                found = RunIndex.of(examine_run(folder, self.path.resolve().name, depth, only=rank))
        except (RunDamagedError, OSError, pa.ArrowException) as error:
            if depth == "records":  # a sealed file is not what its seal says
                return self.look(rank, "checksums")
            raise RunDamagedError(f"{self.path}: {error}") from None
        if depth != "records":
            of_segments = [fault for fault in found.faults if fault.segment is not None]
            unusable = {fault.rank for fault in of_segments if fault.kind in ("corrupt", "unreadable")}
            self._damaged = (self._damaged - set(ranks)) | {number for number in ranks if number in unusable}
        return found

    def read(self, rank: int | None, make: Callable[[RunIndex], Made]) -> Made:
        """What `make` makes of one look at the run, or of one rank.

        Where rows turn out not to be decodable although their file is the one that was sealed, the run is looked at a
        second time, down to every row, which leaves such a segment out.

        Raises:
            As `look`, and what `make` raises.
        """
        try:
            return make(self.look(rank))
        except DATA_ERRORS:
            return make(self.look(rank, "rows"))

    @cached_property
    def remarks(self) -> list[str]:
        """What has to be said beside a verdict on this run: what its value loss is taken to be."""
        definition = self.header.value_loss_definition
        if definition.get("assumed", not definition):
            return ["The trainer did not declare its value loss; half the mean squared error is assumed."]
        if definition.get("clipping") == "clipped":
            return ["The value loss is that of clipped predictions alone, which cannot be converted to the true error."]
        return []
