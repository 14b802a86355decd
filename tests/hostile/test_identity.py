"""A run that is taken away under its writer: whoever comes next loses nothing, and what the first still holds is kept.

The first writer is in this process, the second in another.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.hostile.folders import RANK
from tests.hostile.server import Server

from esper_analyzer import open_run
from esper_recorder import Recorder
from esper_schemas import RunDirectory
from esper_schemas.examining.run import verify_run
from esper_schemas.segment.scan import parse_active

FIRST, SECOND = 20, 60
OF_SECOND = 1000
"""What the second writer's updates begin with, so that each row says whose it is."""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esper_recorder.writing.background.CLOSE_TIMEOUT_SECS", 0.5)


def record(recorder: Recorder, updates: range) -> list[int]:
    """Record these updates; those that were acknowledged."""
    return [update for update in updates if recorder.record(update=update, policy_loss=0.5, value_loss=float(update))]


def updates_of(run: Path) -> list[int]:
    """All updates of a run as every reader sees them."""
    found: list[int] = open_run(run).updates(all_attempts=True).collect()["update"].to_list()
    return found


def updates_below(folder: Path) -> set[int]:
    """Every update that stands in any segment below a folder, whatever became of its run."""
    found: set[int] = set()
    for path in folder.rglob("*.parquet"):
        found |= set(pq.read_table(path, columns=["update"], partitioning=None).column("update").to_pylist())
    for path in folder.rglob("*.arrows"):
        rows: pa.RecordBatch | None = parse_active(0, path.read_bytes()).rows
        found |= set() if rows is None else set(rows.column("update").to_pylist())
    return found


def second_writer(server: Server, root: Path, run_id: str = "r", count: int = SECOND) -> list[int]:
    """Another process records a run and closes it; the updates, all of which were acknowledged."""
    updates = list(range(OF_SECOND, OF_SECOND + count))
    (answer,) = server.ask(("record", root, run_id, *map(str, updates)), cwd=root)
    assert answer.code == 0, answer
    assert answer.out.split() == ["True"] * count
    return updates


def check_whole(run: Path, updates: list[int]) -> None:
    """A run holds these updates and no other, is finished, and nothing is wrong with it."""
    assert updates_of(run) == updates
    assert verify_run(RunDirectory(run)).faults == []
    assert open_run(run).status() == "finished"


def removed(run: Path) -> None:
    """As `rm -rf` does."""
    shutil.rmtree(run)


def renamed(run: Path) -> None:
    """As `mv` does."""
    run.rename(run.with_name("kept"))


def moved_out(run: Path) -> None:
    """To another folder of runs."""
    (run.parent.parent / "archive").mkdir()
    run.rename(run.parent.parent / "archive" / run.name)


TAKEN: list[Callable[[Path], None]] = [removed, renamed, moved_out]


@pytest.fixture(params=TAKEN, ids=lambda take: take.__name__)
def take(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    """A way to take a run away."""
    chosen: Callable[[Path], None] = request.param
    return chosen


@pytest.mark.parametrize("segment_rows", [8192, 8], ids=["one segment", "many segments"])
@pytest.mark.parametrize("count", [SECOND, FIRST], ids=["other count", "same count"])
def test_second_run_of_a_name_loses_nothing(
    tmp_path: Path, server: Server, take: Callable[[Path], None], segment_rows: int, count: int
) -> None:
    """Whoever closes, seals or syncs a run that was taken away does not touch the one that has its name now."""
    root = tmp_path / "runs"
    recorder = Recorder.open(root, run_id="r", segment_rows=segment_rows)
    assert record(recorder, range(FIRST)) == list(range(FIRST))
    take(recorder.path)
    updates = second_writer(server, root, count=count)
    check_whole(root / "r", updates)
    record(recorder, range(FIRST, FIRST + 20))
    recorder.close()
    check_whole(root / "r", updates)


@pytest.mark.parametrize("has_second", [True, False])
def test_run_that_was_moved_goes_on_where_it_is(tmp_path: Path, server: Server, has_second: bool) -> None:
    """A writer holds its folders: what was renamed gets every row, whether somebody else has the old name or not."""
    for take in (renamed, moved_out):
        root = tmp_path / take.__name__ / "runs"
        recorder = Recorder.open(root, run_id="r", segment_rows=8)
        record(recorder, range(FIRST))
        take(root / "r")
        if has_second:
            second_writer(server, root)
        assert record(recorder, range(FIRST, 3 * FIRST)) == list(range(FIRST, 3 * FIRST))
        recorder.close()
        moved = root / "kept" if take is renamed else root.parent / "archive" / "r"
        assert updates_of(moved) == list(range(3 * FIRST))
        assert not verify_run(RunDirectory(moved)).is_damaged
        assert (root / "r").exists() is has_second


def test_run_that_was_removed_is_not_put_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Who deleted a run wanted it deleted: what is recorded later goes elsewhere, as the log says."""
    recorder = Recorder.open(tmp_path, run_id="r", segment_rows=8)
    record(recorder, range(FIRST))
    removed(tmp_path / "r")
    wait_until(lambda: "goes on in" in caplog.text, lambda: record(recorder, range(1)))
    recorder.close()
    assert not (tmp_path / "r").exists()
    assert recorder.path.name.startswith("r.taken-")


def wait_until(is_there: Callable[[], bool], meanwhile: Callable[[], object]) -> None:
    """Do something again and again until something is there."""
    deadline = time.monotonic() + 60
    while not is_there() and time.monotonic() < deadline:
        meanwhile()
        time.sleep(0.05)
    assert is_there()


@pytest.mark.parametrize("take_lock", [Path.unlink, lambda lock: (lock.rename(f"{lock}.before"), lock.touch(0o600))])
def test_lock_that_was_taken_away_lets_nobody_harm_the_second(
    tmp_path: Path, server: Server, take_lock: Callable[[Path], object]
) -> None:
    """LOCK is deleted or replaced and a second writer resumes: nothing of the second's is touched or damaged."""
    root = tmp_path / "runs"
    recorder = Recorder.open(root, run_id="r", segment_rows=8)
    first = record(recorder, range(4))
    take_lock(recorder.path / RANK / "LOCK")
    second = second_writer(server, root)
    record(recorder, range(4, FIRST))
    recorder.close()
    assert set(second) <= set(updates_of(root / "r"))
    assert set(first) <= updates_below(root)
    assert not verify_run(RunDirectory(root / "r")).is_damaged


# ------------------------------------------------------------------ where the run is


@pytest.mark.parametrize("root", ["runs", Path("some") / "runs", "."])
def test_change_of_the_working_folder_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str | Path
) -> None:
    """A root that was given relative to the working folder stays where it was when the run was opened."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    recorder = Recorder.open(root, run_id="c", segment_rows=50)
    record(recorder, range(60))
    os.chdir(tmp_path / "elsewhere")
    assert record(recorder, range(60, 200)) == list(range(60, 200))
    recorder.close()
    assert recorder.path == tmp_path / root / "c"
    assert list((tmp_path / "elsewhere").iterdir()) == []
    check_whole(tmp_path / root / "c", list(range(200)))


def test_root_that_is_renamed(tmp_path: Path) -> None:
    """A folder of runs may be renamed while one of them is recorded: its rows are all in it, and none elsewhere."""
    recorder = Recorder.open(tmp_path / "runs", run_id="r", segment_rows=8)
    record(recorder, range(FIRST))
    (tmp_path / "runs").rename(tmp_path / "renamed")
    acknowledged = record(recorder, range(FIRST, 2 * FIRST))
    recorder.close()
    assert acknowledged == list(range(FIRST, 2 * FIRST))
    assert updates_below(tmp_path) == set(range(2 * FIRST))


def test_root_that_is_replaced(tmp_path: Path, server: Server) -> None:
    """A new folder of runs under the old name, with a run of that name in it, belongs to its own writer."""
    root = tmp_path / "runs"
    recorder = Recorder.open(root, run_id="r", segment_rows=8)
    first = record(recorder, range(FIRST))
    root.rename(tmp_path / "renamed")
    root.mkdir()
    second = second_writer(server, root)
    first += record(recorder, range(FIRST, 2 * FIRST))
    recorder.close()
    check_whole(root / "r", second)
    assert set(first) <= updates_below(tmp_path)


# ------------------------------------------------------------------ only a part of it

PARTS = {"active": f"{RANK}/active", "segments": f"{RANK}/segments", "seals": f"{RANK}/seals", "rank": RANK}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("instead", ["nothing", "an empty folder", "a copy"])
def test_part_of_a_run_that_is_renamed(tmp_path: Path, part: str, instead: str) -> None:
    """Whatever part of a run is renamed under its writer, every row that was acknowledged stands somewhere below."""
    recorder = Recorder.open(tmp_path / "runs", run_id="r", segment_rows=8)
    acknowledged = record(recorder, range(FIRST))
    path = recorder.path / PARTS[part]
    kept = path.with_name(f"{path.name}.kept")
    path.rename(kept)
    if instead == "an empty folder":
        path.mkdir()
    elif instead == "a copy":
        shutil.copytree(kept, path)
    acknowledged += record(recorder, range(FIRST, 3 * FIRST))
    recorder.close()
    assert set(acknowledged) <= updates_below(tmp_path)


def test_rank_that_is_replaced_by_another_writers(tmp_path: Path, server: Server) -> None:
    """A rank's folder, in place of the one that is being written, keeps what its own writer put there."""
    root = tmp_path / "runs"
    recorder = Recorder.open(root, run_id="r", segment_rows=8)
    first = record(recorder, range(FIRST))
    (root / "r" / RANK).rename(root / "r" / "rank-0000.kept")
    second = second_writer(server, root)
    first += record(recorder, range(FIRST, 2 * FIRST))
    recorder.close()
    assert set(second) <= set(updates_of(root / "r"))
    assert set(first) <= updates_below(root)


def test_active_file_that_somebody_else_made_is_not_sealed(tmp_path: Path) -> None:
    """A file under the name of the one that is being written is neither sealed nor removed with it."""
    recorder = Recorder.open(tmp_path, run_id="r")
    record(recorder, range(FIRST))
    (active,) = (recorder.path / RANK / "active").glob("*.arrows")
    before = active.read_bytes()
    active.rename(active.with_name("taken.away"))
    active.write_bytes(foreign := before + b"not a row of this recorder")
    acknowledged = record(recorder, range(FIRST, 2 * FIRST))
    recorder.close()
    holders: list[Any] = [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == foreign]
    assert holders, "somebody else's file is gone"
    assert set(acknowledged) <= _wherever(tmp_path)


def _wherever(folder: Path) -> set[int]:
    """As `updates_below`, with files that were renamed."""
    found = updates_below(folder)
    for path in folder.rglob("taken.away"):
        rows = parse_active(0, path.read_bytes()).rows
        found |= set() if rows is None else set(rows.column("update").to_pylist())
    return found
