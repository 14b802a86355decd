"""The black boxes of a run: the last minibatches before something broke, and the update in which it broke."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

import polars as pl
import pyarrow as pa

from esper_analyzer.reading import current_rows
from esper_analyzer.reading.run_index import RunIndex
from esper_analyzer.reading.segment_index import SCHEMA, Piece, SegmentIndex
from esper_schemas.errors import RunDamagedError
from esper_schemas.examining.black_boxes import BlackBoxExamination
from esper_schemas.run.directory import StoredRun
from esper_schemas.run.names import black_box_name
from esper_schemas.run.store import Place
from esper_schemas.segment.black_box import read_black_box


@dataclass(frozen=True, slots=True, eq=False)
class BlackBox:
    """The last minibatches before something broke, and why the recorder wrote them; see FORMAT.md.

    Attributes:
        rank: the rank that wrote it.
        name: its name, such as `00000811`.
        path: its Parquet file.
        seq: sequence number of the row of the update in progress.
        update: the update of that row; None if there is no such row, as the attempt ended before it was recorded.
        after_update: without that row, the update of the last row of the attempt before it, if there is one.
        attempt: number of the attempt.
        written: when it was written, in ISO 8601.
        trigger: `not_finite`, `skipped`, `critical`, `failed`, `interrupted` or `asked`.
        reason: what happened, in one line; at most 500 characters.
        not_written: in how many later updates the same happened before the file was written.
        minibatches: number of minibatches.
        last: the last 10 of them, oldest first, with the columns of `rows`.
        last_updates: the update of each of these; None where the row of the update was not recorded.
    """

    rank: int
    name: str
    path: Place
    seq: int
    update: int | None
    after_update: int | None
    attempt: int
    written: str
    trigger: str
    reason: str
    not_written: int
    minibatches: int
    last: pl.DataFrame = field(repr=False)
    last_updates: list[int | None]
    directory: StoredRun = field(repr=False)

    def rows(self) -> pl.DataFrame:
        """Read all minibatches, oldest first.

        Returns:
            Columns `seq`, `minibatch` (its number within the update, from 0) and `elapsed_secs` (since the recorder was
            opened), then every number that was passed to `Recorder.minibatch` (Float64), null where it was not passed.

        Raises:
            RunDamagedError: the file was changed or removed in the meantime.
        """
        try:
            with self.directory.rank(self.rank).open() as rank:
                return _to_frame(read_black_box(rank, self.name).minibatches)
        except OSError as error:
            raise RunDamagedError(f"{self.path}: {error.strerror or error}") from None


def black_boxes_of(directory: StoredRun, found: RunIndex) -> list[BlackBox]:
    """Return the black boxes that an examination found to be sound, oldest first: by sequence number, then by rank.

    Args:
        directory: the run.
        found: the index of a run whose checksums were examined.

    Raises:
        RunDamagedError, OSError, PolarsError: rows around a black box cannot be read.
    """
    boxes = [
        _black_box(directory, rank, box, rows)
        for rank, index in found.ranks.items()
        for rows in [_rows_around(index)]
        for box in index.black_boxes
    ]
    return sorted(boxes, key=lambda box: (box.seq, box.rank))


def _black_box(directory: StoredRun, rank: int, box: BlackBoxExamination, rows: _RowsAround) -> BlackBox:
    at, update = rows[box.attempt, box.seq]
    last_rows = [(seq, rows[box.attempt, seq]) for seq in _seqs(box)]
    return BlackBox(
        rank=rank,
        name=box.name,
        path=directory.rank(rank).path / black_box_name(box.name),
        seq=box.seq,
        update=update if at == box.seq else None,
        after_update=None if at == box.seq else update,
        attempt=box.attempt,
        written=box.written,
        trigger=box.trigger,
        reason=box.reason,
        not_written=box.not_written,
        minibatches=box.minibatches,
        last=_to_frame(_last_of(box)),
        last_updates=[update if at == seq else None for seq, (at, update) in last_rows],
        directory=directory,
    )


_RowsAround: TypeAlias = dict[tuple[int, int], tuple[int | None, int | None]]
"""Attempt and seq → seq and update of that row; without that row, of the last row of the attempt before it."""


def _rows_around(index: SegmentIndex) -> _RowsAround:
    """Find the rows of the last minibatches of each black box.

    Only rows of the same attempt count: after a crash, the next attempt gives the number to another row.
    """
    asked = {(box.attempt, seq) for box in index.black_boxes for seq in (box.seq, *_seqs(box))}
    if not asked:
        return {}
    pieces = _pieces_around(index, asked)
    every_row = current_rows.all_attempts(pieces, current_rows.schema_of(pieces))
    rows = every_row.select("attempt", "update", "seq", at="seq").collect()
    wanted = pl.DataFrame(list(asked), {"attempt": SCHEMA["attempt"], "seq": SCHEMA["seq"]}, orient="row")
    found = wanted.sort("seq").join_asof(rows.sort("seq"), on="seq", by="attempt", check_sortedness=False)
    return {
        (attempt, seq): (at, update)
        for attempt, seq, at, update in found.select("attempt", "seq", "at", "update").iter_rows()
    }


def _pieces_around(index: SegmentIndex, asked: Iterable[tuple[int, int]]) -> list[Piece]:
    """Return the pieces that have these rows, each an attempt and a seq, or the last row of the attempt before one."""
    by_attempt: dict[int, list[Piece]] = {}
    for piece in index.pieces:
        by_attempt.setdefault(piece.attempt, []).append(piece)
    wanted = set()
    for attempt, seq in asked:
        pieces = by_attempt.get(attempt, [])
        at = bisect_right(pieces, seq, key=lambda piece: piece.first_seq) - 1
        if at >= 0:
            wanted.add(pieces[at].number)
    return [piece for piece in index.pieces if piece.number in wanted]


def _last_of(box: BlackBoxExamination) -> pa.Table:
    assert box.last is not None  # checksums were examined
    return box.last


def _seqs(box: BlackBoxExamination) -> list[int]:
    """The sequence number of the row of each of the last minibatches."""
    seqs: list[int] = _last_of(box)["seq"].to_pylist()
    return seqs


def _to_frame(minibatches: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(minibatches)
    assert isinstance(frame, pl.DataFrame)
    return frame
