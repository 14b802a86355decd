"""What happens to the names on disk and to the process in ordinary use, at random moments: no acknowledged row is lost.

Files that an accident deletes are put aside in place of being deleted, so that the rows in them can be told from rows
that were lost.
"""

from __future__ import annotations

import gc
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.crash.ledger import Ledger, Line
from tests.crash.oracle import Outcome, read_run, row_of
from tests.waiting import wait_until

from esper_recorder import Recorder
from esper_recorder.keeping.lock import RankLock
from esper_recorder.writing import taken
from esper_schemas import RunDirectory
from esper_schemas.examining.run import verify_run

SHORT, LONG = 2, 112  # of each accident
ROWS = 120
OTHERS = 10_000
"""The updates of a second recording begin here."""


class Scene:
    """A recorder at work under `root`, and what has become of its rows.

    Attributes:
        acknowledged: updates that `record` returned True for.
        places: run folders that may hold rows of it.
        second: updates that a second recorder was acknowledged, and its run folder.
    """

    def __init__(self, root: Path, rng: random.Random) -> None:
        self.root, self.rng = root, rng
        self.run = root / "r"
        self.recorder: Recorder | None = Recorder.open(root, run_id="r", segment_rows=rng.choice([3, 10, 50, 8192]))
        self.acknowledged: set[int] = set()
        self.places = [self.run]
        self.second: tuple[set[int], Path] | None = None

    def put(self, updates: range) -> None:
        """Record these updates."""
        assert self.recorder is not None
        self.acknowledged |= {update for update in updates if self.recorder.record(**row_of(update))}

    def aside(self) -> Path:
        """Where a folder goes that is "deleted"."""
        place = self.root / f"aside-{len(self.places)}"
        self.places.append(place / "r")
        place.mkdir()
        return place / "r"

    def record_second(self, resume: str) -> None:
        """Record into the run of that name as another process would, and again if it met the first one sealing."""
        try:
            recorder = Recorder.open(self.root, run_id="r", resume=resume)  # type: ignore[arg-type]
        except FileNotFoundError:
            recorder = Recorder.open(self.root, run_id="r", resume=resume)  # type: ignore[arg-type]
        with recorder:
            updates = {update for update in range(OTHERS, OTHERS + 40) if recorder.record(**row_of(update))}
            self.second = (updates, recorder.path)

    def end(self) -> None:
        """Close the recorder, and note where it ended."""
        if self.recorder is not None:
            self.recorder.close()
            self.places.append(self.recorder.path)


def _delete(scene: Scene) -> None:
    """The folder is deleted; its names go, whoever has it open."""
    kept = scene.aside()
    active = Path("rank-0000", "active")
    _copy(scene.run / active, kept / active)  # first: what is sealed meanwhile is then among the segments
    _copy(scene.run, kept, "active")
    shutil.rmtree(scene.run, ignore_errors=True)


def _copy(folder: Path, target: Path, *but: str) -> None:
    """Copy a folder in which files come and go."""
    try:
        shutil.copytree(folder, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.tmp", *but))
    except shutil.Error as error:  # what could not be copied, each with the reason
        if any("No such file" not in reason for _, _, reason in error.args[0]):
            raise


def _move(scene: Scene) -> None:
    scene.run.rename(scene.aside())


def _move_and_restore(scene: Scene) -> None:
    aside = scene.aside()
    scene.run.rename(aside)
    scene.put(range(ROWS, ROWS + 5))
    aside.rename(scene.run)


def _replace(scene: Scene) -> None:
    _move(scene)
    scene.record_second("never")


def _unlock(scene: Scene) -> None:
    (scene.run / "rank-0000" / "LOCK").unlink()


def _unlock_and_resume(scene: Scene) -> None:
    _unlock(scene)
    scene.record_second("allow")


def _change_folder(scene: Scene) -> None:
    os.chdir(scene.rng.choice([scene.root, Path("/")]))


def _forget(scene: Scene) -> None:
    """The recorder is garbage at a random moment."""
    scene.recorder = None
    gc.collect()
    wait_until(lambda: RunDirectory(scene.run).rank(0).attempts()[-1].status is not None)


def _raise_in_callbacks(scene: Scene) -> None:
    """Everything that is somebody else's raises."""

    class Bad(dict[str, float]):
        def keys(self) -> None:  # type: ignore[override]
            raise KeyError

    assert scene.recorder is not None
    before = scene.recorder.dropped_rows
    every: tuple[Any, ...] = (Bad(x=1.0), {"x": "text"}, {1: 2.0}, {"x": object()})
    for extras in every:
        scene.recorder.record(update=ROWS + 50, policy_loss="bad", value_loss=0.1, extras=extras)
    assert scene.recorder.dropped_rows == before + 4


ACCIDENTS: dict[str, Callable[[Scene], None]] = {
    "folder deleted": _delete,
    "folder moved": _move,
    "folder moved and restored": _move_and_restore,
    "folder replaced by a second recording": _replace,
    "LOCK deleted": _unlock,
    "LOCK deleted, and a second recorder resumes": _unlock_and_resume,
    "current folder changed": _change_folder,
    "recorder collected as garbage": _forget,
    "exceptions from every callback": _raise_in_callbacks,
}


def happen(root: Path, rng: random.Random, accident: Callable[[Scene], None]) -> Outcome:
    """Let an accident happen in the middle of a recording, and look for every row afterwards."""
    home = Path.cwd()
    scene = Scene(root, rng)
    try:
        scene.put(range(rng.randrange(ROWS)))
        accident(scene)
        if scene.recorder is not None:
            scene.put(range(ROWS + 5, 2 * ROWS + rng.randrange(ROWS)))
        scene.end()
    finally:
        os.chdir(home)
    places = {place for place in scene.places if (place / "run.json").exists()}
    found = {place: read_run(place) for place in places}
    updates = {update for one in found.values() for update in one.updates}
    lost = scene.acknowledged - updates
    complaints = []
    if scene.second is not None:
        acknowledged, place = scene.second
        there = {update for update in read_run(place).updates if update >= OTHERS}
        lost |= acknowledged - there
        scene.acknowledged |= acknowledged
        damage = [fault.message for fault in verify_run(RunDirectory(place)).faults if fault.is_damage]
        complaints += [f"the second recording is damaged: {damage[0]}"] if damage else []
    outcome = Outcome(len(scene.acknowledged), len(lost), sum(one.wrong for one in found.values()))
    outcome.complaints = complaints
    return outcome


def _try(line: Line, memory: Path, accident: Callable[[Scene], None], times: int, *, enough: int = 10**9) -> None:
    rng = random.Random(11)
    for number in range(times):
        root = memory / f"{number}"
        root.mkdir()
        try:
            outcome = happen(root, rng, accident)
        except OSError as error:  # of a mutant also because both recorders make the same file
            outcome = Outcome(complaints=[f"the second recorder cannot be opened, though asked twice: {error}"])
        line.count(outcome, number)
        shutil.rmtree(root, ignore_errors=True)
        if line.broken >= enough:
            break


@pytest.mark.parametrize("accident", ACCIDENTS)
def test_an_accident_costs_no_row(memory: Path, ledger: Ledger, is_long: bool, accident: str) -> None:
    """Each acknowledged row is where it was recorded, where its folder went, or in the run that goes on beside it."""
    with ledger.line(f"accident: {accident}") as line:
        _try(line, memory, ACCIDENTS[accident], LONG if is_long else SHORT)
    line.check()


@pytest.mark.parametrize("mutant", ["LOCK is never looked at again", "nothing is carried over"])
def test_mutant_of_the_identity_checks_is_caught(
    memory: Path, monkeypatch: pytest.MonkeyPatch, ledger: Ledger, is_long: bool, mutant: str
) -> None:
    """A recorder that trusts names, or leaves its open rows behind, loses rows; so the accidents can tell."""
    if mutant == "nothing is carried over":
        monkeypatch.setattr(taken, "_rows", lambda journal: iter(()))
        accident = ACCIDENTS["folder deleted"]
    else:
        monkeypatch.setattr(RankLock, "check", lambda self: None)
        accident = ACCIDENTS["LOCK deleted, and a second recorder resumes"]
    with ledger.line(f"mutant: {mutant}", must_fail=True) as line:
        _try(line, memory, accident, LONG if is_long else 40, enough=20 if is_long else 1)
    line.check()
