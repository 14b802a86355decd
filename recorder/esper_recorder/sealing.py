"""From an active file to a sealed Parquet segment, so that at every moment one of the two is whole on disk.

verified rows → Parquet aside → fsync → read back and compare → seal record → rename → fsync both folders →
unlink the active file → fsync. A crash between any two steps leaves a state that `recovery` completes.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from esper_recorder import durable
from esper_schemas.coercion import RECORDER_COLUMNS
from esper_schemas.errors import RunDamagedError
from esper_schemas.payload import METRICS
from esper_schemas.row_message import FORMAT_VERSION, SegmentIdentity
from esper_schemas.run_directory import RankDirectory
from esper_schemas.run_files import Seal
from esper_schemas.segments import ActiveSegment


def seal(rank: RankDirectory, segment: ActiveSegment) -> Seal:
    """Seal the whole rows of an active segment; what follows them is kept beside it as `.broken`.

    Args:
        rank: the rank that the segment belongs to.
        segment: the active file as read and verified; its header must be whole.

    Raises:
        OSError: a step failed; the active file is untouched, and sealing may be tried again.
        RunDamagedError: what was read back is not what was written.
    """
    if segment.identity is None or segment.rows is None:
        raise RunDamagedError(f"{segment.path}: offset {segment.end.offset}: {segment.end.cause}")
    table = pa.Table.from_batches([segment.rows]).replace_schema_metadata(_metadata(segment.identity))
    parquet = to_parquet(table)
    aside = segment.path.with_suffix(".parquet.tmp")
    try:
        durable.write_new(aside, parquet)
        _compare(table, aside)
    except BaseException:
        aside.unlink(missing_ok=True)  # it may be what fills the disk
        raise
    record = _describe(segment, parquet)
    durable.replace(rank.seal_path(segment.number), record.to_bytes())
    keep_broken(segment)
    durable.rename(aside, rank.sealed_path(segment.number))
    durable.unlink(segment.path)
    return record


def keep_broken(segment: ActiveSegment) -> None:
    """Keep what stands after the last whole row, if anything does, in a file of its own."""
    if segment.end.kind != "clean":
        rest = segment.path.read_bytes()[segment.end.offset :]
        durable.replace(segment.path.with_name(segment.path.name + ".broken"), rest)


def to_parquet(table: pa.Table) -> bytes:
    """The Parquet bytes of a segment: floats split by byte and integers as deltas, then compressed."""
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


def _metadata(identity: SegmentIdentity) -> dict[str, str]:
    return {
        "esper.format": str(FORMAT_VERSION),
        "esper.run_id": identity.run_id,
        "esper.rank": str(identity.rank),
        "esper.attempt": str(identity.attempt),
        "esper.segment": str(identity.segment),
        "esper.first_seq": str(identity.first_seq),
    }


def _compare(table: pa.Table, path: Path) -> None:
    """Compare bit by bit what stands on disk; as integers, since NaN is not equal to itself."""
    back = pq.read_table(path, partitioning=None)
    if back.schema.names == table.schema.names and all(
        _bits(there).equals(_bits(here)) for there, here in zip(back.columns, table.columns, strict=True)
    ):
        return
    raise RunDamagedError(f"{path}: what was read back is not what was written; the disk or memory is faulty")


def _bits(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    return array.view(pa.int64()) if pa.types.is_float64(array.type) else array


def _describe(segment: ActiveSegment, parquet: bytes) -> Seal:
    assert segment.identity is not None
    assert segment.rows is not None
    updates = segment.rows.column("update").to_numpy()
    seqs = segment.rows.column("seq").to_numpy()
    first_seq = segment.identity.first_seq
    return Seal(
        segment=segment.number,
        attempt=segment.identity.attempt,
        sha256=hashlib.sha256(parquet).hexdigest(),
        bytes=len(parquet),
        rows=len(seqs),
        first_seq=int(seqs[0]) if len(seqs) else first_seq,
        last_seq=int(seqs[-1]) if len(seqs) else first_seq - 1,
        first_update=int(updates[0]) if len(seqs) else None,
        last_update=int(updates[-1]) if len(seqs) else None,
        updates_rise=bool((updates[1:] > updates[:-1]).all()),
        rows_lost=segment.rows_lost,
        extras=[name for name in segment.rows.schema.names if name not in METRICS and name not in RECORDER_COLUMNS],
    )
