from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.crash.intercept import intercepted
from tests.crash.ledger import Ledger, Line
from tests.crash.oracle import finish_case, read_run, row_of
from tests.crash.power_loss import Disk, Operation, Trace, Tree, disk_of, write_tree
from tests.waiting import wait_until

from esper_recorder import Recorder
from esper_recorder.keeping import durable
from esper_recorder.keeping.sealing import seal
from esper_recorder.writing.segment_writer import SegmentWriter
from esper_schemas import ActiveSegment, Seal
from esper_schemas.run.files import Folder, Identity

ROWS = 13  # of each attempt


def _record_run(root: Path, monkeypatch: pytest.MonkeyPatch, attempts: int) -> list[Operation]:
    """Record into `root/r`, which may hold a run that was cut short; the operations, with what was promised when.

    A row is `acknowledged` when `record` returns True: a kill may not take it any more. It is `synced` when the
    fsync of its active file, or the sealing of its segment, has returned: neither may a power loss.
    """
    trace = Trace(root)
    sync = SegmentWriter.sync
    synced = set[int]()

    def marked_sync(self: SegmentWriter) -> None:
        rows = list(range(self.layout.identity.first_seq, self.last_seq + 1))
        sync(self)
        trace.mark("synced", rows)
        synced.update(rows)

    def marked_seal(rank: Folder, segment: ActiveSegment, identity: Identity | None = None) -> Seal:
        record = seal(rank, segment, identity)
        trace.mark("synced", list(range(record.first_seq, record.last_seq + 1)))
        synced.update(range(record.first_seq, record.last_seq + 1))
        return record

    with monkeypatch.context() as patched, intercepted(trace):
        patched.setattr("esper_recorder.writing.background.SYNC_INTERVAL_SECS", 0.02)
        patched.setattr(SegmentWriter, "sync", marked_sync)
        patched.setattr("esper_recorder.writing.journal.seal", marked_seal)
        patched.setattr("esper_recorder.keeping.recovery.seal", marked_seal)
        for _ in range(attempts):
            recorder = Recorder.open(root, run_id="r", resume="allow", segment_rows=4)
            first = recorder._background.next_seq  # so that each row's update is its sequence number
            for update in range(first, first + ROWS):
                recorder.minibatch(value_loss=float(update))
                assert recorder.record(**row_of(update))
                trace.mark("acknowledged", [update])
                if update % 3 == 0:
                    wait_until(lambda row=update: row in synced)  # type: ignore[misc]
                if update == first + 2:
                    assert recorder.dump_black_box("to see what a crash leaves of it")
            recorder.close()
            trace.mark("synced", list(range(first + ROWS)))
    return trace.operations


def _states(
    operations: list[Operation], disk: Disk, kept: Iterable[int]
) -> Iterator[tuple[str, Tree, frozenset[int], bool]]:
    """Every state that a crash could leave after each operation: its name, files, the updates that must be there,
    and whether only the process was killed."""
    promised = {"synced": set(kept), "acknowledged": set(kept)}
    seen: set[tuple[str, int, bool]] = set()
    for index, operation in enumerate(operations):
        if operation.name == "mark":
            kind, updates = operation.args
            promised[kind].update(updates)
            promised["acknowledged"].update(updates)
        else:
            disk.do(operation)
            if not operation.is_change:
                continue
        where = f"after operation {index} ({operation})"
        for name, tree, is_kill in [
            (f"{where}, killed", disk.after_kill(), True),
            *((f"{where}, {loss}", tree, False) for loss, tree in disk.after_power_loss()),
        ]:
            required = frozenset(promised["acknowledged" if is_kill else "synced"])
            key = (_digest(tree), len(required), is_kill)
            if key not in seen:
                seen.add(key)
                yield name, tree, required, is_kill


def _digest(tree: Tree) -> str:
    digest = hashlib.sha256()

    def add(folder: Tree) -> None:
        for name in sorted(folder):
            content = folder[name]
            digest.update(f"{name}/{type(content).__name__}/".encode())
            if isinstance(content, dict):
                add(content)
                digest.update(b"end")
            else:
                digest.update(len(content).to_bytes(8) + content)

    add(tree)
    return digest.hexdigest()


def _check_state(memory: Path, line: Line, name: str, tree: Tree, required: frozenset[int], is_kill: bool) -> None:
    state = memory / "state"
    write_tree(tree, state)
    found = read_run(state / "r")
    outcome = finish_case(state / "r", required, follow=line.states % 5 == 0)
    if is_kill and found.missing:
        outcome.complaints.append(f"{found.missing} sequence numbers are missing after a kill")
    line.count(outcome, name)
    shutil.rmtree(state)


def _sample(
    states: list[tuple[str, Tree, frozenset[int], bool]], count: int
) -> list[tuple[str, Tree, frozenset[int], bool]]:
    return states if len(states) <= count else random.Random(11).sample(states, count)


def test_power_loss_at_every_operation(
    memory: Path, monkeypatch: pytest.MonkeyPatch, ledger: Ledger, is_long: bool
) -> None:
    """Wherever the power goes, synced rows are kept, and a kill at the same place keeps every acknowledged one."""
    root = memory / "live"
    root.mkdir()
    operations = _record_run(root, monkeypatch, attempts=2)
    states = list(_states(operations, Disk(), []))
    for words, is_kill in (("power loss", False), ("kill", True)):
        with ledger.line(f"{words} after every file operation of two attempts") as line:
            wanted = [state for state in states if state[3] == is_kill]
            for state in _sample(wanted, len(wanted) if is_long else 12):
                _check_state(memory, line, *state)
        line.check()
    assert not is_long or sum(line.states for line in ledger.lines) >= 150


@pytest.mark.slow
def test_power_loss_during_recovery(
    memory: Path, monkeypatch: pytest.MonkeyPatch, ledger: Ledger, is_long: bool
) -> None:
    """A crash while the run that an earlier crash left is being recovered loses nothing that was there."""
    root = memory / "live"
    root.mkdir()
    first = [state for state in _states(_record_run(root, monkeypatch, attempts=1), Disk(), []) if len(state[2]) > 4]
    with ledger.line("power loss during the recovery after a power loss") as line:
        for number, (name, tree, _, _) in enumerate(_sample(first, 20 if is_long else 2)):
            again = memory / f"again-{number}"
            write_tree(tree, again)
            kept = read_run(again / "r").updates
            disk = disk_of(again)
            operations = _record_run(again, monkeypatch, attempts=1)
            end = next(i for i, op in enumerate(operations) if op.name == "mark" and op.args[0] == "acknowledged")
            states = list(_states(operations[:end], disk, kept))
            for then, after, required, _ in _sample(states, 60 if is_long else 10):
                # Rows that the first crash took may leave a gap, whatever the second one is.
                _check_state(memory, line, f"{name}; then {then}", after, required, is_kill=False)
            shutil.rmtree(again)
    line.check()


def test_folders_above_a_new_run_are_there_after_a_power_loss(memory: Path, ledger: Ledger) -> None:
    """A run in a folder that is made for it is not lost with this folder: its name, too, is safe once rows are."""
    trace = Trace(memory)
    with intercepted(trace), Recorder.open(memory / "new" / "deep", run_id="r") as recorder:
        assert recorder.record(**row_of(0))
    disk = Disk()
    for operation in trace.operations:
        disk.do(operation)
    with ledger.line("power loss after a run in a new folder was closed") as line:
        for name, tree in disk.after_power_loss():
            write_tree(tree, memory / "state")
            line.count(finish_case(memory / "state" / "new" / "deep" / "r", [0], follow=False), name)
            shutil.rmtree(memory / "state")
    line.check()


def _rename_unsynced(folder: Folder, name: str, target: str) -> None:
    folder.rename(name, target)


def _sync_file_only(self: SegmentWriter) -> None:
    os.fsync(self._descriptor)


def _write_unsynced(folder: Folder, name: str, data: bytes) -> None:
    folder.unlink(name)
    descriptor = folder.create(name, 0o666)
    os.write(descriptor, data)
    os.close(descriptor)


def _replace_in_place(folder: Folder, name: str, data: bytes) -> None:
    durable.write_new(folder, name, data)


MUTANTS: dict[str, tuple[object, str, Callable[..., Any]]] = {
    "active file unlinked before the folder of its Parquet file is synced": (durable, "rename", _rename_unsynced),
    "folder not synced after a segment is created": (SegmentWriter, "sync", _sync_file_only),
    "Parquet file and records not synced": (durable, "write_new", _write_unsynced),
    "records overwritten in place": (durable, "replace", _replace_in_place),
}


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutant_of_the_protocol_is_caught(
    memory: Path, monkeypatch: pytest.MonkeyPatch, ledger: Ledger, is_long: bool, mutant: str
) -> None:
    """A recorder that leaves one step out loses rows, or cannot be reopened, in some state; so the states can tell."""
    root = memory / "live"
    root.mkdir()
    with monkeypatch.context() as broken:
        broken.setattr(*MUTANTS[mutant])
        operations = _record_run(root, monkeypatch, attempts=1)
    states = [state for state in _states(operations, Disk(), []) if not state[3]]
    with ledger.line(f"mutant: {mutant}", must_fail=True) as line:
        for state in _sample(states, len(states) if is_long else 800):
            _check_state(memory, line, *state)
            if line.broken >= (20 if is_long else 1):
                break
    line.check()
