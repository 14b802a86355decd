"""Brings a damaged run back to a state in which everything that is left can be read: `esper-rec repair`.

What is whole is not touched, and nothing is deleted: what cannot stay is moved to `repairs/NNNN.broken/`. What is lost
for good is written down in `repairs/NNNN.json`. Every step may be cut short and done again.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from esper_recorder import durable
from esper_recorder.lock import RankLock
from esper_recorder.opening import now
from esper_recorder.recovery import recover
from esper_recorder.salvage import salvage
from esper_recorder.sealing import seal
from esper_schemas.errors import RunDamagedError, UsageError
from esper_schemas.faults import MAX_SEQ, Loss, Repair, repair_paths, repairs_folder
from esper_schemas.rank_check import RankCheck, Step, check_rank, counts_on_disk
from esper_schemas.run_directory import RankDirectory, RunDirectory
from esper_schemas.run_files import Attempt, RunHeader, Seal, ValueLossDefinition, check_run_id
from esper_schemas.segment_check import SegmentCheck, check_segment, numbered
from esper_schemas.segments import read_active
from esper_schemas.verification import Verification, check_run, verify_run


@dataclass(frozen=True, slots=True)
class RepairedRun:
    """What a repair did, one line each, and how the run stands now."""

    done: list[str]
    verification: Verification


def repair_run(run: RunDirectory, step: Step = lambda: None) -> RepairedRun:
    """Repair every rank of a run, and its header; a run that needs none is not touched.

    Args:
        run: folder of the run.
        step: called after each segment that was looked at.

    Raises:
        RunLockedError: a rank is being written.
        UsageError: a part of the run is a symbolic link.
        FormatVersionError: a part of it was written by a newer Esper; nothing was changed.
        OSError: a file cannot be read, moved or written; doing it again goes on from there.
    """
    _refuse_links(run.path)
    found = check_run(run, step)
    run_id = check_run_id(found.run_id)
    ill = [check.rank for check in found.ranks if _is_ill(check) or check.writing]
    is_header_ill = found.header is None or found.header.run_id != run_id
    done: list[str] = []
    with ExitStack() as stack:
        for rank in [check.rank for check in found.ranks] if is_header_ill else ill:
            stack.callback(RankLock(rank.lock_path).release)
        if is_header_ill:
            done += _rebuild_header(run, found.header, run_id, found.ranks)
        created = run.header().created
        for rank in ill:
            done += _RankRepair(rank, run_id, created).run()
    return RepairedRun(done, verify_run(run) if done else found.verification(run))


def _refuse_links(folder: Path) -> None:
    """A run from someone else must not make us write outside it."""
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if Path(place, name).is_symlink():
                raise UsageError(
                    f"{ascii(str(Path(place, name)))[1:-1]} is a symbolic link, and a repair writes only inside the "
                    "run's own folder; put the file itself there"
                )


def _is_ill(check: RankCheck) -> bool:
    return check.leftovers or bool(check.orphan_seals) or any(fault.is_damage for fault in check.all_faults)


def _rebuild_header(run: RunDirectory, header: RunHeader | None, run_id: str, checks: Sequence[RankCheck]) -> list[str]:
    done = []
    if run.header_path.exists():
        target = _free(run.path / "run.json.broken")
        durable.rename(run.header_path, target)
        done.append(f"{run.header_path} is kept as {target.name}")
    if header is None:
        times = [record.started for check in checks for record in check.attempts.values()]
        times += [entry.holds.first_time or "" for check in checks for entry in check.segments if entry.holds]
        header = RunHeader(
            run_uuid=str(uuid.uuid4()),
            run_id=run_id,
            created=min(filter(None, times), default=now()),
            value_loss_definition=asdict(replace(ValueLossDefinition(), assumed=True)),
            world_size=max((check.rank.rank for check in checks), default=0) + 1,
        )
    durable.replace(run.header_path, replace(header, run_id=run_id).to_bytes())
    return [*done, f"{run.header_path} is rebuilt; configuration and definitions that it held are gone"]


def _free(path: Path) -> Path:
    """`path`, or where that is taken the first of `path.1.broken`, `path.2.broken`, … that is not."""
    candidate, number = path, 0
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}.{number}.broken")
    return candidate


class _RankRepair:
    """One repair of one rank, whose lock is held."""

    def __init__(self, rank: RankDirectory, run_id: str, created: str) -> None:
        self.rank = rank
        self.run_id = run_id
        self.created = created
        self.done: list[str] = []
        self.number = max((int(path.stem) for path in repair_paths(rank)), default=-1) + 1
        self.folder = repairs_folder(rank) / f"{self.number:04d}.broken"
        self.reasons: dict[int, str] = {}  # segments that were moved aside, and why
        self.last_seq = -1  # the last one that anything says was used
        self.is_recorded = False

    def run(self) -> list[str]:
        """Do it; returns what was done."""
        for folder in self.rank.folders:
            durable.make_folder(folder)
        self._move_what_cannot_stay(self._check())
        for number, path in sorted(numbered(self.rank.active_folder, ".arrows")):
            if not self.rank.sealed_path(number).exists():
                self._seal_what_is_left(number, path)
        leftover = [path.name for _, path in numbered(self.rank.active_folder, ".arrows")]
        recover(self.rank)
        self.done += [f"{self.rank.active_folder / name} is dealt with as after a crash" for name in sorted(leftover)]
        self._rebuild_attempts(self._check())
        self._record_losses(self._check())
        return self.done

    def _check(self) -> RankCheck:
        return check_rank(self.rank, self.run_id, locked=True)

    # ------------------------------------------------------------------ what cannot stay

    def _move_aside(self, path: Path, why: str) -> None:
        target = _free(self.folder / path.relative_to(self.rank.path))
        durable.make_folder(target.parent)
        durable.rename(path, target)
        self.is_recorded = True
        self.done.append(f"{path} is moved to {target.relative_to(self.rank.path)}: {why}")

    def _move_what_cannot_stay(self, check: RankCheck) -> None:
        for path in check.misplaced:
            self._move_aside(path, "it does not belong there")
        for path in check.known.unreadable:
            self._move_aside(path, "it cannot be read")
        for number in check.orphan_seals:
            self._note_last_seq(number)
            self._move_aside(self.rank.seal_path(number), "its segment is not there")
        for segment in check.segments:
            if segment.is_sealed:
                self._check_sealed(segment)

    def _check_sealed(self, segment: SegmentCheck) -> None:
        seal_path = self.rank.seal_path(segment.number)
        if segment.holds is None:
            why = next(fault.message for fault in reversed(segment.faults) if fault.is_damage)
            self._note_last_seq(segment.number)
            self._move_aside(segment.path, why)
            self.reasons[segment.number] = why
            if seal_path.exists():
                self._move_aside(seal_path, "its segment is moved aside")
        elif segment.seal_is_bad:
            if seal_path.exists():
                self._move_aside(seal_path, "it is not that of its segment")
            durable.replace(seal_path, _seal_of(segment).to_bytes())
            self.done.append(f"{seal_path} is rebuilt from its segment")

    def _note_last_seq(self, number: int) -> None:
        """Remember which sequence numbers a segment that is lost had, so that they are not used again."""
        try:
            record = self.rank.seal(number)
        except (RunDamagedError, OSError):
            return
        if record is not None and record.segment == number:
            self.last_seq = max(self.last_seq, record.last_seq + record.rows_lost)

    def _note_last_seq_of_rows(self, number: int, path: Path) -> None:
        """The same of an active file under a wrong name: its rows say it."""
        segment = read_active(number, path)
        identity = segment.identity
        if identity is None or (identity.run_id, identity.rank) != (self.run_id, self.rank.rank):
            return
        if segment.rows is not None and segment.rows.num_rows:
            last_seq = segment.rows.column("seq")[-1].as_py()
            if last_seq is not None and last_seq <= MAX_SEQ:
                self.last_seq = max(self.last_seq, last_seq)

    # ------------------------------------------------------------------ active files

    def _seal_what_is_left(self, number: int, path: Path) -> None:
        """Seal a damaged active file with every whole row in it; one that is not damaged is left to recovery."""
        kept = path.with_name(path.name + ".broken")
        if kept.exists():
            self._move_aside(kept, "it is of an earlier file of that name")
        segment = check_segment(self.rank, number, self.run_id)
        if segment is None or not any(fault.is_damage for fault in segment.faults):
            return
        checked = self._check()
        found = salvage(segment, self.rank, self.run_id, checked) if segment.end is not None else None
        if found is None:
            why = next(fault.message for fault in reversed(segment.faults) if fault.is_damage)
            if segment.end is not None:
                self._note_last_seq_of_rows(number, path)
            self._move_aside(path, why)
            self.reasons[number] = why
            return
        seal(self.rank, found)
        rows = 0 if found.rows is None else found.rows.num_rows
        self.is_recorded = True
        self.done.append(f"{path} is sealed with its {rows} whole rows; the rest is kept as {kept.name}")

    # ------------------------------------------------------------------ records

    def _rebuild_attempts(self, check: RankCheck) -> None:
        if self.last_seq >= 0 or check.bad_attempts:
            last = max([*check.attempts, *check.bad_attempts], default=0)
            for number in sorted({*check.bad_attempts, last}):
                self._rebuild_attempt(check, number, self.last_seq if number == last else -1)

    def _rebuild_attempt(self, check: RankCheck, number: int, last_seq: int) -> None:
        """Rebuild the record of an attempt from its rows; the last one also says up to where numbers are used up."""
        path = self.rank.attempt_path(number)
        record = check.attempts.get(number)
        is_bad = record is None or number in check.bad_attempts
        if is_bad:
            rows, dropped, lost = counts_on_disk(check, number)
            held = [entry.holds for entry in check.segments if entry.holds and entry.holds.identity.attempt == number]
            if record is None:
                first_time = next((holds.first_time for holds in held if holds.first_time), None)
                first_seq = held[0].identity.first_seq if held else self._end_before(check, number)
                record = Attempt(attempt=number, started=first_time or self.created, first_seq=first_seq)
                record = replace(record, reason="its record was lost, and rebuilt by esper-rec repair")
            last_row = max((holds.last_seq for holds in held), default=record.first_seq - 1)
            rows = min(max(record.rows, rows), rows + lost)
            record = replace(record, rows=rows, dropped_rows=dropped, last_seq=last_row)
        assert record is not None
        if last_seq > max(check.last_seq, -1 if record.last_seq is None else record.last_seq):
            record = replace(record, last_seq=last_seq)
            is_bad = True
        if is_bad:
            if path.exists():
                self._move_aside(path, check.bad_attempts.get(number, "rows that it does not know are lost"))
            durable.replace(path, record.to_bytes())
            check.attempts[number] = record
            self.is_recorded = True
            self.done.append(f"{path} is rebuilt")

    def _end_before(self, check: RankCheck, number: int) -> int:
        """The sequence number behind everything of earlier attempts."""
        held = [entry.holds for entry in check.segments if entry.holds and entry.holds.identity.attempt < number]
        earlier = [record for record in check.attempts.values() if record.attempt < number]
        ends = [holds.last_seq + 1 for holds in held]
        return max([*ends, *(record.first_seq + record.rows + record.dropped_rows for record in earlier)], default=0)

    def _record_losses(self, check: RankCheck) -> None:
        aside = [
            Loss(first_segment=number, last_segment=number, cause=why.replace(f"{self.rank.path}/", ""))
            for number, why in sorted(self.reasons.items())
            if not self.rank.sealed_path(number).exists()
        ]
        said = {(number, number) for number in self.reasons}
        others = [loss for loss in check.losses if (loss.first_segment, loss.last_segment) not in said]
        losses = aside + others
        if losses or self.is_recorded:
            durable.make_folder(repairs_folder(self.rank))
            path = repairs_folder(self.rank) / f"{self.number:04d}.json"
            done = [line.replace(f"{self.rank.path}/", "") for line in self.done]
            record = Repair(repair=self.number, repaired=now(), losses=[asdict(loss) for loss in losses], done=done)
            durable.replace(path, record.to_bytes())
            self.done += [f"rank {self.rank.rank}: {loss}" for loss in losses]


def _seal_of(segment: SegmentCheck) -> Seal:
    """The seal of a sealed segment whose rows were checked."""
    holds = segment.holds
    assert holds is not None
    data = segment.path.read_bytes()
    return Seal(
        segment=segment.number,
        attempt=holds.identity.attempt,
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        rows=holds.rows,
        first_seq=holds.first_seq if holds.rows else holds.identity.first_seq,
        last_seq=holds.last_seq,
        first_update=holds.first_update,
        last_update=holds.last_update,
        updates_rise=holds.updates_rise,
        rows_lost=segment.seal.rows_lost if segment.seal else 0,
        extras=holds.extras,
    )
