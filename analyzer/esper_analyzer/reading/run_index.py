"""The index of a run: its rows and faults at one moment. A command makes it once and passes it on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import polars as pl

from esper_analyzer.reading import current_rows
from esper_analyzer.reading.current_rows import Stretch
from esper_analyzer.reading.segment_index import SCHEMA, SegmentIndex, index_of, without_notes
from esper_schemas.examining.current import rises
from esper_schemas.examining.faults import Fault
from esper_schemas.examining.run import RunExamination
from esper_schemas.examining.segment import Recording

Ranks = int | Literal["first"] | None
"""Which ranks are judged, and which rank the numbers are of.

`"first"`, the default of commands and of `Run.report`, judges all ranks and has the numbers of the first one. A number
asks for this rank alone. None puts all ranks together, numbers included.
"""


def looked_at(rank: Ranks) -> int | None:
    """Return the rank to examine; None for all."""
    return None if rank == "first" else rank


@dataclass(frozen=True, slots=True)
class RunIndex:
    """The ranks of a run that were examined together, or one of them.

    Attributes:
        ranks: the index of each rank, by number; a rank that cannot be opened is left out.
        run_faults: faults of the header, and of ranks that cannot be opened.
        recording: the run id and uuid that the segments must have.
    """

    ranks: dict[int, SegmentIndex]
    run_faults: list[Fault]
    recording: Recording

    @classmethod
    def of(cls, found: RunExamination) -> RunIndex:
        """Make the index from an examination; raises as `index_of`."""
        ranks = {check.rank: index_of(check) for check in found.ranks}
        return cls(ranks, without_notes(found.faults), found.recording)

    def only(self, rank: int) -> RunIndex:
        """Return the same index with one rank only."""
        return replace(self, ranks={number: index for number, index in self.ranks.items() if number == rank})

    def shown(self, rank: Ranks) -> list[int]:
        """Return the ranks that the numbers are of. The first rank is the first that has recorded anything."""
        if rank != "first" or not self.ranks:
            return list(self.ranks)
        return [next((number for number, index in self.ranks.items() if index.rows), min(self.ranks))]

    def rank(self, rank: int) -> SegmentIndex:
        """Return the index of one rank; an empty one if the run has no such rank."""
        return self.ranks.get(rank) or SegmentIndex()

    def stretches(self, ranks: Iterable[int]) -> list[Stretch]:
        """Return the segments of some ranks, rank by rank, with which of their rows count."""
        return [stretch for number in ranks for stretch in current_rows.stretches(self.rank(number).pieces)]

    @property
    def faults(self) -> list[Fault]:
        """All faults: those of the run, then those of each rank."""
        return [*self.run_faults, *(fault for index in self.ranks.values() for fault in index.faults)]

    @property
    def damage(self) -> int:
        """Number of faults that are damage."""
        return sum(fault.is_damage for fault in self.faults)

    def damage_of(self, rank: int) -> int:
        """Count the faults of a rank, and of the run as a whole, that are damage."""
        return sum(fault.is_damage for fault in self.faults if fault.rank in (None, rank))

    @property
    def schema(self) -> pl.Schema:
        """The columns of the rows, which are the same for all of these ranks."""
        return current_rows.schema_of(piece for index in self.ranks.values() for piece in index.pieces)

    def frames(self, *, all_attempts: bool = False) -> dict[int, pl.LazyFrame]:
        """Return the rows of each rank, in frames with the same columns; see `updates`."""
        schema = self.schema
        return {rank: rows_of(index, schema, all_attempts=all_attempts) for rank, index in self.ranks.items()}

    def updates(self, *, all_attempts: bool = False) -> pl.LazyFrame:
        """Return the rows of all ranks, by rank; see `Run.updates`. Sealed files stay open as long as the frame."""
        return joined(self.frames(all_attempts=all_attempts).values())


def rows_of(index: SegmentIndex, schema: pl.Schema | None = None, *, all_attempts: bool = False) -> pl.LazyFrame:
    """Return the rows of one rank, with the columns of `schema`, or its own columns if that is None.

    Raises:
        UsageError: more files would be open than the system allows.
        RunDamagedError, OSError: a file can no longer be opened.
    """
    view = current_rows.all_attempts if all_attempts else current_rows.current
    return view(index.pieces, current_rows.schema_of(index.pieces) if schema is None else schema)


def every_row_of(index: SegmentIndex, rows: pl.LazyFrame) -> pl.LazyFrame:
    """Return the rows of one rank in all attempts; this is `rows`, those that count, if nothing is superseded."""
    return rows if rises(index.pieces) else rows_of(index, all_attempts=True)


def joined(frames: Iterable[pl.LazyFrame]) -> pl.LazyFrame:
    """Concatenate frames with the same columns; without any, return an empty one with the columns of the table."""
    every = list(frames)
    if not every:
        return pl.LazyFrame(schema=SCHEMA)
    return every[0] if len(every) == 1 else pl.concat(every)


def dropped_rows(index: SegmentIndex, every_row: pl.LazyFrame) -> int:
    """Count the rows that a rank dropped, from its rows (superseded or not) and its attempt records.

    Reads no rows if no sequence number is without its row, as dropped rows use up theirs.
    """
    pieces = index.pieces
    if not pieces or pieces[-1].last_seq + 1 == index.rows:
        return index.dropped
    return max(dropped_in(every_row), index.dropped)


def dropped_in(every_row: pl.LazyFrame) -> int:
    """Count the dropped rows that these rows report."""
    return int(every_row.select(pl.col("dropped_before").sum()).collect().item() or 0)
