"""Reads all segments of a rank once, even while a writer adds, rotates and seals them: the segment scan.

A reader never lists the files first and reads them later, since a segment may be sealed in between. For n = 0, 1, … it
tries the Parquet file, then the active file, then the Parquet file again. `read_segments` does this once, for a report.
`RankFollower` (module `follow`) repeats it and returns only new rows. Both decode with the same `RowLayout`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa

from esper_schemas.errors import RunDamagedError
from esper_schemas.limits import MAX_SEGMENT_BYTES
from esper_schemas.run.directory import StoredRank
from esper_schemas.run.names import active_name, sealed_name, segment_numbers
from esper_schemas.run.storage import Storage
from esper_schemas.run.store import Place
from esper_schemas.segment.active import RowLayout, ScanEnd, SegmentIdentity
from esper_schemas.segment.arrays import repeated


class SealedSegment(NamedTuple):
    """A segment that is a Parquet file, which has not been read yet."""

    number: int
    path: Place


class ActiveSegment(NamedTuple):
    """A segment read from its active file: its verified rows, and how the file ends after them.

    `data` is the bytes of the file; `end` says where the whole rows end. `identity` and `rows` are None if the
    header is incomplete or damaged. `rows_lost` is the number of rows that the corrupt part would hold.
    """

    number: int
    identity: SegmentIdentity | None
    rows: pa.RecordBatch | None
    end: ScanEnd
    data: bytes
    rows_lost: int = 0

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return len(self.data)


class MissingSegment(NamedTuple):
    """A missing segment, or all from `number` to `last`, although later ones exist."""

    number: int
    last: int


Segment = SealedSegment | ActiveSegment | MissingSegment


def identity_columns(identity: SegmentIdentity, rows: int) -> dict[str, pa.Array]:
    """The columns `run_id`, `rank` and `attempt`, which are constant in a segment."""
    return {
        "run_id": repeated(identity.run_id, pa.string(), rows),
        "rank": repeated(identity.rank, pa.int32(), rows),
        "attempt": repeated(identity.attempt, pa.int32(), rows),
    }


def with_identity(rows: pa.RecordBatch, identity: SegmentIdentity) -> pa.RecordBatch:
    """The rows with the identity columns first, as they are sealed and as readers get them."""
    columns = identity_columns(identity, rows.num_rows)
    return pa.RecordBatch.from_arrays([*columns.values(), *rows.columns], names=[*columns, *rows.schema.names])


def read_active(rank: Storage, number: int) -> ActiveSegment:
    """Read and verify the active file of a segment.

    Raises:
        OSError: the file cannot be opened or read; FileNotFoundError if it has been sealed meanwhile.
        RunDamagedError: it is not a regular file, or it is larger than a segment may be.
        FormatVersionError: a newer Esper wrote it.
    """
    # Do not map the file: it may be cut while we read it.
    return parse_active(number, rank.read(active_name(number), MAX_SEGMENT_BYTES))


def parse_active(number: int, data: bytes) -> ActiveSegment:
    """Decode and verify the bytes of an active file.

    Raises:
        FormatVersionError: a newer Esper wrote it.
    """
    try:
        layout = RowLayout.read(data)
    except RunDamagedError as error:
        end = ScanEnd("corrupt" if data.strip(b"\0") else "torn", 0, str(error))
        return ActiveSegment(number, None, None, end, data)
    if layout is None:
        return ActiveSegment(number, None, None, cut_header(data), data)
    start = len(layout.header)
    rows, end = layout.scan(memoryview(data)[start:], offset=start, next_seq=layout.identity.first_seq)
    batch = with_identity(layout.decode(memoryview(data)[start:], rows), layout.identity)
    rows_lost = -(-(len(data) - end.offset) // layout.row_bytes) if end.kind == "corrupt" else 0
    return ActiveSegment(number, layout.identity, batch, end, data, rows_lost)


def read_segments(rank: StoredRank, start: int = 0) -> Iterator[Segment]:
    """Read every segment of a rank from number `start` on, in order: a consistent snapshot.

    Rows that are written meanwhile may be missing at the end, but never in between.

    Raises:
        OSError: an active file exists but cannot be read.
        RunDamagedError: a file or folder is something else, such as a link.
        FormatVersionError: a newer Esper wrote an active file.
    """
    try:
        folder = rank.open()
    except FileNotFoundError:
        return
    with folder:
        number = start
        while True:
            # A writer that has created a later segment no longer writes to this one, so look for a later one before
            # reading this one. Only a listing shows that the next one is missing although later ones exist.
            is_last = not exists(folder, number + 1) and max(segment_numbers(folder), default=-1) <= number
            segment = _read_segment(folder, rank.path, number)
            if segment is not None:
                yield segment
                if is_last and not isinstance(segment, SealedSegment):
                    return
                number += 1
            elif is_last:
                return
            else:
                following = min((later for later in segment_numbers(folder) if later > number), default=number + 1)
                yield MissingSegment(number, following - 1)
                number = following


def exists(rank: Storage, number: int) -> bool:
    """Whether a segment exists, active or sealed."""
    return rank.exists(active_name(number)) or rank.exists(sealed_name(number))


def _read_segment(rank: Storage, path: Place, number: int) -> SealedSegment | ActiveSegment | None:
    sealed_segment = SealedSegment(number, path / sealed_name(number))
    if rank.exists(sealed_name(number)):
        return sealed_segment
    try:
        return read_active(rank, number)
    except FileNotFoundError:
        return sealed_segment if rank.exists(sealed_name(number)) else None


def cut_header(data: bytes) -> ScanEnd:
    """How a file with an incomplete header ends."""
    return ScanEnd("torn", 0, "the header is not whole") if data else ScanEnd("clean", 0)
