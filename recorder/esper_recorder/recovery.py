"""Brings the rank of a run that was killed back to a state in which a new attempt can be recorded.

Nothing that is whole is changed, nothing is written into a suspect file, and what is cut off is kept as
`.broken`. Every step may be cut short and done again.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow.parquet as pq

from esper_recorder import durable
from esper_recorder.sealing import keep_broken, seal
from esper_schemas.run_directory import RankDirectory
from esper_schemas.segments import read_active


@dataclass(frozen=True, slots=True)
class RecoveredRank:
    """Where the next attempt goes on.

    `next_seq` leaves room for rows that were lost to damage, so that readers see the gap and report it.
    """

    next_segment: int
    next_seq: int


def recover(rank: RankDirectory) -> RecoveredRank:
    """Seal what earlier attempts left active. The caller holds the lock of the rank.

    Raises:
        OSError: a file cannot be read, sealed or removed.
        RunDamagedError: a seal record cannot be read.
    """
    for leftover in [*rank.path.rglob("*.tmp")]:
        leftover.unlink()
    next_segment = next_seq = 0
    last_sealed: int | None = None
    for number in sorted(rank.segment_numbers()):
        next_segment = number + 1
        active = rank.active_path(number)
        if rank.sealed_path(number).exists():
            last_sealed = number
            if active.exists():
                durable.unlink(active)
            continue
        segment = read_active(number, active)
        if segment.identity is None:
            keep_broken(segment)
            durable.unlink(active)
            if segment.end.kind != "corrupt":
                next_segment = number  # no row was ever in it: its number is free again
            continue
        seal(rank, segment)
        last_sealed = number
    if last_sealed is not None:
        next_seq = _seq_after(rank, last_sealed)
    return RecoveredRank(next_segment, next_seq)


def _seq_after(rank: RankDirectory, number: int) -> int:
    record = rank.seal(number)
    if record is not None:
        return record.last_seq + 1 + record.rows_lost
    table = pq.read_table(rank.sealed_path(number), columns=["seq"], partitioning=None)
    if table.num_rows:
        return int(table.column("seq")[-1].as_py()) + 1
    return int(table.schema.metadata[b"esper.first_seq"])
