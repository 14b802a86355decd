"""The promises of `run/files.py`, one by one, on real files."""

from __future__ import annotations

import os
import pickle
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.schemas.run.door import EVERYTHING, LISTING, OUTSIDE, READING, descriptors, lay_out, tree

from esper_schemas import RunDamagedError
from esper_schemas.run.files import Folder, read_descriptor


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The run's folder."""
    return lay_out(tmp_path)


@pytest.fixture
def folder(root: Path) -> Iterator[Folder]:
    """The same, held."""
    with Folder.at(root) as held:
        yield held


def test_a_folder_travels_as_its_path(folder: Folder, root: Path) -> None:
    """Another process opens what is there by then, and fails where nothing is."""
    sent = pickle.dumps(folder)
    with pickle.loads(sent) as held:
        assert held.read("file", 100) == b"inside"
        assert held.descriptor != folder.descriptor
    root.rename(root.with_name("elsewhere"))
    with pytest.raises(FileNotFoundError):
        pickle.loads(sent)


# ---------------------------------------------------------------------- links


def test_links_to_the_run_are_followed(root: Path, tmp_path: Path) -> None:
    """A person may name a run by a link to it, or to a folder above it."""
    (tmp_path / "link").symlink_to(root)
    (tmp_path / "above").symlink_to(tmp_path)
    for path in (tmp_path / "link", tmp_path / "above" / "run"):
        with Folder.at(path) as held:
            assert held.read("file", 100) == b"inside"


@pytest.mark.parametrize("is_dangling", [False, True])
def test_link_as_a_file_is_never_read(folder: Folder, root: Path, tmp_path: Path, is_dangling: bool) -> None:
    """Wherever a link leads to, even within the run or to nothing, it is no file; its name is taken all the same."""
    for target in (tmp_path / "outside" / "file", root / "file", Path("file")):
        (root / "link").symlink_to(f"{target}{'-gone' * is_dangling}")
        for name, call in READING.items():
            with pytest.raises(RunDamagedError, match="expected a file, found a symbolic link"):
                pytest.fail(f"{name} gave {call(folder, 'link')!r}")
        assert folder.exists("link")
        assert not folder.is_folder("link")
        found = folder.stat("link")
        assert found is not None
        assert stat.S_ISLNK(found.st_mode)
        (root / "link").unlink()


def test_link_as_a_folder_is_never_entered(folder: Folder, root: Path, tmp_path: Path) -> None:
    """A link to a folder, of the run or not, is no folder: not as the last of a name, and not on the way."""
    (root / "more").mkdir()
    for target in (tmp_path / "outside", root / "folder"):
        for link, name in (("link", "link"), ("more/link", "more/link"), ("link", "link/file"), ("link", "link/new")):
            (root / link).symlink_to(target)
            before = tree(tmp_path)
            for words, call in LISTING.items() if name == link else EVERYTHING.items():
                with pytest.raises(RunDamagedError, match=f"{root / link}: expected a folder, found a symbolic link"):
                    pytest.fail(f"{words} gave {call(folder, name)!r}")
            assert not folder.is_folder(link)
            assert tree(tmp_path) == before
            (root / link).unlink()


def test_link_that_comes_between_looking_and_opening_is_not_followed(
    folder: Folder, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was a file when it was looked at, and is a link, a folder or a pipe when it is opened, is not read."""
    monkeypatch.setattr(Folder, "size", lambda self, name: 6)
    (root / "link").symlink_to(tmp_path / "outside" / "file")
    os.mkfifo(root / "pipe")
    for name in ("link", "folder", "pipe"):
        before = descriptors()
        with pytest.raises(RunDamagedError, match=f"{root / name}: expected a file, found"):
            folder.read(name, 100)
        assert descriptors() == before


def test_hard_link_is_a_file(folder: Folder, root: Path, tmp_path: Path) -> None:
    """A second name of a file, which copying with hard links gives, is as good as the first one."""
    (root / "hard").hardlink_to(root / "file")
    (root / "from-elsewhere").hardlink_to(tmp_path / "outside" / "file")
    assert folder.read("hard", 100) == b"inside"
    assert folder.identity_of("hard") == folder.identity_of("file")
    assert folder.read("from-elsewhere", 100) == OUTSIDE


# ---------------------------------------------------------------------- what is no regular file


def test_what_could_block_is_refused(folder: Folder, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that nobody writes to, a socket, a device and a folder are refused at once, in words."""
    os.mkfifo(root / "pipe")
    monkeypatch.chdir(root)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
    kinds = {"pipe": "a pipe", "socket": "a socket", "folder": "a folder"}
    for name, kind in kinds.items():
        for words, call in READING.items():
            with pytest.raises(RunDamagedError, match=f"{root / name}: expected a file, found {kind}"):
                pytest.fail(f"{words} gave {call(folder, name)!r}")
    for name in ("pipe", "socket", "file"):
        for call in (*LISTING.values(), Folder.make_folder):
            with pytest.raises(RunDamagedError, match=f"{root / name}: expected a folder, found a "):
                call(folder, name)
    with Folder.at(Path("/dev")) as devices:
        for call in READING.values():
            with pytest.raises(RunDamagedError, match="/dev/null: expected a file, found a device"):
                call(devices, "null")


def test_device_is_not_even_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device may do something when it is opened, and so is looked at before."""
    opened = []
    real = os.open

    def noted(path: str, *args: int, **options: int) -> int:
        opened.append(path)
        return real(path, *args, **options)

    with Folder.at(Path("/dev")) as devices:
        monkeypatch.setattr(os, "open", noted)
        with pytest.raises(RunDamagedError):
            devices.open("null")
    assert "null" not in opened


# ---------------------------------------------------------------------- bounds


def test_file_is_bounded_before_it_is_read(folder: Folder, root: Path) -> None:
    """A file of as many bytes as may be is read whole; a larger one, of any size, not at all."""
    assert folder.read("file", 6) == b"inside"
    with pytest.raises(RunDamagedError, match="expected at most 5 bytes, found 6"):
        folder.read("file", 5)
    os.truncate(root / "file", 1 << 40)
    with pytest.raises(RunDamagedError, match="expected at most 1,000,000 bytes, found 1,099,511,627,776"):
        folder.read("file", 1_000_000)


def test_file_that_grows_is_read_up_to_the_bound(root: Path, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a file gets after its size was looked at is read, too, but never more than may be."""
    descriptor = folder.open_descriptor("file")
    fstat = os.fstat

    def grow(number: int) -> os.stat_result:
        found = fstat(number)
        (root / "file").write_bytes(bytes(100))
        return found

    monkeypatch.setattr(os, "fstat", grow)
    assert len(read_descriptor(descriptor, 50, "it")) == 50
    os.close(descriptor)


def test_descriptor_is_read_from_an_offset(folder: Folder) -> None:
    """The rest of an open file, from where the reader is; nothing, at or behind its end."""
    descriptor = folder.open_descriptor("file")
    assert [read_descriptor(descriptor, 6, "it", offset) for offset in (0, 2, 6, 9)] == [b"inside", b"side", b"", b""]
    os.close(descriptor)


def test_opened_file_is_read_from_any_place(folder: Folder) -> None:
    """`open` gives a file that can be read forwards and backwards."""
    with folder.open("folder/file") as file:
        assert (file.read(), file.seek(3), file.read(2)) == (b"deeper", 3, b"pe")


# ---------------------------------------------------------------------- changing


def test_created_file_is_new_and_appended_to(folder: Folder, root: Path) -> None:
    """A created file has nothing in it, each write goes to its end, and it can be read back."""
    descriptor = folder.create("folder/new", 0o600)
    os.write(descriptor, b"one")
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, b"two")
    assert read_descriptor(descriptor, 100, "it") == b"onetwo"
    os.close(descriptor)
    assert (root / "folder" / "new").read_bytes() == b"onetwo"
    assert stat.S_IMODE((root / "folder" / "new").stat().st_mode) == 0o600


def test_nothing_that_has_a_name_is_written_to(folder: Folder, root: Path, tmp_path: Path) -> None:
    """Where a name is taken, even by a link to nothing, creating and linking fail and change nothing."""
    (root / "link").symlink_to(tmp_path / "outside" / "file")
    (root / "dangling").symlink_to(tmp_path / "outside" / "new")
    os.mkfifo(root / "pipe")
    before = tree(tmp_path)
    for name in ("file", "folder", "link", "dangling", "pipe", "folder/file"):
        for change in (folder.create, lambda name: folder.link("folder/file", name)):
            with pytest.raises(FileExistsError) as caught:
                change(name)
            assert str(root / name) in (caught.value.filename, caught.value.filename2)
    assert tree(tmp_path) == before


def test_folder_is_made_once(folder: Folder, root: Path, tmp_path: Path) -> None:
    """A folder is made if its parent is there; one that is there already is kept, and anything else is damage."""
    assert folder.make_folder("folder/new")
    assert (root / "folder" / "new").is_dir()
    assert not folder.make_folder("folder/new")
    assert not folder.make_folder("folder")
    assert (root / "folder" / "file").read_bytes() == b"deeper"
    with pytest.raises(FileNotFoundError):
        folder.make_folder("absent/new")
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "dangling").symlink_to(tmp_path / "new")
    for name in ("link", "dangling", "file"):
        with pytest.raises(RunDamagedError, match="expected a folder, found"):
            folder.make_folder(name)
    assert not (tmp_path / "new").exists()


def test_second_name_is_of_the_same_file(folder: Folder, root: Path, tmp_path: Path) -> None:
    """Linking gives the file a second name; of a link it gives one of the link, not of what it leads to."""
    folder.link("file", "folder/second")
    assert folder.identity_of("file") == folder.identity_of("folder/second")
    (root / "link").symlink_to(tmp_path / "outside" / "file")
    folder.link("link", "folder/link")
    assert (root / "folder" / "link").is_symlink()


def test_rename_moves_the_name(folder: Folder, root: Path, tmp_path: Path) -> None:
    """A link is moved as a link, and where one has the new name it is replaced; what they lead to stays."""
    (root / "link").symlink_to(tmp_path / "outside" / "file")
    folder.rename("link", "folder/moved")
    assert (root / "folder" / "moved").readlink() == tmp_path / "outside" / "file"
    folder.rename("file", "folder/moved")
    assert not (root / "folder" / "moved").is_symlink()
    assert (root / "folder" / "moved").read_bytes() == b"inside"
    assert (tmp_path / "outside" / "file").read_bytes() == OUTSIDE
    assert tree(root).keys() == {"folder", "folder/file", "folder/moved"}


def test_rename_into_another_folder(folder: Folder, root: Path, tmp_path: Path) -> None:
    """What is moved may go into a folder that is held elsewhere."""
    with Folder.at(tmp_path / "outside") as other:
        folder.rename("folder/file", "moved", into=other)
    assert (tmp_path / "outside" / "moved").read_bytes() == b"deeper"
    assert not (root / "folder" / "file").exists()


def test_unlink_removes_the_name(folder: Folder, root: Path, tmp_path: Path) -> None:
    """A link is removed and not what it leads to; a name that nothing has is no error; a folder is one."""
    (root / "link").symlink_to(tmp_path / "outside" / "file")
    folder.unlink("link")
    folder.unlink("folder/file")
    folder.unlink("absent")
    folder.unlink("absent/file")
    assert tree(tmp_path / "outside").keys() == {"file"}
    assert tree(root).keys() == {"file", "folder"}
    with pytest.raises(OSError, match="folder"):
        folder.unlink("folder")


def test_unlink_spares_another_file(folder: Folder, root: Path) -> None:
    """Whoever says which file is meant does not remove another one that has its name now."""
    meant = folder.identity_of("file")
    (root / "file").rename(root / "kept")
    (root / "file").write_bytes(b"another")
    folder.unlink("file", meant)
    assert (root / "file").read_bytes() == b"another"
    folder.unlink("file", folder.identity_of("file"))
    assert not (root / "file").exists()
