"""`Folder.open_private`: a file that only its owner may open, as the lock of a rank needs."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.schemas.run.door import descriptors, tree

from esper_schemas import RunDamagedError
from esper_schemas.run.files import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    """A folder, held."""
    (tmp_path / "run").mkdir()
    with Folder.at(tmp_path / "run") as held:
        yield held


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_private_file_is_created_or_kept(folder: Folder) -> None:
    """It is made if it is not there; one that is there keeps what is in it, and can be read and written."""
    path = folder.path / "LOCK"
    descriptor = folder.open_private("LOCK")
    os.write(descriptor, b"holder")
    os.close(descriptor)
    assert _mode(path) == 0o600
    descriptor = folder.open_private("LOCK")
    assert os.read(descriptor, 100) == b"holder"
    os.pwrite(descriptor, b"H", 0)
    os.close(descriptor)
    assert path.read_bytes() == b"Holder"
    assert not [name for name in folder.names() if name != "LOCK"]


@pytest.mark.parametrize("mode", [0o644, 0o666, 0o640, 0o604])
def test_file_that_others_may_open_is_closed_to_them(folder: Folder, mode: int) -> None:
    """One of an earlier version, which others may open, is theirs no more."""
    path = folder.path / "LOCK"
    path.touch()
    path.chmod(mode)
    os.close(folder.open_private("LOCK"))
    assert _mode(path) == 0o600


def test_file_with_another_name_is_refused(folder: Folder, tmp_path: Path) -> None:
    """A file that can be opened by another name, perhaps outside of the run, is not taken, and not changed."""
    outside = tmp_path / "precious"
    outside.write_text("mine")
    outside.chmod(0o644)
    (folder.path / "LOCK").hardlink_to(outside)
    before = descriptors()
    with pytest.raises(RunDamagedError, match="with this one name, found a file with 2 names"):
        folder.open_private("LOCK")
    assert (outside.read_text(), _mode(outside)) == ("mine", 0o644)
    assert descriptors() == before


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "folder", "device"])
def test_what_is_no_file_is_refused(folder: Folder, tmp_path: Path, kind: str) -> None:
    """A link is not followed, even to nothing; a pipe or a device is not opened."""
    path = folder.path / "LOCK"
    (tmp_path / "precious").write_text("mine")
    name = "LOCK"
    match kind:
        case "link":
            path.symlink_to(tmp_path / "precious")
        case "dangling link":
            path.symlink_to(tmp_path / "new")
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "device":
            folder, name = Folder.at(Path("/dev")), "null"
    before, held = tree(tmp_path), descriptors()
    with pytest.raises(RunDamagedError, match=f"{name}: expected a file, found a"):
        folder.open_private(name)
    assert tree(tmp_path) == before
    assert descriptors() == held


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_comes_between_looking_and_opening_is_refused(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """What was a file when it was looked at, and is a link or a pipe when it is opened, is not taken."""
    if kind == "link":
        (tmp_path / "precious").write_text("mine")
        (folder.path / "LOCK").symlink_to(tmp_path / "precious")
    else:
        os.mkfifo(folder.path / "LOCK")
    monkeypatch.setattr(Folder, "size", lambda self, name: 0)
    before = descriptors()
    with pytest.raises(RunDamagedError, match="expected a file"):
        folder.open_private("LOCK")
    assert descriptors() == before


def test_file_that_is_removed_meanwhile_is_created(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is there at the first try and gone at the second is made anew."""
    path = folder.path / "LOCK"
    path.touch()
    size = Folder.size

    def removed(self: Folder, name: str) -> int:
        path.unlink(missing_ok=True)
        return size(self, name)

    monkeypatch.setattr(Folder, "size", removed)
    os.close(folder.open_private("LOCK"))
    assert _mode(path) == 0o600


def test_folder_that_is_not_there(folder: Folder) -> None:
    """The error is that of the system, with the whole path."""
    with pytest.raises(FileNotFoundError, match="absent"):
        folder.open_private("absent/LOCK")
    with pytest.raises(OSError, match="too long") as caught:
        folder.open_private("x" * 300)
    assert caught.value.filename == str(folder.path / ("x" * 300))


def test_permission_that_cannot_be_taken_away(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system refuses to close it to others, the error has the path, and nothing stays open."""

    def refuse(descriptor: int, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    path = folder.path / "LOCK"
    path.touch()
    path.chmod(0o666)
    monkeypatch.setattr(os, "fchmod", refuse)
    before = descriptors()
    with pytest.raises(PermissionError) as caught:
        folder.open_private("LOCK")
    assert caught.value.filename == str(path)
    assert descriptors() == before
