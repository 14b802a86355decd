"""Examines the black boxes of one rank: whether each is whole, matches its record, and is of this recording."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from esper_schemas.errors import RunDamagedError
from esper_schemas.examining.faults import FaultKind
from esper_schemas.examining.segment import Depth, Recording
from esper_schemas.run.names import black_box_name, black_box_record_name
from esper_schemas.run.records import BlackBoxRecord
from esper_schemas.run.storage import Storage
from esper_schemas.segment.black_box import read_black_box, read_record

LAST_MINIBATCHES = 10
"""An examination that reads the file of a black box keeps so many of its minibatches, the last ones."""

MAX_TEXT = 500
"""Longest text of a record that an examination keeps; a longer one is cut. The recorder writes no longer ones."""

_TRIES = 3
"""A writer that is finishing a black box changes what is there once; a recovery that removes it, once more."""


@dataclass(frozen=True, slots=True)
class BlackBoxExamination:
    """A black box in which nothing is wrong. Its size in memory is bounded, whatever its files hold.

    Attributes:
        name: its name, such as `00000811`.
        seq, attempt, written, trigger, reason, minibatches, not_written: as in its record; see `BlackBoxRecord`.
        last: its last minibatches, oldest first; None if only the record was read (depth `records`).
    """

    name: str
    seq: int
    attempt: int
    written: str
    trigger: str
    reason: str
    minibatches: int
    not_written: int
    last: pa.Table | None

    @classmethod
    def of(cls, name: str, record: BlackBoxRecord, rows: pa.Table | None) -> BlackBoxExamination:
        """Keep what is needed of a record and of the minibatches that were read."""
        if rows is not None:  # taken one by one, since a slice would keep all of them in memory
            rows = rows.take(pa.array(range(max(0, rows.num_rows - LAST_MINIBATCHES), rows.num_rows), pa.int64()))
        return cls(
            name=name,
            seq=record.seq,
            attempt=record.attempt,
            written=_cut(record.written),
            trigger=_cut(record.trigger),
            reason=_cut(record.reason),
            minibatches=record.minibatches,
            not_written=record.not_written,
            last=rows,
        )


def examine_black_box(
    storage: Storage, name: str, rank: int, recording: Recording, depth: Depth
) -> BlackBoxExamination | tuple[FaultKind, str]:
    """Examine one black box; return it, or the kind of its fault and what is wrong.

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
            return BlackBoxExamination.of(name, record, _minibatches(storage, name, record, rank, depth))
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
    return "missing", f"the black box {where} is missing"


def _foreign(record: BlackBoxRecord, recording: Recording, where: str) -> tuple[FaultKind, str] | None:
    if recording.run_uuid in (None, record.run_uuid):
        return None
    return "foreign", f"{where}: expected a black box of this recording, found one of {ascii(record.run_uuid)[:60]}"


def _minibatches(storage: Storage, name: str, record: BlackBoxRecord, rank: int, depth: Depth) -> pa.Table | None:
    """The minibatches of a black box that fits its record; None at depth `records`, which looks only at its size."""
    where = storage.where(black_box_name(name))
    if depth != "records":
        found = read_black_box(storage, name)
        if found.rank != rank:
            raise RunDamagedError(f"{where}: expected a black box of rank {rank}, found one of rank {found.rank}")
        return found.minibatches
    size = storage.size(black_box_name(name))
    if size != record.bytes:
        raise RunDamagedError(f"{where}: expected {record.bytes:,} bytes, found {size:,}")
    return None


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


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
