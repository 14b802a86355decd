"""Writes the undamaged runs that the table of damages starts from, without a recorder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from uuid import NAMESPACE_OID, uuid5

from esper_schemas.run.names import (
    BLACK_BOXES,
    HEADER_NAME,
    LOCK_NAME,
    WRITTEN_FOLDERS,
    active_name,
    attempt_name,
    black_box_name,
    black_box_record_name,
    rank_name,
    seal_name,
    sealed_name,
    states_name,
)
from esper_schemas.run.records import Attempt, RunHeader
from esper_schemas.segment import black_box
from esper_schemas.segment.active import SegmentIdentity
from esper_schemas.segment.sealed import sha256_of
from esper_schemas.testing.segments import active_file, sealed_file, states_file

Base = Literal["finished", "killed", "two ranks", "earlier", "other"]
BASES: Mapping[Base, str] = {
    "finished": "rows 0 to 24 of attempt 0 in segments 0 to 2, rows 25 to 44 of attempt 1 in segments 3 and 4; row 12"
    " was dropped, which row 13 says; both attempts are finished, the update of a row is its sequence number",
    "killed": "the same, and attempt 1 was killed when rows 45 to 49 were in the active segment 5",
    "two ranks": "ranks 0 and 1 of 20 rows each in segments 0 and 1, finished",
    "earlier": "as `finished`, of the same run id, recorded before it",
    "other": "as `finished`, of the run id `other`",
}
"""The runs that are damaged, or from which a damage takes files. All except `other` have the run id `run`.

Each rank has a black box of attempt 0: two minibatches of the update of its last row, written because it was asked for.
"""

LEFTOVER = "00000004.arrows"
"""A file next to the run `killed`: its active segment 4 as it was before it was sealed."""

_DROPPED = 12
_SEGMENT_ROWS = 10
_FIRST = [seq for seq in range(25) if seq != _DROPPED]
_START = datetime(2026, 1, 1, tzinfo=UTC)
_START_MICROSECONDS = int(_START.timestamp()) * 1_000_000


def write_bases(root: Path) -> dict[Base, Path]:
    """Write every base under `root`, each in a folder of its own; return the folder of each run."""
    written: dict[Base, Path] = {
        "earlier": _write(root, "earlier", [[_FIRST, range(25, 45)]], created=_START - timedelta(days=1)),
        "finished": _write(root, "finished", [[_FIRST, range(25, 45)]]),
        "killed": _write(root, "killed", [[_FIRST, range(25, 50)]], killed=True),
        "two ranks": _write(root, "two ranks", [[range(20)], [range(20)]]),
        "other": _write(root, "other", [[_FIRST, range(25, 45)]], run_id="other"),
    }
    identity = SegmentIdentity("run", 0, 1, 4, 35, _uuid("killed"))
    leftover = active_file(identity, _rows(range(35, 45), identity.first_seq))
    (written["killed"].parent / LEFTOVER).write_bytes(leftover)
    return written


def _write(
    root: Path,
    base: Base,
    ranks: Sequence[Sequence[Sequence[int]]],
    *,
    run_id: str = "run",
    created: datetime = _START,
    killed: bool = False,
) -> Path:
    """Write one run; `ranks` has the sequence numbers of each attempt of each rank."""
    run = root / base / run_id
    run.mkdir(parents=True)
    header = RunHeader(
        run_uuid=_uuid(base),
        run_id=run_id,
        created=created.isoformat(),
        value_loss_definition={"assumed": True},
        world_size=len(ranks),
    )
    (run / HEADER_NAME).write_bytes(header.to_bytes())
    for rank, attempts in enumerate(ranks):
        _write_rank(run / rank_name(rank), SegmentIdentity(run_id, rank, 0, 0, 0, header.run_uuid), attempts, killed)
    return run


def _write_rank(folder: Path, identity: SegmentIdentity, attempts: Sequence[Sequence[int]], killed: bool) -> None:
    for name in WRITTEN_FOLDERS:
        (folder / name).mkdir(parents=True)
    (folder / LOCK_NAME).touch(mode=0o600)
    _write_black_box(folder, identity, attempts[0][-1])
    for attempt, seqs in enumerate(attempts):
        is_killed = killed and attempt == len(attempts) - 1
        record = _attempt(attempt, seqs, identity.first_seq, is_killed)
        (folder / attempt_name(attempt)).write_bytes(record.to_bytes())
        for start in range(0, len(seqs), _SEGMENT_ROWS):
            part = seqs[start : start + _SEGMENT_ROWS]
            identity = replace(identity, attempt=attempt)
            active = active_file(identity, _rows(part, identity.first_seq))
            if is_killed and start + _SEGMENT_ROWS >= len(seqs):
                (folder / active_name(identity.segment)).write_bytes(active)
            else:
                parquet, seal = sealed_file(active)
                states = states_file(active)
                (folder / states_name(identity.segment)).write_bytes(states)
                seal = replace(seal, states_sha256=sha256_of(states))
                (folder / sealed_name(identity.segment)).write_bytes(parquet)
                (folder / seal_name(identity.segment)).write_bytes(seal.to_bytes())
            identity = replace(identity, segment=identity.segment + 1, first_seq=part[-1] + 1)


def _write_black_box(folder: Path, identity: SegmentIdentity, seq: int) -> None:
    """Write two minibatches of the update of a row, and why they were written."""
    own: dict[str, list[float]] = {"seq": [seq, seq], "minibatch": [0, 1], "elapsed_secs": [seq / 2 - 0.25, seq / 2]}
    parquet = black_box.to_parquet(own, {"value_loss": [0.5, 0.25], "grad_norm": [None, 2.0]}, identity)
    record = black_box.record_of(
        parquet,
        seq=seq,
        attempt=identity.attempt,
        run_uuid=identity.run_uuid,
        written=_START.isoformat(),
        trigger="asked",
        reason="a look",
        minibatches=2,
    )
    (folder / BLACK_BOXES).mkdir()
    (folder / black_box_name(f"{seq:08d}")).write_bytes(parquet)
    (folder / black_box_record_name(f"{seq:08d}")).write_bytes(record.to_bytes())


def _attempt(number: int, seqs: Sequence[int], first_seq: int, is_killed: bool) -> Attempt:
    """The record of an attempt; that of a killed one is as it was written at the start."""
    begun = Attempt(attempt=number, started=(_START + timedelta(hours=number)).isoformat(), first_seq=first_seq)
    if is_killed:
        return begun
    return replace(
        begun,
        ended=(_START + timedelta(hours=number, minutes=1)).isoformat(),
        status="finished",
        last_seq=seqs[-1],
        rows=len(seqs),
        dropped_rows=seqs[-1] + 1 - first_seq - len(seqs),
    )


def _rows(seqs: Iterable[int], next_seq: int) -> Iterator[dict[str, Any]]:
    """The rows with these sequence numbers, each with the drop that explains the gap before it."""
    for seq in seqs:
        row = {"seq": seq, "update": seq, "policy_loss": -0.01, "value_loss": 0.5, "elapsed_secs": seq / 2}
        row["wall_time"] = _START_MICROSECONDS + seq * 500_000
        yield row | ({"dropped_before": seq - next_seq} if seq > next_seq else {})
        next_seq = seq + 1


def _uuid(base: Base) -> str:
    return str(uuid5(NAMESPACE_OID, base))
