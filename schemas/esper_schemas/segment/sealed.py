"""A sealed segment, both directions: its Parquet file, the footer and its bounds, and the seal; see FORMAT.md."""

from __future__ import annotations

import io
import struct
from collections.abc import Container, Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import pyarrow as pa

from esper_schemas.errors import RunDamagedError
from esper_schemas.limits import MAX_ATTEMPTS, MAX_COLUMNS, MAX_SEGMENT_BYTES, MAX_SEQ
from esper_schemas.run.records import Seal
from esper_schemas.run.storage import RangedFile
from esper_schemas.segment.active import SegmentIdentity
from esper_schemas.segment.holds import Holds, added_columns
from esper_schemas.segment.pages import check_pages

if TYPE_CHECKING:
    import pyarrow.parquet as pq

MAX_FOOTER_BYTES = 8 * 1024 * 1024
_BATCH_ROWS = 8192
_TAIL = struct.Struct("<I4s")  # length of the footer, and the mark that ends every Parquet file
_MARK = b"PAR1"


def load_parquet() -> None:
    """Import what reads and writes Parquet, and its sha256: as slow as the rest of the package, so done when needed."""
    import hashlib  # noqa: F401

    import pyarrow.compute
    import pyarrow.parquet  # noqa: F401


# ------------------------------------------------------------------ writing


def to_parquet(rows: pa.RecordBatch, identity: SegmentIdentity) -> bytes:
    """Encode rows as the Parquet file of a segment: floats split by byte, integers as deltas, then compressed.

    Args:
        rows: with the identity's columns first, as `with_identity` makes them.
        identity: goes into the metadata.
    """
    import pyarrow.parquet as pq

    table = pa.Table.from_batches([rows]).replace_schema_metadata(identity.to_metadata())
    encodings = {}
    for entry in table.schema:
        if pa.types.is_float64(entry.type):
            encodings[entry.name] = "BYTE_STREAM_SPLIT"
        elif pa.types.is_int64(entry.type) or pa.types.is_timestamp(entry.type):
            encodings[entry.name] = "DELTA_BINARY_PACKED"
    sink = io.BytesIO()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        compression_level=6,
        use_dictionary=[name for name in table.column_names if name not in encodings],
        column_encoding=encodings,
    )
    return sink.getvalue()


def seal_of(holds: Holds, parquet: bytes, rows_lost: int, states: bytes | None = None) -> Seal:
    """Make the seal of a file from the summary of its rows.

    Args:
        holds: summary of all its rows.
        parquet: the whole file.
        rows_lost: number of damaged rows that were cut off after the last one.
        states: the whole file of its column states; None if there is none.
    """
    return Seal(
        segment=holds.identity.segment,
        attempt=holds.identity.attempt,
        sha256=sha256_of(parquet),
        bytes=len(parquet),
        rows=holds.rows,
        first_seq=holds.first_seq,
        last_seq=holds.last_seq,
        first_update=holds.first_update,
        last_update=holds.last_update,
        updates_rise=holds.updates_rise,
        rows_lost=rows_lost,
        extras=holds.extras,
        run_uuid=holds.identity.run_uuid,
        states_sha256=None if states is None else sha256_of(states),
    )


def is_same(rows: pa.RecordBatch, parquet: bytes) -> bool:
    """Whether a file holds these rows bit for bit. Floats are compared as integers, since NaN does not equal itself."""
    import pyarrow.parquet as pq

    back = pq.ParquetFile(pa.BufferReader(parquet)).read(use_threads=False)  # with no pool that a process ends under
    return back.schema.names == rows.schema.names and all(
        _bits(there).equals(_bits(here)) for there, here in zip(back.columns, rows.columns, strict=True)
    )


def _bits(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.nulls(0, array.type)
    return array.view(pa.int64()) if pa.types.is_float64(array.type) else array


# ------------------------------------------------------------------ reading


class Footer(NamedTuple):
    """What the footer of a sealed file says about the file."""

    identity: SegmentIdentity
    rows: int
    schema: pa.Schema


def check_seal(seal: Seal, number: int, where: str) -> Seal:
    """Check that a seal can belong to segment `number`; return it.

    Raises:
        RunDamagedError: it cannot.
    """
    if seal.segment != number:
        raise RunDamagedError(f"{where}: expected the seal of segment {number}, found that of {seal.segment}")
    numbers = (seal.rows, seal.bytes, seal.rows_lost, seal.first_seq, seal.last_seq + 1)
    if min(numbers) < 0 or max(numbers) > MAX_SEQ:
        raise RunDamagedError(f"{where}: rows, bytes, rows_lost, first_seq and last_seq must be from 0 to 2^62")
    if not 0 <= seal.attempt <= MAX_ATTEMPTS:
        raise RunDamagedError(f"{where}: attempt must be from 0 to {MAX_ATTEMPTS:,}, found {seal.attempt}")
    if seal.last_seq < seal.first_seq - 1:
        raise RunDamagedError(f"{where}: last_seq must not be before first_seq, found {seal.last_seq}")
    extras = seal.extras or []
    if not all(isinstance(name, str) for name in extras) or added_columns(dict.fromkeys(extras)) != extras:
        raise RunDamagedError(f"{where}: extras must be the names of added columns, each once")
    if (seal.rows == 0) != (seal.first_update is None) or (seal.rows == 0) != (seal.last_update is None):
        raise RunDamagedError(f"{where}: first_update and last_update must be null if rows is 0, and only then")
    return seal


def sha256_of(data: bytes) -> str:
    """Return the sha256 of some bytes, in hexadecimal digits."""
    import hashlib

    return hashlib.sha256(data).hexdigest()


def has_sha256(file: BinaryIO, expected: str) -> bool:
    """Whether the whole file has this sha256, in hexadecimal digits."""
    import hashlib

    if isinstance(file, RangedFile):
        file.fetch([(0, file.seek(0, io.SEEK_END))])
    file.seek(0)
    digest = hashlib.sha256()
    while part := file.read(1 << 20):
        digest.update(part)
    return digest.hexdigest() == expected


def open_parquet(file: BinaryIO, size: int, where: str, columns: Container[str] | None = None) -> pq.ParquetFile:
    """Open a Parquet file after checking its limits: a small file may unpack into a huge one.

    Args:
        file: the file.
        size: its size in bytes.
        where: its name, for messages.
        columns: the columns that will be read, if not all; others are not checked. Of an object in a store, these
            alone are fetched.

    Raises:
        RunDamagedError: it exceeds a limit, or it is not a Parquet file.
    """
    import pyarrow.parquet as pq

    if size > MAX_SEGMENT_BYTES:
        raise RunDamagedError(f"{where}: expected at most {MAX_SEGMENT_BYTES:,} bytes, found {size:,}")
    if size < _TAIL.size:
        raise RunDamagedError(f"{where}: expected a Parquet file, found {size} bytes")
    file.seek(size - _TAIL.size)
    length, mark = _TAIL.unpack(file.read(_TAIL.size))
    if mark != _MARK:
        raise RunDamagedError(f"{where}: expected a Parquet file, found something else")
    if length > MAX_FOOTER_BYTES:
        raise RunDamagedError(f"{where}: expected a footer of at most {MAX_FOOTER_BYTES:,} bytes, found {length:,}")
    file.seek(0)
    try:
        parquet = pq.ParquetFile(file, memory_map=False)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # an error of the disk
        raise RunDamagedError(f"{where}: {' '.join(str(error).split())}") from None
    footer = parquet.metadata
    if footer.num_columns > MAX_COLUMNS:
        raise RunDamagedError(f"{where}: it declares {footer.num_columns:,} columns; the limit is {MAX_COLUMNS:,}")
    unpacked = sum(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups))
    unpacked = max(unpacked, footer.num_rows * footer.num_columns * 8)
    if unpacked > MAX_SEGMENT_BYTES:
        raise RunDamagedError(
            f"{where}: expected at most {MAX_SEGMENT_BYTES:,} bytes of rows, its footer declares {unpacked:,}"
        )
    end = size - _TAIL.size - length
    file.seek(end)
    chosen = None
    if columns is not None:
        chosen = {at for at, name in enumerate(parquet.schema_arrow.names) if name in columns}
    check_pages(file, end, file.read(length), footer.num_rows, where, chosen)
    return parquet


def read_footer(parquet: pq.ParquetFile, where: str) -> Footer:
    """Read which segment a file is, its number of rows and its schema.

    Raises:
        RunDamagedError: the metadata does not say which segment it is.
        FormatVersionError: a newer Esper wrote it.
    """
    metadata = parquet.metadata.metadata or {}
    try:
        texts = {key.decode(): value.decode() for key, value in metadata.items() if key.startswith(b"esper.")}
        identity = SegmentIdentity.from_metadata(texts, where)
    except (KeyError, ValueError) as error:
        raise RunDamagedError(f"{where}: its metadata does not say which segment it is ({error})") from None
    return Footer(identity, parquet.metadata.num_rows, parquet.schema_arrow)


def batches(parquet: pq.ParquetFile, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a file, batch by batch, in bounded memory: all columns, or those of `columns` that it has."""
    yield from parquet.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False)


def contradictions(seal: Seal, holds: Holds, *, rows_seen: bool) -> list[str]:
    """Describe every field of a seal that the file contradicts.

    Args:
        seal: the seal.
        holds: summary of the file.
        rows_seen: whether `holds` was made from the rows; otherwise from the footer, which says less.
    """
    said = {
        "attempt": (seal.attempt, holds.identity.attempt),
        "rows": (seal.rows, holds.rows),
        "extras": (holds.extras if seal.extras is None else seal.extras, holds.extras),
        "run_uuid": (seal.run_uuid, holds.identity.run_uuid),
    }
    if rows_seen:
        said |= {
            name: (getattr(seal, name), getattr(holds, name))
            for name in ("first_seq", "last_seq", "first_update", "last_update", "updates_rise")
        }
    return [f"{name} is {ascii(there)[:60]}, not {here!a}" for name, (there, here) in said.items() if there != here]
