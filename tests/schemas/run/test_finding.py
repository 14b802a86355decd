"""Runs are found however deep they lie below a folder, and nothing else is looked into."""

from __future__ import annotations

from pathlib import Path

import pytest

from esper_recorder import Recorder
from esper_schemas import NotARunError, RunDirectory, find_runs, resolve_run
from esper_schemas.run import finding
from esper_schemas.run.finding import candidates, name_of, run_folders


def make_run(path: Path) -> Path:
    """A run in a folder of this path."""
    with Recorder.open(path.parent, run_id=path.name) as recorder:
        recorder.record(update=0, policy_loss=0.1, value_loss=0.2)
    return path


def names(root: Path) -> list[str]:
    """The names of the runs below a folder, in the order in which they are found."""
    return [name_of(path, root) for path in run_folders(root)]


def test_runs_are_found_in_folders_of_folders(tmp_path: Path) -> None:
    """As TensorBoard finds them: beside each other, in sweeps, and deeper; each by its path below the root."""
    for name in ("alone", "sweep/a", "sweep/b", "2026/11/27/late"):
        make_run(tmp_path / name)
    assert names(tmp_path) == ["2026/11/27/late", "alone", "sweep/a", "sweep/b"]
    assert [run.path.name for run in find_runs(tmp_path)] == ["alone", "a", "b", "late"]
    assert resolve_run("sweep/b", tmp_path).path == tmp_path / "sweep" / "b"
    assert resolve_run(None, tmp_path).path == tmp_path / "2026" / "11" / "27" / "late"
    with pytest.raises(NotARunError, match="latest there: alone, sweep/a, sweep/b, 2026/11/27/late"):
        resolve_run("absent", tmp_path)


def test_a_root_that_is_a_run_is_the_only_one(tmp_path: Path) -> None:
    """`runs runs/lr*` lists what the shell makes of it, and a run inside a run is none of its own."""
    run = make_run(tmp_path / "outer")
    make_run(run / "checkpoints" / "inner")
    assert names(tmp_path) == ["outer"]
    assert names(run) == ["outer"]


def test_links_and_hidden_folders_are_not_followed(tmp_path: Path) -> None:
    """A link can lead anywhere, also back to where it came from; only the root itself may be one."""
    run = make_run(tmp_path / "runs" / "sound")
    make_run(tmp_path / "runs" / "hidden").rename(tmp_path / "runs" / ".hidden")
    elsewhere = make_run(tmp_path / "elsewhere" / "other")
    (tmp_path / "runs" / "link").symlink_to(elsewhere)
    (tmp_path / "runs" / "sweep").mkdir()
    (tmp_path / "runs" / "sweep" / "loop").symlink_to(tmp_path / "runs")
    (tmp_path / "root").symlink_to(tmp_path / "runs")
    assert names(tmp_path / "runs") == [run.name]
    assert names(tmp_path / "root") == [run.name]


def test_folders_of_ranks_are_not_looked_into(tmp_path: Path) -> None:
    """A run that has lost its header is no folder of runs, whatever lies in it."""
    run = make_run(tmp_path / "broken")
    (run / "run.json").unlink()
    make_run(run / "rank-0000" / "planted")
    assert names(tmp_path) == []


def test_the_search_has_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that are too deep are not found, and too many folders end in one line that says what to do."""
    deep = tmp_path.joinpath(*"abcdefgh")
    assert len(deep.relative_to(tmp_path).parts) == finding.MAX_DEPTH
    make_run(deep)
    make_run(tmp_path / "z" / "a/b/c/d/e/f/g" / "deeper")
    assert names(tmp_path) == ["a/b/c/d/e/f/g/h"]
    monkeypatch.setattr(finding, "MAX_FOLDERS", 5)
    with pytest.raises(NotARunError, match="more than 5 folders below it; name the folder of runs itself"):
        names(tmp_path)
    with pytest.raises(NotARunError, match="no run absent"):
        resolve_run("absent", tmp_path)


def test_a_folder_that_is_no_plain_folder_is_passed_over(tmp_path: Path) -> None:
    """Files beside runs are of no account."""
    run = make_run(tmp_path / "run")
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "empty").mkdir()
    assert list(find_runs(tmp_path)) == [RunDirectory(run)]


@pytest.mark.parametrize("named", [".", "..", "../a"])
def test_a_path_from_the_current_folder_is_no_name_under_the_root(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise `../a` would be the run `a` beside the folder of runs, and `.` that folder itself."""
    (tmp_path / "sweep/inner/runs").mkdir(parents=True)
    make_run(tmp_path / "sweep/a")
    make_run(tmp_path / "sweep/inner/a")
    monkeypatch.chdir(tmp_path / "sweep/inner")
    assert candidates(named, Path("runs")) == [Path(named)]
    assert resolve_run("../a", Path("runs")).path.resolve() == tmp_path / "sweep/a"
