"""Everything that can be checked in one segment: its bytes, its seal, its columns, its rows.

Nothing here trusts a file: sizes are looked at before anything is read, and whatever is wrong becomes a fault.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from esper_schemas.coercion import RECORDER_COLUMNS
from esper_schemas.errors import FormatVersionError, RunDamagedError
from esper_schemas.faults import MAX_SEQ, Fault, FaultKind, Range, is_plain_file
from esper_schemas.payload import METRICS
from esper_schemas.row_message import ARROW_TYPES, FORMAT_VERSION, ScanEnd, SegmentIdentity, column_types
from esper_schemas.run_directory import RankDirectory
from esper_schemas.run_files import Seal
from esper_schemas.segments import read_active

MAX_SEGMENT_BYTES = 1 << 30
"""A larger segment is not read, so that a file from someone else cannot use up the memory."""

MAX_ATTEMPTS = 100_000
"""No run is resumed so often; a segment of a later attempt is no segment of ours."""

_BATCH_ROWS = 8192
_IDENTITY_TYPES = {"run_id": pa.string(), "rank": pa.int32(), "attempt": pa.int32()}
_TYPES = {name: ARROW_TYPES[dtype] for name, dtype in column_types().items()}
_NEEDED = frozenset({*RECORDER_COLUMNS, "update"})


@dataclass(slots=True)
class Holds:
    """What a segment holds, by its own rows.

    `gaps` are sequence numbers inside, from `identity.first_seq` on, that neither a row nor `dropped_before` explains.
    `first_time` is the `wall_time` of the first row in ISO 8601, if it was measured.
    """

    identity: SegmentIdentity
    extras: list[str]
    rows: int = 0
    first_seq: int = 0
    last_seq: int = 0
    dropped: int = 0
    first_update: int | None = None
    last_update: int | None = None
    updates_rise: bool = True
    first_time: str | None = None
    gaps: list[Range] = field(default_factory=list)


@dataclass(slots=True)
class SegmentCheck:
    """What was found in one segment.

    Attributes:
        holds: what its rows are; None where they cannot be used at all.
        end: how an active file ends; None for a sealed one.
        seal: the record of a sealed segment, as far as it could be read; `seal_is_bad` if it is not as it should be.
        rows_lost: how many rows were cut off as damaged behind the last one, or would be.
    """

    number: int
    path: Path
    holds: Holds | None = None
    end: ScanEnd | None = None
    seal: Seal | None = None
    seal_is_bad: bool = False
    rows_lost: int = 0
    faults: list[Fault] = field(default_factory=list)

    @property
    def is_sealed(self) -> bool:
        """Whether it is a Parquet file."""
        return self.path.suffix == ".parquet"


def check_segment(rank: RankDirectory, number: int, run_id: str | None) -> SegmentCheck | None:
    """Check a segment, sealed or active; None if it is not there.

    Args:
        rank: folder of the rank.
        number: number of the segment.
        run_id: id that it must carry; any one if None.

    Raises:
        FormatVersionError: it was written by a newer Esper.
    """
    for path, check in (
        (rank.sealed_path(number), _check_sealed),
        (rank.active_path(number), _check_active),
        (rank.sealed_path(number), _check_sealed),  # it may have been sealed in between
    ):
        found = SegmentCheck(number, path)
        try:
            check(rank, found, run_id)
        except FileNotFoundError:
            continue
        except FormatVersionError:
            raise
        except RunDamagedError as error:
            _say(rank, found, "corrupt", str(error))
        except MemoryError:
            _say(rank, found, "unreadable", f"{path}: it needs more memory than there is")
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            _say(rank, found, "unreadable", f"{path}: {error}")
        return found
    return None


def _say(rank: RankDirectory, check: SegmentCheck, kind: FaultKind, message: str, offset: int | None = None) -> None:
    check.faults.append(Fault(rank.rank, check.number, kind, offset, " ".join(message.split())[:1000]))


def _size(path: Path) -> int:
    if not is_plain_file(path):
        raise RunDamagedError(f"{path}: expected a file, found something else")
    size = path.stat().st_size
    if size > MAX_SEGMENT_BYTES:
        raise RunDamagedError(f"{path}: expected at most {MAX_SEGMENT_BYTES} bytes, found {size}")
    return size


# ------------------------------------------------------------------ sealed


def _check_sealed(rank: RankDirectory, check: SegmentCheck, run_id: str | None) -> None:
    path = check.path
    size = _size(path)
    _read_seal(rank, check)
    seal = None if check.seal_is_bad else check.seal
    if seal is not None:
        if size != seal.bytes:
            raise RunDamagedError(f"{path}: expected {seal.bytes} bytes, found {size}")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != seal.sha256:
                raise RunDamagedError(f"{path}: its sha256 is not the one in its seal")
    with pq.ParquetFile(path, memory_map=False) as file:
        identity = _identity(path, file.metadata.metadata or {})
        _check_identity(identity, rank, check.number, run_id)
        _check_extent(path, file.metadata)
        extras = _check_columns(rank, check, file.schema_arrow, _IDENTITY_TYPES | _TYPES)
        holds = _summarise(identity, extras, file.iter_batches(_BATCH_ROWS, use_threads=False))
    if holds.rows != file.metadata.num_rows:
        raise RunDamagedError(f"{path}: expected {file.metadata.num_rows} rows, found {holds.rows}")
    check.holds = holds
    if seal is not None:
        check.rows_lost = seal.rows_lost
        _compare(rank, check, seal, holds)


def _read_seal(rank: RankDirectory, check: SegmentCheck) -> None:
    path = rank.seal_path(check.number)
    check.seal_is_bad = True
    try:
        if not is_plain_file(path):
            raise RunDamagedError(f"{path}: expected a file, found something else")
        seal = Seal.read(path)
        if seal.segment != check.number:
            raise RunDamagedError(f"{path}: expected the seal of segment {check.number}, found that of {seal.segment}")
        if not 0 <= seal.rows_lost <= MAX_SEQ or not -1 <= seal.last_seq <= MAX_SEQ:
            raise RunDamagedError(f"{path}: rows_lost or last_seq cannot be")
    except FileNotFoundError:
        _say(rank, check, "missing", f"no seal record {path}")
    except RunDamagedError as error:
        _say(rank, check, "unreadable", str(error))
    except OSError as error:
        _say(rank, check, "unreadable", f"{path}: {error}")
    else:
        check.seal, check.seal_is_bad = seal, False


def _identity(path: Path, metadata: dict[bytes, bytes]) -> SegmentIdentity:
    texts = {key.decode(): value.decode() for key, value in metadata.items() if key.startswith(b"esper.")}
    try:
        version = int(texts["esper.format"])
        identity = SegmentIdentity(
            run_id=texts["esper.run_id"],
            rank=int(texts["esper.rank"]),
            attempt=int(texts["esper.attempt"]),
            segment=int(texts["esper.segment"]),
            first_seq=int(texts["esper.first_seq"]),
        )
    except (KeyError, ValueError) as error:
        raise RunDamagedError(f"{path}: its metadata does not say which segment it is ({error})") from None
    if version > FORMAT_VERSION:
        raise FormatVersionError(
            f"{path} has format {version}, newer than the {FORMAT_VERSION} that this Esper reads; upgrade it"
        )
    return identity


def _check_identity(identity: SegmentIdentity, rank: RankDirectory, number: int, run_id: str | None) -> None:
    for name, found, expected in (
        ("run", identity.run_id, identity.run_id if run_id is None else run_id),
        ("rank", identity.rank, rank.rank),
        ("segment", identity.segment, number),
    ):
        if found != expected:
            raise RunDamagedError(f"expected a segment of {name} {expected!a}, found one of {found!a}")
    if not 0 <= identity.attempt <= MAX_ATTEMPTS or not 0 <= identity.first_seq <= MAX_SEQ:
        raise RunDamagedError(f"attempt {identity.attempt} or sequence number {identity.first_seq} cannot be")


def _check_extent(path: Path, footer: pq.FileMetaData) -> None:
    """Refuse a small file that unfolds into a large one, before anything of it is unpacked."""
    unpacked = sum(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups))
    if max(unpacked, footer.num_rows * footer.num_columns * 8) > MAX_SEGMENT_BYTES:
        raise RunDamagedError(f"{path}: expected at most {MAX_SEGMENT_BYTES} bytes of rows, its footer declares more")


def _compare(rank: RankDirectory, check: SegmentCheck, seal: Seal, holds: Holds) -> None:
    """Hold the other fields of a seal, whose checksum is right, against the rows."""
    start = holds.identity.first_seq
    said = {
        "attempt": (seal.attempt, holds.identity.attempt),
        "rows": (seal.rows, holds.rows),
        "first_seq": (seal.first_seq, holds.first_seq if holds.rows else start),
        "last_seq": (seal.last_seq, holds.last_seq if holds.rows else start - 1),
        "first_update": (seal.first_update, holds.first_update),
        "last_update": (seal.last_update, holds.last_update),
        "updates_rise": (seal.updates_rise, holds.updates_rise),
        "extras": (holds.extras if seal.extras is None else seal.extras, holds.extras),
    }
    wrong = [f"{name} is {ascii(there)[:60]}, not {here!a}" for name, (there, here) in said.items() if there != here]
    if wrong:
        check.seal_is_bad = True
        _say(rank, check, "corrupt", f"{rank.seal_path(check.number)}: {'; '.join(wrong)}")


# ------------------------------------------------------------------ active


def _check_active(rank: RankDirectory, check: SegmentCheck, run_id: str | None) -> None:
    _size(check.path)
    segment = read_active(check.number, check.path)
    check.end = segment.end
    check.rows_lost = segment.rows_lost
    if segment.end.kind != "clean":
        _say(rank, check, segment.end.kind, segment.end.cause, segment.end.offset)
    if segment.identity is None or segment.rows is None:
        return
    _check_identity(segment.identity, rank, check.number, run_id)
    extras = _check_columns(rank, check, segment.rows.schema, _IDENTITY_TYPES | _TYPES)
    check.holds = _summarise(segment.identity, extras, [segment.rows])


# ------------------------------------------------------------------ both


def _check_columns(
    rank: RankDirectory, check: SegmentCheck, schema: pa.Schema, expected: dict[str, pa.DataType]
) -> list[str]:
    """Check names and types; return the names of those that the user added.

    An Esper of before a metric was in the table wrote no column for it: that is a note.
    """
    if len(set(schema.names)) != len(schema.names):
        raise RunDamagedError("two columns have the same name")
    absent = [name for name in expected if name not in schema.names]
    if needed := _NEEDED.intersection(absent):
        raise RunDamagedError(f"the column {min(needed)} is missing")
    for entry in schema:
        kind = expected.get(entry.name, pa.float64())
        if entry.type != kind:
            raise RunDamagedError(f"expected the column {entry.name!a} as {kind}, found {entry.type}")
    if absent:
        names = ", ".join(absent[:5]) + (", …" if len(absent) > 5 else "")
        _say(rank, check, "note", f"columns of the table are not in it: {names}")
    elif schema.names[: len(expected)] != list(expected):
        _say(rank, check, "note", "its columns stand in another order")
    return [name for name in schema.names if name not in METRICS and name not in RECORDER_COLUMNS]


def _summarise(identity: SegmentIdentity, extras: list[str], batches: Iterable[pa.RecordBatch]) -> Holds:
    """Go through the rows once; RunDamagedError where they cannot be rows of this segment."""
    holds = Holds(identity, extras, last_seq=identity.first_seq - 1)
    for batch in batches:
        if batch.num_rows == 0:
            continue
        for name, value in (("run_id", identity.run_id), ("rank", identity.rank), ("attempt", identity.attempt)):
            if batch.column(name).unique().to_pylist() != [value]:
                raise RunDamagedError(f"the column {name} is not {value!a} in every row")
        for name in ("seq", "update"):
            if batch.column(name).null_count:
                raise RunDamagedError(f"the column {name} has a null")
        _add(holds, batch)
    return holds


def _add(holds: Holds, batch: pa.RecordBatch) -> None:
    seqs = batch.column("seq").to_numpy(zero_copy_only=False)
    dropped = batch.column("dropped_before").fill_null(0).to_numpy(zero_copy_only=False)
    updates = batch.column("update").to_numpy(zero_copy_only=False)
    if min(seqs.min(), dropped.min()) < 0 or max(seqs.max(), dropped.max()) > MAX_SEQ:
        raise RunDamagedError("a sequence number or dropped_before cannot be")
    before = np.concatenate(([holds.last_seq], seqs[:-1]))
    steps = seqs - dropped - before - 1
    if (backwards := steps < 0).any():
        at = int(backwards.argmax())
        raise RunDamagedError(f"sequence number {seqs[at]} comes after {before[at]}")
    holds.gaps += [(int(before[at]) + 1, int(seqs[at] - dropped[at]) - 1) for at in np.flatnonzero(steps)]
    if holds.rows == 0:
        holds.first_seq = int(seqs[0])
        holds.first_update = int(updates[0])
        holds.first_time = _time(batch)
    elif updates[0] <= (holds.last_update or 0):
        holds.updates_rise = False
    holds.updates_rise = holds.updates_rise and bool((updates[1:] > updates[:-1]).all())
    holds.last_seq, holds.last_update = int(seqs[-1]), int(updates[-1])
    holds.rows += batch.num_rows
    holds.dropped += int(dropped.sum())


def _time(batch: pa.RecordBatch) -> str | None:
    """The time of the first row, if there is one that a calendar knows."""
    if "wall_time" not in batch.schema.names:
        return None
    try:
        time = batch.column("wall_time")[0].as_py()
    except (ValueError, OverflowError):
        return None
    return None if time is None else str(time.isoformat())


def numbered(folder: Path, suffix: str) -> Iterator[tuple[int, Path]]:
    """The files in a folder that are named by a segment's number, in no order."""
    if folder.is_dir():
        for path in folder.iterdir():
            if (number := number_of(path, suffix)) is not None:
                yield number, path


def number_of(path: Path, suffix: str) -> int | None:
    """The segment's number that a file is named by; None if it is not."""
    number = path.name.removesuffix(suffix)
    is_number = len(number) == 8 and number.isascii() and number.isdecimal() and path.name != number
    return int(number) if is_number else None
