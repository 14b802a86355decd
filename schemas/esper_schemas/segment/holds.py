"""A summary of the rows of a segment. Seals are made from it and checked against it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache

import numpy as np
import pyarrow as pa

from esper_schemas.errors import RunDamagedError
from esper_schemas.limits import MAX_COLUMNS, MAX_SEQ
from esper_schemas.metric.coercion import EPOCH, RECORDER_COLUMNS
from esper_schemas.metric.payload import METRICS
from esper_schemas.segment.active import ARROW_TYPES, SegmentIdentity, column_types
from esper_schemas.segment.arrays import is_valid, values_of

Range = tuple[int, int]
"""First and last number of a range, both inclusive."""

_TYPES = {
    "run_id": pa.string(),
    "rank": pa.int32(),
    "attempt": pa.int32(),
    **{name: ARROW_TYPES[dtype] for name, dtype in column_types().items()},
}
_NAMES = list(_TYPES)
_NEEDED = frozenset({*RECORDER_COLUMNS, "update"})


@dataclass(slots=True)
class Holds:
    """A summary of what a segment holds.

    Attributes:
        identity: which segment it is.
        extras: columns that the user added.
        rows: number of rows.
        first_seq, last_seq: of its first and last row; without rows, `last_seq` is one less than
            `identity.first_seq`.
        first_update, last_update: of its first and last row; None without rows.
        updates_rise: whether the update of each row is greater than that of the row before.
        dropped: number of rows that `dropped_before` explains; 0 if the rows were not read.
        first_time: `wall_time` of the first row in ISO 8601; None if it was not measured or the rows were not read.
        gaps: sequence numbers from `identity.first_seq` on that neither a row nor `dropped_before` explains.
    """

    identity: SegmentIdentity
    extras: list[str]
    rows: int = 0
    first_seq: int = 0
    last_seq: int = 0
    first_update: int | None = None
    last_update: int | None = None
    updates_rise: bool = True
    dropped: int = 0
    first_time: str | None = None
    gaps: list[Range] = field(default_factory=list)


def summarise(identity: SegmentIdentity, extras: list[str], batches: Iterable[pa.RecordBatch]) -> Holds:
    """Summarise the rows of a segment in one pass.

    Raises:
        RunDamagedError: they are not valid rows of this segment.
    """
    holds = Holds(identity, extras, first_seq=identity.first_seq, last_seq=identity.first_seq - 1)
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


def check_columns(schema: pa.Schema) -> tuple[list[str], str]:
    """Check the names and types of a segment's columns.

    Returns:
        The names that the user added, and a note if there are fewer columns or a different order, as an older Esper
        may have written them.

    Raises:
        RunDamagedError: they are not the columns of a segment.
    """
    names = schema.names  # pyarrow builds the list on every access
    if len(names) > MAX_COLUMNS:
        raise RunDamagedError(f"it declares {len(names):,} columns; the limit is {MAX_COLUMNS:,}")
    known = set(names)
    if len(known) != len(names):
        raise RunDamagedError("two columns have the same name")
    if names[: len(_TYPES)] == _NAMES and schema.equals(_schema_of(tuple(names))):  # as nearly always
        return names[len(_TYPES) :], ""
    absent = [name for name in _TYPES if name not in known]
    if needed := _NEEDED.intersection(absent):
        raise RunDamagedError(f"the column {min(needed)} is missing")
    for entry in schema:
        kind = _TYPES.get(entry.name, pa.float64())
        if entry.type != kind:
            raise RunDamagedError(f"expected the column {entry.name!a} as {kind}, found {entry.type}")
    note = ""
    if absent:
        note = f"it lacks columns of the metrics table: {', '.join(absent[:5])}{', …' if len(absent) > 5 else ''}"
    elif names[: len(_TYPES)] != list(_TYPES):
        note = "its columns are in a different order"
    return added_columns(names), note


@lru_cache(64)
def _schema_of(names: tuple[str, ...]) -> pa.Schema:
    """The columns that a segment has, with their types: those of the format, and others."""
    return pa.schema([(name, _TYPES.get(name, pa.float64())) for name in names])


def added_columns(names: Iterable[str]) -> list[str]:
    """The columns among `names` that the user added."""
    return [name for name in names if name not in METRICS and name not in RECORDER_COLUMNS]


def _add(holds: Holds, batch: pa.RecordBatch) -> None:
    seqs = values_of(batch.column("seq"))
    before = batch.column("dropped_before")
    dropped = np.where(is_valid(before), values_of(before), 0)
    updates = values_of(batch.column("update"))
    if min(seqs.min(), dropped.min()) < 0 or max(seqs.max(), dropped.max()) > MAX_SEQ:
        raise RunDamagedError(
            f"seq and dropped_before must be 0 or more, found {min(seqs.min(), dropped.min())}"
            if min(seqs.min(), dropped.min()) < 0
            else f"seq and dropped_before must be at most 2^62, found {max(seqs.max(), dropped.max())}"
        )
    last = np.concatenate(([holds.last_seq], seqs[:-1]))
    steps = seqs - dropped - last - 1
    if (backwards := steps < 0).any():
        at = int(backwards.argmax())
        raise RunDamagedError(f"sequence number {seqs[at]} comes after {last[at]}")
    holds.gaps += [(int(last[at]) + 1, int(seqs[at] - dropped[at]) - 1) for at in np.flatnonzero(steps)]
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
    """The time of the first row; None if it is null or no valid date."""
    if "wall_time" not in batch.schema.names:
        return None
    times = batch.column("wall_time")
    if not is_valid(times)[0]:
        return None
    try:
        return (EPOCH + timedelta(microseconds=int(values_of(times)[0]))).isoformat()
    except OverflowError:
        return None
