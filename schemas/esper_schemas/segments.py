"""Reading the segments of one rank while they are being written, rotated and sealed: the segment scan.

A reader never lists and then reads, since a segment may be sealed in between. For n = 0, 1, … it tries the
Parquet file, then the active file, then the Parquet file again. `read_segments` does that once, for a report;
`RankFollower` does it again and again, and returns only what is new. Both decode with the same `RowLayout`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from esper_schemas.errors import RunDamagedError
from esper_schemas.row_message import RowLayout, ScanEnd, SegmentIdentity
from esper_schemas.run_directory import RankDirectory


@dataclass(frozen=True, slots=True)
class SealedSegment:
    """A segment that is a Parquet file; nothing of it has been read yet."""

    number: int
    path: Path


@dataclass(frozen=True, slots=True)
class ActiveSegment:
    """A segment read from its active file: the whole, verified rows, and how the file ends after them.

    `identity` is None when not even the header is whole; there are then no rows. `rows_lost` is how many rows
    the corrupt part would hold.
    """

    number: int
    path: Path
    identity: SegmentIdentity | None
    rows: pa.RecordBatch | None
    end: ScanEnd
    bytes: int
    rows_lost: int = 0


@dataclass(frozen=True, slots=True)
class MissingSegment:
    """A segment, or all from `number` to `last`, that are not there although later ones are."""

    number: int
    last: int


Segment = SealedSegment | ActiveSegment | MissingSegment


def identity_columns(identity: SegmentIdentity, rows: int) -> dict[str, pa.Array]:
    """The columns `run_id`, `rank` and `attempt`, which are constant for a segment."""
    return {
        "run_id": pa.repeat(pa.scalar(identity.run_id, pa.string()), rows),
        "rank": pa.repeat(pa.scalar(identity.rank, pa.int32()), rows),
        "attempt": pa.repeat(pa.scalar(identity.attempt, pa.int32()), rows),
    }


def with_identity(rows: pa.RecordBatch, identity: SegmentIdentity) -> pa.RecordBatch:
    """The rows as they are sealed and handed to readers: identity columns first."""
    columns = identity_columns(identity, rows.num_rows)
    return pa.RecordBatch.from_arrays([*columns.values(), *rows.columns], names=[*columns, *rows.schema.names])


def read_active(number: int, path: Path) -> ActiveSegment:
    """Read and verify an active file.

    Raises:
        OSError: the file cannot be opened or read; FileNotFoundError if it was sealed meanwhile.
        FormatVersionError: it was written by a newer Esper.
    """
    data = path.read_bytes()  # never mapped: the file may be cut while we look
    try:
        layout = RowLayout.read(data)
    except RunDamagedError as error:
        end = ScanEnd("corrupt" if any(data) else "torn", 0, str(error))
        return ActiveSegment(number, path, None, None, end, len(data))
    if layout is None:
        return ActiveSegment(number, path, None, None, _cut_header(data), len(data))
    start = len(layout.header)
    rows, end = layout.scan(data[start:], offset=start, next_seq=layout.identity.first_seq)
    batch = with_identity(layout.decode(data[start:], rows), layout.identity)
    rows_lost = -(-(len(data) - end.offset) // layout.row_bytes) if end.kind == "corrupt" else 0
    return ActiveSegment(number, path, layout.identity, batch, end, len(data), rows_lost)


def read_segments(rank: RankDirectory, start: int = 0) -> Iterator[Segment]:
    """Every segment of a rank from number `start` on, in order: together what stood there at one moment.

    Rows that are written during the reading may be missing at the end, but never in between.

    Raises:
        OSError: an active file exists and cannot be read.
        FormatVersionError: an active file was written by a newer Esper.
    """
    number = start
    while True:
        # Whoever creates a later segment writes no more into this one: look for it before this one is read. Only
        # a listing shows that the next one is missing although later ones are there.
        is_last = not _exists(rank, number + 1) and max(rank.segment_numbers(), default=-1) <= number
        segment = _read_segment(rank, number)
        if segment is not None:
            yield segment
            if is_last and not isinstance(segment, SealedSegment):
                return
            number += 1
        elif is_last:
            return
        else:
            following = min((later for later in rank.segment_numbers() if later > number), default=number + 1)
            yield MissingSegment(number, following - 1)
            number = following


def _exists(rank: RankDirectory, number: int) -> bool:
    return rank.active_path(number).exists() or rank.sealed_path(number).exists()


def _read_segment(rank: RankDirectory, number: int) -> SealedSegment | ActiveSegment | None:
    sealed = SealedSegment(number, rank.sealed_path(number))
    if sealed.path.exists():
        return sealed
    try:
        return read_active(number, rank.active_path(number))
    except FileNotFoundError:
        return sealed if sealed.path.exists() else None


class RankFollower:
    """Follows one rank of a run from segment `start` on: each `poll` returns the rows that are new since the last one.

    It keeps the active file open, so that a segment that is sealed and unlinked meanwhile is still read to
    its end. What follows the whole rows is looked at again each time, since it may be a write in progress; once a
    later segment exists it is passed over, and listed in `faults`.
    """

    def __init__(self, rank: RankDirectory, start: int = 0) -> None:
        self.rank = rank
        self.faults: list[str] = []
        self._number = start
        self._descriptor: int | None = None
        self._layout: RowLayout | None = None
        self._offset = 0
        self._next_seq = 0
        self._end = ScanEnd("clean", 0)
        self._has_rows = False
        self._is_idle = True  # the last look found nothing new

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file that is being followed."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def poll(self) -> list[pa.RecordBatch]:
        """The new rows, in order, as one batch for each segment; empty if there are none yet.

        Raises:
            OSError: a file exists and cannot be read.
            FormatVersionError: a segment was written by a newer Esper.
        """
        batches: list[pa.RecordBatch] = []
        while True:
            # Whoever creates a later segment writes no more into this one: look for it before the last read.
            # Only a listing shows that the next one is missing although later ones are there.
            is_last = not _exists(self.rank, self._number + 1)
            if is_last and self._is_idle:
                is_last = max(self.rank.segment_numbers(), default=-1) <= self._number
            if self._open():
                new = self._read_on()
                self._is_idle = not new
                batches += new
            elif not is_last:
                self._end = ScanEnd("corrupt", 0, "the segment is missing")
            if is_last:
                return batches
            self._advance()

    def _open(self) -> bool:
        """Open the current segment, a sealed one as a file that holds no more to follow; False if it is not there.

        Until its first row was read it is opened anew each time: a file without rows may be removed, and its
        number used again.
        """
        if self._descriptor is not None:
            if self._has_rows:
                return True
            self._start(self._number)
        if self.rank.sealed_path(self._number).exists():
            return True
        try:
            self._descriptor = os.open(self.rank.active_path(self._number), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return self.rank.sealed_path(self._number).exists()
        return True

    def _read_on(self) -> list[pa.RecordBatch]:
        if self._descriptor is None:
            return self._read_sealed()
        data = _read_from(self._descriptor, self._offset)
        if self._layout is None:
            try:
                self._layout = RowLayout.read(data)
            except RunDamagedError as error:
                self._end = ScanEnd("corrupt" if any(data) else "torn", 0, str(error))
                return []
            if self._layout is None:
                self._end = _cut_header(data)
                return []
            self._offset = len(self._layout.header)
            self._next_seq = self._layout.identity.first_seq
            data = data[self._offset :]
        layout = self._layout
        rows, self._end = layout.scan(data, offset=self._offset, next_seq=self._next_seq)
        if not rows:
            return []
        self._has_rows = True
        batch = with_identity(layout.decode(data, rows), layout.identity)
        self._offset += rows * layout.row_bytes
        self._next_seq = batch.column("seq")[rows - 1].as_py() + 1
        return [batch]

    def _read_sealed(self) -> list[pa.RecordBatch]:
        """The whole of a segment that was sealed before we came to it; afterwards it is done with."""
        if self._end.kind == "corrupt" or self._offset:
            return []
        path = self.rank.sealed_path(self._number)
        try:
            table: pa.Table = pq.read_table(path, partitioning=None)
        except (pa.ArrowException, OSError) as error:
            self._end = ScanEnd("corrupt", 0, " ".join(str(error).split()))
            return []
        self._offset = path.stat().st_size
        batches: list[pa.RecordBatch] = table.combine_chunks().to_batches()
        return batches

    def _advance(self) -> None:
        if self._end.kind != "clean":
            self.faults.append(
                f"segment {self._number}: {self._end.kind} at offset {self._end.offset}: {self._end.cause}"
            )
        self._start(self._number + 1)

    def _start(self, number: int) -> None:
        """Begin a segment, with nothing of it read."""
        self.close()
        self._number = number
        self._layout = None
        self._offset = 0
        self._end = ScanEnd("clean", 0)
        self._has_rows = False
        self._is_idle = True


def _cut_header(data: bytes) -> ScanEnd:
    return ScanEnd("torn", 0, "the header is not whole") if data else ScanEnd("clean", 0)


def _read_from(descriptor: int, offset: int) -> bytes:
    parts = []
    while part := os.pread(descriptor, 1 << 24, offset):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)
