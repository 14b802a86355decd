"""The index of the segments of one rank, as the analyzer reads them; made from the format's examination."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

import polars as pl
import pyarrow as pa

from esper_schemas.errors import EsperError, RunDamagedError, StoreError
from esper_schemas.examining.black_boxes import BlackBoxExamination
from esper_schemas.examining.faults import Fault
from esper_schemas.examining.rank_examination import RankExamination
from esper_schemas.examining.segment import SegmentExamination
from esper_schemas.metric.payload import METRICS
from esper_schemas.run.files import Folder
from esper_schemas.run.records import Seal
from esper_schemas.run.storage import Storage
from esper_schemas.segment import sealed
from esper_schemas.segment.column_state import ColumnState
from esper_schemas.segment.holds import Holds, check_columns
from esper_schemas.segment.states import read_states

FileState = tuple[int, int, int, int, int]
"""Device, inode and size of a file on a disk, its mtime and its ctime; only the kernel sets the last one."""

_WITHIN_BOUNDS: dict[FileState, tuple[int, tuple[str, ...]]] = {}
"""Rows and added columns of sealed files whose footers and pages are known to be within bounds; oldest first."""

_MOST_WITHIN_BOUNDS = 65_536  # about 20 MB

NO_CACHE = "ESPER_NO_CACHE"
"""If this environment variable is set, no number that was stored once is used: all come from the rows."""

_POLARS_TYPES: dict[str, pl.DataType] = {
    "float64": pl.Float64(),
    "int64": pl.Int64(),
    "int32": pl.Int32(),
    "bool": pl.Boolean(),
    "timestamp": pl.Datetime("us", "UTC"),
}

SCHEMA = pl.Schema(
    {
        "run_id": pl.String(),
        "rank": pl.Int32(),
        "attempt": pl.Int32(),
        "seq": pl.Int64(),
        "dropped_before": pl.Int64(),
        **{name: _POLARS_TYPES[metric.dtype] for name, metric in METRICS.items()},
    }
)
"""Columns and types of every row; the user's own metrics (Float64) follow them."""


def uses_stored_numbers() -> bool:
    """Whether numbers may come from what was stored beside the rows, and not from the rows themselves."""
    return not os.environ.get(NO_CACHE)


@dataclass(frozen=True, slots=True)
class Piece:
    """One segment: its rows if it is active, and what is known about them without reading a sealed file.

    Attributes:
        number: number of the segment.
        attempt: the attempt that recorded it.
        rows: number of rows, at least one.
        first_seq, last_seq, first_update, last_update: values of its first and last row.
        updates_rise: whether the update of every row is greater than that of the previous row.
        extras: columns that the user added.
        frame: the rows of an active segment; None for a sealed one, which is read when it is needed.
        storage, name: where the file is.
        seal: the seal of a sealed segment, if nothing is wrong with it.
        state: of a sealed file on a disk that was not compared with its checksum, when it was found within bounds.
    """

    number: int
    attempt: int
    rows: int
    first_seq: int
    last_seq: int
    first_update: int
    last_update: int
    updates_rise: bool
    extras: tuple[str, ...]
    frame: pl.DataFrame | None
    storage: Storage
    name: str
    seal: Seal | None = None
    state: FileState | None = None

    def open(self) -> BinaryIO:
        """Open the file of a sealed segment.

        Raises:
            RunDamagedError, OSError: as `Storage.open`.
        """
        return self.storage.open(self.name)

    def states(self, with_digests: bool = True) -> Mapping[str, ColumnState] | None:
        """Read the states of the columns that were stored at sealing; None where the rows have to be read instead.

        They are a cache: if anything is wrong with them, the rows count. `esper-rec verify` names what is wrong.

        Args:
            with_digests: whether digests are needed; to unpack them takes most of the time.
        """
        if self.seal is None or not uses_stored_numbers():
            return None
        try:
            found = read_states(self.storage, self.seal, with_digests=with_digests)
        except StoreError:
            raise
        except (EsperError, OSError, MemoryError):
            return None
        return None if found is None else found.columns


@dataclass(slots=True)
class SegmentIndex:
    """The segments of one rank, and its black boxes, at the time of an examination.

    Attributes:
        pieces: the usable segments that have rows, in order.
        faults: all faults of the rank, without notes.
        sealed, active: number of segments, usable or not.
        bytes: size of all segments.
        next_active: number of the first segment that is not sealed, where a follower continues.
        attempts: number of attempts, including those whose records cannot be read.
        dropped: number of dropped rows in the attempt records.
        black_boxes: the black boxes in which nothing is wrong, oldest first.
    """

    pieces: list[Piece] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    sealed: int = 0
    active: int = 0
    bytes: int = 0
    next_active: int = 0
    attempts: int = 0
    dropped: int = 0
    black_boxes: list[BlackBoxExamination] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Number of rows in all pieces."""
        return sum(piece.rows for piece in self.pieces)


def index_of(check: RankExamination) -> SegmentIndex:
    """Make the index of a rank from its examination.

    Raises:
        RunDamagedError, OSError, ArrowException: a sealed file that the examination did not open (at depth `records` it
            opens none) is too large or not a segment; a deeper examination names it.
    """
    index = SegmentIndex(
        faults=without_notes(check.all_faults),
        attempts=len({*check.attempts, *check.bad_attempts}),
        dropped=sum(attempt.dropped_rows for attempt in check.attempts.values()),
        black_boxes=check.black_boxes,
    )
    for segment in check.segments:
        index.bytes += segment.bytes
        if segment.is_sealed:
            index.sealed += 1
            index.next_active = segment.number + 1
        else:
            index.active += 1
        if segment.holds is not None and segment.holds.rows:
            index.pieces.append(_piece(check, segment, segment.holds))
    return index


def without_notes(faults: Iterable[Fault]) -> list[Fault]:
    """Return the faults that the analyzer reports; only `esper-rec verify` lists notes too."""
    return [fault for fault in faults if fault.kind != "note"]


def to_frame(batch: pa.RecordBatch) -> pl.DataFrame:
    """Convert a batch of rows to a polars frame with the columns and types of the run."""
    frame = pl.from_arrow(batch)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _piece(check: RankExamination, segment: SegmentExamination, holds: Holds) -> Piece:
    extras: Iterable[str] = holds.extras
    state = None
    if check.depth == "records" and not segment.rows_seen and not _is_checked_later(check.storage, segment.seal):
        state, extras = _within_bounds(check.storage, segment)
    assert holds.first_update is not None  # there are rows
    assert holds.last_update is not None
    return Piece(
        number=segment.number,
        attempt=holds.identity.attempt,
        rows=holds.rows,
        first_seq=holds.first_seq,
        last_seq=holds.last_seq,
        first_update=holds.first_update,
        last_update=holds.last_update,
        updates_rise=holds.updates_rise,
        extras=tuple(extras),
        frame=None if segment.rows is None else to_frame(segment.rows),
        storage=check.storage,
        name=segment.name,
        seal=None if segment.seal_is_bad else segment.seal,
        state=state,
    )


def _is_checked_later(storage: Storage, seal: Seal | None) -> bool:
    """Whether a file is far away, so that it is opened when its rows are read, and its seal says all until then."""
    return not isinstance(storage, Folder) and seal is not None and seal.extras is not None


def note_within_bounds(state: FileState, rows: int, extras: Iterable[str]) -> None:
    """Note that the footer and the pages of a sealed file in this state are within bounds, and what it holds."""
    while len(_WITHIN_BOUNDS) >= _MOST_WITHIN_BOUNDS:
        del _WITHIN_BOUNDS[next(iter(_WITHIN_BOUNDS))]
    _WITHIN_BOUNDS[state] = rows, tuple(extras)


def _within_bounds(storage: Storage, segment: SegmentExamination) -> tuple[FileState | None, tuple[str, ...]]:
    """Check that a sealed file whose seal alone was examined is within bounds; return its state and added columns.

    A file is unpacked only after its footer and its page headers have shown that. A sealed file does not change, so
    each is looked at once as long as its state is the same; that takes a millisecond.
    """
    where = storage.where(segment.name)
    found = storage.stat(segment.name) if isinstance(storage, Folder) else None
    state = None if found is None else _state_of(found)
    known = None if state is None else _WITHIN_BOUNDS.get(state)
    if known is None or not _is_as_sealed(segment, *known):
        with storage.open(segment.name) as file:
            state = _state_of(os.fstat(file.fileno())) if isinstance(storage, Folder) else None
            with sealed.open_parquet(file, segment.bytes, where) as parquet:
                known = parquet.metadata.num_rows, tuple(check_columns(parquet.schema_arrow)[0])
            if state is not None:
                note_within_bounds(state, *known)
    rows, extras = known
    if segment.holds is not None and segment.holds.rows != rows:
        raise RunDamagedError(f"{where}: expected {segment.holds.rows} rows, found {rows} in its footer")
    return state, extras


def _is_as_sealed(segment: SegmentExamination, rows: int, extras: tuple[str, ...]) -> bool:
    """Whether what is known of a file does not contradict its seal."""
    seal = segment.seal
    return seal is None or (seal.rows == rows and (seal.extras is None or tuple(seal.extras) == extras))


def _state_of(found: os.stat_result) -> FileState:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
