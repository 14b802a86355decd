"""The harness itself: no change that the recorder makes to a file escapes it."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.crash.intercept import Call, OpenFiles, intercepted
from tests.crash.oracle import row_of
from tests.crash.power_loss import Disk, Trace, Tree, disk_of

from esper_recorder import Recorder
from esper_recorder.keeping.repair import repair_run
from esper_schemas import RunDirectory
from esper_schemas.run.files import Folder


class _Listener:
    """Does every call, and keeps those under a folder."""

    def __init__(self, root: Path) -> None:
        self.heard: list[Call] = []
        self.files = OpenFiles(root)

    def __call__(self, call: Call) -> Any:
        """Do it."""
        is_inside = self.files.inside(call)
        answer = call.do()
        if is_inside:
            self.files.note(call, answer)
            self.heard.append(call)
        return answer

    @property
    def names(self) -> list[tuple[str, tuple[Path, ...]]]:
        """What was heard on names: the call, and the whole paths."""
        found = [(call.name, tuple(arg for arg in call.args if isinstance(arg, Path))) for call in self.heard]
        return [(name, paths) for name, paths in found if paths]


def _tree(folder: Path) -> Tree:
    return {path.name: _tree(path) if path.is_dir() else path.read_bytes() for path in folder.iterdir()}


def test_names_in_a_held_folder_become_whole_paths(tmp_path: Path) -> None:
    """A call relative to a descriptor is done as it was made, and told with the paths that it is about."""
    listener = _Listener(tmp_path)
    (tmp_path / "held" / "inner").mkdir(parents=True)
    with intercepted(listener), Folder.at(tmp_path / "held") as folder, folder.folder("inner") as inner:
        listener.heard.clear()
        os.close(folder.create("new"))
        inner.make_folder("made")
        folder.link("new", "linked")
        folder.rename("linked", "moved", into=inner)
        folder.unlink("new")
    here = tmp_path / "held"
    assert listener.names == [
        ("open", (here / "new",)),
        ("mkdir", (here / "inner" / "made",)),
        ("link", (here / "new", here / "linked")),
        ("rename", (here / "linked", here / "inner" / "moved")),
        ("unlink", (here / "new",)),
    ]
    assert _tree(tmp_path) == {"held": {"inner": {"made": {}, "moved": b""}}}


def test_descriptor_is_known_by_its_file(tmp_path: Path) -> None:
    """A copy of a descriptor is of the same file; a number that is used again, after a close unseen, is not."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "file").touch()
    listener = _Listener(tmp_path / "run")
    with intercepted(listener):
        with Folder.at(tmp_path / "run") as folder:
            copy = os.dup(folder.descriptor)
        os.fsync(copy)
        assert [call.name for call in listener.heard] == ["open", "dup", "close", "fsync"]
        os.close(copy)
        with Folder.at(tmp_path / "run") as folder:
            file = folder.open("file")
        number = file.fileno()
        file.close()  # which no function of `os` sees
        other = (tmp_path / "other").open("wb", buffering=0)
        os.dup2(other.fileno(), number)
        listener.heard.clear()
        os.write(number, b"not ours")
        os.close(number)
        other.close()
    assert listener.heard == []


@pytest.mark.parametrize("with_damage", [False, True])
def test_everything_that_changes_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_damage: bool) -> None:
    """Two attempts, a recovery and a repair, done again from the trace alone, end in the very same files."""
    trace = Trace(tmp_path)
    monkeypatch.setattr("esper_recorder.writing.background.SYNC_INTERVAL_SECS", 0.01)
    with intercepted(trace):
        for attempt in range(2):
            with Recorder.open(tmp_path, run_id="r", resume="allow", segment_rows=4) as recorder:
                for update in range(10 * attempt, 10 * attempt + 10):
                    recorder.record(**row_of(update))
    seen = Disk()
    for operation in trace.operations:
        seen.do(operation)
    assert seen.after_kill() == _tree(tmp_path)
    kinds = Counter(operation.name for operation in trace.operations)
    assert kinds.keys() >= {"open", "write", "fsync", "mkdir", "rename", "link", "unlink"}, kinds
    if not with_damage:
        return

    rank = tmp_path / "r" / "rank-0000"
    (rank / "seals" / "00000001.json").unlink()
    segment = rank / "segments" / "00000002.parquet"
    segment.write_bytes(segment.read_bytes()[:-9])
    before = disk_of(tmp_path)
    trace = Trace(tmp_path)
    with intercepted(trace):
        repair_run(RunDirectory(tmp_path / "r"))
    for operation in trace.operations:
        before.do(operation)
    assert before.after_kill() == _tree(tmp_path)
    assert trace.operations
