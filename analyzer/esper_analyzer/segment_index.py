"""The segments of one rank, looked at once: what each holds, and everything that is wrong with them."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from esper_schemas.errors import FormatVersionError, RunDamagedError
from esper_schemas.faults import Fault, FaultKind, KnownLosses
from esper_schemas.payload import METRICS
from esper_schemas.row_message import FORMAT_VERSION
from esper_schemas.run_directory import RankDirectory
from esper_schemas.run_files import Seal
from esper_schemas.segments import ActiveSegment, MissingSegment, SealedSegment, read_segments

_Seq = TypeVar("_Seq", int, None)

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
"""Columns and types of every row, before any metric that the user added (Float64)."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The rows of one segment, and what is known about them without reading a sealed one.

    `first_update`, `last_update` are those of its first and last row; `updates_rise` says that every row's
    update is greater than that of the row before. `frame` has the segment's own columns.
    """

    number: int
    attempt: int
    rows: int
    first_seq: int
    last_seq: int
    first_update: int
    last_update: int
    updates_rise: bool
    path: Path | None
    frame: pl.DataFrame | None
    schema: pl.Schema


@dataclass(slots=True)
class SegmentIndex:
    """What the segments of one rank hold at the moment they were looked at.

    `next_active` is the number of the first segment that was not sealed: where a follower goes on.
    """

    pieces: list[Piece] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    sealed: int = 0
    active: int = 0
    bytes: int = 0
    next_active: int = 0

    @property
    def rows(self) -> int:
        """Rows of all pieces."""
        return sum(piece.rows for piece in self.pieces)


def index_segments(
    rank: RankDirectory, *, start: int = 0, verify: bool = False, suspects: Container[int | None] = ()
) -> SegmentIndex:
    """Look at every segment of a rank; what cannot be read becomes a fault.

    Args:
        rank: folder of the rank.
        start: number of the segment to begin with; from another one than 0, the faults mean nothing.
        verify: whether to hold sealed segments against the checksum of their seal, and their footers; without that
            only their size is checked. A segment that fails a check is left out.
        suspects: numbers of segments that are verified in any case.

    Raises:
        FormatVersionError: a segment was written by a newer Esper.
    """
    index = SegmentIndex()
    known = KnownLosses(rank)
    expected_seq = 0
    for segment in _segments(rank, start, index):
        if isinstance(segment, MissingSegment):
            for first, last in known.unexplained_segments(segment.number, segment.last):
                said = "the segment is missing" if first == last else f"segments {first} to {last} are missing"
                index.faults.append(_fault(rank, first, "missing", None, said))
            expected_seq = _seq_after(_read_seal(rank, segment.last, index), expected_seq)
            continue
        if isinstance(segment, SealedSegment):
            thorough = verify or segment.number in suspects
            piece, next_seq = _sealed(rank, segment, index, known, verify=thorough)
        else:
            piece, next_seq = _active(rank, segment, index)
        if piece is None:
            expected_seq = expected_seq if next_seq is None else next_seq
            continue
        dropped = piece.first_seq - expected_seq
        if dropped:
            dropped -= _dropped_before_first(piece)
        if dropped and (dropped < 0 or known.unexplained_rows(piece.first_seq - dropped, piece.first_seq - 1)):
            said = f"expected sequence number {piece.first_seq - dropped}, found {piece.first_seq}"
            index.faults.append(_fault(rank, piece.number, "lost", None, said))
        expected_seq = piece.last_seq + 1 if next_seq is None else next_seq
        index.pieces.append(piece)
    if start == 0:
        index.faults += known.faults()
    return index


def _segments(
    rank: RankDirectory, start: int, index: SegmentIndex
) -> Iterator[SealedSegment | ActiveSegment | MissingSegment]:
    """The segment scan, going on behind a segment whose active file cannot be opened."""
    number = start
    while True:
        try:
            for segment in read_segments(rank, number):
                number = (segment.last if isinstance(segment, MissingSegment) else segment.number) + 1
                yield segment
            return
        except OSError as error:
            index.faults.append(_fault(rank, number, "unreadable", None, f"{error.strerror}: {error.filename}"))
            number += 1


def _active(rank: RankDirectory, segment: ActiveSegment, index: SegmentIndex) -> tuple[Piece | None, int | None]:
    """The piece of an active segment, and the sequence number that the next segment must begin with."""
    index.active += 1
    index.bytes += segment.bytes
    if segment.end.kind != "clean":
        index.faults.append(_fault(rank, segment.number, segment.end.kind, segment.end.offset, segment.end.cause))
    if segment.rows is None or segment.rows.num_rows == 0:
        return None, segment.identity.first_seq + segment.rows_lost if segment.identity else None
    piece = _piece(segment.number, to_frame(segment.rows), None)
    return piece, piece.last_seq + 1 + segment.rows_lost


def _sealed(
    rank: RankDirectory, segment: SealedSegment, index: SegmentIndex, known: KnownLosses, *, verify: bool
) -> tuple[Piece | None, int | None]:
    """The piece of a sealed segment, and the sequence number that the next one must begin with.

    What the piece holds stands in its seal, where there is one; the file's footer is read only to verify it.
    """
    number, path = segment.number, segment.path
    index.sealed += 1
    index.next_active = number + 1
    seal = _read_seal(rank, number, index)
    if seal is None:
        index.faults.append(_fault(rank, number, "missing", None, f"no seal record {rank.seal_path(number)}"))
    next_seq = _seq_after(seal, None)
    if seal and known.unexplained_rows(seal.last_seq + 1, seal.last_seq + seal.rows_lost):
        said = f"{seal.rows_lost} rows that were damaged before it was sealed are lost"
        index.faults.append(_fault(rank, number, "lost", None, said))
    try:
        size = path.stat().st_size
        index.bytes += size
        if seal and size != seal.bytes:
            raise RunDamagedError(f"{path}: expected {seal.bytes} bytes, found {size}")
        if seal and verify and sha256(path.read_bytes()).hexdigest() != seal.sha256:
            raise RunDamagedError(f"{path}: its checksum is not the one in its seal")
        if seal is None or seal.extras is None or verify:
            schema = _check_footer(path, seal)
        else:
            schema = _schema_with(tuple(seal.extras))
        if seal and seal.rows == 0:
            return None, next_seq
        if seal is None or seal.first_update is None or seal.last_update is None:
            frame = pl.read_parquet(path, glob=False, hive_partitioning=False)
            return _piece(number, frame, path) if frame.height else None, next_seq
    except FormatVersionError:
        raise
    except RunDamagedError as error:
        index.faults.append(_fault(rank, number, "corrupt", None, str(error)))
        return None, next_seq
    except (OSError, ValueError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        index.faults.append(_fault(rank, number, "unreadable", None, f"{path}: {error}"))
        return None, next_seq
    piece = Piece(
        number=number,
        attempt=seal.attempt,
        rows=seal.rows,
        first_seq=seal.first_seq,
        last_seq=seal.last_seq,
        first_update=seal.first_update,
        last_update=seal.last_update,
        updates_rise=seal.updates_rise,
        path=path,
        frame=None,
        schema=schema,
    )
    return piece, next_seq


@cache
def _schema_with(extras: tuple[str, ...]) -> pl.Schema:
    return pl.Schema({**SCHEMA, **dict.fromkeys(extras, pl.Float64())})


def _check_footer(path: Path, seal: Seal | None) -> pl.Schema:
    """Columns of a sealed segment by its footer, which must be of a version that we read and agree with the seal."""
    footer = pq.ParquetFile(path, memory_map=False)
    _check_version(path, footer.metadata.metadata or {})
    if seal and seal.rows != footer.metadata.num_rows:
        raise RunDamagedError(f"{path}: expected {seal.rows} rows, found {footer.metadata.num_rows}")
    return _polars_schema(footer.schema_arrow)


def _read_seal(rank: RankDirectory, number: int, index: SegmentIndex) -> Seal | None:
    try:
        return rank.seal(number)
    except (RunDamagedError, OSError) as error:
        index.faults.append(_fault(rank, number, "unreadable", None, str(error)))
        return None


def _seq_after(seal: Seal | None, otherwise: _Seq) -> int | _Seq:
    """The sequence number that the segment after a sealed one begins with, as far as its seal is there to say."""
    return otherwise if seal is None else seal.last_seq + 1 + seal.rows_lost


def _piece(number: int, frame: pl.DataFrame, path: Path | None) -> Piece:
    updates = frame["update"]
    return Piece(
        number=number,
        attempt=int(frame["attempt"][0]),
        rows=frame.height,
        first_seq=int(frame["seq"][0]),
        last_seq=int(frame["seq"][-1]),
        first_update=int(updates[0]),
        last_update=int(updates[-1]),
        updates_rise=bool((updates.diff().drop_nulls() > 0).all()),
        path=path,
        frame=frame if path is None else None,
        schema=frame.schema,
    )


def to_frame(batch: pa.RecordBatch) -> pl.DataFrame:
    """A batch of rows as polars frame, columns and types as in the run."""
    frame = pl.from_arrow(batch)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _check_version(path: Path, metadata: dict[bytes, bytes]) -> None:
    version = metadata.get(b"esper.format", b"0").decode(errors="replace")
    if version.isdecimal() and int(version) > FORMAT_VERSION:
        raise FormatVersionError(
            f"{path} has format {version}, newer than the {FORMAT_VERSION} that this Esper reads; upgrade it"
        )


def _polars_schema(schema: pa.Schema) -> pl.Schema:
    """Types of a sealed segment: those of the table, Float64 for anything that the user added."""
    for name in ("run_id", "rank", "attempt", "seq", "update"):
        if name not in schema.names:
            raise RunDamagedError(f"the column {name} is missing")
    return pl.Schema({name: SCHEMA.get(name, pl.Float64()) for name in schema.names})


def _dropped_before_first(piece: Piece) -> int:
    """Rows that were dropped just before the first one of the piece."""
    frame = piece.frame
    if frame is None:
        assert piece.path is not None
        try:
            frame = pl.scan_parquet(piece.path, glob=False, hive_partitioning=False).head(1).collect()
        except (OSError, pl.exceptions.PolarsError):
            return 0
    return int(frame["dropped_before"][0] or 0) if "dropped_before" in frame.columns else 0


def _fault(rank: RankDirectory, segment: int | None, kind: FaultKind, offset: int | None, message: str) -> Fault:
    return Fault(rank.rank, segment, kind, offset, " ".join(message.split()))
