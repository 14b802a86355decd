"""Finds where a resumed trainer continues, by the rows that its run has."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow.compute as pc

from esper_schemas.errors import RunDamagedError
from esper_schemas.examining.current import current_rows
from esper_schemas.examining.rank import examine_rank
from esper_schemas.examining.segment import Recording
from esper_schemas.run.files import Folder
from esper_schemas.segment.active import SegmentIdentity


class Continuation(NamedTuple):
    """Where a resumed trainer continues.

    Attributes:
        update: The update that it makes next.
        env_steps: Environment steps of the updates before that one, as far as they were recorded; 0 without any.
    """

    update: int
    env_steps: int


def find_continuation(
    rank: Folder, identity: SegmentIdentity, reached: int | None, column: str = "env_steps"
) -> Continuation:
    """Find the first recorded update whose `column` is beyond `reached`; if there is none, that behind the last one.

    Args:
        rank: folder of the rank, which the caller has locked.
        identity: of a segment of the recording.
        reached: how far the trainer had come when it was saved; None asks for the update behind the last one.
        column: what `reached` counts; it never falls from one update to the next.

    Raises:
        RunDamagedError: a segment is damaged, so that its rows are not known.
        OSError: a segment cannot be read.
    """
    recording = Recording(identity.run_id, identity.run_uuid)
    check = examine_rank(rank, identity.rank, recording, "records", locked=True)
    usable = {segment.number for segment in check.segments if segment.holds is not None}
    damage = [fault for fault in check.all_faults if fault.is_damage and fault.segment not in (None, *usable)]
    if damage:
        raise RunDamagedError(f"{damage[0].message}; esper-rec repair makes the run usable again")
    following = steps = 0
    for batch in current_rows(check, list(dict.fromkeys(["update", "env_steps", column]))):
        if not batch.num_rows:
            continue
        end = batch.num_rows
        if reached is not None and column in batch.schema.names:
            is_beyond = pc.index(pc.greater(batch.column(column), reached), True).as_py()
            end = is_beyond if is_beyond >= 0 else end
        if "env_steps" in batch.schema.names:
            steps = pc.max(batch.column("env_steps").slice(0, end)).as_py() or steps
        if end < batch.num_rows:
            return Continuation(int(batch.column("update")[end].as_py()), int(steps))
        following = int(batch.column("update")[-1].as_py()) + 1
    return Continuation(following, int(steps))
