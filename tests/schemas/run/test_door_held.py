"""What `run/files.py` promises about names, errors and open descriptors."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.schemas.run.door import CHANGING, EVERYTHING, LISTING, LOOKING, ON_NAMES, READING, descriptors, lay_out, tree

from esper_schemas import RunDamagedError
from esper_schemas.run.files import Folder
from esper_schemas.run.storage import Storage


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The run's folder."""
    return lay_out(tmp_path)


@pytest.fixture
def folder(root: Path) -> Iterator[Folder]:
    """The same, held."""
    with Folder.at(root) as held:
        yield held


def test_folder_is_a_storage(folder: Folder, root: Path) -> None:
    """An examination can be given a folder, and one in it; each tells where its files are, in words."""
    storage: Storage = folder
    assert storage.where() == str(root)
    assert storage.where("folder/file") == str(root / "folder" / "file")
    inner = storage.folder("folder")
    assert inner.where("file") == str(root / "folder" / "file")
    assert inner.read("file", 100) == storage.read("folder/file", 100) == b"deeper"
    assert (inner.size("file"), inner.is_folder("file"), storage.is_folder("folder")) == (6, False, True)
    assert not storage.is_folder("absent")
    assert not storage.is_folder("absent/folder")


def test_names_are_sorted(folder: Folder, root: Path) -> None:
    """All names are given in order, links and hidden ones too; none where there is no such folder."""
    for name in ("b", "a", "B", ".hidden", "10", "9"):
        (root / "folder" / name).touch()
    (root / "folder" / "link").symlink_to("nowhere")
    assert folder.names("folder") == sorted(["b", "a", "B", ".hidden", "10", "9", "link", "file"])
    assert folder.names() == ["file", "folder"]
    assert folder.names("absent") == folder.names("absent/folder") == []


# ---------------------------------------------------------------------- names


OUT_OF_PLACE = [
    "..",
    ".",
    "/",
    "/file",
    "file/",
    "folder/",
    "folder//file",
    "folder/./file",
    "folder/..",
    "folder/../file",
    "../outside/file",
    "/etc/passwd",
    "a\0b",
    "folder\0/file",
    "folder/\0",
]


@pytest.mark.parametrize("name", OUT_OF_PLACE)
def test_name_that_leads_elsewhere_is_refused(folder: Folder, tmp_path: Path, name: str) -> None:
    """No name leads out of the folder, or says the same as another one; nothing is done, and nothing stays open."""
    before, held = tree(tmp_path), descriptors()
    for words, call in EVERYTHING.items():
        with pytest.raises(ValueError, match="not a valid name inside a folder"):
            pytest.fail(f"{words} gave {call(folder, name)!r}")
    assert tree(tmp_path) == before
    assert descriptors() == held


def test_empty_name_is_the_folder_itself_and_no_file(folder: Folder, tmp_path: Path) -> None:
    """Where a folder is asked for, no name means this one; where a file is, it is refused."""
    before = tree(tmp_path)
    assert folder.names("") == ["file", "folder"]
    with folder.folder("") as again:
        assert again.identity == folder.identity
    for words, call in ON_NAMES.items():
        with pytest.raises(ValueError, match="a file must have a name"):
            pytest.fail(f"{words} gave {call(folder, '')!r}")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["a b", "-rf", "\\", "ä", "a\nb", "…", "..a", "a..", "~"])
def test_any_other_name_is_only_a_name(folder: Folder, root: Path, name: str) -> None:
    """A name with other marks in it is that of a file, and nothing else."""
    os.close(folder.create(name))
    assert folder.names() == sorted(["file", "folder", name])
    folder.unlink(name)
    assert not (root / name).exists()


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize("name", ["absent", "folder/absent", "absent/file"])
def test_error_names_the_whole_path(folder: Folder, root: Path, name: str) -> None:
    """Where something is not there, the error says which path, from the one that a person gave on."""
    calls = {**READING, "folder": LISTING["folder"], "rename from": CHANGING["rename from"]}
    for call in calls.values():
        with pytest.raises(FileNotFoundError) as caught:
            call(folder, name)
        assert caught.value.errno == errno.ENOENT
        assert caught.value.filename in (str(root / name), str(root / name.partition("/")[0]))
        assert caught.value.strerror == os.strerror(errno.ENOENT)


def test_error_of_the_system_keeps_its_kind(folder: Folder, root: Path) -> None:
    """Whatever the system refuses for, its reason and the whole path are in the error."""
    name = "folder/" + 300 * "x"
    for words, call in EVERYTHING.items():
        with pytest.raises(OSError, match="too long") as caught:
            pytest.fail(f"{words} gave {call(folder, name)!r}")
        assert caught.value.errno == errno.ENAMETOOLONG, words
        assert str(root / name) in (caught.value.filename, caught.value.filename2), words


def test_nothing_at_all_at_the_path_that_was_given(tmp_path: Path) -> None:
    """A path that a person gave gives the error of the system: absent, or no folder."""
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(FileNotFoundError, match="absent"):
        Folder.at(tmp_path / "absent")
    for name in ("file", "pipe"):
        with pytest.raises(NotADirectoryError, match=name):
            Folder.at(tmp_path / name)
    with pytest.raises(OSError, match="loop"):
        Folder.at(tmp_path / "loop")


# ---------------------------------------------------------------------- what is held


def test_folder_stays_the_same_whatever_has_its_name(folder: Folder, root: Path, tmp_path: Path) -> None:
    """A folder that is moved away and replaced, even by a link, stays the one that is read, written and listed."""
    identity = folder.identity
    inner = folder.folder("folder")
    root.rename(tmp_path / "moved")
    root.symlink_to(tmp_path / "outside")
    before = tree(tmp_path / "outside")
    assert folder.identity == identity != folder.identity_of("folder")
    assert folder.read("file", 100) == b"inside"
    os.close(folder.create("new"))
    os.close(inner.create("new"))
    folder.rename("new", "newer", into=inner)
    folder.unlink("file")
    folder.make_folder("made")
    assert folder.names() == ["folder", "made"]
    assert inner.names() == ["file", "new", "newer"]
    assert tree(tmp_path / "moved").keys() == {"folder", "folder/file", "folder/new", "folder/newer", "made"}
    assert tree(tmp_path / "outside") == before


def test_inner_folder_that_is_held_stays_the_same(folder: Folder, root: Path, tmp_path: Path) -> None:
    """Once it is held, its name means this folder, though a link or another folder has the name on disk."""
    (root / "folder" / "deeper").mkdir()
    inside = folder.identity_of("folder")
    folder.hold("folder")
    (root / "folder").rename(tmp_path / "moved")
    for make in (lambda path: path.symlink_to(tmp_path / "outside"), Path.mkdir):
        make(root / "folder")
        before = tree(root), tree(tmp_path / "outside")
        assert folder.folder("folder").identity == inside
        assert folder.names("folder") == ["deeper", "file"]
        assert folder.read("folder/file", 100) == b"deeper"
        os.close(folder.create("folder/new"))
        os.close(folder.create("folder/deeper/new"))
        folder.rename("folder/new", "folder/newer")
        folder.unlink("folder/newer")
        folder.unlink("folder/deeper/new")
        assert folder.names("folder/deeper") == []
        assert (tree(root), tree(tmp_path / "outside")) == before
        (root / "folder").unlink() if (root / "folder").is_symlink() else (root / "folder").rmdir()
    held = descriptors()
    folder.close()
    assert len(descriptors()) == len(held) - 2


def test_folder_to_hold_must_be_one(folder: Folder, root: Path) -> None:
    """What is absent, a link or no folder is not held, and nothing stays open."""
    (root / "link").symlink_to("folder")
    before = descriptors()
    for name in ("link", "file"):
        with pytest.raises(RunDamagedError):
            folder.hold(name)
    with pytest.raises(FileNotFoundError):
        folder.hold("absent")
    assert descriptors() == before


def test_folder_that_is_removed_takes_nothing_more(folder: Folder, root: Path) -> None:
    """In a folder that is gone nothing is found and nothing created, though another one has its name."""
    shutil.rmtree(root)
    root.mkdir()
    (root / "file").touch()
    assert folder.names() == []
    assert not folder.exists("file")
    with pytest.raises(FileNotFoundError):
        folder.create("new")
    assert [*root.iterdir()] == [root / "file"]


def test_what_is_synced_is_the_folder(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sync` asks the system to keep the names of this folder, or of one in it."""
    synced = []

    def note(descriptor: int) -> None:
        found = os.fstat(descriptor)
        synced.append((found.st_dev, found.st_ino))

    monkeypatch.setattr(os, "fsync", note)
    folder.sync()
    folder.sync("folder")
    with folder.folder("folder") as inner:
        inner.sync()
    inside = folder.identity_of("folder")
    assert synced == [folder.identity, inside, inside]
    with pytest.raises(FileNotFoundError):
        folder.sync("absent")
    with pytest.raises(RunDamagedError):
        folder.sync("file")


def test_folder_is_let_go_of_once(root: Path) -> None:
    """Closing, leaving the block, and forgetting each close the descriptor; closing twice closes nothing else."""
    before = descriptors()
    folder = Folder.at(root)
    with folder, folder.folder("folder"):
        assert len(descriptors()) == len(before) + 2
    assert descriptors() == before
    with Folder.at(root) as other:  # gets the number that is free now
        folder.close()
        assert other.names() == ["file", "folder"]
    Folder.at(root)
    assert descriptors() == before


def test_nothing_stays_open(folder: Folder, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No call leaves a descriptor open, whether it does what it is asked or not, and forgetting is not relied upon."""
    monkeypatch.setattr(Folder, "__del__", lambda self: None)
    (root / "link").symlink_to("folder")
    os.mkfifo(root / "pipe")
    before = descriptors()
    names = ["file", "folder/file", "folder", "link", "link/file", "pipe", "absent", "absent/file", 300 * "x"]
    names += ["folder/" + 300 * "x", "file/file"]
    for name in names:
        for words, call in (LISTING | LOOKING | CHANGING).items():
            try:
                answer = call(folder, name)
            except (OSError, RunDamagedError):
                answer = None
            if words == "open_descriptor" and isinstance(answer, int):
                os.close(answer)
            elif isinstance(answer, Folder):
                answer.close()
            assert descriptors() == before, (words, name)
    with Folder.at(root) as fresh, pytest.raises(RunDamagedError):
        fresh.read("folder", 100)
    assert descriptors() == before


def test_file_too_large_is_closed(folder: Folder) -> None:
    """A file that is refused after it was opened does not stay open."""
    before = descriptors()
    with pytest.raises(RunDamagedError):
        folder.read("file", 1)
    assert descriptors() == before


def test_no_child_gets_what_is_held(folder: Folder) -> None:
    """A program that is started meanwhile gets no descriptor of the run."""
    held = [folder.descriptor, folder.open_descriptor("file"), folder.create("new")]
    with folder.folder("folder") as inner:
        assert not any(map(os.get_inheritable, [*held, inner.descriptor]))
    for descriptor in held[1:]:
        os.close(descriptor)
