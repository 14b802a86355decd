"""Which rows count after restarts and rollbacks, and how to read them one batch after another, in bounded memory.

An attempt supersedes every earlier row of its rank whose update is at or after its own first update; within an attempt
the last row of an update wins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa

from esper_schemas.errors import RunDamagedError
from esper_schemas.examining.rank_examination import RankExamination
from esper_schemas.examining.segment import SegmentExamination
from esper_schemas.segment import sealed

if TYPE_CHECKING:
    from numpy.typing import NDArray

# ------------------------------------------------------------------ the rule


class Span(Protocol):
    """What the rule needs to know of a segment that has rows."""

    @property
    def attempt(self) -> int:
        """The attempt that recorded it."""

    @property
    def first_update(self) -> int:
        """Update of its first row."""

    @property
    def last_update(self) -> int:
        """Update of its last row."""

    @property
    def updates_rise(self) -> bool:
        """Whether the update of every row is greater than that of the row before."""


def rises(spans: Sequence[Span]) -> bool:
    """Whether each update is greater than the one before, within and between these segments."""
    return all(span.updates_rise for span in spans) and all(
        before.last_update < after.first_update for before, after in pairwise(spans)
    )


def cuts_by_attempt(spans: Sequence[Span]) -> dict[int, int | None]:
    """Return, for each attempt, the update from which a later attempt supersedes it; None if it is not superseded."""
    firsts: dict[int, int] = {}
    for span in spans:
        firsts.setdefault(span.attempt, span.first_update)
    cuts: dict[int, int | None] = {}
    cut: int | None = None
    for attempt in sorted(firsts, reverse=True):
        cuts[attempt] = cut
        cut = firsts[attempt] if cut is None else min(cut, firsts[attempt])
    return cuts


# ------------------------------------------------------------------ the rows


class _Segment:
    """The rows of one examined segment."""

    def __init__(self, check: RankExamination, segment: SegmentExamination) -> None:
        assert segment.holds is not None
        assert segment.holds.first_update is not None  # there are rows
        assert segment.holds.last_update is not None
        self.attempt = segment.holds.identity.attempt
        self.first_update = segment.holds.first_update
        self.last_update = segment.holds.last_update
        self.updates_rise = segment.holds.updates_rise
        self._storage = check.storage
        self._segment = segment

    def batches(self, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        """The rows in order, with those of the `columns` that the segment has, in the order of the segment."""
        active = self._segment.rows
        if active is not None:
            chosen = [name for name in active.schema.names if columns is None or name in columns]
            yield active.select(chosen)
            return
        where = self._storage.where(self._segment.name)
        try:
            with (
                self._storage.open(self._segment.name) as file,
                sealed.open_parquet(file, self._segment.bytes, where, columns) as parquet,
            ):
                yield from sealed.batches(parquet, columns)
        except pa.ArrowException as error:
            raise RunDamagedError(f"{where}: {' '.join(str(error).split())}") from None
        except OSError as error:
            if error.errno is not None:
                raise  # an error of the disk
            raise RunDamagedError(f"{where}: {' '.join(str(error).split())}") from None

    def table(self, columns: Sequence[str] | None) -> pa.Table:
        """All rows."""
        return pa.Table.from_batches(self.batches(columns))


def current_rows(check: RankExamination, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a rank that no later row supersedes, ordered by update, batch after batch.

    The schema of a batch is that of its segment: extras differ between segments, and an older file may lack columns of
    the table. Segments that cannot be used are left out; `check.all_faults` names them. Memory is bounded by one
    segment, and by 16 bytes for each row of an attempt in which an update comes twice.

    Args:
        check: the examination of the rank, at any depth.
        columns: the columns to read; by default all.

    Raises:
        RunDamagedError: a sealed file is damaged in a way that the examination did not look for.
        OSError: it cannot be read.
    """
    segments = [_Segment(check, found) for found in check.segments if found.holds is not None and found.holds.rows]
    cuts = cuts_by_attempt(segments)
    for attempt, group in groupby(segments, key=lambda segment: segment.attempt):
        cut, of_attempt = cuts[attempt], list(group)
        if rises(of_attempt):
            yield from _rising(of_attempt, cut, columns)
        else:
            yield from _settled(of_attempt, cut, columns)


def _rising(segments: Sequence[_Segment], cut: int | None, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    """The rows of an attempt in which updates rise, up to the update `cut`."""
    for segment in segments:
        if cut is None or segment.last_update < cut:
            yield from segment.batches(columns)
        elif segment.first_update < cut:
            before = int(np.searchsorted(_updates(segment), cut))
            for batch in segment.batches(columns):
                yield batch.slice(0, before)
                before -= min(before, batch.num_rows)
                if not before:
                    break


def _settled(segments: Sequence[_Segment], cut: int | None, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    """The last row of each update of an attempt, up to the update `cut`, where updates do not simply rise."""
    updates = [_updates(segment) for segment in segments]
    starts = np.cumsum([0, *(len(of_segment) for of_segment in updates)])
    backwards = np.concatenate(updates)[::-1]
    unique, last = np.unique(backwards, return_index=True)  # of the first one from behind
    rows = len(backwards) - 1 - (last if cut is None else last[: np.searchsorted(unique, cut)])
    of_segment = np.searchsorted(starts, rows, side="right") - 1
    breaks = np.flatnonzero((np.diff(rows) != 1) | (np.diff(of_segment) != 0)) + 1
    loaded: tuple[int, pa.Table] | None = None
    for stretch in np.split(rows, breaks) if len(rows) else []:
        number = int(np.searchsorted(starts, stretch[0], side="right")) - 1
        if loaded is None or loaded[0] != number:
            loaded = number, segments[number].table(columns)
        yield from loaded[1].slice(int(stretch[0] - starts[number]), len(stretch)).to_batches()


def _updates(segment: _Segment) -> NDArray[np.int64]:
    found: NDArray[np.int64] = segment.table(["update"])["update"].to_numpy()
    return found
