"""Black boxes that a crash left unfinished, or that were damaged: what the next attempt and a repair make of them."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.recorder.keeping.deaths import Crash, dies_after
from tests.tables import shortened
from tests.waiting import HANG_SECS

from esper_analyzer import open_run
from esper_recorder import Recorder
from esper_recorder.keeping.recovery import recover
from esper_recorder.keeping.repair import repair_run
from esper_recorder.writing import background
from esper_schemas import FormatVersionError, RunDirectory
from esper_schemas.examining.run import examine_run, verify_run
from esper_schemas.run.files import Folder
from esper_schemas.run.names import black_boxes
from esper_schemas.segment.black_box import read_black_box
from esper_schemas.testing.bases import Base, write_bases
from esper_schemas.testing.damage import Damage, cut, edit, flip
from esper_schemas.testing.damages_of_black_boxes import BLACK_BOXES

RANK = "rank-0000"
BOX = f"{RANK}/blackbox/00000024.parquet"
ASIDE = f"{BOX}.tmp"
RECORD = f"{RANK}/blackbox/00000024.json"

Tree = dict[str, bytes]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[Base, Path]:
    """The undamaged runs; for copying."""
    return write_bases(tmp_path_factory.mktemp("bases"))


@pytest.fixture
def unfinished(bases: dict[Base, Path], tmp_path: Path) -> Path:
    """A run whose writer was killed just before it renamed the file of a black box."""
    run = shutil.copytree(bases["finished"], tmp_path / "run")
    (run / BOX).rename(run / ASIDE)
    return run


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A black box that is asked for is waited for, however busy the machine."""
    monkeypatch.setattr(background, "WAIT_SECS", HANG_SECS)
    monkeypatch.setattr("esper_recorder.recorder.PATIENCE_SECS", HANG_SECS)


def tree(run: Path) -> Tree:
    """Every file of a run except `LOCK`, which names the last writer."""
    files = (path for path in run.rglob("*") if path.is_file() and path.name != "LOCK")
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


def sound(run: Path) -> list[str]:
    """Names of the black boxes that can be read."""
    with RunDirectory(run).rank(0).open() as rank:
        return [read_black_box(rank, name).name for name in black_boxes(rank)]


def kinds(run: Path) -> set[str]:
    """Kinds of all faults."""
    return {fault.kind for fault in verify_run(RunDirectory(run)).faults}


def recover_run(run: Path) -> None:
    """What the next attempt does first."""
    with RunDirectory(run).rank(0).open() as rank:
        recover(rank, RunDirectory(run).header().run_uuid)


def record_on(run: Path) -> None:
    """Another attempt, with a black box of its own; what it records is there."""
    before = open_run(run).updates(all_attempts=True).collect().height
    with Recorder.open(run.parent, run_id=run.name, resume="allow") as recorder:
        recorder.minibatch(value_loss=1.0)
        assert recorder.record(update=100, policy_loss=0.1, value_loss=0.2)
        assert recorder.dump_black_box("the next attempt")
    assert open_run(run).updates(all_attempts=True).collect().height == before + 1
    with RunDirectory(run).rank(0).open() as rank:
        newest = read_black_box(rank, black_boxes(rank)[-1])
    assert newest.record.reason == "the next attempt"


# ------------------------------------------------------------------ after a crash


def test_whole_file_is_put_in_place_by_the_next_attempt(unfinished: Path) -> None:
    """Its record says what it must be, and it is that."""
    content = (unfinished / ASIDE).read_bytes()
    assert kinds(unfinished) == {"note"}
    with Recorder.open(unfinished.parent, run_id="run", resume="must"):
        assert (unfinished / BOX).read_bytes() == content
        assert not (unfinished / ASIDE).exists()
        assert sound(unfinished) == ["00000024"]
    assert kinds(unfinished) == set()


PARTIAL: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: cut(path, -1),
    "empty": lambda path: cut(path, 0),
    "zeros in place of its end": lambda path: path.write_bytes(path.read_bytes()[:-300] + bytes(300)),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "a bit flipped": lambda path: flip(path, 300),
}


@pytest.mark.parametrize("how", PARTIAL)
def test_partial_file_is_removed_with_its_record(unfinished: Path, how: str) -> None:
    """What never was a black box leaves no fault behind."""
    PARTIAL[how](unfinished / ASIDE)
    assert kinds(unfinished) == {"note"}
    with Recorder.open(unfinished.parent, run_id="run", resume="must"):
        pass
    assert [name for name in tree(unfinished) if "blackbox" in name] == []
    assert kinds(unfinished) == set()


@pytest.mark.parametrize("name", [ASIDE, f"{RECORD}.tmp"])
def test_what_was_left_before_the_record_was_in_place_is_removed(unfinished: Path, name: str) -> None:
    """Without a record nobody was told of it."""
    (unfinished / RECORD).rename(unfinished / f"{RECORD}.tmp")
    for path in (ASIDE, f"{RECORD}.tmp"):
        if path != name:
            (unfinished / path).unlink()
    assert kinds(unfinished) == {"note"}
    recover_run(unfinished)
    assert [name for name in tree(unfinished) if "blackbox" in name] == []
    assert kinds(unfinished) == set()


@pytest.mark.parametrize("is_whole", [True, False])
def test_recovery_that_dies_anywhere_is_completed(
    unfinished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_whole: bool
) -> None:
    """At no step is there damage, and the end is the same."""
    if not is_whole:
        cut(unfinished / ASIDE, 200)
    for steps in range(10):
        run = shutil.copytree(unfinished, tmp_path / str(steps) / "run")
        try:
            with dies_after(steps, monkeypatch):
                recover_run(run)
            is_done = True
        except Crash:
            is_done = False
        assert kinds(run) <= {"note"}
        recover_run(run)
        assert kinds(run) == set()
        assert sound(run) == (["00000024"] if is_whole else [])
        if is_done:
            break
    assert 2 <= steps < 9


def test_unfinished_black_box_of_another_recording_is_not_finished(unfinished: Path) -> None:
    """It is damage before and after: nobody makes it a part of this run."""
    edit(unfinished / RECORD, run_uuid="another")
    assert "foreign" in kinds(unfinished)
    recover_run(unfinished)
    assert "foreign" in kinds(unfinished)
    assert not (unfinished / BOX).exists()


def test_black_box_of_a_newer_version_is_left_alone(bases: dict[Base, Path], tmp_path: Path) -> None:
    """Neither verified nor repaired, like a run of a newer Esper."""
    run = shutil.copytree(bases["finished"], tmp_path / "run")
    edit(run / RECORD, format=99)
    before = tree(run)
    for refused in (verify_run, repair_run):
        with pytest.raises(FormatVersionError, match="upgrade"):
            refused(RunDirectory(run))
    assert tree(run) == before


# ------------------------------------------------------------------ repair

ROWS = shortened(BLACK_BOXES, lambda damage: damage.name)


def folders(run: Path) -> set[str]:
    """Folders that stand in place of a file."""
    return {str(path.relative_to(run)) for path in (run / RANK / "blackbox").iterdir() if path.is_dir()}


@pytest.mark.slow
@pytest.mark.parametrize("damage", ROWS)
def test_damaged_black_box_is_moved_aside_and_nothing_else(
    damage: Damage, bases: dict[Base, Path], tmp_path: Path
) -> None:
    """Repair leaves no damage and deletes nothing, the second one changes nothing, and the run is recorded on."""
    run = damage.copy_to(tmp_path, bases)
    before, instead = tree(run), folders(run)
    repaired = repair_run(RunDirectory(run))
    assert not repaired.verification.is_damaged, repaired.verification.faults
    assert verify_run(RunDirectory(run)).faults == repaired.verification.faults
    after = tree(run)
    assert folders(run) == set()
    for name, content in before.items():
        aside = name.replace(RANK, f"{RANK}/repairs/0000.broken")
        if damage.depth is None and "blackbox" in name:
            continue  # a leftover, of which the tests above say what becomes
        assert after.get(name) == content or after.get(aside) == content, name
    if damage.depth is not None:
        gone = {name for name in before if name not in after}
        assert {name for name in gone if "blackbox" not in name} == set()
        moved = list((run / RANK / "repairs" / "0000.broken" / "blackbox").iterdir())
        assert len(moved) == len(gone) + len(instead)
        assert len(repaired.done) == len(moved)
        assert not [name for name in gone if not any(name.removeprefix(f"{RANK}/") in line for line in repaired.done)]

    again = repair_run(RunDirectory(run))
    assert again.done == []
    assert tree(run) == after
    record_on(run)
    assert not verify_run(RunDirectory(run)).is_damaged


@pytest.mark.slow
@pytest.mark.parametrize("damage", ROWS)
def test_run_with_a_damaged_black_box_is_recorded_on(damage: Damage, bases: dict[Base, Path], tmp_path: Path) -> None:
    """It costs no row: the next attempt begins without a repair, and changes nothing in it."""
    run = damage.copy_to(tmp_path, bases)
    bad = {name: content for name, content in tree(run).items() if "blackbox" in name and not name.endswith(".tmp")}
    found = kinds(run)
    record_on(run)
    assert kinds(run) - {"note"} == found - {"note"}
    if damage.depth is not None:
        assert bad.items() <= tree(run).items()
    repair_run(RunDirectory(run))
    assert not verify_run(RunDirectory(run)).is_damaged


def test_unfinished_file_of_a_bad_black_box_is_kept(unfinished: Path) -> None:
    """A repair that moves a record aside moves what belongs to it aside, too."""
    cut(unfinished / RECORD, 20)
    content = (unfinished / ASIDE).read_bytes()
    repair_run(RunDirectory(unfinished))
    moved = unfinished / RANK / "repairs/0000.broken/blackbox"
    assert sorted(path.name for path in moved.iterdir()) == ["00000024.json", "00000024.parquet.tmp"]
    assert (moved / "00000024.parquet.tmp").read_bytes() == content


def test_black_boxes_are_judged_without_a_header(bases: dict[Base, Path], tmp_path: Path) -> None:
    """The segments say which recording they are of: one repair leaves nothing to the next."""
    run = shutil.copytree(bases["finished"], tmp_path / "run")
    edit(run / RECORD, run_uuid="another")
    (run / "run.json").unlink()
    assert kinds(run) == {"missing", "foreign"}
    assert not repair_run(RunDirectory(run)).verification.is_damaged
    assert repair_run(RunDirectory(run)).done == []


# ------------------------------------------------------------------ names


@pytest.mark.parametrize(
    "name",
    [
        "000000024.parquet",
        "24.parquet",
        "٠٠٠٠٠٠٢٤.parquet",
        "00000024-1.parquet",
        "00000024-0.parquet",
        "00000024-02.parquet",
        "00000024-.parquet",
        "00000024-2-3.parquet",
        "00000024.parquet.json",
        "00000024.PARQUET",
        "99999999999999999999.parquet",
        "99999999999999999999.json",
        ".parquet",
    ],
)
def test_other_names_are_no_black_boxes(bases: dict[Base, Path], tmp_path: Path, name: str) -> None:
    """They are notes, and hide none that is one."""
    run = shutil.copytree(bases["finished"], tmp_path / "run")
    (run / RANK / "blackbox" / name).write_bytes(b"x")
    assert kinds(run) == {"note"}
    assert sound(run) == ["00000024"]
    flip(run / BOX, 300)
    assert kinds(run) == {"note", "corrupt"}


def test_further_ones_of_an_update_and_late_ones_are_in_order(bases: dict[Base, Path], tmp_path: Path) -> None:
    """By the number of the row, then by their own."""
    run = shutil.copytree(bases["finished"], tmp_path / "run")
    for name, seq in (
        ("00000024-10", 24),
        ("00000024-2", 24),
        ("123456789", 123_456_789),
        ("4611686018427387904", 2**62),
    ):
        shutil.copyfile(run / BOX, run / RANK / "blackbox" / f"{name}.parquet")
        shutil.copyfile(run / RECORD, run / RANK / "blackbox" / f"{name}.json")
        edit(run / RANK / "blackbox" / f"{name}.json", seq=seq)
    assert sound(run) == ["00000024", "00000024-2", "00000024-10", "123456789", "4611686018427387904"]
    assert kinds(run) == set()


# ------------------------------------------------------------------ while it is written


def test_verify_while_a_black_box_is_written_between_any_two_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each state that a writer goes through is neither fault nor note while it runs, and never damage."""
    with Recorder.open(tmp_path, run_id="run") as recorder:
        recorder.minibatch(value_loss=1.0)
        recorder.record(update=0, policy_loss=0.1, value_loss=0.2)
        assert recorder.dump_black_box("the first")
        whole = RunDirectory(recorder.path).rank(0).path / "blackbox"
        aside = tmp_path / "aside"
        whole.rename(aside)
        whole.mkdir()
        parquet, record = aside / "00000001.parquet", aside / "00000001.json"
        steps: list[Callable[[], object]] = [
            lambda: shutil.copyfile(parquet, whole / "00000001.parquet.tmp"),
            lambda: shutil.copyfile(record, whole / "00000001.json.tmp"),
            lambda: (whole / "00000001.json.tmp").rename(whole / "00000001.json"),
            lambda: (whole / "00000001.parquet.tmp").rename(whole / "00000001.parquet"),
        ]
        looks = {name: getattr(Folder, name) for name in ("names", "stat", "open_descriptor")}
        count = done = start = interval = 0

        def stepping(name: str) -> Callable[..., Any]:
            def look(folder: Folder, inner: str = "", *rest: Any) -> Any:
                nonlocal count, done
                if "blackbox" in inner:
                    if count >= start and (count - start) % interval == 0 and done < len(steps):
                        steps[done]()
                        done += 1
                    count += 1
                return looks[name](folder, inner, *rest)

            return look

        for name in looks:
            monkeypatch.setattr(Folder, name, stepping(name))
        for before, start, interval in itertools.product(range(4), range(16), (1, 2, 4)):
            for path in whole.iterdir():
                path.unlink()
            for step in steps[:before]:
                step()
            count, done = 0, before
            with RunDirectory(recorder.path).open() as folder:
                found = examine_run(folder, "run", "rows").ranks[0]
            assert found.all_faults == [], (before, start, interval)
