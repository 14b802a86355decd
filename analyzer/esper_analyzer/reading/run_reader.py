"""A run on disk: its header, ranks, attempts, status, faults, and its updates as one lazy frame."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

import polars as pl
import pyarrow as pa

from esper_analyzer.reading.black_boxes import BlackBox, black_boxes_of
from esper_analyzer.reading.errors import DATA_ERRORS
from esper_analyzer.reading.run_index import RunIndex
from esper_analyzer.reading.staleness import is_stale
from esper_schemas.cleaning import printable
from esper_schemas.errors import EsperError, NotARunError, RunDamagedError, StoreError
from esper_schemas.examining.faults import Fault
from esper_schemas.examining.run import RunExamination, count_all_segments, examine_run, find_run
from esper_schemas.examining.segment import CheckedFooters, Depth
from esper_schemas.run.directory import StoredRun
from esper_schemas.run.ending import Ending, Status, ending_of
from esper_schemas.run.finding import resolve_run
from esper_schemas.run.names import ATTEMPTS, HEADER_NAME, numbers_in
from esper_schemas.run.records import Attempt, RunHeader
from esper_schemas.run.store import StoreUrl, parse_place

Made = TypeVar("Made")

_NAMED_RANKS = 4
_CLIPPED = {
    "clipped": "The value loss is that of clipped predictions alone, which cannot be converted to the true error.",
    "error_clipped": "The value loss cuts each squared error off at a maximum, so the true error may be far larger.",
}
"""Remarks on what a trainer clips in its value loss, by `ValueLossDefinition.clipping`."""
"""How many ranks a remark names."""


def locate_run(run: str | os.PathLike[str] | None, root: str | os.PathLike[str] | StoreUrl = "runs") -> StoredRun:
    """Find a run: a path, a URL, a name under `root`, or the latest run under `root` if None.

    Raises:
        NotARunError: there is no such run.
        RunDamagedError: its header is missing.
        StoreError: it is in an object store that does not answer, or refuses.
        UsageError: a URL names no place in an object store.
    """
    place = parse_place(root)
    named = None if run is None else os.fspath(run)
    try:
        return resolve_run(named, place)
    except NotARunError:
        if named is None:
            raise
        found = find_run(named, place)
        if not count_all_segments(found):  # it may be a run that is being created
            raise
        what_next = "" if isinstance(found.path, StoreUrl) else "; `esper-rec repair` recreates it"
        raise RunDamagedError(f"{found.path / HEADER_NAME} is missing{what_next}") from None


class RunReader:
    """Reads one run. Each call reads the disk again, so the object stays valid while the run continues.

    Attributes:
        path: the run's folder, or its place in an object store.
        verifies: whether every look compares checksums in an object store too, where this fetches every byte. On a disk
            most looks do.
        header: who wrote the run, and how (`run.json`).
        footers: of sealed files, those that this object has checked.

    Raises:
        NotARunError, RunDamagedError, FormatVersionError: the header is missing, cannot be read, or is newer.
    """

    def __init__(self, directory: StoredRun, *, verifies: bool = False) -> None:
        if any("\udc80" <= char <= "\udcff" for char in str(directory.path)):  # bytes that are not UTF-8
            raise NotARunError(f"the path {str(directory.path)!a} is not valid UTF-8; rename the folder")
        self.directory = directory
        self.verifies = verifies
        self.path = directory.path
        self.header: RunHeader = directory.header()
        self.footers: CheckedFooters = {}
        self._damaged: set[int] = set()  # ranks

    def __repr__(self) -> str:
        ranks = ", ".join(map(str, self.ranks())) or "none"
        return f"<{type(self).__name__} {printable(str(self.path))} {self.status()}, ranks: {ranks}>"

    def ranks(self) -> list[int]:
        """Return the ranks that have written anything, in order."""
        return [rank.rank for rank in self.directory.ranks()]

    def attempts(self, rank: int = 0) -> list[Attempt]:
        """Return the attempts of a rank, oldest first; RunDamagedError if the record of one cannot be read."""
        return self.directory.rank(rank).attempts()

    def status(self, rank: int | None = 0) -> Status:
        """Return the status of a rank, or the worst status of all ranks if None.

        `live` and `stale` mean that a process holds the lock. A rank is `stale` if nothing was written for longer than
        60 s and 10 times the usual gap between updates. `crashed` and `unknown` mean that the last attempt has no end:
        the rank is `crashed` if nobody holds the lock, and `unknown` if the lock cannot be checked, as in an object
        store. Of the log of another trainer, `finished` means that it was read to its end; see `is_imported`.
        """
        return self.ending(rank).status

    def ending(self, rank: int | None = 0) -> Ending:
        """Return the status as `status` does, and why the last attempt of that rank ended."""
        return ending_of(self.directory, rank, is_stale)

    @cached_property
    def is_imported(self) -> bool:
        """Whether this is the log of another trainer, read to its end. How the training ended, no log says."""
        try:
            attempts = self.attempts()
        except (EsperError, OSError):
            return False  # an examination reports this fault
        return bool(attempts) and attempts[-1].status == "finished" and bool(attempts[-1].imported)

    def updates(self, rank: int | None = None, *, all_attempts: bool = False) -> pl.LazyFrame:
        """Return the recorded updates, one row each, from sealed and active segments.

        Args:
            rank: only this rank; all ranks if None.
            all_attempts: return every row as recorded, ordered by (rank, seq). By default, only rows that no later
                row supersedes are returned, ordered by (rank, update).

        Returns:
            Columns `run_id`, `rank`, `attempt`, `seq`, `dropped_before`, those of the metrics table, then
            every metric that the user added (Float64); an empty run has them too. A segment whose size or footer is
            wrong is left out; `faults` lists it, and also checks every byte. The sealed files stay open as long as
            the frame lives.

        Raises:
            NotARunError: the run has no such rank.
            FormatVersionError: a segment was written by a newer Esper.
        """
        return self.look(rank, "records").updates(all_attempts=all_attempts)

    def faults(self, rank: int | None = None) -> list[Fault]:
        """Return all faults of the run's files; empty if the files are sound."""
        return self.look(rank).faults

    def black_boxes(self, rank: int | None = None) -> list[BlackBox]:
        """Return the black boxes of the run, oldest first. Those in which anything is wrong are among the faults.

        Args:
            rank: only this rank; all ranks if None.

        Raises:
            NotARunError: the run has no such rank.
            FormatVersionError: a segment or a black box was written by a newer Esper.
        """
        return self.read(rank, lambda found: black_boxes_of(self.directory, found))

    def selected_ranks(self, rank: int | None) -> list[int]:
        """Return the ranks that `rank` selects; rank 0 is valid even before it has written anything."""
        ranks = self.ranks()
        if rank is None:
            return ranks
        if rank not in ranks and (rank != 0 or ranks):
            known = ", ".join(map(str, ranks)) or "none"
            raise NotARunError(f"{self.path} has no rank {rank} (its ranks: {known}); choose one with --rank")
        return [rank] if ranks else []

    def attempt_count(self, rank: int) -> int:
        """Count the attempts of a rank, including those whose records cannot be read."""
        try:
            with self.directory.rank(rank).open() as folder:
                return len(numbers_in(folder.names(ATTEMPTS), ".json", 4))
        except StoreError:
            raise
        except (EsperError, OSError):
            return 0

    def dropped_by_attempts(self, rank: int) -> int:
        """Count the rows dropped by all attempts of a rank, from their records.

        Only the records count rows that were dropped after the newest row.
        """
        try:
            return sum(attempt.dropped_rows for attempt in self.attempts(rank))
        except StoreError:
            raise
        except (EsperError, OSError):
            return 0

    def is_there(self) -> bool:
        """Whether the run's folder still exists."""
        try:
            self.directory.open().close()
        except NotARunError:
            return False
        except StoreError:
            raise
        except EsperError:
            pass  # it exists, but cannot be opened
        return True

    def look(self, rank: int | None = None, depth: Depth | None = None) -> RunIndex:
        """Examine the run as it is now. Pass the result on, so that nothing is examined twice.

        Args:
            rank: only this rank, and the run as a whole; all ranks if None.
            depth: how deep to look; by default `checksums`, but in an object store `records`, unless `verifies` is set,
                with the checksums of black boxes. Once a rank was found to be damaged, every look checks its checksums,
                so that a damaged segment is left out until it is sound again.

        Raises:
            NotARunError: the run or the rank does not exist.
            RunUnreadableError, RunDamagedError: the folder may not be opened, or cannot be read.
            FormatVersionError: a segment was written by a newer Esper.
        """
        ranks = self.selected_ranks(rank)
        boxes: Depth | None = depth
        if depth is None:
            depth = "records" if isinstance(self.path, StoreUrl) and not self.verifies else "checksums"
            boxes = "checksums"
        if depth == "records" and not self._damaged.isdisjoint(ranks):
            depth = "checksums"
        try:
            with self.directory.open() as folder:
                name = self.path.resolve().name
                found = self._index(examine_run(folder, name, depth, only=rank, boxes=boxes, footers=self.footers))
        except (RunDamagedError, OSError, pa.ArrowException) as error:
            if depth == "records":  # a sealed file does not match its seal
                return self.look(rank, "checksums")
            raise RunDamagedError(f"{self.path}: {error}") from None
        if depth != "records":
            of_segments = [fault for fault in found.faults if fault.segment is not None]
            unusable = {fault.rank for fault in of_segments if fault.kind in ("corrupt", "unreadable")}
            self._damaged = (self._damaged - set(ranks)) | {number for number in ranks if number in unusable}
        return found

    def _index(self, found: RunExamination) -> RunIndex:
        """Make the index from an examination; raises as `index_of`."""
        return RunIndex.of(found)

    def read(self, rank: int | None, make: Callable[[RunIndex], Made], found: RunIndex | None = None) -> Made:
        """Call `make` with one look at the run, or at one rank, and return its result.

        Args:
            rank: as for `look`.
            make: is called with a look, and again with a deeper one if the rows cannot be decoded.
            found: the first look, if that was taken already.

        Rows can turn out not to be decodable although their file matches its seal. The run is then examined again, down
        to every row, and such a segment is left out.

        Raises:
            As `look`, and what `make` raises.
        """
        try:
            return make(self.look(rank) if found is None else found)
        except DATA_ERRORS:
            return make(self.look(rank, "rows"))
        except RunDamagedError:
            if not isinstance(self.path, StoreUrl):
                raise
            return make(self.look(rank, "rows"))  # no checksum was compared before the rows were read

    @property
    def remarks(self) -> list[str]:
        """Remarks that go with a verdict on this run: assumptions about its value loss, ranks that did not record."""
        return [*self._remarks_on_value_loss, *self._remarks_on_ranks()]

    @property
    def value_clip(self) -> float | None:
        """By how much an update may move a predicted value, if the trainer clips these; else None."""
        definition = self.header.value_loss_definition
        clip = definition.get("clip_range")
        if definition.get("clipping") not in ("max", "clipped") or not isinstance(clip, int | float):
            return None
        return float(clip) if clip > 0 else None

    @cached_property
    def _remarks_on_value_loss(self) -> list[str]:
        definition = self.header.value_loss_definition
        if definition.get("assumed", not definition):
            return ["The trainer did not declare its value loss; half the mean squared error is assumed."]
        remark = _CLIPPED.get(str(definition.get("clipping")))
        return [remark] if remark is not None else []

    def _remarks_on_ranks(self) -> list[str]:
        ranks, expected = self.ranks(), self.header.world_size
        if not ranks or len(ranks) >= expected:
            return []
        named = ", ".join(map(str, ranks[:_NAMED_RANKS])) + (" …" if len(ranks) > _NAMED_RANKS else "")
        which = f"rank {named}" if len(ranks) == 1 else f"{len(ranks):,} ranks ({named})"
        return [f"Only {which} of {expected:,} recorded anything; the other ranks are not in these numbers."]
