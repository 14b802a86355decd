"""Examines the black boxes of one rank: whether each is whole, matches its record, and is of this recording."""

from __future__ import annotations

import pyarrow as pa

from esper_schemas.errors import RunDamagedError
from esper_schemas.examining.faults import FaultKind
from esper_schemas.examining.segment import Depth, Recording
from esper_schemas.run.directory import black_box_name, black_box_record_name
from esper_schemas.run.files import Storage
from esper_schemas.run.records import BlackBoxRecord
from esper_schemas.segment.black_box import read_black_box, read_record

_TRIES = 3
"""A writer that is finishing a black box changes what is there once; a recovery that removes it, once more."""


def examine_black_box(
    storage: Storage, name: str, rank: int, recording: Recording, depth: Depth
) -> tuple[FaultKind, str] | None:
    """Examine one black box; return the kind of its fault and what is wrong, None if nothing is.

    Args:
        storage: the folder of the rank.
        name: name of the black box.
        rank: number of the rank.
        recording: the recording that it must belong to.
        depth: how deep to look; at `records` only its record and its size.

    Raises:
        FormatVersionError: a newer Esper wrote it.
    """
    where = storage.where(black_box_name(name))
    for _ in range(_TRIES):
        record = None
        try:
            record = read_record(storage, name)
            if foreign := _foreign(record, recording, where):
                return foreign
            _examine(storage, name, record, rank, depth)
        except FileNotFoundError:
            if (found := _incomplete(storage, name, record)) is None:
                continue  # the writer has finished it in between
            return found
        except RunDamagedError as error:
            return "corrupt", str(error)
        except MemoryError:
            return "unreadable", f"{where}: not enough memory to read it"
        except OSError as error:
            return "unreadable", f"{where}: {error.strerror or error}"
        except (ValueError, KeyError, TypeError, OverflowError, pa.ArrowException) as error:
            return "unreadable", f"{where}: {error}"
        return None
    return "missing", f"the black box {where} is missing"


def _foreign(record: BlackBoxRecord, recording: Recording, where: str) -> tuple[FaultKind, str] | None:
    if recording.run_uuid in (None, record.run_uuid):
        return None
    return "foreign", f"{where}: expected a black box of this recording, found one of {ascii(record.run_uuid)[:60]}"


def _examine(storage: Storage, name: str, record: BlackBoxRecord, rank: int, depth: Depth) -> None:
    where = storage.where(black_box_name(name))
    if depth != "records":
        found = read_black_box(storage, name).rank
        if found != rank:
            raise RunDamagedError(f"{where}: expected a black box of rank {rank}, found one of rank {found}")
        return
    size = storage.size(black_box_name(name))
    if size != record.bytes:
        raise RunDamagedError(f"{where}: expected {record.bytes:,} bytes, found {size:,}")


def _incomplete(storage: Storage, name: str, record: BlackBoxRecord | None) -> tuple[FaultKind, str] | None:
    """What is wrong with a black box of which a file was not found; None if the file is there by now.

    Args:
        storage: the folder of the rank.
        name: name of the black box.
        record: its record; None if that was not found.
    """
    parquet, record_name = black_box_name(name), black_box_record_name(name)
    where = storage.where(parquet)
    if not _exists(storage, record_name):
        if not _exists(storage, parquet):
            return "note", f"{where} was removed while it was examined"
        return "missing", f"the record {storage.where(record_name)} of a black box is missing"
    is_aside = _is_file(storage, f"{parquet}.tmp")  # before the file itself: a writer renames the one to the other
    if record is None or _exists(storage, parquet):
        return None
    if is_aside:
        return "note", f"{where} is not finished; its record is in place"
    return "missing", f"the black box {where} is missing"


def _exists(storage: Storage, name: str) -> bool:
    try:
        storage.size(name)
    except FileNotFoundError:
        return False
    except (RunDamagedError, OSError):
        return True
    return True


def _is_file(storage: Storage, name: str) -> bool:
    try:
        storage.size(name)
    except (RunDamagedError, OSError):
        return False
    return True
