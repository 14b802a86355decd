"""Repairs a damaged run, so that everything left in it can be read: `esper-rec repair`.

Repair changes nothing that is whole, and deletes nothing that may contain data: it moves what cannot stay to
`repairs/NNNN.broken/`. It records what is lost for good in `repairs/NNNN.json`. Every step may be interrupted and
repeated.
"""

from __future__ import annotations

import stat
import uuid
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import pyarrow as pa

from esper_recorder.keeping import durable
from esper_recorder.keeping.lock import RankLock
from esper_recorder.keeping.recovery import recover
from esper_recorder.keeping.salvage import salvage
from esper_recorder.keeping.sealing import seal, write_states
from esper_schemas.errors import RunDamagedError, UsageError
from esper_schemas.examining.attempts import counts_on_disk
from esper_schemas.examining.faults import Loss, Repair, repair_names
from esper_schemas.examining.rank import Step, examine_rank
from esper_schemas.examining.rank_examination import RankExamination
from esper_schemas.examining.run import RunExamination, Verification, examine_run
from esper_schemas.examining.segment import Recording, SegmentExamination, examine_segment
from esper_schemas.limits import MAX_SEGMENT_BYTES, MAX_SEQ
from esper_schemas.run.directory import RunDirectory, StoredRun, read_seal
from esper_schemas.run.files import Folder
from esper_schemas.run.names import (
    ACTIVE,
    HEADER_NAME,
    REPAIRS,
    WRITTEN_FOLDERS,
    active_name,
    attempt_name,
    black_box_name,
    black_box_record_name,
    numbers_in,
    seal_name,
    sealed_name,
)
from esper_schemas.run.records import Attempt, RunHeader, ValueLossDefinition, check_run_id, now, read_json
from esper_schemas.segment import sealed
from esper_schemas.segment.scan import parse_active
from esper_schemas.segment.sealed import seal_of


@dataclass(frozen=True, slots=True)
class RepairedRun:
    """What a repair did, one line per step, and the state of the run after it."""

    done: list[str]
    verification: Verification


def repair_run(run: StoredRun, step: Step = lambda: None) -> RepairedRun:
    """Repair every rank of a run, and its header. A run that needs no repair is not changed.

    Args:
        run: folder of the run.
        step: called after each segment is examined.

    Raises:
        RunLockedError: a recorder is writing a rank.
        UsageError: the run contains a symbolic link, its name cannot be a run id, or it is in an object store.
        FormatVersionError: a newer Esper wrote a part of the run; nothing was changed.
        OSError: a file cannot be read, moved or written; the next repair continues from there.
    """
    if not isinstance(run, RunDirectory):
        raise UsageError(f"{run.path} is in an object store, where nothing is repaired; repair the original")
    name = run.path.resolve().name
    with run.open() as folder, ExitStack() as stack:
        _refuse_links(folder)
        found = examine_run(folder, name, "rows", step)
        check_run_id(found.run_id)
        ill = [check for check in found.ranks if _is_ill(check) or check.writing]
        header = found.header
        is_header_ill = header is None or (header.run_id, header.run_uuid) != _names(found, header)
        for check in found.ranks if is_header_ill else ill:
            assert isinstance(check.storage, Folder)
            stack.callback(RankLock(check.storage).release)
        done: list[str] = []
        if is_header_ill:
            done += _rebuild_header(folder, found)
        header = RunHeader.read(folder, HEADER_NAME)
        recording = Recording(header.run_id, header.run_uuid)
        for check in ill:
            done += _RankRepair(check, recording, header.created).run()
        verification = (examine_run(folder, name, "rows") if done or ill else found).verification(run.path)
    return RepairedRun(done, verification)


def _names(found: RunExamination, header: RunHeader) -> tuple[str, str]:
    """Return the run id and uuid that the header should have. Segments of 0.1.0 name no uuid."""
    return found.run_id, found.recording.run_uuid or header.run_uuid


def _refuse_links(folder: Folder, inner: str = "") -> None:
    """Raise if the run contains a symbolic link: repairing a run from someone else must not move files elsewhere."""
    for name in folder.names(inner):
        path = f"{inner}/{name}" if inner else name
        found = folder.stat(path)
        if found is not None and stat.S_ISLNK(found.st_mode):
            raise UsageError(
                f"{ascii(folder.where(path))[1:-1]} is a symbolic link, but a repair writes only inside the run's own"
                " folder; replace the link with the file itself"
            )
        if found is not None and stat.S_ISDIR(found.st_mode):
            _refuse_links(folder, path)


def _is_ill(check: RankExamination) -> bool:
    return check.leftovers or bool(check.orphan_seals) or any(fault.is_damage for fault in check.all_faults)


def _rebuild_header(run: Folder, found: RunExamination) -> list[str]:
    """Write a header that names the recording of the segments, with every key of the old one that can be read.

    An existing header is kept as `.broken`.
    """
    done = []
    where = run.where(HEADER_NAME)
    sound, lost = ({}, []) if found.header else _keys_of_header(run)
    if run.exists(HEADER_NAME):
        target = _free(run, f"{HEADER_NAME}.broken")
        durable.rename(run, HEADER_NAME, target)
        done.append(f"{where} is kept as {target}")
    header = found.header
    if header is None:
        times = [record.started for check in found.ranks for record in check.attempts.values()]
        times += [entry.holds.first_time or "" for check in found.ranks for entry in check.segments if entry.holds]
        made = {
            "run_uuid": str(uuid.uuid4()),
            "run_id": found.run_id,
            "created": min(filter(None, times), default=now()),
            "value_loss_definition": asdict(replace(ValueLossDefinition(), assumed=True)),
            "world_size": max((check.rank for check in found.ranks), default=0) + 1,
        }
        header = RunHeader(**{**made, **sound})
    run_id, run_uuid = _names(found, header)
    durable.replace(run, HEADER_NAME, replace(header, run_id=run_id, run_uuid=run_uuid).to_bytes())
    if not sound:
        return [*done, f"{where} is rebuilt; any configuration and definitions that could not be read are lost"]
    said = f"the values of {', '.join(map(ascii, lost))} could not be read and are lost" if lost else "nothing is lost"
    return [*done, f"{where} is rebuilt; {said}"]


def _keys_of_header(run: Folder) -> tuple[dict[str, Any], list[str]]:
    """Of a header that no reader accepts: the keys that one would accept, and the names of the others."""
    try:
        values = read_json(run, HEADER_NAME)
    except (RunDamagedError, OSError):
        return {}, []
    misfits = RunHeader.misfits(values)
    known = {entry.name for entry in fields(RunHeader)} - {*misfits}
    return {key: value for key, value in values.items() if key in known}, misfits


def _free(folder: Folder, name: str) -> str:
    """Return `name` if it is free, otherwise the first free name of `name.1.broken`, `name.2.broken`, …"""
    candidate, number = name, 0
    while folder.exists(candidate):
        number += 1
        candidate = f"{name}.{number}.broken"
    return candidate


class _RankRepair:
    """One repair of one rank. The caller holds the lock of the rank."""

    def __init__(self, found: RankExamination, recording: Recording, created: str) -> None:
        assert isinstance(found.storage, Folder)
        self.folder = found.storage
        self.rank = found.rank
        self.recording = recording
        self.created = created
        self.done: list[str] = []
        records = numbers_in((name.removeprefix(f"{REPAIRS}/") for name in repair_names(self.folder)), ".json", 4)
        self.number = max(records, default=-1) + 1
        self.aside = f"{REPAIRS}/{self.number:04d}.broken"
        self.reasons: dict[int, str] = {}  # why each segment was moved aside
        self.last_seq = -1  # the highest sequence number that lost rows are known to have used
        self.is_recorded = False

    def run(self) -> list[str]:
        """Repair the rank; return what was done, one line per step."""
        for name in WRITTEN_FOLDERS:
            durable.make_folder(self.folder, name)
        self._move_what_cannot_stay(self._examine())
        for number in sorted(self._actives()):
            if not self.folder.exists(sealed_name(number)):
                self._seal_what_is_left(number)
        leftover = [active_name(number) for number in sorted(self._actives())]
        recover(self.folder, self.recording.run_uuid)
        self.done += [f"{self.folder.where(name)} is recovered as after a crash" for name in leftover]
        self._rebuild_attempts(self._examine())
        self._record_losses(self._examine())
        return self.done

    def _examine(self) -> RankExamination:
        return examine_rank(self.folder, self.rank, self.recording, "rows", locked=True)

    def _actives(self) -> set[int]:
        return set(numbers_in(self.folder.names(ACTIVE), ".arrows"))

    # ------------------------------------------------------------------ files that cannot stay

    def _move_aside(self, name: str, why: str) -> None:
        target = _free(self.folder, f"{self.aside}/{name}")
        durable.make_folder(self.folder, target.rpartition("/")[0])
        durable.rename(self.folder, name, target)
        self.is_recorded = True
        self.done.append(f"{self.folder.where(name)} is moved to {target}: {why}")

    def _move_what_cannot_stay(self, check: RankExamination) -> None:
        for name in check.misplaced:
            self._move_aside(name, "it does not belong there")
        for name in check.known.unreadable:
            self._move_aside(name, "it cannot be read")
        for number in check.orphan_seals:
            self._note_last_seq(number)
            self._move_aside(seal_name(number), "its segment does not exist")
        for box, why in check.bad_black_boxes.items():
            for name in (black_box_name(box), black_box_record_name(box), f"{black_box_name(box)}.tmp"):
                if self.folder.exists(name):
                    self._move_aside(name, why)
        for segment in check.segments:
            if segment.is_sealed:
                self._check_sealed(segment)

    def _check_sealed(self, segment: SegmentExamination) -> None:
        name = seal_name(segment.number)
        if segment.holds is None:
            why = next(fault.message for fault in reversed(segment.faults) if fault.is_damage)
            if not segment.is_of_another:
                self._note_last_seq(segment.number)
            self._move_aside(segment.name, why)
            self.reasons[segment.number] = why
            if self.folder.exists(name):
                self._move_aside(name, "its segment is moved aside")
        elif segment.seal_is_bad:
            if self.folder.exists(name):
                self._move_aside(name, "it does not match its segment")
            parquet = self.folder.read(segment.name, MAX_SEGMENT_BYTES)
            rows_lost = segment.seal.rows_lost if segment.seal else 0
            states = write_states(self.folder, self._rows_of(segment), segment.holds.identity)
            durable.replace(self.folder, name, seal_of(segment.holds, parquet, rows_lost, states).to_bytes())
            self.done.append(f"{self.folder.where(name)} is rebuilt from its segment")

    def _rows_of(self, segment: SegmentExamination) -> pa.Table:
        """The rows of a sealed file that was examined down to every row."""
        with (
            self.folder.open(segment.name) as file,
            sealed.open_parquet(file, segment.bytes, self.folder.where(segment.name)) as parquet,
        ):
            return pa.Table.from_batches(sealed.batches(parquet), parquet.schema_arrow)

    def _note_last_seq(self, number: int) -> None:
        """Remember which sequence numbers a lost segment used, so they are not used again."""
        try:
            record = read_seal(self.folder, number)
        except (RunDamagedError, OSError):
            return
        if record is not None and record.segment == number:
            self.last_seq = max(self.last_seq, record.last_seq + record.rows_lost)

    def _note_last_seq_of_rows(self, name: str) -> None:
        """Do the same for an active file under a wrong name, from its rows."""
        segment = parse_active(0, self.folder.read(name, MAX_SEGMENT_BYTES))
        identity = segment.identity
        if identity is None or (identity.run_id, identity.rank) != (self.recording.run_id, self.rank):
            return
        if identity.run_uuid not in (None, self.recording.run_uuid):
            return
        if segment.rows is not None and segment.rows.num_rows:
            last_seq = segment.rows.column("seq")[-1].as_py()
            if last_seq is not None and last_seq <= MAX_SEQ:
                self.last_seq = max(self.last_seq, last_seq)

    # ------------------------------------------------------------------ active files

    def _seal_what_is_left(self, number: int) -> None:
        """Seal a damaged active file with every whole row in it; leave an undamaged one to recovery."""
        name = active_name(number)
        kept = f"{name}.broken"
        if self.folder.exists(kept):
            self._move_aside(kept, "it belongs to an earlier file of that name")
        segment = examine_segment(self.folder, self.rank, number, self.recording, "rows")
        if segment is None or not any(fault.is_damage for fault in segment.faults):
            return
        checked = self._examine()
        found = salvage(segment, self.folder, self.recording, checked) if segment.end is not None else None
        if found is None:
            why = next(fault.message for fault in reversed(segment.faults) if fault.is_damage)
            if segment.end is not None:
                self._note_last_seq_of_rows(name)
            self._move_aside(name, why)
            self.reasons[number] = why
            return
        seal(self.folder, found)
        rows = 0 if found.rows is None else found.rows.num_rows
        self.is_recorded = True
        self.done.append(
            f"{self.folder.where(name)} is sealed with its {rows} whole rows; the rest is kept as"
            f" {kept.removeprefix(f'{ACTIVE}/')}"
        )

    # ------------------------------------------------------------------ records

    def _rebuild_attempts(self, check: RankExamination) -> None:
        if self.last_seq >= 0 or check.bad_attempts:
            last = max([*check.attempts, *check.bad_attempts], default=0)
            for number in sorted({*check.bad_attempts, last}):
                self._rebuild_attempt(check, number, self.last_seq if number == last else -1)

    def _rebuild_attempt(self, check: RankExamination, number: int, last_seq: int) -> None:
        """Rebuild the record of an attempt from its rows, and raise its last sequence number to at least `last_seq`."""
        name = attempt_name(number)
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
            if self.folder.exists(name):
                self._move_aside(name, check.bad_attempts.get(number, "it does not cover the rows that are lost"))
            durable.replace(self.folder, name, record.to_bytes())
            check.attempts[number] = record
            self.is_recorded = True
            self.done.append(f"{self.folder.where(name)} is rebuilt")

    def _end_before(self, check: RankExamination, number: int) -> int:
        """Return the sequence number after all rows of earlier attempts, dropped rows included."""
        held = [entry.holds for entry in check.segments if entry.holds and entry.holds.identity.attempt < number]
        earlier = [record for record in check.attempts.values() if record.attempt < number]
        ends = [holds.last_seq + 1 for holds in held]
        return max([*ends, *(record.first_seq + record.rows + record.dropped_rows for record in earlier)], default=0)

    def _record_losses(self, check: RankExamination) -> None:
        prefix = f"{self.folder.where()}/"
        aside = [
            Loss(first_segment=number, last_segment=number, cause=why.replace(prefix, ""))
            for number, why in sorted(self.reasons.items())
            if not self.folder.exists(sealed_name(number))
        ]
        said = {(number, number) for number in self.reasons}
        others = [loss for loss in check.losses if (loss.first_segment, loss.last_segment) not in said]
        losses = aside + others
        if losses or self.is_recorded:
            durable.make_folder(self.folder, REPAIRS)
            done = [line.replace(prefix, "") for line in self.done]
            record = Repair(repair=self.number, repaired=now(), losses=[asdict(loss) for loss in losses], done=done)
            durable.replace(self.folder, f"{REPAIRS}/{self.number:04d}.json", record.to_bytes())
            self.done += [f"rank {self.rank}: {loss}" for loss in losses]
