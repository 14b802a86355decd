"""Rows whose every value follows from their update, and the judge of a run that holds some of them.

Whatever was done to a run, each row that is read from it can be judged by itself, and a case needs no list of
what was recorded: only the updates that must be there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from esper_recorder import Recorder
from esper_schemas import METRICS, RankDirectory, RankFollower, RunDirectory, read_segments
from esper_schemas.examining.rank import examine_rank
from esper_schemas.examining.segment import Recording
from esper_schemas.run.names import segment_numbers
from esper_schemas.segment.scan import MissingSegment, SealedSegment, Segment

_MASK = (1 << 64) - 1
_MULTIPLIERS = {
    "policy_loss": 0x9E3779B97F4A7C15,
    "value_loss": 0xC2B2AE3D27D4EB4F,
    "entropy": 0x165667B19E3779F9,
    "env_steps": 0x27D4EB2F165667C5,
}
_FILLED_IN = ("update", "wall_time", "elapsed_secs")
EXTRA = "mine"


def row_of(update: int) -> dict[str, Any]:
    """The row of an update: numbers with all kinds of bits (NaN payloads, subnormals, infinities), some null.

    Every seventh row carries a metric of the user's own, so that a segment is begun for it.
    """
    row: dict[str, Any] = {"update": update}
    for name, multiplier in _MULTIPLIERS.items():
        bits = struct.pack("<Q", (update + 1) * multiplier & _MASK)
        (row[name],) = struct.unpack("<q" if name == "env_steps" else "<d", bits)
    if update % 7 == 3:
        row[EXTRA] = float(update)
    return row


def count_wrong(table: pa.Table) -> int:
    """How many rows hold anything else than `row_of` their update, bit for bit."""
    updates = table.column("update").to_numpy()
    wrong = np.zeros(len(updates), dtype=bool)
    for name, multiplier in _MULTIPLIERS.items():
        column = table.column(name)
        if column.null_count:
            return len(updates)
        expected = (updates.astype(np.uint64) + np.uint64(1)) * np.uint64(multiplier)
        wrong |= column.to_numpy().view(np.uint64) != expected
    has_extra = updates % 7 == 3
    if EXTRA in table.schema.names:
        extra = table.column(EXTRA)
        wrong |= extra.is_valid().to_numpy() != has_extra
        wrong |= has_extra & (np.nan_to_num(extra.to_numpy(), nan=-1.0) != updates)
    else:
        wrong |= has_extra
    others = set(METRICS) - set(_MULTIPLIERS) - set(_FILLED_IN)
    if any(table.column(name).null_count != len(updates) for name in others):
        return len(updates)
    return int(wrong.sum())


@dataclass(slots=True)
class Found:
    """What a rank holds on disk, as read.

    Attributes:
        updates: of its rows, in the order in which they were read.
        seqs: their sequence numbers.
        wrong: rows that were never recorded so, come twice, or stand behind a later one.
        dropped: sequence numbers that the rows say were dropped.
        missing: sequence numbers that nothing explains.
        faults: what the reader says is not in order.
    """

    updates: list[int] = field(default_factory=list)
    seqs: list[int] = field(default_factory=list)
    wrong: int = 0
    dropped: int = 0
    missing: int = 0
    faults: list[str] = field(default_factory=list)

    def copy(self) -> Found:
        """The same, to be continued apart."""
        return replace(self, updates=[*self.updates], seqs=[*self.seqs], faults=[*self.faults])

    def add(self, table: pa.Table) -> None:
        """Take in the rows of the next segment."""
        self.wrong += count_wrong(table)
        rows = zip(*(table.column(name).to_pylist() for name in ("update", "seq", "dropped_before")), strict=True)
        for update, seq, dropped in rows:
            gap = seq - (self.seqs[-1] if self.seqs else -1) - 1
            if gap < 0:
                self.wrong += 1
            else:
                self.dropped += dropped or 0
                self.missing += gap - (dropped or 0)
            self.updates.append(update)
            self.seqs.append(seq)

    def lost(self, updates: Iterable[int]) -> int:
        """How many of `updates` are not there."""
        return len(set(updates) - set(self.updates))


def rows_of(segment: Segment, faults: list[str]) -> pa.Table | None:
    """The rows of a segment, None if it has none; what is wrong with it is added to `faults`."""
    if isinstance(segment, MissingSegment):
        faults.append(f"segments {segment.number} to {segment.last} are missing")
        return None
    if isinstance(segment, SealedSegment):
        try:
            return _decoded(Path(segment.path).read_bytes())
        except (pa.ArrowException, OSError) as error:
            faults.append(f"segment {segment.number} cannot be read: {error}")
            return None
    if segment.end.kind != "clean":
        faults.append(f"segment {segment.number}: {segment.end.kind} at {segment.end.offset}")
    return None if segment.rows is None else pa.Table.from_batches([segment.rows])


@lru_cache(maxsize=512)
def _decoded(parquet: bytes) -> pa.Table:
    """The rows in a sealed file; thousands of states of a run hold the same files."""
    with pq.ParquetFile(pa.BufferReader(parquet)) as file:
        return file.read(use_threads=False)


def read_run(run: Path) -> Found:
    """What rank 0 of a run holds, as one reading finds it."""
    found = Found()
    for segment in read_segments(RunDirectory(run).rank(0)):
        if (table := rows_of(segment, found.faults)) is not None:
            found.add(table)
    return found


def follow_run(run: Path) -> Found:
    """The same, as a follower finds it that comes now."""
    found = Found()
    with RankFollower(RunDirectory(run).rank(0)) as follower:
        for batch in follower.poll():
            found.add(pa.Table.from_batches([batch]))
        found.faults = follower.faults
    return found


@dataclass(slots=True)
class Outcome:
    """What became of a run to which something was done.

    Attributes:
        acknowledged: rows that had to be there.
        lost: those that were not.
        wrong: rows that were read and should not have been.
        complaints: promises that were broken otherwise.
    """

    acknowledged: int = 0
    lost: int = 0
    wrong: int = 0
    complaints: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether every promise held."""
        return not (self.lost or self.wrong or self.complaints)


NEW_ROWS = 5
FIRST_NEW_UPDATE = 7_000_000  # of what is recorded after the fault; no case records so many rows before


def finish_case(run: Path, required: Iterable[int], *, may_drop: int = 0, follow: bool = True) -> Outcome:
    """End a case: read the run, reopen it, record on, and read again.

    Args:
        run: folder of the run, which need not be there.
        required: updates that must be in it.
        may_drop: how many rows the run may say were dropped.
        follow: whether to read it with a follower, too.
    """
    required = set(required)
    before = read_run(run)
    outcome = Outcome(len(required), before.lost(required), before.wrong)
    if follow and follow_run(run).updates != before.updates:
        outcome.complaints.append("the follower reads other rows")
    rank = RunDirectory(run).rank(0)
    outcome.complaints += _bad_black_boxes(rank)
    old = _attempts_of_segments(rank)
    first = max([FIRST_NEW_UPDATE, *(update + 1 for update in before.updates)])
    new = list(range(first, first + NEW_ROWS))
    try:
        with Recorder.open(run.parent, run_id=run.name, resume="allow", segment_rows=4) as recorder:
            for update in new:
                recorder.record(**row_of(update))  # False if the disk is slow at the moment; it is read below
    except Exception as error:
        outcome.complaints.append(f"reopening: {type(error).__name__}: {error}")
        return outcome
    after = read_run(run)
    outcome.lost += after.lost(required | set(before.updates) | set(new)) if not outcome.lost else 0
    outcome.wrong += after.wrong
    checks = {
        "rows were read after reopening that were not there before": after.updates == before.updates + new,
        "the run tells of drops that never were": after.dropped <= may_drop,
        "an old segment was written to": old.items() <= _attempts_of_segments(rank).items(),
        "not everything is sealed": not [*rank.active_folder.glob("*.arrows"), *rank.path.rglob("*.tmp")],
        "the attempt has no end": bool(rank.attempts()) and rank.attempts()[-1].status == "finished",
    }
    outcome.complaints += [words for words, holds in checks.items() if not holds]
    outcome.complaints += _bad_black_boxes(rank)
    return outcome


def _bad_black_boxes(rank: RankDirectory) -> list[str]:
    """What is wrong with the black boxes of a rank; one that is not finished is not wrong."""
    try:
        folder = rank.open()
    except FileNotFoundError:
        return []
    with folder:
        return list(examine_rank(folder, 0, Recording(None, None), "checksums").bad_black_boxes.values())


def _attempts_of_segments(rank: RankDirectory) -> dict[int, int]:
    """Which attempt each segment with a row in it is of."""
    attempts: dict[int, int] = {}
    try:
        with rank.open() as folder:
            numbers = segment_numbers(folder)
    except FileNotFoundError:
        return attempts
    for number in numbers:
        table = rows_of(next(read_segments(rank, number)), [])
        if table is not None and table.num_rows:
            attempts[number] = table.column("attempt")[0].as_py()
    return attempts
