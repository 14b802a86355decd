"""Seals an active file as a Parquet segment. One of the two is whole on disk at every moment.

verified rows → Parquet aside → fsync → read back and compare → column states → seal record → rename → fsync both
folders → unlink the active file → fsync. A crash between any two steps leaves a state that `recovery` completes.
"""

from __future__ import annotations

import logging

import pyarrow as pa

from esper_recorder.keeping import durable
from esper_schemas.errors import RunDamagedError
from esper_schemas.limits import MAX_SEGMENT_BYTES
from esper_schemas.run.files import Folder, Identity
from esper_schemas.run.names import ACTIVE, active_name, seal_name, sealed_name, states_name
from esper_schemas.run.records import Seal
from esper_schemas.segment import sealed
from esper_schemas.segment.active import SegmentIdentity
from esper_schemas.segment.holds import added_columns, summarise
from esper_schemas.segment.scan import ActiveSegment
from esper_schemas.segment.states import make_states

_log = logging.getLogger("esper_recorder")


def seal(rank: Folder, segment: ActiveSegment, identity: Identity | None = None) -> Seal:
    """Seal the whole rows of an active segment; keep the bytes after them beside it as `.broken`.

    Args:
        rank: folder of the rank that the segment belongs to.
        segment: the active file as read and verified; its header must be whole.
        identity: device and inode of the active file; if another file has its name by now, that one stays.

    Raises:
        OSError: a step failed; the active file is unchanged, and sealing may be tried again.
        RunDamagedError: the header is not whole, or the bytes read back differ from those written.
    """
    name = active_name(segment.number)
    if segment.identity is None or segment.rows is None:
        raise RunDamagedError(f"{rank.where(name)}: offset {segment.end.offset}: {segment.end.cause}")
    parquet = sealed.to_parquet(segment.rows, segment.identity)
    aside = f"{ACTIVE}/{segment.number:08d}.parquet.tmp"
    try:
        durable.write_new(rank, aside, parquet)
        if not sealed.is_same(segment.rows, rank.read(aside, MAX_SEGMENT_BYTES)):
            raise RunDamagedError(
                f"{rank.where(aside)}: the bytes read back differ from those written; the disk or memory is faulty"
            )
    except BaseException:
        rank.unlink(aside)  # it may be what filled the disk
        raise
    holds = summarise(segment.identity, added_columns(segment.rows.schema.names), [segment.rows])
    record = sealed.seal_of(holds, parquet, segment.rows_lost, write_states(rank, segment.rows, segment.identity))
    durable.replace(rank, seal_name(segment.number), record.to_bytes())
    keep_broken(rank, segment)
    durable.rename(rank, aside, sealed_name(segment.number))
    durable.unlink(rank, name, identity)
    return record


def write_states(rank: Folder, rows: pa.RecordBatch | pa.Table, identity: SegmentIdentity) -> bytes | None:
    """Write the column states of a segment; return the bytes, or None if that failed: a cache stops no sealing."""
    name = states_name(identity.segment)
    try:
        data = make_states(rows, identity).to_bytes()
        durable.replace(rank, name, data)
    except Exception as error:  # whatever it is, the rows are safe without this file
        _log.warning("%s could not be written (%s); readers use the rows", rank.where(name), error)
        return None
    return data


def keep_broken(rank: Folder, segment: ActiveSegment) -> None:
    """Keep the bytes after the last whole row, if there are any, in a `.broken` file."""
    if segment.end.kind != "clean":
        rest = segment.data[segment.end.offset :]
        durable.replace(rank, f"{active_name(segment.number)}.broken", rest)
