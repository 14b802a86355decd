"""Examines the black boxes of one rank: whether each is whole, matches its record, and is of this recording."""

from __future__ import annotations

from esper_schemas.errors import RunDamagedError
from esper_schemas.examining.faults import FaultKind
from esper_schemas.examining.segment import Depth, Recording
from esper_schemas.run.directory import black_box_name, black_box_record_name
from esper_schemas.run.files import Storage
from esper_schemas.run.records import BlackBoxRecord
from esper_schemas.segment.black_box import read_black_box, read_record


def examine_black_box(storage: Storage, name: str, recording: Recording, depth: Depth) -> tuple[FaultKind, str] | None:
    """Examine one black box; return the kind of its fault and what is wrong, None if nothing is.

    Args:
        storage: the folder of the rank.
        name: name of the black box.
        recording: the recording that it must belong to.
        depth: how deep to look; at `records` only its record and its size.

    Raises:
        FormatVersionError: a newer Esper wrote it.
    """
    for is_last_try in (False, True):
        try:
            record = _examine(storage, name, depth)
        except FileNotFoundError:
            if not is_last_try and _is_complete(storage, name):
                continue  # the writer has finished it in between
            return _incomplete(storage, name)
        except RunDamagedError as error:
            return "corrupt", str(error)
        except OSError as error:
            return "unreadable", f"{storage.where(black_box_name(name))}: {error.strerror or error}"
        if recording.run_uuid not in (None, record.run_uuid):
            where = storage.where(black_box_name(name))
            return "foreign", f"{where}: expected a black box of this recording, found one of {record.run_uuid!a}"
        break
    return None


def _examine(storage: Storage, name: str, depth: Depth) -> BlackBoxRecord:
    if depth != "records":
        return read_black_box(storage, name).record
    record = read_record(storage, name)
    size = storage.size(black_box_name(name))
    if size != record.bytes:
        raise RunDamagedError(f"{storage.where(black_box_name(name))}: expected {record.bytes:,} bytes, found {size:,}")
    return record


def _incomplete(storage: Storage, name: str) -> tuple[FaultKind, str]:
    """One of the two files does not exist."""
    parquet, record = black_box_name(name), black_box_record_name(name)
    if _exists(storage, record):
        if _exists(storage, f"{parquet}.tmp"):
            return "note", f"{storage.where(parquet)} is not finished; its record is in place"
        return "missing", f"the black box {storage.where(parquet)} is missing"
    return "missing", f"the record {storage.where(record)} of a black box is missing"


def _is_complete(storage: Storage, name: str) -> bool:
    return _exists(storage, black_box_name(name)) and _exists(storage, black_box_record_name(name))


def _exists(storage: Storage, name: str) -> bool:
    try:
        storage.size(name)
    except FileNotFoundError:
        return False
    except (RunDamagedError, OSError):
        return True
    return True
