"""A black box, both directions: the last minibatches before something broke, as Parquet, and why; see FORMAT.md."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from esper_schemas.errors import FormatVersionError, RunDamagedError
from esper_schemas.limits import FORMAT_VERSION, MAX_ATTEMPTS, MAX_NAME_BYTES, MAX_SEGMENT_BYTES, MAX_SEQ
from esper_schemas.run.names import black_box_name, black_box_record_name
from esper_schemas.run.records import BlackBoxRecord
from esper_schemas.run.storage import Storage
from esper_schemas.segment.active import SegmentIdentity
from esper_schemas.segment.arrays import column_of
from esper_schemas.segment.sealed import has_sha256, open_parquet, sha256_of

MAX_MINIBATCHES = 65_536
"""Most minibatches of a black box. Readers refuse a file with more."""

MAX_NAMES = 64
"""Most numbers that a minibatch has. Readers refuse a file with more columns."""

OWN_COLUMNS = {"seq": pa.int64(), "minibatch": pa.int64(), "elapsed_secs": pa.float64()}
"""Columns that the recorder adds in front of the numbers of the minibatches; none of them has nulls."""


class BlackBox(NamedTuple):
    """A black box that was read.

    Attributes:
        name: its name, such as `00000811`.
        rank: number of the rank that it is of.
        record: why it was written.
        minibatches: one row per minibatch, oldest first.
    """

    name: str
    rank: int
    record: BlackBoxRecord
    minibatches: pa.Table


def to_parquet(
    own: Mapping[str, Sequence[float]], numbers: Mapping[str, Sequence[float | None]], identity: SegmentIdentity
) -> bytes:
    """Encode minibatches as the Parquet file of a black box.

    Args:
        own: column → values, for each of `OWN_COLUMNS`.
        numbers: name → values of each minibatch, None where it had none.
        identity: the recording, rank and attempt.
    """
    import pyarrow.parquet as pq

    columns = [column_of(own[name], dtype) for name, dtype in OWN_COLUMNS.items()]
    columns += [column_of(values, pa.float64()) for values in numbers.values()]
    metadata = identity.to_metadata()
    table = pa.table(
        columns,
        pa.schema(
            [pa.field(name, column.type) for name, column in zip((*OWN_COLUMNS, *numbers), columns, strict=True)],
            {key: value for key, value in metadata.items() if key not in ("esper.segment", "esper.first_seq")},
        ),
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", use_dictionary=False)
    return sink.getvalue()


def record_of(parquet: bytes, **fields: Any) -> BlackBoxRecord:
    """The record of a file; `fields` are those that do not follow from its bytes."""
    return BlackBoxRecord(bytes=len(parquet), sha256=sha256_of(parquet), **fields)


def read_black_box(rank: Storage, name: str) -> BlackBox:
    """Read a black box, and compare it with its record.

    Raises:
        FileNotFoundError: its file or its record does not exist.
        RunDamagedError: one of them is damaged, or they do not belong together.
        FormatVersionError: a newer Esper wrote it.
        OSError: a file cannot be read.
    """
    record = read_record(rank, name)
    parquet_name = black_box_name(name)
    where = rank.where(parquet_name)
    size = rank.size(parquet_name)
    if size != record.bytes:
        raise RunDamagedError(f"{where}: expected {record.bytes:,} bytes, found {size:,}")
    with rank.open(parquet_name) as file:
        if not has_sha256(file, record.sha256):
            raise RunDamagedError(f"{where}: its sha256 is not that of its record; its bytes have changed")
        with open_parquet(file, size, where) as parquet:
            rows = parquet.metadata.num_rows
            if rows != record.minibatches:
                raise RunDamagedError(f"{where}: expected {record.minibatches} minibatches, found {rows}")
            _check_columns(parquet.schema_arrow, where)
            number = _check_identity(parquet.metadata.metadata or {}, record, where)
            try:
                minibatches = parquet.read(use_threads=False)
            except (pa.ArrowException, OSError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # an error of the disk
                raise RunDamagedError(f"{where}: {' '.join(str(error).split())}") from None
    if any(minibatches.column(column).null_count for column in OWN_COLUMNS):
        raise RunDamagedError(f"{where}: {', '.join(OWN_COLUMNS)} must not be null")
    return BlackBox(name, number, record, minibatches)


def read_record(rank: Storage, name: str) -> BlackBoxRecord:
    """Read the record of a black box; raises like `read_black_box`."""
    where = rank.where(black_box_record_name(name))
    record = BlackBoxRecord.read(rank, black_box_record_name(name))
    numbers = (record.seq, record.attempt, record.minibatches, record.bytes, record.not_written)
    if min(numbers) < 0 or record.seq > MAX_SEQ or record.attempt > MAX_ATTEMPTS:
        raise RunDamagedError(f"{where}: seq, attempt, minibatches, bytes and not_written must not be negative or huge")
    if record.bytes > MAX_SEGMENT_BYTES:
        raise RunDamagedError(f"{where}: expected at most {MAX_SEGMENT_BYTES:,} bytes, found {record.bytes:,}")
    if record.minibatches > MAX_MINIBATCHES:
        raise RunDamagedError(f"{where}: expected at most {MAX_MINIBATCHES:,} minibatches, found {record.minibatches}")
    if int(name.partition("-")[0]) != record.seq:
        raise RunDamagedError(f"{where}: expected the black box of row {name}, found that of row {record.seq}")
    return record


def _check_columns(schema: pa.Schema, where: str) -> None:
    own, numbers = schema.names[: len(OWN_COLUMNS)], schema.names[len(OWN_COLUMNS) :]
    if len(numbers) > MAX_NAMES or len(set(schema.names)) < len(schema.names):
        raise RunDamagedError(f"{where}: expected at most {MAX_NAMES} further columns, each once, found {len(numbers)}")
    if any(len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES for name in numbers):
        raise RunDamagedError(f"{where}: expected names of at most {MAX_NAME_BYTES} bytes, found a longer one")
    if own != list(OWN_COLUMNS) or [schema.field(name).type for name in own] != list(OWN_COLUMNS.values()):
        raise RunDamagedError(f"{where}: expected the columns {', '.join(OWN_COLUMNS)} first, found {ascii(own)[:100]}")
    if any(schema.field(name).type != pa.float64() for name in numbers):
        raise RunDamagedError(f"{where}: expected float64 columns behind {list(OWN_COLUMNS)[-1]}")


def _check_identity(metadata: Mapping[bytes, bytes], record: BlackBoxRecord, where: str) -> int:
    """Check that a file and its record name the same recording and attempt; return the rank that the file names."""
    try:
        version, attempt = int(metadata[b"esper.format"]), int(metadata[b"esper.attempt"])
        rank = int(metadata[b"esper.rank"])
        run_uuid = metadata[b"esper.run_uuid"].decode()
    except (KeyError, ValueError) as error:
        raise RunDamagedError(f"{where}: its metadata does not say which recording it is of ({error})") from None
    if version > FORMAT_VERSION:
        raise FormatVersionError(
            f"{where} has format {version}, newer than the {FORMAT_VERSION} that this Esper reads; upgrade Esper"
        )
    if (attempt, run_uuid) != (record.attempt, record.run_uuid):
        raise RunDamagedError(f"{where}: its metadata and its record name different attempts or recordings")
    return rank
