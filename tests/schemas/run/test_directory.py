from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from esper_schemas import NotARunError, RunDirectory, RunHeader, find_runs, resolve_run


def _make_run(root: Path, name: str, created: str = "2026-01-01") -> RunDirectory:
    run = RunDirectory(root / name)
    run.path.mkdir(parents=True)
    run.header_path.write_bytes(RunHeader(run_uuid="u", run_id=name, created=created).to_bytes())
    return run


def test_runs_are_found_oldest_first(tmp_path: Path) -> None:
    """Runs come in the order of their creation, whatever their names; those without a readable header come first."""
    _make_run(tmp_path, "b", "2026-01-01")
    _make_run(tmp_path, "a", "2026-01-02")
    _make_run(tmp_path, "broken").header_path.write_text("{")
    _make_run(tmp_path, "strange").header_path.write_text('{"run_uuid": "u", "run_id": "r", "created": 5}')
    (tmp_path / "no-run").mkdir()
    (tmp_path / "file").write_text("")
    assert [run.path.name for run in find_runs(tmp_path)] == ["broken", "strange", "b", "a"]


def test_missing_root_is_no_folder_of_runs(tmp_path: Path) -> None:
    """The error says what to do about a folder that does not exist."""
    with pytest.raises(NotARunError, match="--root"):
        list(find_runs(tmp_path / "none"))


def test_run_is_meant_by_name_by_path_or_by_being_the_latest(tmp_path: Path) -> None:
    """A name under the root comes before a path; without either the latest run is taken."""
    _make_run(tmp_path / "runs", "old", "2026-01-01")
    latest = _make_run(tmp_path / "runs", "new", "2026-01-02")
    elsewhere = _make_run(tmp_path, "elsewhere")
    assert resolve_run(None, tmp_path / "runs") == latest
    assert resolve_run("old", tmp_path / "runs").path.name == "old"
    assert resolve_run(elsewhere.path, tmp_path / "runs") == elsewhere


@pytest.mark.parametrize("name", ["none", "x" * 5000, "a\x00b", "line\nbreak", "", "."])
def test_run_that_is_not_there_is_one_clear_line(tmp_path: Path, name: str) -> None:
    """Whatever is asked for, the error is one printable line."""
    _make_run(tmp_path, "known")
    with pytest.raises(NotARunError) as caught:
        resolve_run(name, tmp_path)
    assert str(caught.value).isprintable()


def test_missing_run_names_those_there_are(tmp_path: Path) -> None:
    """The error lists the latest runs, so that a typing error is seen at once; without any it says what to do."""
    _make_run(tmp_path, "known")
    with pytest.raises(NotARunError, match="latest there: known"):
        resolve_run("unknown", tmp_path)
    with pytest.raises(NotARunError, match="record one first, or pass its path"):
        resolve_run(None, tmp_path / "nowhere")


def test_folder_without_header_is_no_run(tmp_path: Path) -> None:
    """Asking for the header of something else says that it is no run."""
    with pytest.raises(NotARunError, match=r"has no run\.json"):
        RunDirectory(tmp_path).header()


def test_ranks_are_listed_in_order(tmp_path: Path) -> None:
    """What is named for a rank counts, also a file, whose fault is told by whoever opens it; other names do not."""
    for name in ("rank-0010", "rank-0002", "rank-x", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "rank-0003").write_text("")
    assert [rank.rank for rank in RunDirectory(tmp_path).ranks()] == [2, 3, 10]
    assert RunDirectory(tmp_path / "none").ranks() == []


def test_lock_tells_whether_a_writer_lives(tmp_path: Path) -> None:
    """A rank has a writer exactly while somebody holds its lock; asking leaves the lock free."""
    rank = RunDirectory(tmp_path).rank(0)
    assert not rank.has_writer()
    rank.path.mkdir()
    descriptor = os.open(rank.lock_path, os.O_RDWR | os.O_CREAT)
    assert not rank.has_writer()
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert rank.has_writer()
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    assert not rank.has_writer()
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


def test_file_in_the_way_of_a_run_is_called_one(tmp_path: Path) -> None:
    """A file where the folder of a run is expected is not said to be a folder that does not exist."""
    (tmp_path / "r").write_text("mine")
    with pytest.raises(NotARunError, match="r is not an Esper run: a file is where a folder is expected"):
        RunDirectory(tmp_path / "r").open()
