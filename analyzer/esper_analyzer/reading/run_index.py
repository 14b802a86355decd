"""What was found in a run at one moment: its rows, its faults. A command makes it once, and hands it on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import polars as pl

from esper_analyzer.reading import current_rows
from esper_analyzer.reading.segment_index import SCHEMA, SegmentIndex, index_of, without_notes
from esper_schemas.examining.faults import Fault
from esper_schemas.examining.run import RunExamination
from esper_schemas.examining.segment import Recording


@dataclass(frozen=True, slots=True)
class RunIndex:
    """The ranks of a run that were examined together, or one of them.

    Attributes:
        ranks: what each rank holds, by its number; a rank that cannot be opened is not there.
        run_faults: what is wrong with the header, and ranks that cannot be opened.
        recording: the run id and uuid that the segments must carry.
    """

    ranks: dict[int, SegmentIndex]
    run_faults: list[Fault]
    recording: Recording

    @classmethod
    def of(cls, found: RunExamination) -> RunIndex:
        """The projection of an examination; raises as `index_of`."""
        ranks = {check.rank: index_of(check) for check in found.ranks}
        return cls(ranks, without_notes(found.faults), found.recording)

    def only(self, rank: int) -> RunIndex:
        """The same of one rank."""
        return replace(self, ranks={number: index for number, index in self.ranks.items() if number == rank})

    def rank(self, rank: int) -> SegmentIndex:
        """What one rank holds; nothing, if it is not there."""
        return self.ranks.get(rank) or SegmentIndex()

    @property
    def faults(self) -> list[Fault]:
        """Everything that is not as promised: of the run, then of each rank."""
        return [*self.run_faults, *(fault for index in self.ranks.values() for fault in index.faults)]

    @property
    def damage(self) -> int:
        """How many faults are damage."""
        return sum(fault.is_damage for fault in self.faults)

    def damage_of(self, rank: int) -> int:
        """How many faults of a rank, or of the run as a whole, are damage."""
        return sum(fault.is_damage for fault in self.faults if fault.rank in (None, rank))

    def frames(self, *, all_attempts: bool = False) -> dict[int, pl.LazyFrame]:
        """The rows of each rank, all frames with the same columns; see `updates`."""
        schema = current_rows.schema_of(piece for index in self.ranks.values() for piece in index.pieces)
        return {rank: rows_of(index, schema, all_attempts=all_attempts) for rank, index in self.ranks.items()}

    def updates(self, *, all_attempts: bool = False) -> pl.LazyFrame:
        """The rows of all ranks, by rank; see `Run.updates`. Each sealed file is open as long as the frame lives."""
        return joined(self.frames(all_attempts=all_attempts).values())


def rows_of(index: SegmentIndex, schema: pl.Schema | None = None, *, all_attempts: bool = False) -> pl.LazyFrame:
    """The rows of one rank, with the columns that it has if no others are asked for.

    Raises:
        UsageError: more files would be open than the system allows.
        RunDamagedError, OSError: a file cannot be opened any more.
    """
    view = current_rows.all_attempts if all_attempts else current_rows.current
    return view(index.pieces, current_rows.schema_of(index.pieces) if schema is None else schema)


def every_row_of(index: SegmentIndex, rows: pl.LazyFrame) -> pl.LazyFrame:
    """The rows of one rank in all attempts, given those that count; the same frame where nothing is superseded."""
    return rows if current_rows.rises(index.pieces) else rows_of(index, all_attempts=True)


def joined(frames: Iterable[pl.LazyFrame]) -> pl.LazyFrame:
    """Frames of the same columns as one; an empty one with the columns of the table, if there is none."""
    every = list(frames)
    if not every:
        return pl.LazyFrame(schema=SCHEMA)
    return every[0] if len(every) == 1 else pl.concat(every)


def dropped_rows(index: SegmentIndex, every_row: pl.LazyFrame) -> int:
    """Rows that a rank dropped, by what its rows, superseded or not, and its attempts say."""
    return max(dropped_in(every_row), index.dropped)


def dropped_in(every_row: pl.LazyFrame) -> int:
    """Rows that were dropped, as these rows say."""
    return int(every_row.select(pl.col("dropped_before").sum()).collect().item() or 0)
