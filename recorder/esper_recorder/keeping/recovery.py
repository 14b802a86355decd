"""Recovers the rank of a killed run, so that a new attempt can be recorded.

Recovery changes nothing that is whole, writes nothing into a suspect file, and keeps what it cuts off as `.broken`.
Every step may be interrupted and repeated.
"""

from __future__ import annotations

import stat
from typing import NamedTuple

import pyarrow as pa

from esper_recorder.keeping import durable
from esper_recorder.keeping.sealing import keep_broken, seal
from esper_schemas.errors import RunDamagedError
from esper_schemas.run.directory import read_seal
from esper_schemas.run.files import Folder
from esper_schemas.run.names import (
    ACTIVE,
    ATTEMPTS,
    BLACK_BOXES,
    REPAIRS,
    SEALS,
    STATES,
    active_name,
    black_box_name,
    black_box_record_name,
    black_boxes,
    sealed_name,
    segment_numbers,
)
from esper_schemas.segment import sealed
from esper_schemas.segment.black_box import read_record
from esper_schemas.segment.holds import check_columns, summarise
from esper_schemas.segment.scan import read_active
from esper_schemas.segment.sealed import has_sha256


class RecoveredRank(NamedTuple):
    """Where the next attempt continues.

    `next_seq` leaves room for rows that were lost to damage, so readers see the gap and report it.
    """

    next_segment: int
    next_seq: int


def recover(rank: Folder, run_uuid: str | None) -> RecoveredRank:
    """Seal what earlier attempts left active. The caller holds the lock of the rank.

    Args:
        rank: folder of the rank.
        run_uuid: the recording to which every active file that names one must belong; None allows any.

    Raises:
        OSError: a file cannot be read, sealed or removed.
        RunDamagedError: a seal record cannot be read, or a file is not what it should be; that file was not changed.
    """
    for box in black_boxes(rank):
        _finish_black_box(rank, box, run_uuid)
    remove_unfinished(rank)
    next_segment = next_seq = 0
    last_sealed: int | None = None
    for number in sorted(segment_numbers(rank)):
        next_segment = number + 1
        active = active_name(number)
        if rank.exists(sealed_name(number)):
            last_sealed = number
            if rank.exists(active):
                durable.unlink(rank, active)
            continue
        segment = read_active(rank, number)
        if segment.identity is None:
            _refuse_shared(rank, active)
            keep_broken(rank, segment)
            durable.unlink(rank, active)
            if segment.end.kind != "corrupt":
                next_segment = number  # it never had a row, so its number is free again
            continue
        if None not in (run_uuid, segment.identity.run_uuid) and segment.identity.run_uuid != run_uuid:
            raise RunDamagedError(
                f"{rank.where(active)}: expected a segment of the recording {run_uuid!a}, found one of the recording"
                f" {segment.identity.run_uuid!a}; esper-rec repair moves it aside"
            )
        seal(rank, segment)
        last_sealed = number
    if last_sealed is not None:
        next_seq = _seq_after(rank, last_sealed)
    return RecoveredRank(next_segment, next_seq)


def remove_unfinished(rank: Folder) -> None:
    """Remove `.tmp` files, but only from the folders where a writer leaves them."""
    for folder in (ACTIVE, SEALS, STATES, ATTEMPTS, BLACK_BOXES, REPAIRS):
        for name in rank.names(folder):
            found = rank.stat(f"{folder}/{name}") if name.endswith(".tmp") else None
            if found is not None and not stat.S_ISDIR(found.st_mode):
                rank.unlink(f"{folder}/{name}")


def _finish_black_box(rank: Folder, box: str, run_uuid: str | None) -> None:
    """Rename the file of a black box whose record is in place, or remove the record if the file is not whole."""
    parquet, aside = black_box_name(box), f"{black_box_name(box)}.tmp"
    record_name = black_box_record_name(box)
    if rank.exists(parquet) or not rank.exists(aside) or not rank.exists(record_name):
        return
    try:
        record = read_record(rank, box)
        with rank.open(aside) as file:
            is_whole = rank.size(aside) == record.bytes and has_sha256(file, record.sha256)
    except RunDamagedError:
        return  # an examination reports it
    if run_uuid not in (None, record.run_uuid):
        return
    if is_whole:
        durable.rename(rank, aside, parquet)
    else:
        durable.unlink(rank, record_name)


def _refuse_shared(rank: Folder, name: str) -> None:
    """Refuse to copy an unrecognised file with a second name (a hard link): it may come from outside the run."""
    found = rank.stat(name)
    if found is not None and found.st_nlink > 1:
        raise RunDamagedError(
            f"{rank.where(name)}: expected a segment, found another kind of file, with {found.st_nlink} names;"
            " remove it from the run"
        )


def _seq_after(rank: Folder, number: int) -> int:
    record = read_seal(rank, number)
    if record is not None:
        return record.last_seq + 1 + record.rows_lost
    name = sealed_name(number)
    with rank.open(name) as file, sealed.open_parquet(file, rank.size(name), rank.where(name)) as parquet:
        footer = sealed.read_footer(parquet, rank.where(name))
        try:
            extras, _ = check_columns(footer.schema)
            return summarise(footer.identity, extras, sealed.batches(parquet)).last_seq + 1
        except (RunDamagedError, pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk failed
            raise RunDamagedError(
                f"{rank.where(name)} has no seal and is damaged ({' '.join(str(error).split())});"
                " esper-rec repair makes the run usable again"
            ) from None
